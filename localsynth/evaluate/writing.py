"""Free text: length, vocabulary, diversity, duplicates and, given embeddings, MAUVE."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localsynth.evaluate.arrays import Floats, Rows, halves, sample, text_columns, texts
from localsynth.evaluate.columns import binned_shares, ks_distance
from localsynth.schema.columns import Schema

Embed = Callable[[list[str]], NDArray[np.float32]]
"""Texts → one vector each, shape (texts, dimensions)."""

_MAX_ROWS = 5_000
_MAX_EMBEDDED = 300
"""Texts a side. Three sides are embedded, which takes minutes of one core (docs/lab/report.md)."""
_EMBEDDING_BATCH = 32
_BARS = 24


def distinct(words: Sequence[Sequence[str]], n: int) -> float:
    """distinct-n: distinct n-grams divided by n-grams (Li et al. 2016, arXiv:1510.03055). NaN where there is none."""
    runs = Counter(tuple(text[i : i + n]) for text in words for i in range(len(text) - n + 1))
    return len(runs) / runs.total() if runs else math.nan


def _words(lines: Sequence[str]) -> list[list[str]]:
    return [line.casefold().split() for line in lines]


def describe_writing(lines: Sequence[str]) -> dict[str, Any]:
    """Figures of one set of texts.

    `repeated`: of the texts that are not empty, the fraction that equal another one, ignoring case and spacing.
    """
    words = _words(lines)
    filled = [" ".join(text) for text in words if text]
    counts = Counter(filled)
    lengths = [len(line) for line in lines]
    return {
        "n": len(lines),
        "characters_mean": float(np.mean(lengths)) if lengths else None,
        "characters_quartiles": [float(end) for end in np.quantile(lengths, [0.25, 0.5, 0.75])] if lengths else None,
        "words_mean": float(np.mean([len(text) for text in words])) if words else None,
        "empty": sum(not text for text in words) / len(words) if words else None,
        "vocabulary": len({word for text in words for word in text}),
        "distinct_1": distinct(words, 1),
        "distinct_2": distinct(words, 2),
        "distinct_3": distinct(words, 3),
        "repeated": sum(count for count in counts.values() if count > 1) / len(filled) if filled else None,
    }


def _lengths(lines: Sequence[str]) -> Floats:
    return np.array([len(line) for line in lines], np.float64)


def _length_bars(first: Sequence[str], second: Sequence[str]) -> dict[str, Any]:
    ours, theirs = _lengths(first), _lengths(second)
    # The longest tenth of a percent would leave the rest in one bar.
    edges = np.linspace(0, max(1.0, float(np.quantile([*ours, *theirs], 0.995))), _BARS + 1)
    original, synthetic = (binned_shares(np.minimum(lengths, edges[-1]), edges) for lengths in (ours, theirs))
    bars = [f"{edge:.0f}" for edge in edges[:-1]]
    return {"bars": bars, "ends": ["0", f"{edges[-1]:.0f}"], "original": original, "synthetic": synthetic}


def _words_known(made: Sequence[str], original: Sequence[str]) -> float | None:
    """Fraction of the word occurrences in the synthetic texts whose word occurs in the original texts."""
    known = {word for text in _words(original) for word in text}
    written = [word for text in _words(made) for word in text]
    return sum(word in known for word in written) / len(written) if written else None


def frontier_integral(first: Floats, second: Floats, *, scale: float = 5.0, points: int = 100) -> float:
    """MAUVE's area under the divergence curve of two histograms, 0 (nothing in common) to 1 (equal).

    Pillutla et al. 2021 (arXiv:2102.01454), equations 1 and 2, with their scale c = 5.
    """

    def divergence(one: Floats, mixture: Floats) -> float:
        filled = one > 0
        return float((one[filled] * np.log(one[filled] / mixture[filled])).sum())

    curve = [(0.0, 1.0), (1.0, 0.0)]
    for weight in np.linspace(0, 1, points + 2)[1:-1]:
        mixture = weight * first + (1 - weight) * second
        curve.append((math.exp(-scale * divergence(second, mixture)), math.exp(-scale * divergence(first, mixture))))
    curve.sort(key=lambda point: (point[0], -point[1]))
    return float(np.trapezoid([y for _, y in curve], [x for x, _ in curve]))


def mauve(first: NDArray[np.float32], second: NDArray[np.float32], *, seed: int) -> float:
    """The similarity of two sets of embedded texts, 0 to 1; NaN below 20 texts on either side.

    As Pillutla et al. 2021: vectors of length 1, principal components that hold 90 % of the variance, k-means into a tenth as
    many clusters as the smaller side has texts, then `frontier_integral` of the shares of the clusters. Half a text is added
    to every cluster (Pillutla et al. 2023, arXiv:2212.14578). The figure depends on the number of texts: compare it
    with that of two halves of the original at the same size, never with one published elsewhere.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import normalize

    smaller = min(len(first), len(second))
    if smaller < 20:
        return math.nan
    vectors = normalize(np.concatenate([first, second]).astype(np.float64))
    if float(vectors.var(axis=0).sum()) < 1e-12:
        return 1.0
    clusters = smaller // 10
    vectors = PCA(n_components=0.9, random_state=seed, svd_solver="full").fit_transform(vectors)
    labels = KMeans(clusters, n_init=1, random_state=seed).fit_predict(vectors)
    shares = []
    for part in (labels[: len(first)], labels[len(first) :]):
        counts = np.bincount(part, minlength=clusters) + 0.5
        shares.append(counts / counts.sum())
    return frontier_integral(shares[0], shares[1])


