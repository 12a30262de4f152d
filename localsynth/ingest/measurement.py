"""What one measurement of the schema stage may cost."""

from dataclasses import dataclass

from localsynth.privacy.accountant import Mechanism


@dataclass(frozen=True)
class Measurement:
    """The noise of one measured column, over its sensitivity. `delta` is None unless a list is measured.

    `contributions` is the maximum number of rows of a unit.
    """

    noise_multiplier: float
    delta: float | None
    contributions: int

    @property
    def mechanism(self) -> Mechanism:
        """As the ledger records it."""
        if self.delta is None:
            return {"type": "gaussian", "noise_multiplier": self.noise_multiplier}
        return {"type": "thresholded_gaussian", "noise_multiplier": self.noise_multiplier, "delta": self.delta}
