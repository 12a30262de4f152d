"""Random rows from a schema alone: for rehearsals and audits, not for learning anything.

Every value is uniform over what the schema allows. So the rows have the form of the table
and none of its content. A row that violates a constraint is repaired.
"""

import random
from collections.abc import Iterator

from faker.providers.lorem.en_US import Provider as EnglishWords

from localsynth.schema.columns import Boolean, Column, Derived, Identifier, Record, Schema, Text, Value
from localsynth.schema.conditions import Allowed, Conditions, only
from localsynth.schema.feasible import FeasibleSet
from localsynth.schema.ordinals import Structured, from_ordinal, value_count

_NULL_FRACTION = 0.05
_MAX_TEXT_FRACTION = 0.8
"""Texts are uniform in length up to this fraction of max_tokens: 40 % of it on average, as `plan` estimates."""
_TOKENS_PER_WORD = 1.4


def random_rows(schema: Schema, units: int, unit: str, max_rows_per_unit: int, seed: int = 0) -> Iterator[Record]:
    """The rows of `units` random units, from 1 to `max_rows_per_unit` each, with every column of the schema.

    `unit` is "row" or the unit column. No bound or list of the schema may be open. The same seed gives the same rows.
    """
    rng = random.Random(seed)
    feasible = FeasibleSet(schema)
    derived = [(column.name, schema.formula(column), column.decimals) for column in schema.columns if isinstance(column, Derived)]
    for number in range(units):
        # The unit's name, the same in all its rows.
        own: Record = {}
        if unit != "row":
            column = next(column for column in schema.columns if column.name == unit)
            own[unit] = _value(column.model_copy(update={"nullable": False}), number, rng)
        for _ in range(1 if unit == "row" else rng.randint(1, max_rows_per_unit)):
            row = {column.name: _value(column, number, rng) for column in schema.columns if not isinstance(column, Derived)} | own
            row = row if feasible.satisfied(row) else _repaired(schema, feasible, row, own, rng)
            yield row | {name: formula.value(row, decimals) for name, formula, decimals in derived}


def _repaired(schema: Schema, feasible: FeasibleSet, row: Record, own: Record, rng: random.Random) -> Record:
    """A row that satisfies the constraints. A unit whose name no such row can have loses it."""
    requested: Conditions = {name: only(schema.column(name), value) for name, value in own.items() if name in feasible.names}
    witness = feasible.witness(requested)
    if witness is None:
        requested, witness = {}, feasible.witness({})
    return feasible.repaired(row, requested, lambda name, allowed, _: _any_of(allowed, rng), witness or {})


def _any_of(allowed: Allowed, rng: random.Random) -> Value:
    pieces = allowed.pieces()
    if not pieces:
        return None
    weights = [1 + high - low for low, high in allowed.intervals] or [1]
    value = _value(rng.choices(pieces, weights)[0], 0, rng)
    return value == "yes" if isinstance(allowed.column, Boolean) and isinstance(value, str) else value


def _value(column: Column, number: int, rng: random.Random) -> Value:
    if column.nullable and rng.random() < _NULL_FRACTION:
        return None
    if isinstance(column, Structured):
        return from_ordinal(column, rng.randrange(value_count(column)))
    if isinstance(column, Text):
        words = rng.uniform(0, _MAX_TEXT_FRACTION * column.max_tokens) / _TOKENS_PER_WORD
        return " ".join(rng.choices(EnglishWords.word_list, k=max(1, round(words))))
    # Identifiers and surrogates are not learned: any value will do.
    return f"{number + 1}" if isinstance(column, Identifier) else f"somebody {number + 1}"
