"""What texts are about, as one of some topics: groups of texts that the model itself wrote.

Latent semantic analysis (Deerwester et al. 1990): words weighed by how rare they are, a few directions of them, and k-means
on these. Made of synthetic texts alone, so it is public, and so is which topic any one text belongs to once the text is.
A word of an original text that no synthetic text holds counts for nothing.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localsynth.errors import IntegrityError

__all__ = ["TEXTS_A_TOPIC", "Topics", "text_of", "topics_for"]

_WORD = re.compile(r"\w+|[^\w\s]")
_MOST_WORDS = 4_000
_LEAST_TEXTS = 3
"""A word that fewer of the texts hold says nothing of a group of them."""
_DIRECTIONS = 48
_LEAST_TOPICS, _MOST_TOPICS = 8, 64
_UNITS_A_TOPIC = 60
TEXTS_A_TOPIC = 24
"""How many texts are written to make each topic from."""


def topics_for(units: int) -> int:
    """How many topics a table of so many units (a public or noisy figure) is divided into: dozens of units for each."""
    return max(_LEAST_TOPICS, min(_MOST_TOPICS, units // _UNITS_A_TOPIC))


def text_of(values: Sequence[object]) -> str:
    """The texts of one row, as one."""
    return "\n".join(str(value) for value in values if value is not None)


def _words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text.casefold()))


@dataclass(frozen=True)
class Topics:
    """Which topic a text belongs to.

    words    the vocabulary: each word's place
    weights  (words,) inverse document frequencies
    axes     (directions, words)
    centres  (topics, directions): the topics' middles, for vectors of length 1
    """

    words: dict[str, int]
    weights: NDArray[np.float64]
    axes: NDArray[np.float64]
    centres: NDArray[np.float64]

    @property
    def count(self) -> int:
        """How many topics there are."""
        return len(self.centres)

    @classmethod
    def of_texts(cls, texts: Sequence[str], topics: int, seed: int = 0) -> "Topics":
        """The topics of public texts; fewer than `topics` where there are few different texts."""
        from scipy.sparse.linalg import svds
        from sklearn.cluster import KMeans

        counted = [_words(text) for text in texts]
        frequency = Counter(word for words in counted for word in words)
        kept = [word for word, n in frequency.most_common(_MOST_WORDS) if n >= _LEAST_TEXTS]
        words = {word: place for place, word in enumerate(sorted(kept))}
        weights = np.array([1 + np.log((1 + len(texts)) / (1 + frequency[word])) for word in words])
        directions = min(_DIRECTIONS, len(words) - 1, len(texts) - 1)
        if directions < 1:
            return cls(words, weights, np.zeros((1, len(words))), np.zeros((1, 1)))
        matrix = _matrix(counted, words, weights)
        start = np.random.default_rng(seed).standard_normal(min(matrix.shape))
        _, strengths, axes = svds(matrix, k=directions, v0=start)
        axes = axes[strengths > 1e-6]
        vectors = _to_length_one(np.asarray(matrix @ axes.T))
        different = len(np.unique(vectors.round(9), axis=0))
        found = KMeans(min(topics, different), n_init=3, random_state=seed).fit(vectors)
        return cls(words, weights, axes, np.asarray(found.cluster_centers_, dtype=np.float64))

    def of(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Shape (texts,): the topic of each, from its own words alone."""
        vectors = _to_length_one(np.asarray(_matrix([_words(text) for text in texts], self.words, self.weights) @ self.axes.T))
        # Not `vectors @ centres.T`: how a matrix product rounds depends on how many texts there are, and where two topics are
        # as near, one text more could move all others.
        distances = (self.centres**2).sum(1) - 2 * np.einsum("td,cd->tc", vectors, self.centres, optimize=False)
        topics: NDArray[np.int64] = distances.argmin(axis=1).astype(np.int64)
        return topics

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "words": list(self.words),
            "weights": self.weights.tolist(),
            "axes": self.axes.tolist(),
            "centres": self.centres.tolist(),
        }

    @classmethod
    def from_json(cls, tree: Any) -> "Topics":
        """The inverse of `to_json`. Raises IntegrityError."""
        try:
            words = {str(word): place for place, word in enumerate(tree["words"])}
            weights, axes, centres = (np.array(tree[key], dtype=np.float64) for key in ("weights", "axes", "centres"))
            fits = len(words) == len(tree["words"]) and weights.shape == (len(words),)
            fits = fits and axes.ndim == 2 and axes.shape[1] == len(words) and centres.ndim == 2
            fits = fits and centres.shape[1] == axes.shape[0] and len(centres) > 0
            if not (fits and all(np.isfinite(array).all() for array in (weights, axes, centres))):
                raise ValueError("the arrays do not fit together")
        except (ArithmeticError, KeyError, MemoryError, TypeError, ValueError):
            raise IntegrityError("The topics of a selection cannot be read.", "Restore the file from a backup.") from None
        return cls(words, weights, axes, centres)


def _matrix(counted: Sequence[Counter[str]], words: dict[str, int], weights: NDArray[np.float64]) -> Any:
    """Texts by words, as a sparse matrix whose rows have length 1 or 0."""
    from scipy.sparse import csr_array

    ends, places, values = [0], list[int](), list[float]()
    for text in counted:
        known = sorted((words[word], n) for word, n in text.items() if word in words)
        row = np.array([(1 + np.log(n)) * weights[place] for place, n in known])
        length = float(np.sqrt((row**2).sum()))
        places += [place for place, _ in known]
        values += (row / length).tolist() if length > 0 else []
        ends.append(len(places))
    return csr_array((np.array(values), np.array(places, dtype=np.int64), np.array(ends)), shape=(len(counted), len(words)))


def _to_length_one(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    scaled: NDArray[np.float64] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return scaled
