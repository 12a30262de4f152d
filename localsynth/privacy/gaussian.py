"""The Gaussian mechanism in (ε, δ), exactly, and the one that several compose to.

Gaussian mechanisms of noise multipliers σ cost ρ = sum of 1 / (2 σ²). Together they are worth the one of noise multiplier
1 / √(2ρ), also where how many there are and how much noise each has depends on earlier results, as long as ρ stays within a
bound fixed beforehand (Smith & Thakurta 2022, arXiv:2210.17520). A group of k units has k²ρ.
"""

import math
from typing import Any

from localsynth.errors import ConfigError


def _log_delta(rho: float, epsilon: float) -> float:
    """log δ at ε: the smallest δ of a Gaussian mechanism (Balle & Wang 2018, arXiv:1805.06530, theorem 8)."""
    from scipy.special import log_ndtr

    mu = math.sqrt(2 * rho)
    above = float(log_ndtr(mu / 2 - epsilon / mu))
    below = epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
    return above + math.log(-math.expm1(below - above)) if below < above else -math.inf


def epsilon_of_rho(rho: float, delta: float) -> float:
    """The smallest ε at `delta`, rounded up by less than 1e-12 of it, of the Gaussian mechanism of this ρ. Raises ConfigError."""
    if not (0 < delta < 1 and rho >= 0 and math.isfinite(rho)):
        raise ConfigError(
            f"rho {rho} and delta {delta} are not valid.", "delta must lie between 0 and 1, rho must not be negative."
        )
    if rho == 0 or _log_delta(rho, 0.0) <= math.log(delta):
        return 0.0
    # The upper end is the bound by zCDP (Bun & Steinke 2016, arXiv:1605.02065, proposition 1.3).
    low, high = 0.0, rho + 2 * math.sqrt(rho * -math.log(delta))
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if _log_delta(rho, middle) <= math.log(delta) else (middle, high)
    return high


def rho_for(epsilon: float, delta: float) -> float:
    """The largest ρ, to a billionth, whose `epsilon_of_rho` at `delta` is at most `epsilon`. Raises ConfigError."""
    if not (epsilon > 0 and math.isfinite(epsilon) and 0 < delta < 1):
        raise ConfigError(
            f"epsilon must be a positive number and delta between 0 and 1, not {epsilon} and {delta}.", "Correct [privacy]."
        )
    low, high = 0.0, epsilon
    while _log_delta(high, epsilon) <= math.log(delta):
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _log_delta(middle, epsilon) <= math.log(delta) else (low, middle)
    return low


def gaussian_of_rho(rho: float) -> dict[str, Any]:
    """The Gaussian mechanism of this ρ."""
    return {"type": "gaussian", "noise_multiplier": 1 / math.sqrt(2 * rho)}
