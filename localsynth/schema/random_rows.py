"""Rows made up from a schema alone: to rehearse with, never to learn anything real from.

Every value is drawn evenly from what the schema allows, so the rows have the form of the table and none of its content. Where a
row breaks a constraint, values of the columns that it is about are drawn anew from those that keep it.
"""

import datetime as dt
import random
from collections.abc import Iterator

from faker.providers.lorem.en_US import Provider as EnglishWords

from localsynth.schema.columns import (
    Boolean,
    Category,
    Column,
    Date,
    DateTime,
    Identifier,
    Integer,
    Number,
    Record,
    Schema,
    Text,
    Value,
)
from localsynth.schema.conditions import Allowed, Conditions, only
from localsynth.schema.feasible import FeasibleSet

__all__ = ["made_up_rows"]

_NULLS = 0.05
_MOST_OF_A_TEXT = 0.8
"""Texts are evenly long up to this share of max_tokens, so 40 % of it on average, as `plan` reckons."""
_TOKENS_A_WORD = 1.4


def made_up_rows(schema: Schema, units: int, unit: str, max_rows_per_unit: int, seed: int = 0) -> Iterator[Record]:
    """The rows of `units` made-up units, from 1 to `max_rows_per_unit` each, with every column of the schema.

    `unit` is "row" or the column that says whose row it is. No bound or list of the schema may be open. The same seed gives
    the same rows.
    """
    draw = random.Random(seed)
    feasible = FeasibleSet(schema)
    for number in range(units):
        # What the unit is called, the same in all its rows.
        own: Record = {}
        if unit != "row":
            column = next(column for column in schema.columns if column.name == unit)
            own[unit] = _value(column.model_copy(update={"nullable": False}), number, draw)
        for _ in range(1 if unit == "row" else draw.randint(1, max_rows_per_unit)):
            row = {column.name: _value(column, number, draw) for column in schema.columns} | own
            yield row if feasible.satisfied(row) else _mended(schema, feasible, row, own, draw)


def _mended(schema: Schema, feasible: FeasibleSet, row: Record, own: Record, draw: random.Random) -> Record:
    """A row that keeps the constraints: each column as it is or drawn evenly from what may be, an example's where that fails.

    A unit whose own name no row can have with the constraints loses it.
    """
    asked: Conditions = {name: only(schema.column(name), value) for name, value in own.items() if name in feasible.names}
    example = feasible.witness(asked)
    if example is None:
        asked, example = {}, feasible.witness({})
    mended = dict(row)
    settled: Record = {}
    for name in feasible.names:
        allowed = feasible.of_column(name, settled, asked)
        if allowed.empty:
            break
        settled[name] = mended[name] = mended[name] if mended[name] in allowed else _any_of(allowed, draw)
    return mended if feasible.satisfied(mended) else {**mended, **(example or {})}


def _any_of(allowed: Allowed, draw: random.Random) -> Value:
    pieces = allowed.pieces()
    if not pieces:
        return None
    weights = [1 + high - low for low, high in allowed.intervals] or [1]
    value = _value(draw.choices(pieces, weights)[0], 0, draw)
    return value == "yes" if isinstance(allowed.column, Boolean) and isinstance(value, str) else value


def _value(column: Column, number: int, draw: random.Random) -> Value:
    if column.nullable and draw.random() < _NULLS:
        return None
    if isinstance(column, Category):
        return draw.choice(column.allowed())
    if isinstance(column, Boolean):
        return draw.random() < 0.5
    if isinstance(column, Text):
        words = draw.uniform(0, _MOST_OF_A_TEXT * column.max_tokens) / _TOKENS_A_WORD
        return " ".join(draw.choices(EnglishWords.word_list, k=max(1, round(words))))
    if isinstance(column, Integer | Number | Date | DateTime):
        return _between(column, draw)
    # Identifiers and surrogates are not learned: anything will do.
    return f"{number + 1}" if isinstance(column, Identifier) else f"somebody {number + 1}"


def _between(column: Integer | Number | Date | DateTime, draw: random.Random) -> Value:
    assert column.min is not None and column.max is not None
    if isinstance(column, Integer):
        assert isinstance(column.min, int) and isinstance(column.max, int)
        return draw.randint(column.min, column.max)
    if isinstance(column, Number):
        return round(draw.uniform(column.min, column.max), column.decimals)
    span = column.max - column.min
    if isinstance(column, DateTime):
        return column.min + dt.timedelta(seconds=draw.randint(0, int(span.total_seconds())))
    return column.min + dt.timedelta(days=draw.randint(0, span.days))
