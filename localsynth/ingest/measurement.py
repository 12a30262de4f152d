"""What one measurement of the schema stage may cost."""

from dataclasses import dataclass

from localsynth.privacy.accountant import Mechanism

__all__ = ["Measurement"]


@dataclass(frozen=True)
class Measurement:
    """The cost of one measurement. `delta` is None unless a list is measured.

    `contributions` is the maximum number of rows of a unit.
    """

    epsilon: float
    delta: float | None
    contributions: int

    @property
    def mechanism(self) -> Mechanism:
        """As the ledger records it."""
        if self.delta is None:
            return {"type": "pure_dp", "epsilon": self.epsilon}
        return {"type": "approximate_dp", "epsilon": self.epsilon, "delta": self.delta}