def compare_writing(
    train: Rows,
    synthetic: Rows,
    schema: Schema,
    *,
    seed: int,
    embed: Embed | None = None,
    report: Callable[[float], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """One entry per text column. Both sides have equally many texts, since vocabulary and diversity depend on the number.

    `ceiling` describes two halves of the original, of as many texts where there are enough, and compares them with each other.
    On at most 5,000 texts a side, 300 for embeddings. `report` is called with the fraction done while texts are embedded.
    """
    size = min(len(train), len(synthetic), _MAX_ROWS)
    entries: list[dict[str, Any]] = []
    columns = text_columns(schema)
    for column in columns:
        ours, theirs = texts(column, sample(train, size, seed)), texts(column, sample(synthetic, size, seed + 1))
        one, other = (texts(column, half) for half in halves(sample(train, 2 * size, seed + 2), seed))
        entry: dict[str, Any] = {
            "column": column.name,
            "n": size,
            "original": describe_writing(ours),
            "synthetic": describe_writing(theirs),
            "lengths": _length_bars(ours, theirs) if size else None,
            "length_distance": ks_distance(_lengths(ours), _lengths(theirs)),
            "words_known": _words_known(theirs, ours),
            "ceiling": {
                "n": len(other),
                "halves": [describe_writing(one), describe_writing(other)],
                "length_distance": ks_distance(_lengths(one), _lengths(other)),
                "words_known": _words_known(other, one),
            },
            "mauve": None,
        }
        if embed is not None:
            # Equally many on each side, since the figure depends on the number.
            several = min(len(one), len(other), len(theirs), _MAX_EMBEDDED)
            lines = [line for side in (one, other, theirs) for line in side[:several]]
            parts: list[NDArray[np.float32]] = []
            for start in range(0, len(lines), _EMBEDDING_BATCH):
                report((len(entries) + start / len(lines)) / len(columns))
                parts.append(embed(lines[start : start + _EMBEDDING_BATCH]))
            vectors = np.split(np.concatenate(parts), 3) if parts else [np.empty((0, 0), np.float32)] * 3
            entry["mauve"] = {
                "n": several,
                "value": mauve(vectors[0], vectors[2], seed=seed),
                "ceiling": mauve(vectors[0], vectors[1], seed=seed),
            }
        entries.append(entry)
    return entries
