"""Column by column: the distance of the synthetic distribution from the original one, and the values lost."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import stats as distributions

from localsynth.evaluate.arrays import Floats, Ordered, Rows, halves, is_labelled, is_ordered, known, labels, ordered, span, texts
from localsynth.schema.columns import Category, Column, Date, DateTime, Integer, Schema, Time, ends

RARE = 0.01
"""A value is rare when fewer than this share of the original's rows have it."""

_BINS = 24
_MAX_BARS = 12


def total_variation(first: Iterable[Any] | Counter[Any], second: Iterable[Any] | Counter[Any]) -> float:
    """Half the sum of the differences of the shares of values or counts: 0 equal, 1 nothing in common. NaN if one is empty."""
    ours, theirs = Counter(first), Counter(second)
    if not ours or not theirs:
        return math.nan
    return sum(abs(ours[name] / ours.total() - theirs[name] / theirs.total()) for name in ours | theirs) / 2


def ks_distance(first: Floats, second: Floats) -> float:
    """Kolmogorov & Smirnov: the greatest difference of the distribution functions, nulls left out. NaN if one is empty."""
    ours, theirs = np.sort(known(first)), np.sort(known(second))
    if not len(ours) or not len(theirs):
        return math.nan
    points = np.concatenate([ours, theirs])
    apart = np.searchsorted(ours, points, side="right") / len(ours) - np.searchsorted(theirs, points, side="right") / len(theirs)
    return float(np.abs(apart).max())


def wasserstein(first: Floats, second: Floats, width: float) -> float:
    """The earth mover's distance as a fraction of `width`. NaN if one is empty."""
    ours, theirs = known(first), known(second)
    if not len(ours) or not len(theirs):
        return math.nan
    return float(distributions.wasserstein_distance(ours, theirs)) / max(width, 1e-12)


def _bin_names(column: Ordered, edges: Floats) -> list[str]:
    if isinstance(column, Time):
        return [f"{math.floor(1440 * edge) // 60:02d}:{math.floor(1440 * edge) % 60:02d}" for edge in edges[:-1]]
    if isinstance(column, Date | DateTime):
        return [str(np.datetime64("1970-01-01") + np.timedelta64(int(edge), "D")) for edge in edges[:-1]]
    if isinstance(column, Integer):
        return [f"{math.ceil(edge):d}" for edge in edges[:-1]]
    return [f"{edge:.6g}" for edge in edges[:-1]]


def _edges(column: Ordered) -> Floats:
    low, high = span(column)
    if isinstance(column, Integer):
        # As many whole numbers in every bar, or the bars would form a comb.
        width = math.ceil((high - low + 1) / _BINS)
        return np.arange(low, high + width + 1, width) - 0.5
    return np.linspace(low, max(high, low + 1e-9), _BINS + 1)


