"""How an audit trains: with the settings of the audited run and the product's own loop, on canaries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from localsynth.config import TrainConfig
from localsynth.events import Emit, as_stage
from localsynth.llm.row_text import Encoded
from localsynth.privacy.noise import RandomSource
from localsynth.train.loop import TrainResult, train
from localsynth.train.plan import TrainPlan


@dataclass(frozen=True)
class AuditedTraining:
    """What the trainings of an audit have in common; the fields are arguments of `train.loop.train`.

    Nothing is charged, because canaries are not private.
    """

    base: Path
    targets: list[str]
    micro_batch_tokens: int
    plan: TrainPlan
    settings: TrainConfig
    random: RandomSource
    emit: Emit
    should_stop: Callable[[], bool]

    def train(
        self, units: Sequence[Sequence[Encoded]], directory: Path, released: Callable[[torch.Tensor], None] | None = None
    ) -> TrainResult:
        """Train on `units` and write the adapter into `directory`. Raises what `train` raises."""
        return train(
            load_units=lambda: units,
            base=self.base,
            targets=self.targets,
            micro_batch_tokens=self.micro_batch_tokens,
            plan=self.plan,
            settings=self.settings,
            charge_step=lambda: 0.0,
            random=self.random,
            run_directory=directory,
            emit=lambda event: self.emit(as_stage(event, "audit")),
            should_stop=self.should_stop,
            released=released,
        )
