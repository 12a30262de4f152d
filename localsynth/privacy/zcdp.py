"""Zero-concentrated differential privacy (zCDP; Bun & Steinke 2016, arXiv:1605.02065): conversion of ρ to (ε, δ) and back.

The ρ of mechanisms add up, and a group of k units has k²ρ (proposition 1.9 there).
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from localsynth.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PROFILE_POINTS = 2000
"""Points at which a privacy profile is computed; between them it is bounded by lines."""


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    """The minimum of a unimodal function between `low` and `high`, by golden-section search."""
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(200):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if function(a) < function(b) else (a, high)
    return function((low + high) / 2)


def epsilon_of_rho(rho: float, delta: float) -> float:
    """The ε at `delta` of a ρ-zCDP mechanism: the minimum over α > 1 of
    ρα + log(1 - 1/α) - (log δ + log α) / (α - 1), each of which is an upper bound (Canonne, Kamath
    & Steinke 2020, arXiv:2004.00010, corollary 13). Raises ConfigError.
    """
    if not (0 < delta < 1 and rho >= 0 and math.isfinite(rho)):
        raise ConfigError(
            f"rho {rho} and delta {delta} are not valid.", "delta must lie between 0 and 1, rho must not be negative."
        )
    if rho == 0:
        return 0.0

    def bound(log_over_one: float) -> float:
        over_one = math.exp(log_over_one)
        alpha = 1 + over_one
        return rho * alpha + log_over_one - math.log(alpha) - (math.log(delta) + math.log(alpha)) / over_one

    return max(0.0, _minimum(bound, math.log(1e-6), math.log(1e9)))


def rho_for(epsilon: float, delta: float) -> float:
    """The largest ρ, to a billionth, whose `epsilon_of_rho` at `delta` is at most `epsilon`. Raises ConfigError."""
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise ConfigError(f"epsilon must be a positive number, not {epsilon}.", "Correct privacy.epsilon.")
    low, high = 0.0, epsilon
    while epsilon_of_rho(high, delta) <= epsilon:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if epsilon_of_rho(middle, delta) <= epsilon else (low, middle)
    return low


def gaussian_of_rho(rho: float) -> dict[str, Any]:
    """The one Gaussian mechanism that several compose to, exactly, whose 1 / (2 σ²) add up to a `rho` fixed beforehand."""
    return {"type": "gaussian", "noise_multiplier": 1 / math.sqrt(2 * rho)}


def privacy_profile(rho: float, epsilons: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Upper bounds on the δ of a ρ-zCDP mechanism at `epsilons` (ascending, below 0 too): `epsilon_of_rho` solved for δ.

    The δ of (P, Q) at -ε is 1 - exp(-ε) (1 - δ), with the δ of (Q, P) at ε, for which the same bound holds. The true δ is
    convex in exp(ε), so the largest convex function below bounds at some points is a bound at all of them.
    """
    import numpy as np

    some = np.unique(np.append(epsilons[:: math.ceil(len(epsilons) / _PROFILE_POINTS)], epsilons[-1]))
    over_one = np.logspace(-4, 7, 1000)
    order = 1 + over_one
    fixed = rho * order * over_one + over_one * np.log(over_one / order) - np.log(order)
    logs = np.array([np.min(fixed - over_one * abs(epsilon)) for epsilon in some])
    above = np.exp(np.minimum(0.0, logs))
    return _convex_below(np.exp(epsilons), np.exp(some), np.where(some < 0, 1 - np.exp(some) * (1 - above), above))


def _convex_below(
    x: "NDArray[np.float64]", points: "NDArray[np.float64]", values: "NDArray[np.float64]"
) -> "NDArray[np.float64]":
    """At `x`, the largest convex function below `values` at `points` (Andrew's lower hull)."""
    import numpy as np

    hull: list[int] = []

    def slope(i: int, j: int) -> float:
        return float((values[j] - values[i]) / (points[j] - points[i]))

    for i in range(len(points)):
        while len(hull) > 1 and slope(hull[-2], hull[-1]) >= slope(hull[-1], i):
            hull.pop()
        hull.append(i)
    return np.interp(x, points[hull], values[hull])
