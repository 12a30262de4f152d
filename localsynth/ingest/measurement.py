"""What one measurement of the schema stage may cost."""

from dataclasses import dataclass

from localsynth.privacy.accountant import Mechanism


@dataclass(frozen=True)
class Measurement:
    """The noise of one measured column, over its sensitivity, and the probability that values of one unit alone are released.

    `contributions` is the maximum number of rows of a unit.
    """

    noise_multiplier: float
    delta: float
    contributions: int

    @property
    def mechanism(self) -> Mechanism:
        """As the ledger records it."""
        return {"type": "thresholded_gaussian", "noise_multiplier": self.noise_multiplier, "delta": self.delta}
