"""Measurements of the schema stage: a count, a list of categories, a range.

Each is a plan, which holds the mechanism to charge, and then a release, which reads the data.
Charge between the two. `contributions` is the maximum number of rows of a unit, so adding or
removing a unit changes at most that many rows (OpenDP's symmetric distance). The noise is
OpenDP's exact discrete Laplace noise with randomness from the operating system. Every plan
checks with OpenDP's privacy map that its mechanism costs no more than it is charged. The δ of a
list must hold by our own sum as well (`release_probability`).
"""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localsynth.errors import ConfigError
from localsynth.privacy.accountant import Mechanism
from localsynth.privacy.grids import Grid

__all__ = ["MAX_CATEGORIES", "CategoriesPlan", "CountPlan", "RangePlan"]

MAX_CATEGORIES = 200
"""Of a measured list, the most frequent ones by their noisy counts."""

_MIN_EPSILON = 1e-4


def _opendp() -> Any:
    # Not `opendp.prelude`: it imports scikit-learn where installed, which takes seconds and hundreds of megabytes.
    from opendp import domains, measurements, metrics, mod, transformations, typing

    mod.enable_features("contrib")
    return SimpleNamespace(
        **{name: getattr(domains, name) for name in ("atom_domain", "vector_domain")},
        **{name: getattr(metrics, name) for name in ("absolute_distance", "l1_distance", "symmetric_distance")},
        i64=typing.i64,
        String=typing.String,
        m=measurements,
        t=transformations,
    )


def _check(epsilon: float, contributions: int, delta: float | None = None) -> None:
    if not (math.isfinite(epsilon) and epsilon >= _MIN_EPSILON):
        raise ConfigError(
            f"An epsilon of {epsilon:g} is too small for a measurement.",
            "Raise privacy.schema_epsilon, or declare bounds and categories that are public knowledge.",
        )
    if contributions < 1:
        raise ConfigError(f"A unit contributes at least 1 row, not {contributions}.", "Correct privacy.max_rows_per_unit.")
    if delta is not None and not 0 < delta < 1:
        raise ConfigError(f"The delta for a list of categories must be between 0 and 1, not {delta:g}.", "Correct privacy.delta.")


def _within_epsilon(make: Callable[[float], Any], cost: Callable[[Any], float], epsilon: float, scale: float) -> Any:
    """The measurement with noise `scale`, or slightly more where OpenDP, which rounds up, computes more than `epsilon`."""
    for _ in range(20):
        measurement = make(scale)
        if cost(measurement) <= epsilon:
            return measurement
        scale *= 1 + 1e-9
    raise AssertionError(f"the mechanism costs more than the epsilon of {epsilon} that it is charged")


class CountPlan:
    """The number of rows (or of units, with `contributions` 1) plus discrete Laplace noise."""

    def __init__(self, epsilon: float, contributions: int) -> None:
        _check(epsilon, contributions)
        self.mechanism: Mechanism = {"type": "pure_dp", "epsilon": epsilon}
        dp = _opendp()
        space = dp.atom_domain(T=dp.i64), dp.absolute_distance(T=dp.i64)
        self._measure = _within_epsilon(
            lambda scale: dp.m.make_laplace(*space, scale=scale), lambda m: m.map(contributions), epsilon, contributions / epsilon
        )

    def release(self, count: int) -> int:
        """The noisy count, at least 1."""
        return max(1, int(self._measure(count)))


def release_probability(scale: float, threshold: int, contributions: int) -> float:
    """The probability that a value of one unit alone is released, at the worst split of its rows over such values.

    A value of c rows is released where c plus discrete Laplace noise of that scale reaches the threshold (Ghosh, Roughgarden
    & Sundararajan 2012, for the distribution). OpenDP 0.16 releases at the threshold, too, but its map counts noise beyond it
    alone, which is up to exp(1 / scale) times less. For several rows its map is larger; a list satisfies both.
    """
    counts = np.arange(1, contributions + 1)
    beyond = threshold - counts
    ratio = -1 / scale
    tail = np.where(beyond >= 1, np.exp(ratio * beyond), 0.0) / (1 + math.exp(ratio))
    inside = np.where(beyond < 1, np.exp(ratio * (1 - np.minimum(beyond, 0))), 0.0) / (1 + math.exp(ratio))
    # -log of the probability that such a value is not released, which adds up over values.
    each = np.where(beyond >= 1, -np.log1p(-tail), -np.log(np.maximum(inside, 1e-300)))
    worst = np.zeros(contributions + 1)
    for rows in range(1, contributions + 1):
        worst[rows] = np.max(each[:rows] + worst[rows - 1 :: -1][:rows])
    return float(-np.expm1(-worst[-1]))


