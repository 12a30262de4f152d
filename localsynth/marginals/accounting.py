"""The cost of measurements, whose mechanisms are all Gaussian. `localsynth.privacy.gaussian` converts it to (ε, δ).

Neighbours are tables that differ by one unit, added or removed. With the noise multiplier s (noise over L2 sensitivity) a
mechanism costs ρ = 1 / (2 s²). The ρ add up, also where a mechanism's parameters depend on earlier ones' results, as long as the
sum is kept below a bound fixed beforehand (Smith & Thakurta 2022, arXiv:2210.17520): `Budget` is that filter.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from localsynth.errors import BudgetError, ConfigError

_MARGIN = 1e-9
"""Fraction of a budget that is never planned with, so that rounding errors of sums cannot exceed it."""

_MIN_PARAMETER, _MAX_PARAMETER = 1e-12, 1e12
"""Beyond every parameter that measures something, and within what can be squared."""


@dataclass(frozen=True)
class Spend:
    """One Gaussian mechanism that ran: what it measured, and with how much noise."""

    kind: Literal["gaussian", "distances"]
    """A table of counts, or how far several tables are from what a model expects."""
    parameter: float
    """The noise multiplier."""
    columns: tuple[str, ...]
    """Those of the table; empty for distances."""

    @property
    def rho(self) -> float:
        """Its cost. Raises ConfigError for an unknown mechanism."""
        if self.kind not in ("gaussian", "distances") or not _MIN_PARAMETER <= self.parameter <= _MAX_PARAMETER:
            raise ConfigError(f"There is no mechanism {self.kind!r} with the parameter {self.parameter!r}.", "Restore the file.")
        return 1 / (2 * self.parameter**2)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"kind": self.kind, "parameter": self.parameter, "columns": list(self.columns)}


def total_rho(spends: list[Spend]) -> float:
    """The ρ of all of them together."""
    return math.fsum(spend.rho for spend in spends)


@dataclass
class Budget:
    """A ρ fixed beforehand, and the spends charged to it. Charge first, then read the data."""

    rho: float
    spends: list[Spend] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rho) and self.rho > 0):
            raise BudgetError(f"A budget of rho {self.rho} measures nothing.", "Raise privacy.epsilon.")

    @property
    def left(self) -> float:
        """The ρ that may still be planned with, never negative; slightly below what `charge` accepts."""
        return max(0.0, self.rho * (1 - _MARGIN) - total_rho(self.spends))

    def charge(self, spend: Spend) -> None:
        """Record a spend. Raises BudgetError, and records nothing, where it does not fit."""
        if total_rho([*self.spends, spend]) > self.rho:
            raise BudgetError(
                f"Measuring would cost more than the rho of {self.rho:g} that was reserved for it.",
                "Please report this as a bug: the rounds do not fit into their budget.",
            )
        self.spends.append(spend)