def binned_shares(values: Floats, edges: Floats) -> list[float]:
    """The share of the values in each bin, rounded; those beyond the ends belong to the outer bins."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return [round(float(share), 6) for share in counts / max(int(counts.sum()), 1)]


def histogram(column: Column, tables: dict[str, Rows]) -> dict[str, Any]:
    """Shares per bar for each named table: {"bars": names, NAME: shares}; the bars come from the schema, not from the rows.

    The name of a bar of an ordered column is its lower end, and "ends" are the bounds of the column.

    Ordered columns: equal parts of the range (each whole number, if there are few), nulls left out. Labels: the schema's, the
    most frequent of the first table first, beyond twelve together; labels outside of its list as `conform` has them.
    """
    if is_ordered(column):
        edges = _edges(column)
        shares = {name: binned_shares(known(ordered(column, records)), edges) for name, records in tables.items()}
        return {"bars": _bin_names(column, edges), "ends": ends(column), **shares}
    names: list[str | None] = [*column.allowed()] if isinstance(column, Category) else ["yes", "no"]
    other = column.other if isinstance(column, Category) else None
    inside = {None, *names}
    counted = {
        name: Counter(label if label in inside else other for label in labels(column, rows)) for name, rows in tables.items()
    }
    first = next(iter(counted.values()))
    if any(counts[None] for counts in counted.values()):
        names.append(None)
    names.sort(key=lambda name: -first[name])
    shown = names if len(names) <= _MAX_BARS else names[: _MAX_BARS - 1]
    bars = ["(empty)" if name is None else name for name in shown]
    parts = [[name] for name in shown]
    if rest := names[len(shown) :]:
        bars.append(f"{len(rest)} others")
        parts.append(rest)
    return {"bars": bars} | {
        name: [round(sum(counts[label] for label in part) / max(counts.total(), 1), 6) for part in parts]
        for name, counts in counted.items()
    }


def _lost_labels(column: Column, train: Rows, synthetic: Rows) -> dict[str, Any]:
    """Counts of distinct labels and of missing ones, never their names."""
    ours = Counter(name for name in labels(column, train) if name is not None)
    present = {name for name in labels(column, synthetic) if name is not None}
    rare = [name for name, count in ours.items() if count < RARE * len(train)]
    return {
        "values": len(ours),
        "values_lost": len(ours.keys() - present),
        "rare_values": len(rare),
        "rare_values_lost": len(set(rare) - present),
        "rows_with_lost_values": sum(count for name, count in ours.items() if name not in present),
    }


def _outliers(first: Floats, second: Floats) -> dict[str, Any]:
    """Rows beyond the original's 1st and 99th percentile, on both sides together."""
    ours, theirs = known(first), known(second)
    if not len(ours):
        return {"outliers": 0, "outliers_synthetic": 0, "outliers_expected": 0.0}
    low, high = np.quantile(ours, [0.01, 0.99])
    count = int(((ours < low) | (ours > high)).sum())
    return {
        "outliers": count,
        "outliers_synthetic": int(((theirs < low) | (theirs > high)).sum()),
        "outliers_expected": round(count * len(theirs) / len(ours), 1),
    }


def _null_share(records: Rows, column: Column) -> float | None:
    return sum(record[column.name] is None for record in records) / len(records) if records else None


def _distances(column: Column, first: Rows, second: Rows) -> dict[str, float]:
    if is_ordered(column):
        low, high = span(column)
        ours, theirs = ordered(column, first), ordered(column, second)
        return {"distance": ks_distance(ours, theirs), "wasserstein": wasserstein(ours, theirs, high - low)}
    if is_labelled(column):
        return {"distance": total_variation(labels(column, first), labels(column, second))}
    ours, theirs = (np.array([len(text) for text in texts(column, rows)], np.float64) for rows in (first, second))
    return {"distance": ks_distance(ours, theirs)}


def compare_columns(train: Rows, synthetic: Rows, schema: Schema, *, seed: int) -> list[dict[str, Any]]:
    """One entry per learned column: distance, split-half baseline, histograms, lost values.

    `distance` is the total variation for labels and Kolmogorov & Smirnov's for ordered columns and for the length of texts.
    `ceiling` is the split-half baseline: the same between two random halves of the original. Ordered columns also have
    Wasserstein's distance.
    """
    one, other = halves(train, seed)
    found = []
    for column in schema.learned():
        ceiling = _distances(column, one, other)
        entry: dict[str, Any] = {
            "column": column.name,
            "kind": column.kind,
            "measure": "total variation" if is_labelled(column) else "Kolmogorov-Smirnov",
            "n": {"original": len(train), "synthetic": len(synthetic)},
            **_distances(column, train, synthetic),
            "ceiling": ceiling["distance"],
            "empty": {"original": _null_share(train, column), "synthetic": _null_share(synthetic, column)},
        }
        if is_labelled(column):
            entry["lost"] = _lost_labels(column, train, synthetic)
        if is_ordered(column):
            entry["lost"] = _outliers(ordered(column, train), ordered(column, synthetic))
            entry["wasserstein_ceiling"] = ceiling["wasserstein"]
        if is_labelled(column) or is_ordered(column):
            entry["histogram"] = histogram(column, {"original": train, "synthetic": synthetic})
        found.append(entry)
    return found