class CategoriesPlan:
    """The values of enough rows: noisy counts above a threshold, which values of a single unit exceed with probability ≤ δ."""

    def __init__(self, epsilon: float, delta: float, contributions: int) -> None:
        _check(epsilon, contributions, delta)
        self.mechanism: Mechanism = {"type": "approximate_dp", "epsilon": epsilon, "delta": delta}
        dp = _opendp()
        counts = dp.t.make_count_by(dp.vector_domain(dp.atom_domain(T=dp.String)), dp.symmetric_distance(), TV=dp.i64)

        def measurement(scale: float, threshold: int) -> Any:
            return counts >> dp.m.then_laplace_threshold(scale=scale, threshold=threshold)

        def enough(threshold: int) -> bool:
            own = release_probability(scale, threshold, contributions)
            return bool(max(own, measurement(scale, threshold).map(contributions)[1]) <= delta)

        scale = contributions / epsilon * (1 + 1e-8)
        low, high = contributions, contributions + 1
        while not enough(high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        self.threshold = high
        """The noisy count that a value needs to be released."""
        self._measure = _within_epsilon(lambda s: measurement(s, high), lambda m: m.map(contributions)[0], epsilon, scale)
        if max(self._measure.map(contributions)[1], release_probability(scale, high, contributions)) > delta:
            raise AssertionError("the threshold for the list of categories costs more than its delta")

    def release(self, values: list[str]) -> list[str]:
        """At most 200 of the values, by descending noisy count. `values` has one string a row, without nulls."""
        released: dict[str, int] = self._measure([value for value in values if _is_opendp_string(value)])
        return sorted(released, key=lambda value: (-released[value], value))[:MAX_CATEGORIES]


def _is_opendp_string(value: str) -> bool:
    """False with NUL characters or lone surrogates, which OpenDP's strings cannot hold: such rows count for no value."""
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


class RangePlan:
    """The range that holds nearly all values of a column: noisy counts of the buckets of a public grid, then a cut.

    Each row lies in one bucket, so all counts together cost one ε. The cut is post-processing: the run of buckets with the
    largest sum of (noisy count - two noise scales). It spans gaps, drops outliers and does not follow noise far beyond the
    data, unlike two DP quantiles near 0 and 1 when ε times the number of rows beyond them is small.
    """

    def __init__(self, epsilon: float, contributions: int, grid: Grid) -> None:
        _check(epsilon, contributions)
        self.mechanism: Mechanism = {"type": "pure_dp", "epsilon": epsilon}
        self._grid = grid
        self._penalty = 2 * contributions / epsilon
        dp = _opendp()
        space = dp.vector_domain(dp.atom_domain(T=dp.i64)), dp.l1_distance(T=dp.i64)
        self._measure = _within_epsilon(
            lambda scale: dp.m.make_laplace(*space, scale=scale), lambda m: m.map(contributions), epsilon, contributions / epsilon
        )

    def release(self, values: NDArray[np.float64] | NDArray[np.int64]) -> tuple[int | float, int | float]:
        """(low, high), low ≤ high, both edges of buckets, as int (or float on a grid with decimals).

        `values` has shape (rows,), nulls and NaN left out; infinities count as the ends of the grid.
        """
        starts = self._grid.starts
        buckets = np.searchsorted(starts, self._grid.steps(values), side="right") - 1
        counts = np.bincount(buckets, minlength=len(starts) - 1)
        first, last = _heaviest_run(np.array(self._measure(counts.tolist()), dtype=np.float64) - self._penalty)
        return self._grid.value(int(starts[first])), self._grid.value(int(starts[last + 1]) - 1)


def _heaviest_run(weights: NDArray[np.float64]) -> tuple[int, int]:
    """First and last index of the run of `weights` with the largest sum (Kadane's algorithm); never empty."""
    best = -math.inf
    first = last = start = 0
    total = 0.0
    for index, weight in enumerate(weights.tolist()):
        if total <= 0:
            start, total = index, 0.0
        total += weight
        if total > best:
            best, first, last = total, start, index
    return first, last
