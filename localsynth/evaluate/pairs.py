"""Pairwise associations of columns in the original and in the synthetic table."""

import math
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, entropy, spearmanr
from scipy.stats.contingency import crosstab

from localsynth.evaluate.arrays import Floats, Rows, codes, halves, is_ordered, ordered, sample
from localsynth.evaluate.stats import mean_known
from localsynth.schema.columns import Column, Schema, Text

_MAX_ROWS = 5_000
_MAX_PAIRS = 600

Codes = NDArray[np.int64]


def spearman(first: Floats, second: Floats) -> float:
    """Spearman's rank correlation of the rows without null, −1 to 1; 0 where one column is constant; NaN below three rows."""
    both = ~(np.isnan(first) | np.isnan(second))
    if both.sum() < 3:
        return math.nan
    ours, theirs = first[both], second[both]
    if np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        return 0.0
    return float(spearmanr(ours, theirs).statistic)


def cramers_v(first: Codes, second: Codes) -> float:
    """Cramér's V with the correction for bias of Bergsma 2013 (J. Korean Stat. Soc. 42:323), 0 to 1; 0 where one is constant."""
    table = crosstab(first, second).count
    n = table.sum()
    if n < 3:
        return math.nan
    rows, columns = table.shape
    if min(rows, columns) < 2:
        return 0.0
    phi = float(chi2_contingency(table, correction=False).statistic / n)
    phi = max(0.0, phi - (rows - 1) * (columns - 1) / (n - 1))
    smaller = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    return min(1.0, math.sqrt(phi / smaller)) if smaller > 0 else 0.0


def correlation_ratio(names: Codes, numbers: Floats) -> float:
    """Pearson's correlation ratio η: the square root of the share of the numbers' variance between the groups; 0 to 1."""
    there = ~np.isnan(numbers)
    if there.sum() < 3:
        return math.nan
    _, groups = np.unique(names[there], return_inverse=True)
    values = numbers[there]
    total = float(((values - values.mean()) ** 2).sum())
    if total == 0:
        return 0.0
    counts = np.bincount(groups)
    means = np.bincount(groups, weights=values) / counts
    return math.sqrt(min(1.0, float((counts * (means - values.mean()) ** 2).sum()) / total))


def mutual_information(first: Codes, second: Codes) -> float:
    """Mutual information divided by the smaller entropy: 0 independent, 1 determined; 0 where one is constant."""
    table = crosstab(first, second).count
    if not table.size:
        return math.nan
    ours, theirs, both = (float(entropy(counts)) for counts in (table.sum(axis=1), table.sum(axis=0), table.ravel()))
    smaller = min(ours, theirs)
    return min(1.0, max(0.0, (ours + theirs - both) / smaller)) if smaller > 1e-12 else 0.0


class _Encoded:
    """One column of a table as codes and, where it is ordered, as numbers; bins are those of the table `like`."""

    def __init__(self, column: Column, records: Rows, like: Rows) -> None:
        self.numbers = ordered(column, records) if is_ordered(column) else None
        _, self.codes = codes(column, like, records)


def _association(first: _Encoded, second: _Encoded) -> float:
    """Spearman for two ordered columns, Cramér's V for two of labels (null is one), the correlation ratio for one of each."""
    if first.numbers is not None and second.numbers is not None:
        return spearman(first.numbers, second.numbers)
    if first.numbers is not None:
        return correlation_ratio(second.codes, first.numbers)
    if second.numbers is not None:
        return correlation_ratio(first.codes, second.numbers)
    return cramers_v(first.codes, second.codes)


def compare_pairs(train: Rows, synthetic: Rows, schema: Schema, *, seed: int) -> dict[str, Any]:
    """Association and mutual information of every pair of learned columns except texts, in both tables.

    `ceiling` is the split-half baseline of the mean difference. On at most 5,000 rows a table and at most 600 pairs, a random
    sample where there are more (`pairs_in_all`).
    """
    columns = [column for column in schema.learned() if not isinstance(column, Text)]
    pairs = list(combinations(columns, 2))
    if len(pairs) > _MAX_PAIRS:
        chosen = np.random.default_rng(seed).choice(len(pairs), _MAX_PAIRS, replace=False)
        pairs = [pairs[i] for i in sorted(chosen)]
    original, made = sample(train, _MAX_ROWS, seed), sample(synthetic, _MAX_ROWS, seed + 1)
    one, other = halves(original, seed)
    tables = {
        name: {column.name: _Encoded(column, rows, original) for column in columns}
        for name, rows in (("original", original), ("synthetic", made), ("one", one), ("other", other))
    }
    entries: list[dict[str, Any]] = []
    for first, second in pairs:
        found = {name: _association(table[first.name], table[second.name]) for name, table in tables.items()}
        shared = {
            name: mutual_information(tables[name][first.name].codes, tables[name][second.name].codes)
            for name in ("original", "synthetic")
        }
        entries.append(
            {
                "columns": [first.name, second.name],
                "measure": ("Cramér's V", "correlation ratio", "Spearman")[is_ordered(first) + is_ordered(second)],
                "original": found["original"],
                "synthetic": found["synthetic"],
                "difference": abs(found["original"] - found["synthetic"]),
                "ceiling": abs(found["one"] - found["other"]),
                "mutual_information": shared,
            }
        )
    return {
        "n": {"original": len(original), "synthetic": len(made)},
        "pairs_in_all": len(columns) * (len(columns) - 1) // 2,
        "mean_difference": mean_known([entry["difference"] for entry in entries]),
        "ceiling": mean_known([entry["ceiling"] for entry in entries]),
        "pairs": entries,
    }
