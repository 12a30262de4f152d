"""Singling out: descriptions from the synthetic table that fit exactly one row of the original.

After Giomi et al. 2022, section 4.1. A description is a conjunction of conditions on columns; the attacker keeps those that
fit one synthetic row; an attempt succeeds if it fits one original row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from localsynth.evaluate.arrays import Rows, is_labelled, is_ordered, labels, ordered, sample, span, texts
from localsynth.evaluate.attacks.outcome import Attack
from localsynth.evaluate.stats import Rate
from localsynth.schema.columns import Boolean, Category, Column, Schema

__all__ = ["singling_out"]

_MAX_ROWS = 5_000
_MAX_PREDICATES = 1_000
_MAX_CONDITIONS = 6
_TRIES = 6_000

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Condition:
    """One condition on one column: `is` or `contains` a name or word, or `equals`, `at most` or `at least` a number."""

    column: str
    how: str
    value: str | float | None


class _Rows:
    """One table with an index of words, so that `contains` needs no scan."""

    def __init__(self, records: Rows, columns: Sequence[Column]) -> None:
        self.n = len(records)
        self.numbers = {column.name: ordered(column, records) for column in columns if is_ordered(column)}
        self.names: dict[str, list[str | None]] = {}
        self.known: dict[str, dict[str | None, int]] = {}
        self.codes: dict[str, NDArray[np.int64]] = {}
        for column in columns:
            if not is_labelled(column):
                continue
            names = self.names[column.name] = labels(column, records)
            known = self.known[column.name] = {name: code for code, name in enumerate(dict.fromkeys(names))}
            self.codes[column.name] = np.array([known[name] for name in names], dtype=np.int64)
        self.words: dict[str, list[list[str]]] = {}
        self.where: dict[str, dict[str, list[int]]] = {}
        for column in columns:
            if column.name in self.numbers or column.name in self.names:
                continue
            words = [sorted(set(text.casefold().split())) for text in texts(column, records)]
            where: dict[str, list[int]] = {}
            for row, own in enumerate(words):
                for word in own:
                    where.setdefault(word, []).append(row)
            self.words[column.name], self.where[column.name] = words, where

    def mask(self, condition: Condition) -> Mask:
        if condition.how == "contains":
            mask = np.zeros(self.n, dtype=bool)
            mask[self.where[condition.column].get(str(condition.value), [])] = True
            return mask
        if condition.how == "is":
            name = None if condition.value is None else str(condition.value)
            return np.asarray(self.codes[condition.column] == self.known[condition.column].get(name, -1))
        numbers = self.numbers[condition.column]
        assert isinstance(condition.value, float)
        if condition.how == "equals":
            return np.asarray(numbers == condition.value)
        return numbers <= condition.value if condition.how == "at most" else numbers >= condition.value

    def fits(self, predicate: Sequence[Condition]) -> int:
        return int(reduce(np.logical_and, [self.mask(condition) for condition in predicate]).sum())


def _univariate(rows: _Rows) -> list[list[Condition]]:
    """Conditions on a single column that fit one row: a name, word or number that occurs once, a lone lowest or highest number.

    As Giomi et al. 2022 have it. Numbers that occur once give most of them where a column has more values than rows.
    """
    found = [Condition(column, how, end) for column, numbers in rows.numbers.items() if (~np.isnan(numbers)).any()
             for how, end in (("at most", float(np.nanmin(numbers))), ("at least", float(np.nanmax(numbers))))]  # fmt: skip
    for column in rows.names:
        found += [Condition(column, "is", name) for name in rows.known[column] if name is not None]
    kept = [[condition] for condition in found if rows.fits([condition]) == 1]
    for column, numbers in rows.numbers.items():
        values, counts = np.unique(numbers[~np.isnan(numbers)], return_counts=True)
        kept += [[Condition(column, "equals", float(value))] for value in values[counts == 1]]
    for column, where in rows.where.items():
        kept += [[Condition(column, "contains", word)] for word, places in where.items() if len(places) == 1]
    return kept


def _condition_on(rows: _Rows, column: Column, row: int, random: np.random.Generator) -> Condition | None:
    """A condition that `row` satisfies: its name, one of its words, or its number as a bound on its side of the median."""
    if column.name in rows.numbers:
        numbers = rows.numbers[column.name]
        number = float(numbers[row])
        if np.isnan(number):
            return None
        return Condition(column.name, "at least" if number >= np.nanmedian(numbers) else "at most", number)
    if column.name in rows.names:
        return Condition(column.name, "is", rows.names[column.name][row])
    words = rows.words[column.name][row]
    return Condition(column.name, "contains", words[random.integers(len(words))]) if words else None


def _multivariate(rows: _Rows, columns: Sequence[Column], random: np.random.Generator) -> list[list[Condition]]:
    """Conjunctions of two to six conditions taken from one random synthetic row that fit that row alone.

    A column of text gives up to two of them.
    """
    places = [column for column in columns for _ in range(2 if column.name in rows.words else 1)]
    kept: dict[tuple[Condition, ...], None] = {}
    limit = min(_MAX_CONDITIONS, len(places))
    if limit < 2 or not rows.n:
        return []
    for _ in range(_TRIES):
        row = int(random.integers(rows.n))
        chosen = random.choice(len(places), random.integers(2, limit + 1), replace=False)
        conditions = [_condition_on(rows, places[i], row, random) for i in sorted(chosen)]
        predicate = tuple(dict.fromkeys(condition for condition in conditions if condition is not None))
        if len(predicate) >= 2 and predicate not in kept and rows.fits(predicate) == 1:
            kept[predicate] = None
            if len(kept) == _MAX_PREDICATES:
                break
    return [list(predicate) for predicate in kept]


def _random_condition(rows: _Rows, column: Column, random: np.random.Generator) -> Condition:
    if is_ordered(column):
        low, high = span(column)
        return Condition(column.name, ("at most", "at least")[random.integers(2)], float(random.uniform(low, high)))
    if isinstance(column, Category):
        allowed = column.allowed()
        return Condition(column.name, "is", allowed[random.integers(len(allowed))])
    if isinstance(column, Boolean):
        return Condition(column.name, "is", ("yes", "no")[random.integers(2)])
    words = sorted(rows.where[column.name]) or [""]
    return Condition(column.name, "contains", words[random.integers(len(words))])


def _naive(
    rows: _Rows, columns: Sequence[Column], like: Sequence[Sequence[Condition]], random: np.random.Generator
) -> list[list[Condition]]:
    """As many conjunctions of the same lengths, with columns and values from the schema (words: from the synthetic texts)."""
    places = [column for column in columns for _ in range(2 if column.name in rows.words else 1)]
    naive = []
    for predicate in like:
        chosen = random.choice(len(places), min(len(predicate), len(places)), replace=False)
        naive.append([_random_condition(rows, places[i], random) for i in chosen])
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

    def rate(predicates: Sequence[Sequence[Condition]], rows: _Rows) -> Rate:
        return Rate(sum(rows.fits(predicate) == 1 for predicate in predicates), len(predicates))

    attacks: list[Attack] = []
    kinds: list[tuple[str, str, Callable[[], list[list[Condition]]]]] = [
        ("singling out, one column", "a single rare value", lambda: _univariate(made)),
        ("singling out, several columns", "a combination of values", lambda: _multivariate(made, columns, random)),
    ]
    for name, by, make in kinds:
        predicates = make()
        if len(predicates) > _MAX_PREDICATES:
            predicates = [predicates[i] for i in random.choice(len(predicates), _MAX_PREDICATES, replace=False)]
        attacks.append(
            Attack(
                name,
                f"Does {by} that is unique in the synthetic table point to exactly one row of the original?",
                rate(predicates, members),
                rate(predicates, others),
                rate(_naive(made, columns, predicates, random), members),
                f"{len(predicates):,} descriptions, each fitting one of {made.n:,} synthetic rows, tried on {size:,} rows of "
                "the original and as many of the holdout. Baseline: random descriptions of the same length.",
            )
        )
    return attacks
