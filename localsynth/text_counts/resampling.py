"""Which of the texts that were written for some rows each of them gets, by the noisy count of topics.

A text is the likelier to be taken, the more of the original rows like this one are about its topic, and the fewer of the
written ones (sampling importance resampling, Rubin 1987). What a row says is weighed column by column, as if columns spoke
independently of each other once the topic is known (naive Bayes), and only by columns whose link with the topics stands out
from the noise. Reads what was released with noise, and nothing else.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from localsynth.schema.columns import Record
from localsynth.text_counts.topic_counts import Selection

__all__ = ["Chooser"]

_TRIALS = 200
"""Tables of pure chance that a column's link is compared with."""
_SURE = 0.99


class Chooser:
    """Weighs topics for rows. Made once for a sampling job."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        original, written = selection.original, selection.written
        if not selection.aspects:
            self._log_overall = np.log(_shares(original[0], selection.deviation)) - np.log(_shares(written[0], 1.0))
            self._log_given: dict[int, NDArray[np.float64]] = {}
            return
        tables = [(table.sum(axis=1), other.sum(axis=1)) for table, other in zip(original, written, strict=True)]
        noise = selection.deviation * np.sqrt([table.shape[1] for table in original])
        # Every table says how frequent the topics are; the ones with the fewest columns say it best.
        weights = 1 / noise**2
        overall = np.average([counts for counts, _ in tables], axis=0, weights=weights)
        topic_noise = float(np.sqrt(1 / weights.sum()))
        self._log_overall = np.log(_shares(overall, topic_noise)) - np.log(_shares(tables[0][1], 1.0))
        self._log_given = {
            number: _log_lift(original[number], overall, selection.deviation) - _log_lift(written[number], tables[number][1], 1.0)
            for number in range(len(original))
            if _stands_out(original[number], selection.deviation)
        }

    def weigh(self, row: Record, texts: Sequence[str]) -> NDArray[np.float64]:
        """Shape (texts,): the logarithm of each text's weight for the row, up to a constant."""
        topics = self._selection.topics.of(texts)
        weights = self._log_overall[topics]
        for number, lift in self._log_given.items():
            weights = weights + lift[topics, self._selection.aspects[number].of(row)]
        return weights


def _shares(counts: NDArray[np.float64], noise: float) -> NDArray[np.float64]:
    """Shares of topics from noisy counts: none below what the noise could hide, so that no topic is forbidden by chance."""
    counts = np.maximum(counts, 0.0) + noise
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares


def _log_lift(table: NDArray[np.float64], overall: NDArray[np.float64], noise: float) -> NDArray[np.float64]:
    """Shape (topics, groups): how much likelier a topic is in a group than anywhere, shrunk to nothing where counts are faint."""
    prior = _shares(overall, noise)[:, None]
    counts = np.maximum(table, 0.0)
    strength = noise * np.sqrt(len(table)) + 1.0
    given = (counts + strength * prior) / (counts.sum(axis=0) + strength)
    lift: NDArray[np.float64] = np.log(given) - np.log(prior)
    return lift


def _information(table: NDArray[np.float64]) -> float:
    """Mutual information of the two axes, in nats times the number of rows; negative counts are none."""
    counts = np.maximum(table, 0.0)
    total = counts.sum()
    if total <= 0:
        return 0.0
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / total
    filled = counts > 0
    return float((counts[filled] * np.log(counts[filled] / expected[filled])).sum())


def _stands_out(table: NDArray[np.float64], noise: float) -> bool:
    """Whether topics and groups hang together more than in nearly all tables of independent ones with the same noise."""
    random = np.random.default_rng(0)
    counts = np.maximum(table, 0.0)
    total = counts.sum()
    if total <= 0 or table.shape[1] < 2:
        return False
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / total
    by_chance = [_information(random.poisson(expected) + noise * random.standard_normal(table.shape)) for _ in range(_TRIALS)]
    return bool(_information(table) > np.quantile(by_chance, _SURE))
