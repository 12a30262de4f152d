"""One audited training: which canaries are in, the training by the product's own loop, and the white-box attack on it.

The training is the claimed one in all that its privacy depends on: noise multiplier, clipping norm, sample rate, number of
steps, base model, adapters and the loop's own code. Two things are the auditor's choice, because the guarantee holds for any
table and any use of the released gradients. The table has only canaries: other rows would only hide them. And the learning
rate is 1e-6: the weights hardly move, so a canary's gradient is computed once and not in each step. A run without noise is
then decoded without error.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from localsynth.errors import Cancelled
from localsynth.evaluate.audit.scores import canary_gradients, decode
from localsynth.evaluate.audit.training import AuditedTraining
from localsynth.events import progress
from localsynth.llm.row_text import Encoded
from localsynth.privacy.noise import RandomSource
from localsynth.train.device import choose_device
from localsynth.train.model import build_model
from localsynth.train.private_gradients import PrivateGradients

_LEARNING_RATE = 1e-6


class _NoiseRecorder(RandomSource):
    """Passes on another generator's numbers, and keeps the Gaussian ones until they are taken."""

    def __init__(self, source: RandomSource) -> None:
        self.label = source.label
        self._source = source
        self._recorded: list[NDArray[np.float64]] = []

    def random_bytes(self, n: int) -> bytes:
        return self._source.random_bytes(n)

    def gaussian(self, n: int) -> NDArray[np.float64]:
        noise = self._source.gaussian(n)
        self._recorded.append(noise)
        return noise

    def take(self) -> torch.Tensor:
        """The numbers since the last call, in float32; a zero where there were none, as in a faulty training."""
        recorded, self._recorded = self._recorded, []
        return torch.from_numpy(np.concatenate([*recorded, np.zeros(0 if recorded else 1)])).float()


@dataclass(frozen=True)
class Attacked:
    """Which canaries were in, and the auditor's score of each. Shapes (canaries,)."""

    precision: str
    """Of the training."""
    included: NDArray[np.bool_]
    scores: NDArray[np.float64]
    control: NDArray[np.float64]
    """The scores without the noise."""


def attack_training(canaries: Sequence[Sequence[Encoded]], training: AuditedTraining, directory: Path) -> Attacked:
    """Train on a random half of the canaries, in `directory`, and score all of them by what was released.

    canaries: the encoded rows of each unit. Raises what `train` raises; a stopped audit starts again.
    """
    plan, settings = training.plan, training.settings
    included = training.random.bernoulli(0.5, len(canaries))
    recorder = _NoiseRecorder(training.random)
    released = noise = torch.zeros(())

    def watch(gradient: torch.Tensor) -> None:
        nonlocal released, noise
        released = released + gradient.cpu() * plan.batch_size
        noise = noise + recorder.take() * (plan.noise_multiplier * plan.max_grad_norm)

    still = replace(training, settings=settings.model_copy(update={"learning_rate": _LEARNING_RATE}), random=recorder)
    trained = still.train([canary for canary, taken in zip(canaries, included, strict=True) if taken], directory, watch)

    def report(done: int) -> None:
        if training.should_stop():
            raise Cancelled("Stopped during audit.", "`localsynth audit` begins it again.")
        training.emit(progress("audit", done, len(canaries), "canaries"))

    device = choose_device(settings.device)
    model = build_model(
        training.base, settings.rank, settings.alpha, training.targets, trained.precision, device, seed=plan.steps
    )
    private = PrivateGradients(model, plan.max_grad_norm)
    gram, products = canary_gradients(private, canaries, trained.micro_batch_tokens, [released, released - noise], report)
    # A canary is in with probability 1/2, and then in each batch with probability sample_rate.
    expected = plan.steps * plan.sample_rate / 2
    scores, control = (decode(gram, each, expected) for each in products)
    return Attacked(trained.precision, included, scores, control)
