"""The training plan: everything the privacy of training depends on, fixed before the first private row is read.

Computed from public figures alone: a declared or a differentially private size, never the true number of rows.
"""

import math
from dataclasses import dataclass

from localsynth.config import TrainConfig
from localsynth.privacy.accountant import Mechanism, calibrate_noise

__all__ = ["TrainPlan", "make_train_plan"]


@dataclass(frozen=True)
class TrainPlan:
    """Parameters of DP-SGD.

    units            expected number of training units (public)
    batch_size       expected units in a batch
    sample_rate      chance of each unit to be in a batch, batch_size / units
    steps            steps the run takes
    reserve          further steps that may be charged, so that a crash can be resumed inside the budget
    noise_multiplier standard deviation of the noise over max_grad_norm; calibrated for steps + reserve
    """

    units: int
    batch_size: int
    sample_rate: float
    steps: int
    reserve: int
    noise_multiplier: float
    max_grad_norm: float
    epsilon: float
    delta: float

    @property
    def step_mechanism(self) -> Mechanism:
        """One step, as the ledger records it."""
        gaussian = {"type": "gaussian", "noise_multiplier": self.noise_multiplier}
        return {"type": "poisson_sampled", "rate": self.sample_rate, "of": gaussian}


def make_train_plan(train: TrainConfig, units: int, epsilon: float, delta: float) -> TrainPlan:
    """The plan for `units` expected training units and the training stage's budget (ε, δ).

    A large batch gives each step a better signal against its noise, many steps give the optimizer time; the default of a
    tenth of the units, between 32 and 1,024, is what did best of the few tried (docs/lab/adapters.md).
    """
    units = max(1, units)
    batch_size = min(units, train.batch_size or min(1024, max(32, round(units / 10))))
    rate = batch_size / units
    steps = max(1, round(train.epochs / rate))
    reserve = max(2, math.ceil(steps / 20))
    noise = calibrate_noise(epsilon, delta, rate, steps + reserve)
    return TrainPlan(units, batch_size, rate, steps, reserve, noise, train.max_grad_norm, epsilon, delta)
