"""Sequences: the number of rows per unit, and the transitions from one row to the next."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localsynth.evaluate.arrays import is_ordered, label_codes, ordered
from localsynth.schema.columns import Column, Record, Schema, Text

__all__ = ["Units", "compare_sequences"]

Units = Sequence[Sequence[Record]]
"""The rows of each unit, in their order."""

Codes = NDArray[np.int64]

_BINS = 10
_MAX_BARS = 20


def _distance(first: Counter[Any], second: Counter[Any]) -> float:
    """Total variation of two tables of counts; NaN if one is empty."""
    ours, theirs = first.total(), second.total()
    if not ours or not theirs:
        return math.nan
    return sum(abs(first[key] / ours - second[key] / theirs) for key in first | second) / 2


def _coded(column: Column, tables: Sequence[Sequence[Record]]) -> list[Codes]:
    """Values as whole numbers: labels one by one, ordered values in ten bins of the first table; null is a value of its own."""
    if not is_ordered(column):
        return label_codes(column, *tables)
    values = [ordered(column, table) for table in tables]
    known = values[0][~np.isnan(values[0])]
    cuts = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1])) if len(known) else np.array([])
    return [np.where(np.isnan(v), -1, np.searchsorted(cuts, v, side="right")) for v in values]


@dataclass(frozen=True)
class _Table:
    rows: list[Record]
    second: NDArray[np.int64]
    """The indices of the rows that have a predecessor."""

    @classmethod
    def of(cls, units: Units) -> "_Table":
        starts = np.cumsum([0, *(len(unit) for unit in units)])
        rows = [row for unit in units for row in unit]
        return cls(rows, np.setdiff1d(np.arange(len(rows)), starts))

    def pairs(self, codes: Codes) -> Counter[tuple[int, int]]:
        return Counter(zip(codes[self.second - 1].tolist(), codes[self.second].tolist(), strict=True))


def _independent(pairs: Counter[tuple[int, int]]) -> float:
    """The distance of the pairs from those of independent rows."""
    before, after = Counter[int](), Counter[int]()
    for (one, two), count in pairs.items():
        before[one] += count
        after[two] += count
    total = pairs.total()
    if not total:
        return math.nan
    return sum(abs(pairs[one, two] / total - before[one] * after[two] / total**2) for one in before for two in after) / 2


def _same(pairs_of: Sequence[tuple[Any, Any]]) -> float | None:
    return sum(one == two for one, two in pairs_of) / len(pairs_of) if pairs_of else None


def compare_sequences(train: Units, holdout: Units, synthetic: Units, schema: Schema) -> dict[str, Any]:
    """Rows per unit, and for each column the pairs (value in the row before, value), as total variation distances.

    `ceiling` is the distance of the holdout from the original, and `independent` what it would be if rows had nothing to do with
    each other. Ordered columns in ten parts of equal size. `same`: share of pairs whose values are equal.
    """
    tables = [_Table.of(units) for units in (train, holdout, synthetic)]
    lengths = [Counter(min(len(unit), _MAX_BARS) for unit in units) for units in (train, holdout, synthetic)]
    bars = range(1, max([1, *(length for found in lengths for length in found)]) + 1)
    columns = []
    for column in schema.learned():
        if isinstance(column, Text):
            continue
        original, others, made = (
            table.pairs(codes) for table, codes in zip(tables, _coded(column, [table.rows for table in tables]), strict=True)
        )
        values = [
            [(table.rows[i - 1][column.name], table.rows[i][column.name]) for i in table.second.tolist()]
            for table in (tables[0], tables[2])
        ]
        columns.append(
            {
                "column": column.name,
                "distance": _distance(original, made),
                "ceiling": _distance(original, others),
                "independent": _independent(original),
                "same": {"original": _same(values[0]), "synthetic": _same(values[1])},
            }
        )

    def mean(key: str) -> float | None:
        known = [float(entry[key]) for entry in columns if not math.isnan(entry[key])]  # type: ignore[arg-type]
        return float(np.mean(known)) if known else None

    names = ("original", "holdout", "synthetic")
    return {
        "units": dict(zip(names, map(len, (train, holdout, synthetic)), strict=True)),
        "pairs": dict(zip(names, (len(table.second) for table in tables), strict=True)),
        "rows_per_unit": {
            "histogram": {
                "bars": [str(length) if length < _MAX_BARS else f"{length} or more" for length in bars],
                "ends": [str(bars[0]), str(bars[-1])],
                "original": [lengths[0][length] / max(lengths[0].total(), 1) for length in bars],
                "synthetic": [lengths[2][length] / max(lengths[2].total(), 1) for length in bars],
            },
            "distance": _distance(lengths[0], lengths[2]),
            "ceiling": _distance(lengths[0], lengths[1]),
        },
        "mean_distance": mean("distance"),
        "ceiling": mean("ceiling"),
        "independent": mean("independent"),
        "columns": columns,
    }
