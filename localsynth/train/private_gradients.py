"""Gradients of each privacy unit, clipped and summed.

The model's backward pass leaves one gradient for each unit: the examples of one unit are added up *first* and the sum is
clipped, so one unit moves a step by at most `max_grad_norm` whatever its number of rows (Abadi et al. 2016, algorithm 1, with
the unit in place of the example).

Norms, factors and sums are computed in float64. In float32, rounding moves a sum of many aligned gradients by more than the
headroom, since each addition to a large sum rounds in the same direction. In float64, the norm of a clipped gradient is off by
less than 1e-12 of C, and a sum of n of them by less than n²/2⁵³ of C.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from localsynth.llm.row_text import Encoded
from localsynth.train.batches import MicroBatch
from localsynth.train.model import LossModel

HEADROOM = 1e-3
"""Gradients are clipped this much below the bound, as a share of it, so that rounding stays inside: a unit's presence may change
the last digits of all other units' gradients, by no more than `batch_invariance.tolerance` allows."""

_PIECE = {"cpu": 1 << 18, "cuda": 1 << 24}
"""Numbers that are converted to float64 at once: all of a micro-batch would take twice its gradients' memory again. On a CPU they
stay in the cache (2 MB); a GPU would wait for many small orders."""


@dataclass
class ClippedSum:
    """What a batch adds up to before noise: `gradient` (size,) float64, all weights concatenated. `units` and `clipped` count
    them; `loss` sums over learned tokens.

    All of it depends on private data and is not private yet.
    """

    gradient: torch.Tensor
    units: int = 0
    clipped: int = 0
    loss: float = 0.0
    tokens: int = 0


def _pieces(gradients: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """(which numbers, their float64 values) of the gradients (units, size) of a micro-batch."""
    units, size = gradients.shape
    width = max(1, _PIECE[gradients.device.type] // units)
    for start in range(0, size, width):
        part = slice(start, start + width)
        yield part, gradients[:, part].double()


def _norms(gradients: torch.Tensor) -> torch.Tensor:
    """The norm of each row of (units, size): (units,) float64."""
    squares = torch.zeros(len(gradients), dtype=torch.float64, device=gradients.device)
    for _, piece in _pieces(gradients):
        squares += torch.linalg.vector_norm(piece, dim=1).square_()
    return squares.sqrt_()


class PrivateGradients:
    """Computes clipped sums of per-unit gradients of `model`'s trainable weights."""

    def __init__(self, model: LossModel, max_grad_norm: float) -> None:
        self.model = model
        self.weights: list[nn.Parameter] = model.weights
        self._bound = (1 - HEADROOM) * max_grad_norm

    def micro_batches(self, units: Sequence[Sequence[Encoded]], token_budget: int) -> list[MicroBatch]:
        """`units` packed for this model, on its device."""
        return [micro.to(self.weights[0].device) for micro in self.model.micro_batches(units, token_budget)]

    def new_sum(self) -> ClippedSum:
        """An empty sum. An empty batch leaves it so, and its step is noise alone."""
        size = sum(weight.numel() for weight in self.weights)
        return ClippedSum(torch.zeros(size, dtype=torch.float64, device=self.weights[0].device))

    def split(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Concatenated numbers of all weights, (size,), as one view of each weight's shape."""
        pieces = torch.split(flat, [weight.numel() for weight in self.weights])
        return [piece.view_as(weight) for piece, weight in zip(pieces, self.weights, strict=True)]

    def clipped(self, micro: MicroBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
        """(gradients (units, size) float32, factors and norms (units,) float64, the loss summed over the micro-batch).

        A unit's gradient times its factor is clipped to `max_grad_norm`. The gradients are overwritten by the next call.
        """
        loss = self.model(micro)
        loss.backward()
        gradients = self.model.unit_gradients.take()
        norms = _norms(gradients)
        # A gradient that is not finite (overflow) would poison the sum and break the bound: it counts as zero.
        finite = torch.isfinite(norms)
        factors = torch.where(finite, (self._bound / norms.clamp(min=1e-12)).clamp(max=1.0), 0.0)
        if not bool(finite.all()):
            gradients = torch.where(finite[:, None], gradients, 0.0)
        return gradients, factors, norms, float(loss.detach())

    def forget(self) -> None:
        """Drop what an interrupted pass left behind, and free its memory."""
        self.model.unit_gradients.forget()

    def add(self, total: ClippedSum, micro: MicroBatch) -> None:
        """Compute a micro-batch and add each of its units' clipped gradient to `total`."""
        gradients, factors, norms, loss = self.clipped(micro)
        for part, piece in _pieces(gradients):
            total.gradient[part] += factors @ piece
        total.units += micro.units
        total.clipped += int((norms > self._bound).sum())
        total.loss += loss
