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

import numpy as np
import scipy.special
from numpy.typing import NDArray

from localsynth.errors import ConfigError
from localsynth.privacy.accountant import Mechanism
from localsynth.privacy.grids import Grid
from localsynth.privacy.noise import RandomSource

__all__ = ["MAX_CATEGORIES", "CategoriesPlan", "CountPlan", "RangePlan"]

MAX_CATEGORIES = 200
"""Of a measured list, the most frequent ones by their noisy counts."""

_MIN_EPSILON = 1e-4
_SIGNIFICANT, _SIGNIFICANT_BESIDE = 4.5, 3.5
"""Standard deviations beyond which a run of buckets holds more than noise: anywhere, in 10,000 runs, and next to the span."""
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


class RangePlan:
    """The range that holds nearly all values of a column: noisy counts of the buckets of a public grid, then a cut.

    Each row lies in one bucket, so all counts are one Gaussian mechanism. The cut (`_span`) is post-processing. It finds values
    that are spread thinly, spans gaps, drops outliers and does not follow noise beyond the data, unlike two DP quantiles near 0
    and 1 when the noise is large beside the rows beyond them.
    """

    def __init__(self, noise_multiplier: float, contributions: int, grid: Grid) -> None:
        _check(noise_multiplier, contributions)
        self.mechanism: Mechanism = {"type": "gaussian", "noise_multiplier": noise_multiplier}
        self.sigma = noise_multiplier * contributions
        self._grid = grid

    def release(self, values: NDArray[np.float64] | NDArray[np.int64], random: RandomSource) -> tuple[int | float, int | float]:
        """(low, high), low ≤ high, both edges of buckets, as int (or float on a grid with decimals).

        `values` has shape (rows,), nulls and NaN left out; infinities count as the ends of the grid.
        """
        starts = self._grid.starts
        buckets = np.searchsorted(starts, self._grid.steps(values), side="right") - 1
        counts = np.bincount(buckets, minlength=len(starts) - 1)
        first, last = _span(_noisy(counts, self.sigma, random), self.sigma)
        return self._grid.value(int(starts[first])), self._grid.value(int(starts[last + 1]) - 1)


def _span(counts: NDArray[np.int64], sigma: float) -> tuple[int, int]:
    """First and last bucket of the span of all runs of buckets that hold more than noise; of the likeliest run, if none does.

    From single buckets to runs of twice the length each time, half overlapping: the noise of a run grows with the root of its
    length, so values spread over many buckets show in a long run, though in no single bucket. Longer runs are looked for
    outside of the span alone, so that they extend it only by what they hold themselves.
    """
    total = np.concatenate([[0], np.cumsum(counts)])
    first, last, length = len(counts), -1, 1
    likeliest = (-math.inf, 0, 0)
    while length <= len(counts):
        begun, step = last >= 0, max(1, length // 2)
        left = np.arange(first - length, -1, -step)
        right = np.arange(last + 1, len(counts) - length + 1, step) if begun else left[:0]
        for starts in (left, right):
            needed = np.full(len(starts), _SIGNIFICANT)
            if begun:
                needed[:1] = _SIGNIFICANT_BESIDE
            deviations = (total[starts + length] - total[starts]) / (sigma * math.sqrt(length))
            found = starts[deviations > needed]
            if not begun and starts.size:
                start = int(starts[deviations.argmax()])
                likeliest = max(likeliest, (float(deviations.max()), start, start + length - 1))
            if found.size:
                first, last = min(first, int(found.min())), max(last, int(found.max()) + length - 1)
        length *= 2
    return (first, last) if last >= 0 else likeliest[1:]
