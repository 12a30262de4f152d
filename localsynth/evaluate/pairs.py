"""Pairwise associations of columns in the original and in the synthetic table."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats as distributions

from localsynth.evaluate.arrays import halves, is_ordered, label_codes, ordered, sample
from localsynth.schema.columns import Column, Record, Schema, Text

__all__ = ["association", "compare_pairs", "correlation_ratio", "cramers_v", "mutual_information", "spearman"]

_MAX_ROWS = 5_000
_MAX_PAIRS = 600
_BINS = 10

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


def _contingency(first: Codes, second: Codes) -> Floats:
    _, ours = np.unique(first, return_inverse=True)
    _, theirs = np.unique(second, return_inverse=True)
    width = int(theirs.max(initial=-1)) + 1
    counts = np.bincount(ours * width + theirs, minlength=(int(ours.max(initial=-1)) + 1) * width)
    return counts.reshape(-1, width).astype(np.float64) if width else np.zeros((0, 0))


def spearman(first: Floats, second: Floats) -> float:
    """Spearman's rank correlation of the rows without null, −1 to 1; 0 where one column is constant; NaN below three rows."""
    both = ~(np.isnan(first) | np.isnan(second))
    if both.sum() < 3:
        return math.nan
    ours, theirs = distributions.rankdata(first[both]), distributions.rankdata(second[both])
    if ours.std() == 0 or theirs.std() == 0:
        return 0.0
    return float(np.corrcoef(ours, theirs)[0, 1])


def cramers_v(first: Codes, second: Codes) -> float:
    """Cramér's V with the correction for bias of Bergsma 2013 (J. Korean Stat. Soc. 42:323), 0 to 1; 0 where one is constant."""
    table = _contingency(first, second)
    n = table.sum()
    if n < 3:
        return math.nan
    rows, columns = table.shape
    if min(rows, columns) < 2:
        return 0.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    phi = float(((table - expected) ** 2 / expected).sum() / n)
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
    table = _contingency(first, second)
    if not table.size:
        return math.nan
    shares = table / table.sum()
    ours, theirs = shares.sum(axis=1), shares.sum(axis=0)
    filled = shares > 0
    information = float((shares[filled] * np.log(shares[filled] / np.outer(ours, theirs)[filled])).sum())
    smaller = min(-float((part * np.log(part)).sum()) for part in (ours, theirs))
    return min(1.0, max(0.0, information / smaller)) if smaller > 1e-12 else 0.0


def _measure_of(first: Column, second: Column) -> str:
    kinds = is_ordered(first), is_ordered(second)
    return {(True, True): "Spearman", (False, False): "Cramér's V"}.get(kinds, "correlation ratio")


class _Encoded:
    """The columns of one table as floats and as codes of ten bins, cut at the original's quantiles."""

    def __init__(self, records: Sequence[Record], columns: Sequence[Column], like: Sequence[Record]) -> None:
        self.numbers: dict[str, Floats] = {}
        self.codes: dict[str, Codes] = {}
        for column in columns:
            if is_ordered(column):
                values, reference = ordered(column, records), ordered(column, like)
                reference = reference[~np.isnan(reference)]
                cuts = np.unique(np.quantile(reference, np.linspace(0, 1, _BINS + 1)[1:-1])) if len(reference) else np.array([])
                self.numbers[column.name] = values
                self.codes[column.name] = np.where(np.isnan(values), -1, np.searchsorted(cuts, values, side="right"))
            else:
                _, self.codes[column.name] = label_codes(column, like, records)


def association(first: Column, second: Column, table: _Encoded) -> float:
    """Spearman for two ordered columns, Cramér's V for two of labels (null is one), the correlation ratio for one of each."""
    if is_ordered(first) and is_ordered(second):
        return spearman(table.numbers[first.name], table.numbers[second.name])
    if is_ordered(first):
        return correlation_ratio(table.codes[second.name], table.numbers[first.name])
    if is_ordered(second):
        return correlation_ratio(table.codes[first.name], table.numbers[second.name])
    return cramers_v(table.codes[first.name], table.codes[second.name])


def compare_pairs(train: Sequence[Record], synthetic: Sequence[Record], schema: Schema, *, seed: int) -> dict[str, Any]:
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
        name: _Encoded(rows, columns, original)
        for name, rows in (("original", original), ("synthetic", made), ("one", one), ("other", other))
    }
    entries: list[dict[str, Any]] = []
    for first, second in pairs:
        found = {name: association(first, second, table) for name, table in tables.items()}
        shared = {name: mutual_information(t.codes[first.name], t.codes[second.name]) for name, t in tables.items()}
        entries.append(
            {
                "columns": [first.name, second.name],
                "measure": _measure_of(first, second),
                "original": found["original"],
                "synthetic": found["synthetic"],
                "difference": abs(found["original"] - found["synthetic"]),
                "ceiling": abs(found["one"] - found["other"]),
                "mutual_information": {"original": shared["original"], "synthetic": shared["synthetic"]},
            }
        )

    def mean(key: str) -> float | None:
        values = [float(entry[key]) for entry in entries if not math.isnan(entry[key])]
        return float(np.mean(values)) if values else None

    return {
        "n": {"original": len(original), "synthetic": len(made)},
        "pairs_in_all": len(columns) * (len(columns) - 1) // 2,
        "mean_difference": mean("difference"),
        "ceiling": mean("ceiling"),
        "pairs": entries,
    }
