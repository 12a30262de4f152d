"""The distance between two rows: Gower's (Gower 1971, Biometrics 27:857), with texts compared by TF-IDF.

Each learned column contributes between 0 and 1 with equal weight: |a − b| over the schema's range for ordered columns, 0 or 1 for
labels, one minus the cosine of TF-IDF vectors of words and word pairs for texts. A null is 0 away from a null and 1 from
anything else. The vectors are projected at random onto 512 dimensions (Johnson & Lindenstrauss), which keeps a cosine to about
±0.05, equal texts at exactly 0, and the cost the same for long texts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localsynth.evaluate.arrays import Floats, Rows, codes, is_labelled, is_ordered, ordered, sample, span, texts
from localsynth.schema.columns import Column, Schema

_MAX_TARGETS = 2_000
MAX_CANDIDATES = 10_000
"""Synthetic rows that `measure_nearness` compares with at most."""
_DIMENSIONS = 512
_BLOCK = 250

Part = Callable[[slice], NDArray[np.float32]]


def _of_ordered(column: Column, targets: Rows, candidates: Rows) -> Part:
    assert is_ordered(column)
    low, high = span(column)
    width = max(high - low, 1e-12)
    ours = ((ordered(column, targets) - low) / width).astype(np.float32)
    theirs = ((ordered(column, candidates) - low) / width).astype(np.float32)
    our_nulls, their_nulls = np.isnan(ours), np.isnan(theirs)
    any_null = bool(our_nulls.any() or their_nulls.any())

    def part(rows: slice) -> NDArray[np.float32]:
        apart = np.minimum(np.abs(ours[rows, None] - theirs[None, :]), np.float32(1))
        if any_null:
            apart = np.where(our_nulls[rows, None] | their_nulls[None, :], np.float32(1), apart)
            apart[our_nulls[rows, None] & their_nulls[None, :]] = 0
        return np.asarray(apart, dtype=np.float32)

    return part


def _of_labels(column: Column, targets: Rows, candidates: Rows) -> Part:
    ours, theirs = codes(column, targets, candidates)

    def part(rows: slice) -> NDArray[np.float32]:
        return np.asarray(ours[rows, None] != theirs[None, :], dtype=np.float32)

    return part


def _of_texts(column: Column, targets: Rows, candidates: Rows, seed: int) -> Part:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize
    from sklearn.random_projection import SparseRandomProjection

    ours, theirs = texts(column, targets), texts(column, candidates)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", sublinear_tf=True, max_features=100_000)
    try:
        vectors = vectorizer.fit_transform([*ours, *theirs])
    except ValueError:  # no word in any text
        flat = np.zeros((len(ours) + len(theirs), 1), dtype=np.float32)
    else:
        if vectors.shape[1] > _DIMENSIONS:
            vectors = SparseRandomProjection(_DIMENSIONS, density=1 / 8, random_state=seed, dense_output=True).fit_transform(
                vectors
            )
        else:
            vectors = vectors.toarray()
        flat = normalize(np.asarray(vectors)).astype(np.float32)
    first, second = flat[: len(ours)], flat[len(ours) :]
    our_empty, their_empty = np.linalg.norm(first, axis=1) == 0, np.linalg.norm(second, axis=1) == 0

    def part(rows: slice) -> NDArray[np.float32]:
        apart: NDArray[np.float32] = np.clip(1 - first[rows] @ second.T, 0, 1).astype(np.float32)
        # Rounding leaves a small distance between equal texts.
        apart[apart < 1e-4] = 0
        apart[our_empty[rows, None] & their_empty[None, :]] = 0
        return apart

    return part


class Distances:
    """Distances from each target row to every candidate row, computed in blocks to bound memory.

    `columns` are compared; the distance is the mean over them, between 0 and 1.
    """

    def __init__(self, columns: Sequence[Column], targets: Rows, candidates: Rows, *, seed: int) -> None:
        self._rows = len(targets)
        self._candidates = len(candidates)
        self._parts: dict[str, Part] = {}
        for column in columns:
            if is_ordered(column):
                self._parts[column.name] = _of_ordered(column, targets, candidates)
            elif is_labelled(column):
                self._parts[column.name] = _of_labels(column, targets, candidates)
            else:
                self._parts[column.name] = _of_texts(column, targets, candidates, seed)

    def _blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        for start in range(0, self._rows, _BLOCK):
            rows = slice(start, min(start + _BLOCK, self._rows))
            total = np.zeros((rows.stop - rows.start, self._candidates), dtype=np.float32)
            for part in self._parts.values():
                total += part(rows)
            yield rows, total

    def to_nearest(self) -> Floats:
        """The distance of each target to its nearest candidate, shape (targets,); infinite where there is no candidate."""
        nearest = np.full(self._rows, np.inf)
        if self._candidates:
            for rows, total in self._blocks():
                nearest[rows] = total.min(axis=1) / len(self._parts)
        return nearest

    def nearest_without(self, names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """For each named column: which candidate is nearest to each target when that column is left out.

        Of several at the same distance, the first. There must be candidates.
        """
        found = {name: np.zeros(self._rows, dtype=np.int64) for name in names}
        for rows, total in self._blocks():
            for name in names:
                # Rounding of the subtraction must not decide between candidates at the same distance.
                found[name][rows] = np.round(total - self._parts[name](rows), 4).argmin(axis=1)
        return found


@dataclass(frozen=True)
class Nearness:
    """Distances to the nearest synthetic row, of rows that were trained on and of holdout rows."""

    members: Floats
    others: Floats
    candidates: int
    """Synthetic rows compared with."""


def measure_nearness(train: Rows, holdout: Rows, synthetic: Rows, schema: Schema, *, seed: int) -> Nearness:
    """Distances for at most 2,000 rows a side to at most 10,000 synthetic rows."""
    members, others = sample(train, _MAX_TARGETS, seed), sample(holdout, _MAX_TARGETS, seed + 1)
    candidates = sample(synthetic, MAX_CANDIDATES, seed + 2)
    # One call for both sides, so that the weights of words are the same.
    distances = Distances(schema.learned(), [*members, *others], candidates, seed=seed).to_nearest()
    return Nearness(distances[: len(members)], distances[len(members) :], len(candidates))
