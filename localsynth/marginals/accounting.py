"""What measuring costs, in zCDP (Bun & Steinke 2016, arXiv:1605.02065), and what that is in (ε, δ).

Neighbours are tables that differ by one unit, added or removed. Two mechanisms are used:

    gaussian     noise multiplier s (noise over L2 sensitivity): ρ = 1 / (2 s²)
    exponential  chance ∝ exp(ε · score / (2 · sensitivity)): ε-bounded range, so ρ = ε² / 8 (Cesar & Rogers 2021,
                 arXiv:2004.07223)

Their ρ add up, also where a mechanism's parameters depend on what earlier ones gave, as long as the sum is kept below a bound
fixed beforehand (Feldman & Zrnic 2021, arXiv:2008.11193; Whitehouse et al. 2023, arXiv:2203.05481): `Budget` is that filter.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from localsynth.errors import BudgetError, ConfigError

__all__ = ["Budget", "Spend", "epsilon_of_rho", "rho_for", "total_rho"]

_MARGIN = 1e-9
"""Share of a budget that is never planned with, so that adding up floats cannot pass it."""


@dataclass(frozen=True)
class Spend:
    """One mechanism that ran: on which columns (the chosen ones of a choice are not named here), and how noisily."""

    kind: Literal["gaussian", "exponential"]
    parameter: float
    """Noise multiplier, or ε."""
    purpose: str

    @property
    def rho(self) -> float:
        """Its cost."""
        if not (math.isfinite(self.parameter) and self.parameter > 0):
            raise ConfigError(f"A mechanism's parameter must be a positive number, not {self.parameter}.")
        return 1 / (2 * self.parameter**2) if self.kind == "gaussian" else self.parameter**2 / 8

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"kind": self.kind, "parameter": self.parameter, "purpose": self.purpose}


def total_rho(spends: list[Spend]) -> float:
    """The zCDP cost of all of them together."""
    return math.fsum(spend.rho for spend in spends)


@dataclass
class Budget:
    """A ρ fixed beforehand, and what was charged to it. Charge first, then touch the data."""

    rho: float
    spends: list[Spend] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rho) and self.rho > 0):
            raise BudgetError(f"A budget of rho {self.rho} measures nothing.", "Raise privacy.epsilon.")

    @property
    def left(self) -> float:
        """What may still be planned with, never negative; a hair below what `charge` accepts."""
        return max(0.0, self.rho * (1 - _MARGIN) - total_rho(self.spends))

    def charge(self, spend: Spend) -> None:
        """Write a spend down. Raises BudgetError, with nothing written, where it does not fit."""
        if total_rho([*self.spends, spend]) > self.rho:
            raise BudgetError(
                f"Measuring would cost more than the rho of {self.rho:g} that was set aside for it.",
                "This is a bug: the rounds of the selection do not fit into their budget.",
            )
        self.spends.append(spend)


def _least(function: Callable[[float], float], low: float, high: float) -> float:
    """The least value of a function with one valley between `low` and `high`, by golden section."""
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(200):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if function(a) < function(b) else (a, high)
    return function((low + high) / 2)


def epsilon_of_rho(rho: float, delta: float) -> float:
    """The ε at `delta` of a ρ-zCDP mechanism, an upper bound for every α tried (Canonne, Kamath & Steinke 2020,
    arXiv:2004.00010, corollary 13): ρα + log(1 - 1/α) - (log δ + log α) / (α - 1), least over α > 1. Raises ConfigError."""
    if not (0 < delta < 1 and rho >= 0 and math.isfinite(rho)):
        raise ConfigError(
            f"rho {rho} and delta {delta} are no guarantee.", "delta must lie between 0 and 1, rho must not be negative."
        )
    if rho == 0:
        return 0.0

    def bound(log_over_one: float) -> float:
        over_one = math.exp(log_over_one)
        alpha = 1 + over_one
        return rho * alpha + log_over_one - math.log(alpha) - (math.log(delta) + math.log(alpha)) / over_one

    return max(0.0, _least(bound, math.log(1e-6), math.log(1e9)))


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
