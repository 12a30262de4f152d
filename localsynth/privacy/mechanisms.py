"""Measurements of the schema stage: a count, a list of categories, a range.

Each is a plan, which holds the mechanism to charge, and then a release, which reads the data.
Charge between the two. `contributions` is the maximum number of rows of a unit, so adding or
removing a unit changes a table of counts by at most that in L1, and (all rows in one cell) in L2.
The count has OpenDP's exact discrete Laplace noise; its privacy map checks that it costs no more
than it is charged. Lists and ranges have rounded Gaussian noise on integers, which is post-processing
of a Gaussian mechanism.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, TypeVar

import numpy as np
import scipy.special
from numpy.typing import NDArray

from localsynth.errors import ConfigError
from localsynth.privacy.accountant import Mechanism
from localsynth.privacy.grids import Grid
from localsynth.privacy.noise import RandomSource

MAX_CATEGORIES = 200
"""Of a measured list, the most frequent ones by their noisy counts."""

_Value = TypeVar("_Value", int, str)
_MIN_EPSILON = 1e-4
_LEVELS = 7
"""Of the counts of buckets for a range: of single buckets, pairs, fours, ... and runs of 64."""
_HISTOGRAMS = _LEVELS + 2
"""In each of which a row counts once, for a range: those levels, single values, and the steps that divide a value."""
_SIGNIFICANT, _SIGNIFICANT_BESIDE, _SIGNIFICANT_SHORT = 4.5, 2.5, 0.7
"""Standard deviations beyond which a run of buckets holds more than noise: anywhere, next to the span, and, where the noise may
hide the span's own buckets, next to one twice its length. Chosen by benchmarks/measured_ranges.py: lower ones follow noise far
beyond the data, higher ones cut small tables."""
_HIDING = 0.1
"""Of a bucket's rows in standard deviations: as many must a run beside, or the far part of a run, exceed, from 0 to 2.5. Where
buckets hold 25 deviations, one of 0.7 beyond them is noise; where they hold one, it may be a thin end of the data."""
_OUTSIDE, _SEEN = 0.05, 3.0
"""Of all values, how many may lie outside of a range; and the standard deviations of the noise in that which are not seen."""
_HIDDEN = 5.0
"""Standard deviations of noise in all rows together, which noise alone exceeds in less than one column of a million."""
_STEP_NOISE, _OFF_STEP = 0.03, 0.005
"""Of the values: how much noise a step may have to be believed, and how many of them may be no multiple of it."""
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


def _threshold(sigma: float, delta: float, contributions: int) -> int:
    """The least noisy count that values of one unit alone reach with probability ≤ `delta`."""
    low, high = 0, 1
    while release_probability(sigma, high, contributions) > delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if release_probability(sigma, middle, contributions) <= delta else (middle, high)
    return high


def _frequent(counted: Mapping[_Value, int], sigma: float, threshold: int, random: RandomSource) -> dict[_Value, int]:
    """At most 200 of the counted values whose noisy counts reach the threshold, the most frequent first, with these counts."""
    noisy = _noisy(np.array(list(counted.values()), dtype=np.int64), sigma, random)
    released = {value: int(count) for value, count in zip(counted, noisy, strict=True) if count >= threshold}
    return {value: released[value] for value in sorted(released, key=lambda value: (-released[value], value))[:MAX_CATEGORIES]}


class CategoriesPlan:
    """The values of enough rows: noisy counts above a threshold, which values of a single unit exceed with probability ≤ δ."""

    def __init__(self, noise_multiplier: float, delta: float, contributions: int) -> None:
        _check(noise_multiplier, contributions, delta)
        self.mechanism: Mechanism = {"type": "thresholded_gaussian", "noise_multiplier": noise_multiplier, "delta": delta}
        self.sigma = noise_multiplier * contributions
        self.threshold = _threshold(self.sigma, delta, contributions)
        """The noisy count that a value needs to be released."""

    def release(self, counts: Mapping[str, int], random: RandomSource) -> list[str]:
        """At most 200 of the values, by descending noisy count. `counts`: value → its number of rows."""
        return list(_frequent(counts, self.sigma, self.threshold, random))


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


@dataclass(frozen=True)
class Range:
    """What is released of an ordered column, in whole steps of its grid."""

    hidden: bool
    """Whether all rows together are more than noise (`_HIDDEN`), and no run of buckets is.

    Where no run is, the buckets are those of the likeliest run.
    """
    starts: tuple[int, ...]
    """Shape (buckets + 1,): of the buckets that hold nearly all values, as in `Grid`."""
    rows: NDArray[np.float64]
    """Shape (buckets,): estimated numbers of values."""
    common: dict[int, int]
    """Frequent values and their noisy counts."""
    step: int
    """Nearly all values are multiples of it."""


class RangePlan:
    """The range that holds nearly all values of a column, its frequent values and its step, in one Gaussian mechanism.

    A row counts once in each of nine histograms, so a unit with all its rows at one value changes the counts by its rows times
    the root of nine in L2. Seven are of buckets of a public grid: of runs of 1, 2, 4, ... neighbours (`_Tree`), since values that
    are spread thinly show in a long run. One is of single values: those above a threshold are released, as in a
    `CategoriesPlan`. One is of the largest of some public steps that divides a value. All else is post-processing.

    The range (`_span`) spans gaps, drops outliers and does not follow noise far beyond the data, unlike two DP quantiles near 0
    and 1 when the noise is large beside the rows beyond them.
    """

    def __init__(self, noise_multiplier: float, delta: float, contributions: int, grid: Grid) -> None:
        _check(noise_multiplier, contributions, delta)
        self.mechanism: Mechanism = {"type": "thresholded_gaussian", "noise_multiplier": noise_multiplier, "delta": delta}
        self.sigma = noise_multiplier * contributions * math.sqrt(_HISTOGRAMS)
        """Of each count."""
        self.threshold = _threshold(self.sigma, delta, contributions)
        """The noisy count that a value needs to be released."""
        self._grid = grid

    @property
    def rows_found_at_an_end(self) -> int:
        """How many rows beside the rest of the data are found about every other time."""
        tree = _tree(len(self._grid.starts) - 1)
        return math.ceil(_SIGNIFICANT_BESIDE * self.sigma * float(tree.deviation(np.array([0]), 1)[0]))

    def release(self, steps: NDArray[np.int64], random: RandomSource) -> Range:
        """`steps` has shape (rows,): the values inside the grid, in its steps, nulls left out."""
        starts, tree = self._grid.starts, _tree(len(self._grid.starts) - 1)
        buckets = np.searchsorted(starts, steps, side="right") - 1
        counts = tree.counted @ np.bincount(buckets, minlength=len(starts) - 1)
        estimates = tree.estimate @ _noisy(counts.astype(np.int64), self.sigma, random)

        def deviation(starts: NDArray[np.int64], lengths: NDArray[np.int64] | int) -> NDArray[np.float64]:
            return self.sigma * tree.deviation(starts, lengths)

        first, last, found = _span(estimates, deviation)
        counted = dict(zip(*(each.tolist() for each in np.unique(steps, return_counts=True)), strict=True))
        common = _frequent(counted, self.sigma, self.threshold, random)
        ends = np.searchsorted(starts, [*common], side="right") - 1
        first, last = min([first, *ends.tolist()]), max([last, *ends.tolist()])
        hidden = not found and estimates.sum() > _HIDDEN * deviation(np.array([0]), len(starts) - 1)[0]
        if found:
            first, last = _widened(estimates, first, last, deviation)
        inside = tuple(starts[first : last + 2].tolist())
        return Range(bool(hidden), inside, estimates[first : last + 1], common, self._step(steps, random))

    def _step(self, steps: NDArray[np.int64], random: RandomSource) -> int:
        """The largest public step of which nearly all values are multiples; 1 where the noise hides that. Zero tells nothing."""
        known = (1, *self._grid.multiples)
        divisible = sum((steps % step == 0).astype(np.int64) for step in known)
        # Each step divides the next.
        noisy = _noisy(np.bincount(np.where(steps == 0, len(known), divisible - 1), minlength=len(known) + 1), self.sigma, random)
        others, total = np.cumsum(noisy), noisy[:-1].sum()
        for index in range(len(known) - 1, 0, -1):
            deviation = self.sigma * math.sqrt(index)
            if 2 * deviation <= _STEP_NOISE * total and others[index - 1] <= 2 * deviation + _OFF_STEP * total:
                return known[index]
        return 1


Deviation: TypeAlias = Callable[[NDArray[np.int64], NDArray[np.int64] | int], NDArray[np.float64]]
"""Of (starts, lengths) of runs of buckets: the standard deviations of the noise in their estimates."""


def _span(counts: NDArray[np.float64], deviation: Deviation) -> tuple[int, int, bool]:
    """First and last bucket of the span of all runs of buckets that hold more than noise, and whether there is one; if not, those
    of the likeliest run.

    From single buckets to runs of twice the length each time, half overlapping. Longer runs are looked for outside of the span
    alone, and extend it by their near part alone where the rest may be noise.
    """
    total = np.concatenate([[0], np.cumsum(counts)])

    def deviations(starts: NDArray[np.int64], lengths: NDArray[np.int64] | int) -> NDArray[np.float64]:
        return np.asarray((total[starts + lengths] - total[starts]) / deviation(starts, lengths))

    def believed(first: int, last: int) -> float:
        """The deviations that are more than noise beside buckets as full as those of a span, without its fullest one."""
        others = total[last + 1] - total[first] - counts[first : last + 1].max()
        each = others / max(1, last - first) / deviation(np.array([first]), 1)[0]
        return float(np.clip(_HIDING * each, 0, _SIGNIFICANT_BESIDE))

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
                short = 2 * length <= last - first + 1
                needed[:1] = max(_SIGNIFICANT_SHORT, believed(first, last)) if short else _SIGNIFICANT_BESIDE
            found_deviations = deviations(starts, length)
            found = starts[found_deviations > needed]
            if not begun and starts.size:
                start = int(starts[found_deviations.argmax()])
                likeliest = max(likeliest, (float(found_deviations.max()), start, start + length - 1))
            if found.size:
                low, high = int(found.min()), int(found.max()) + length - 1
                rest = believed(first, last) if begun else believed(low, high)
                before = parts[deviations(np.full(parts.shape, low), parts) < rest]
                after = parts[deviations(high + 1 - parts, parts) < rest]
                first, last = min(first, low + int(before.max(initial=0))), max(last, high - int(after.max(initial=0)))
        length *= 2
    return (first, last, True) if last >= 0 else (*likeliest[1:], False)


def _widened(counts: NDArray[np.float64], first: int, last: int, deviation: Deviation) -> tuple[int, int]:
    """The range, bucket by bucket on its fuller side, until at most `_OUTSIDE` of all lies outside as far as the noise tells."""
    limit = _OUTSIDE * counts.sum()
    while True:
        left, right = counts[:first].sum(), counts[last + 1 :].sum()
        ends = deviation(np.array([0, last + 1]), np.array([first, len(counts) - 1 - last]))
        if left + right <= max(limit, _SEEN * float(np.hypot(*ends))):
            return first, last
        first, last = (first - 1, last) if left > right else (first, last + 1)
