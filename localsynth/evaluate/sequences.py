"""Sequences: the number of rows per unit, and the transitions from one row to the next."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localsynth.evaluate.arrays import Rows, codes
from localsynth.evaluate.columns import total_variation
from localsynth.evaluate.stats import mean_known
from localsynth.schema.columns import Schema, Text

Units = Sequence[Rows]
"""The rows of each unit, in their order."""

_MAX_BARS = 20


class _Table:
    """The rows of the units, and `second`, the indices of the rows that have a predecessor."""

    def __init__(self, units: Units) -> None:
        self.rows = [row for unit in units for row in unit]
        self.second = np.setdiff1d(np.arange(len(self.rows)), np.cumsum([0, *(len(unit) for unit in units)]))

    def pairs(self, codes: NDArray[np.int64]) -> Counter[tuple[int, int]]:
        return Counter(zip(codes[self.second - 1].tolist(), codes[self.second].tolist(), strict=True))

    def same(self, name: str) -> float | None:
        """The share of pairs whose values are equal."""
        same = [self.rows[i - 1][name] == self.rows[i][name] for i in self.second.tolist()]
        return sum(same) / len(same) if same else None


def _independent(pairs: Counter[tuple[int, int]]) -> float:
    """The distance of the pairs from those of independent rows."""
    before, after = Counter[int](), Counter[int]()
    for (one, two), count in pairs.items():
        before[one] += count
        after[two] += count
    return total_variation(pairs, Counter({(one, two): before[one] * after[two] for one in before for two in after}))


def compare_sequences(train: Units, holdout: Units, synthetic: Units, schema: Schema) -> dict[str, Any]:
    """Rows per unit, and for each column the pairs (value in the row before, value), as total variation distances.

    `ceiling` is the distance of the holdout from the original, and `independent` what it would be if rows had nothing to do with
    each other. Ordered columns in ten parts of equal size. `same`: share of pairs whose values are equal.
    """
    tables = [_Table(units) for units in (train, holdout, synthetic)]
    lengths = [Counter(min(len(unit), _MAX_BARS) for unit in units) for units in (train, holdout, synthetic)]
    bars = range(1, max([1, *(length for found in lengths for length in found)]) + 1)
    columns: list[dict[str, Any]] = []
    for column in schema.learned():
        if isinstance(column, Text):
            continue
        original, others, made = (
            table.pairs(own) for table, own in zip(tables, codes(column, *(table.rows for table in tables)), strict=True)
        )
        columns.append(
            {
                "column": column.name,
                "distance": total_variation(original, made),
                "ceiling": total_variation(original, others),
                "independent": _independent(original),
                "same": {"original": tables[0].same(column.name), "synthetic": tables[2].same(column.name)},
            }
        )
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
            "distance": total_variation(lengths[0], lengths[2]),
            "ceiling": total_variation(lengths[0], lengths[1]),
        },
        "mean_distance": mean_known([entry["distance"] for entry in columns]),
        "ceiling": mean_known([entry["ceiling"] for entry in columns]),
        "independent": mean_known([entry["independent"] for entry in columns]),
        "columns": columns,
    }
