"""Gradients of each privacy unit, clipped and summed.

The model's backward pass leaves one gradient for each unit: the examples of one unit are added up *first* and the sum is
clipped, so one unit moves a step by at most `max_grad_norm` whatever its number of rows (Abadi et al. 2016, algorithm 1, with
the unit in place of the example).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from localsynth.codec import Encoded
from localsynth.train.batches import MicroBatch
from localsynth.train.model import LossModel

__all__ = ["ClippedSum", "PrivateGradients"]

_HEADROOM = 1e-3
"""Gradients are clipped this much below the bound, as a share of it, so that rounding stays inside: the order in which units are
added up changes the last digits of their sum (docs/experiments.md: by up to 5e-5 of the bound)."""


@dataclass
class ClippedSum:
    """What a batch adds up to before noise. `units` and `clipped` count them; `loss` sums over learned tokens.

    All of it depends on private data and is not private yet.
    """

    gradients: list[torch.Tensor]
    units: int = 0
    clipped: int = 0
    loss: float = 0.0
    tokens: int = 0


class PrivateGradients:
    """Computes clipped sums of per-unit gradients of `model`'s trainable weights."""

    def __init__(self, model: LossModel, max_grad_norm: float) -> None:
        self.model = model
        self.weights: list[nn.Parameter] = model.weights
        self._bound = (1 - _HEADROOM) * max_grad_norm

    def micro_batches(self, units: Sequence[Sequence[Encoded]], token_budget: int) -> list[MicroBatch]:
        """`units` packed for this model, on its device."""
        return [micro.to(self.weights[0].device) for micro in self.model.micro_batches(units, token_budget)]

    def new_sum(self) -> ClippedSum:
        """An empty sum. An empty batch leaves it so, and its step is noise alone."""
        return ClippedSum([torch.zeros_like(weight, dtype=torch.float32) for weight in self.weights])

    def clipped(self, micro: MicroBatch) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor, float]:
        """(each weight's gradients (units, size), factors (units,), norms (units,), the loss summed over the micro-batch).

        A unit's gradient times its factor is clipped to `max_grad_norm`. The gradients are overwritten by the next call.
        """
        loss = self.model(micro)
        loss.backward()
        gradients = self.model.unit_gradients.take()
        # In pieces: the norm of all at once would lose digits in float32.
        pieces = [g.view(len(g), *w.shape).norm(dim=-1) for g, w in zip(gradients, self.weights, strict=True)]
        norms = torch.cat(pieces, 1).norm(dim=1)
        # A gradient that is not finite (overflow) would poison the sum and break the bound: it counts as zero.
        finite = torch.isfinite(norms)
        factors = torch.where(finite, (self._bound / norms.clamp(min=1e-12)).clamp(max=1.0), 0.0)
        if not bool(finite.all()):
            gradients = [torch.where(finite[:, None], gradient, 0.0) for gradient in gradients]
        return gradients, factors, norms, float(loss.detach())

    def forget(self) -> None:
        """Drop what a pass that was broken off left behind, and the memory it held."""
        self.model.unit_gradients.forget()

    def add(self, total: ClippedSum, micro: MicroBatch) -> None:
        """Compute a micro-batch and add each of its units' clipped gradient to `total`."""
        gradients, factors, norms, loss = self.clipped(micro)
        for accumulated, gradient in zip(total.gradients, gradients, strict=True):
            accumulated += (factors @ gradient).reshape(accumulated.shape)
        total.units += micro.units
        total.clipped += int((norms > self._bound).sum())
        total.loss += loss
