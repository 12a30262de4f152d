"""The training plan: everything the privacy of training depends on, fixed before the first private row is read.

Computed from public figures alone: a declared or a differentially private size, never the true number of rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from localsynth.config import TrainConfig
from localsynth.privacy.accountant import Mechanism, dp_sgd_step


@dataclass(frozen=True)
class Schedule:
    """How often and on how many units the model learns.

    units        expected number of training units (public)
    batch_size   expected units in a batch
    sample_rate  chance of each unit to be in a batch, batch_size / units
    steps        steps the run takes
    reserve      further steps that may be charged, so that a crash can be resumed inside the budget
    """

    units: int
    batch_size: int
    sample_rate: float
    steps: int
    reserve: int


@dataclass(frozen=True)
class TrainPlan(Schedule):
    """Parameters of DP-SGD.

    noise_multiplier  standard deviation of the noise over max_grad_norm; calibrated for steps + reserve
    """

    noise_multiplier: float
    max_grad_norm: float

    @property
    def step_mechanism(self) -> Mechanism:
        """One step, as the ledger records it."""
        return dp_sgd_step(self.noise_multiplier, self.sample_rate)

    @property
    def all_steps(self) -> Mechanism:
        """The steps and the reserve."""
        return {"type": "repeated", "count": self.steps + self.reserve, "of": self.step_mechanism}


def schedule(train: TrainConfig, units: int) -> Schedule:
    """The schedule for `units` expected training units.

    A large batch gives each step a better signal against its noise, many steps give the optimizer time; the default of a
    tenth of the units, between 32 and 1,024, is what did best of the few tried (docs/lab/adapters.md).
    """
    units = max(1, units)
    batch_size = min(units, train.batch_size or min(1024, max(32, round(units / 10))))
    rate = batch_size / units
    steps = max(1, round(train.epochs / rate))
    return Schedule(units, batch_size, rate, steps, max(2, math.ceil(steps / 20)))


def make_train_plan(train: TrainConfig, units: int, noise_for: Callable[[float, int], float]) -> TrainPlan:
    """The plan for `units` expected training units, with the noise multiplier `noise_for(rate, number of steps)`."""
    planned = schedule(train, units)
    noise = noise_for(planned.sample_rate, planned.steps + planned.reserve)
    return TrainPlan(**vars(planned), noise_multiplier=noise, max_grad_norm=train.max_grad_norm)
