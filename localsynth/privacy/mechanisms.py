"""Measurements of the schema stage: a count, a list of categories, a range.

Each is a plan, which holds the mechanism to charge, and then a release, which reads the data.
Charge between the two. `contributions` is the maximum number of rows of a unit, so adding or
removing a unit changes a table of counts by at most that in L1, and (all rows in one cell) in L2.
The count has OpenDP's exact discrete Laplace noise; its privacy map checks that it costs no more
than it is charged. Lists and ranges have rounded Gaussian noise on integers, which is post-processing
of a Gaussian mechanism.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import scipy.special
from numpy.typing import NDArray

from localsynth.errors import ConfigError
from localsynth.privacy.accountant import Mechanism
from localsynth.privacy.grids import Grid
from localsynth.privacy.noise import RandomSource

MAX_CATEGORIES = 200
"""Of a measured list, the most frequent ones by their noisy counts."""

_MIN_EPSILON = 1e-4
_LEVELS = 7
"""Of the counts for a range: of single buckets, pairs, fours, ... and runs of 64."""
_SIGNIFICANT, _SIGNIFICANT_BESIDE, _SIGNIFICANT_REST = 4.5, 2.5, 1.5
"""Standard deviations beyond which a run of buckets holds more than noise: anywhere, next to the span, and the far part of a run
that does. Chosen by benchmarks/measured_ranges.py: lower ones follow noise beyond the data, higher ones cut small tables."""
_MAX_NOISE = 1e5
"""Of the sensitivity: with more, no list or range means anything."""


def _check(noise_multiplier: float, contributions: int, delta: float | None = None) -> None:
    if not 0 < noise_multiplier <= _MAX_NOISE:
        raise _too_small(f"A noise of {noise_multiplier:g} times a unit's rows is too much for a measurement.")
    if contributions < 1:
        raise ConfigError(f"A unit contributes at least 1 row, not {contributions}.", "Correct privacy.max_rows_per_unit.")
    if delta is not None and not 0 < delta < 1:
        raise ConfigError(f"The delta for a list of categories must be between 0 and 1, not {delta:g}.", "Correct privacy.delta.")


def _too_small(message: str) -> ConfigError:
    return ConfigError(message, "Raise privacy.schema_epsilon, or declare bounds and categories that are public knowledge.")


class CountPlan:
    """The number of units plus discrete Laplace noise."""

    def __init__(self, epsilon: float) -> None:
        # Not `opendp.prelude`: it imports scikit-learn where installed, which takes seconds and hundreds of megabytes.
        from opendp import domains, measurements, metrics, mod, typing

        if not (math.isfinite(epsilon) and epsilon >= _MIN_EPSILON):
            raise _too_small(f"An epsilon of {epsilon:g} is too small for a measurement.")
        mod.enable_features("contrib")
        self.mechanism: Mechanism = {"type": "pure_dp", "epsilon": epsilon}
        space = domains.atom_domain(T=typing.i64), metrics.absolute_distance(T=typing.i64)
        # OpenDP rounds up, so that slightly more noise than 1 / epsilon may be needed.
        scale = 1 / epsilon
        while (measure := measurements.make_laplace(*space, scale=scale)).map(1) > epsilon:
            scale *= 1 + 1e-9
        self._measure = measure

    def release(self, count: int) -> int:
        """The noisy count, at least 1."""
        return max(1, int(self._measure(count)))


def release_probability(sigma: float, threshold: int, contributions: int) -> float:
    """The probability that a value of one unit alone is released, at the worst split of its rows over such values.

    A value of c rows is released where c plus N(0, sigma²), rounded, reaches the threshold.
    """
    counts = np.arange(1, contributions + 1)
    # -log of the probability that such a value is not released, which adds up over values.
    each = -scipy.special.log_ndtr((threshold - counts - 0.5) / sigma)
    worst = np.zeros(contributions + 1)
    for rows in range(1, contributions + 1):
        worst[rows] = np.max(each[:rows] + worst[rows - 1 :: -1][:rows])
    return float(-np.expm1(-worst[-1]))


def _noisy(counts: NDArray[np.int64], sigma: float, random: RandomSource) -> NDArray[np.int64]:
    return counts + np.rint(random.gaussian(counts.size) * sigma).astype(np.int64)


class CategoriesPlan:
    """The values of enough rows: noisy counts above a threshold, which values of a single unit exceed with probability ≤ δ."""

    def __init__(self, noise_multiplier: float, delta: float, contributions: int) -> None:
        _check(noise_multiplier, contributions, delta)
        self.mechanism: Mechanism = {"type": "thresholded_gaussian", "noise_multiplier": noise_multiplier, "delta": delta}
        self.sigma = noise_multiplier * contributions
        low, high = 0, 1
        while release_probability(self.sigma, high, contributions) > delta:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if release_probability(self.sigma, middle, contributions) <= delta else (middle, high)
        self.threshold = high
        """The noisy count that a value needs to be released."""

    def release(self, values: list[str], random: RandomSource) -> list[str]:
        """At most 200 of the values, by descending noisy count. `values` has one string a row, without nulls."""
        counted = Counter(values)
        noisy = _noisy(np.array(list(counted.values()), dtype=np.int64), self.sigma, random)
        released = {value: int(count) for value, count in zip(counted, noisy, strict=True) if count >= self.threshold}
        return sorted(released, key=lambda value: (-released[value], value))[:MAX_CATEGORIES]


@dataclass(frozen=True)
class _Tree:
    """Counts of runs of 1, 2, 4, ... buckets, and the estimates that follow from all of them by least squares.

    Hay, Rastogi, Miklau & Suciu 2010 (arXiv:0904.0942): the noise of a long run is then that of few counts, not of all its
    buckets. A row counts once at each level, so the counts have an L2 sensitivity of the root of `_LEVELS` a row.
    """

    counted: NDArray[np.float64]
    """Shape (counts, buckets): 1 where a count holds a bucket."""
    estimate: NDArray[np.float64]
    """Shape (buckets, counts): from the counts to estimates of the buckets."""
    covariance: NDArray[np.float64]
    """Shape (buckets + 1, buckets + 1): of the sums of the first i and the first j buckets, for counts of variance 1."""

    def deviation(self, starts: NDArray[np.int64], lengths: NDArray[np.int64] | int) -> NDArray[np.float64]:
        """The standard deviations of the estimates of runs of buckets, for counts of variance 1."""
        ends, covariance = starts + lengths, self.covariance
        variance = covariance[ends, ends] - 2 * covariance[starts, ends] + covariance[starts, starts]
        return np.asarray(np.sqrt(variance))


@lru_cache(maxsize=8)
def _tree(buckets: int) -> _Tree:
    levels = []
    for level in range(_LEVELS):
        places = np.arange(buckets) >> level
        levels.append((places == np.arange(places[-1] + 1)[:, None]).astype(np.float64))
    counted = np.concatenate(levels)
    inverse = np.linalg.inv(counted.T @ counted)
    covariance = np.zeros((buckets + 1, buckets + 1))
    covariance[1:, 1:] = inverse.cumsum(axis=0).cumsum(axis=1)
    return _Tree(counted, inverse @ counted.T, covariance)


class RangePlan:
    """The range that holds nearly all values of a column: noisy counts over the buckets of a public grid, then a cut.

    Runs of 1, 2, 4, ... neighbouring buckets are counted, too (`_Tree`): values that are spread thinly show in a long run. All
    counts are one Gaussian mechanism. The cut (`_span`) is post-processing. It spans gaps, drops outliers and does not follow
    noise beyond the data, unlike two DP quantiles near 0 and 1 when the noise is large beside the rows beyond them.
    """

    def __init__(self, noise_multiplier: float, contributions: int, grid: Grid) -> None:
        _check(noise_multiplier, contributions)
        self.mechanism: Mechanism = {"type": "gaussian", "noise_multiplier": noise_multiplier}
        self.sigma = noise_multiplier * contributions * math.sqrt(_LEVELS)
        """Of each count. A unit with all its rows in one bucket moves that many counts, one a level, by its number of rows."""
        self._grid = grid

    @property
    def rows_found_at_an_end(self) -> int:
        """How many rows beside the rest of the data are found about every other time."""
        tree = _tree(len(self._grid.starts) - 1)
        return math.ceil(_SIGNIFICANT_BESIDE * self.sigma * float(tree.deviation(np.array([0]), 1)[0]))

    def release(self, values: NDArray[np.float64] | NDArray[np.int64], random: RandomSource) -> tuple[int | float, int | float]:
        """(low, high), low ≤ high, both edges of buckets, as int (or float on a grid with decimals).

        `values` has shape (rows,), nulls and NaN left out; infinities count as the ends of the grid.
        """
        starts = self._grid.starts
        tree = _tree(len(starts) - 1)
        buckets = np.searchsorted(starts, self._grid.steps(values), side="right") - 1
        counts = tree.counted @ np.bincount(buckets, minlength=len(starts) - 1)
        noisy = _noisy(counts.astype(np.int64), self.sigma, random)
        first, last = _span(tree.estimate @ noisy, lambda starts, lengths: self.sigma * tree.deviation(starts, lengths))
        return self._grid.value(int(starts[first])), self._grid.value(int(starts[last + 1]) - 1)


Deviation: TypeAlias = Callable[[NDArray[np.int64], NDArray[np.int64] | int], NDArray[np.float64]]
"""Of (starts, lengths) of runs of buckets: the standard deviations of the noise in their estimates."""


def _span(counts: NDArray[np.float64], deviation: Deviation) -> tuple[int, int]:
    """First and last bucket of the span of all runs of buckets that hold more than noise; of the likeliest run, if none does.

    From single buckets to runs of twice the length each time, half overlapping. Longer runs are looked for outside of the span
    alone, and extend it by their near part alone where the rest may be noise.
    """
    total = np.concatenate([[0], np.cumsum(counts)])

    def deviations(starts: NDArray[np.int64], lengths: NDArray[np.int64] | int) -> NDArray[np.float64]:
        return np.asarray((total[starts + lengths] - total[starts]) / deviation(starts, lengths))

    first, last, length = len(counts), -1, 1
    likeliest = (-math.inf, 0, 0)
    while length <= len(counts):
        begun, step = last >= 0, max(1, length // 2)
        left = np.arange(first - length, -1, -step)
        right = np.arange(last + 1, len(counts) - length + 1, step) if begun else left[:0]
        parts = np.arange(1, length)
        for starts in (left, right):
            needed = np.full(len(starts), _SIGNIFICANT)
            if begun:
                needed[:1] = _SIGNIFICANT_BESIDE
            found_deviations = deviations(starts, length)
            found = starts[found_deviations > needed]
            if not begun and starts.size:
                start = int(starts[found_deviations.argmax()])
                likeliest = max(likeliest, (float(found_deviations.max()), start, start + length - 1))
            if found.size:
                low, high = int(found.min()), int(found.max()) + length - 1
                before = parts[deviations(np.full(parts.shape, low), parts) < _SIGNIFICANT_REST]
                after = parts[deviations(high + 1 - parts, parts) < _SIGNIFICANT_REST]
                first, last = min(first, low + int(before.max(initial=0))), max(last, high - int(after.max(initial=0)))
        length *= 2
    return (first, last) if last >= 0 else likeliest[1:]
