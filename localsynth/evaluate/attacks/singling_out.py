"""Singling out: descriptions from the synthetic table that fit exactly one row of the original.

After Giomi et al. 2022, section 4.1. A description is a conjunction of conditions on columns; the attacker keeps those that
fit one synthetic row; an attempt succeeds if it fits one original row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from localsynth.evaluate.arrays import Rows, is_labelled, is_ordered, labels, ordered, sample, span, texts
from localsynth.evaluate.attacks.outcome import Attack
from localsynth.evaluate.stats import Rate
from localsynth.schema.columns import Category, Column, Schema, Text

_MAX_ROWS = 5_000
_MAX_PREDICATES = 1_000
_MAX_CONDITIONS = 6
_TRIES = 6_000

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Condition:
    """One condition on one column: `has` a label or word, or `equals`, `at most` or `at least` a number."""

    column: str
    how: str
    value: str | float | None


Predicate = tuple[Condition, ...]

_COMPARE = {"equals": np.equal, "at most": np.less_equal, "at least": np.greater_equal}


class _Rows:
    """One table with an index of labels and words, so that `has` needs no scan."""

    def __init__(self, records: Rows, columns: Sequence[Column]) -> None:
        self.n = len(records)
        self.places = [column for column in columns for _ in range(2 if isinstance(column, Text) else 1)]
        """The columns; those of text twice, since a text gives up to two conditions."""
        self.numbers = {column.name: ordered(column, records) for column in columns if is_ordered(column)}
        self.parts: dict[str, Sequence[Sequence[str | None]]] = {}
        """The label of each row, or the different words of its text."""
        self.where: dict[str, dict[str | float | None, list[int]]] = {}
        for column in columns:
            if is_labelled(column):
                self.parts[column.name] = [[name] for name in labels(column, records)]
            elif isinstance(column, Text):
                self.parts[column.name] = [sorted(set(text.casefold().split())) for text in texts(column, records)]
        for name, parts in self.parts.items():
            where = self.where[name] = {}
            for row, own in enumerate(parts):
                for part in own:
                    where.setdefault(part, []).append(row)

    def mask(self, condition: Condition) -> Mask:
        if condition.how == "has":
            mask = np.zeros(self.n, dtype=bool)
            mask[self.where[condition.column].get(condition.value, [])] = True
            return mask
        assert isinstance(condition.value, float)
        return np.asarray(_COMPARE[condition.how](self.numbers[condition.column], condition.value))

    def fits(self, predicate: Predicate) -> int:
        return int(reduce(np.logical_and, [self.mask(condition) for condition in predicate]).sum())


def _univariate(rows: _Rows) -> list[Predicate]:
    """Conditions on a single column that fit one row: a label, word or number that occurs once, a lone lowest or highest number.

    As Giomi et al. 2022 have it. Numbers that occur once give most of them where a column has more values than rows.
    """
    found = []
    for column, numbers in rows.numbers.items():
        values, counts = np.unique(numbers[~np.isnan(numbers)], return_counts=True)
        if len(values):
            ends = Condition(column, "at most", float(values[0])), Condition(column, "at least", float(values[-1]))
            found += [end for end, count in zip(ends, (counts[0], counts[-1]), strict=True) if count == 1]
        found += [Condition(column, "equals", float(value)) for value in values[counts == 1]]
    for column, where in rows.where.items():
        found += [Condition(column, "has", part) for part, places in where.items() if part is not None and len(places) == 1]
    return [(condition,) for condition in found]


def _condition_on(rows: _Rows, column: Column, row: int, random: np.random.Generator) -> Condition | None:
    """A condition that `row` satisfies: its label, one of its words, or its number as a bound on its side of the median."""
    if column.name in rows.numbers:
        numbers = rows.numbers[column.name]
        number = float(numbers[row])
        if np.isnan(number):
            return None
        return Condition(column.name, "at least" if number >= np.nanmedian(numbers) else "at most", number)
    parts = rows.parts[column.name][row]
    return Condition(column.name, "has", parts[int(random.integers(len(parts)))]) if parts else None


def _multivariate(rows: _Rows, random: np.random.Generator) -> list[Predicate]:
    """Conjunctions of two to six conditions taken from one random synthetic row that fit that row alone."""
    kept: dict[Predicate, None] = {}
    limit = min(_MAX_CONDITIONS, len(rows.places))
    if limit < 2 or not rows.n:
        return []
    for _ in range(_TRIES):
        row = int(random.integers(rows.n))
        chosen = random.choice(len(rows.places), random.integers(2, limit + 1), replace=False)
        conditions = [_condition_on(rows, rows.places[i], row, random) for i in sorted(chosen)]
        predicate = tuple(dict.fromkeys(condition for condition in conditions if condition is not None))
        if len(predicate) >= 2 and predicate not in kept and rows.fits(predicate) == 1:
            kept[predicate] = None
            if len(kept) == _MAX_PREDICATES:
                break
    return list(kept)


def _random_condition(rows: _Rows, column: Column, random: np.random.Generator) -> Condition:
    """A condition with a value from the schema, or a word of the synthetic texts."""
    if is_ordered(column):
        low, high = span(column)
        return Condition(column.name, ("at most", "at least")[random.integers(2)], float(random.uniform(low, high)))
    if isinstance(column, Category):
        names = column.allowed()
    else:
        names = ["yes", "no"] if is_labelled(column) else sorted(map(str, rows.where[column.name])) or [""]
    return Condition(column.name, "has", names[random.integers(len(names))])


def _naive(rows: _Rows, like: Sequence[Predicate], random: np.random.Generator) -> list[Predicate]:
    """As many random conjunctions of the same lengths."""
    naive = []
    for predicate in like:
        chosen = random.choice(len(rows.places), min(len(predicate), len(rows.places)), replace=False)
        naive.append(tuple(_random_condition(rows, rows.places[i], random) for i in chosen))
    return naive


def singling_out(train: Rows, holdout: Rows, synthetic: Rows, schema: Schema, *, seed: int) -> list[Attack]:
    """The univariate and the multivariate attack; each tries at most 1,000 descriptions on at most 5,000 rows.

    How likely a description fits exactly one row depends on how many rows there are, so both sides are cut at random to the
    size of the smaller. A small holdout therefore weakens the attack: only the original rows in its sample can be hit.
    """
    columns = schema.learned()
    size = min(len(train), len(holdout), _MAX_ROWS)
    members = _Rows(sample(train, size, seed), columns)
    others = _Rows(sample(holdout, size, seed + 1), columns)
    made = _Rows(sample(synthetic, _MAX_ROWS, seed + 2), columns)
    random = np.random.default_rng(seed + 3)

    def rate(predicates: Sequence[Predicate], rows: _Rows) -> Rate:
        return Rate(sum(rows.fits(predicate) == 1 for predicate in predicates), len(predicates))

    def attack(name: str, by: str, predicates: list[Predicate]) -> Attack:
        if len(predicates) > _MAX_PREDICATES:
            predicates = [predicates[i] for i in random.choice(len(predicates), _MAX_PREDICATES, replace=False)]
        return Attack(
            name,
            f"Does {by} that is unique in the synthetic table point to exactly one row of the original?",
            rate(predicates, members),
            rate(predicates, others),
            rate(_naive(made, predicates, random), members),
            f"{len(predicates):,} descriptions, each fitting one of {made.n:,} synthetic rows, tried on {size:,} rows of "
            "the original and as many of the holdout. Baseline: random descriptions of the same length.",
        )

    return [
        attack("singling out, one column", "a single rare value", _univariate(made)),
        attack("singling out, several columns", "a combination of values", _multivariate(made, random)),
    ]
