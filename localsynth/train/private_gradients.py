"""The seam to Opacus: gradients of each privacy unit, clipped and summed.

Opacus' hooks give every adapter weight a `grad_sample` (one gradient for each example). From there on it is our own code:
the examples of one unit are added up *first* and the sum is clipped, so one unit moves a step by at most `max_grad_norm`
whatever its number of rows (Abadi et al. 2016, algorithm 1, with the unit in place of the example).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from opacus import GradSampleModule
from torch import nn

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
    """Computes clipped sums of per-unit gradients of `module`'s trainable weights."""

    def __init__(self, module: nn.Module, max_grad_norm: float) -> None:
        self.weights: list[nn.Parameter] = [p for p in module.parameters() if p.requires_grad]
        self._bound = (1 - _HEADROOM) * max_grad_norm
        # "sum": the loss is a sum over examples, so an example's gradient is not divided by the size of its batch.
        self.module: nn.Module = GradSampleModule(module, batch_first=True, loss_reduction="sum", strict=True)

    def new_sum(self) -> ClippedSum:
        """An empty sum. An empty batch leaves it so, and its step is noise alone."""
        return ClippedSum([torch.zeros_like(weight, dtype=torch.float32) for weight in self.weights])

    def clipped(
        self, loss: torch.Tensor, unit: torch.Tensor, units: int
    ) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
        """Backpropagate `loss` (a sum over examples): (each weight's gradients (units, size), factors (units,), norms (units,)).

        A unit's gradient times its factor is clipped to `max_grad_norm`. unit (examples,) says which of the `units` units an
        example belongs to.
        """
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [_per_unit(_taken(weight), unit, units).reshape(units, -1) for weight in self.weights]
        squares = torch.stack([gradient.square().sum(1) for gradient in gradients])
        norms = squares.sum(0).sqrt()
        # A gradient that is not finite (overflow) would poison the sum and break the bound: it counts as zero.
        finite = torch.isfinite(norms)
        factors = torch.where(finite, (self._bound / norms.clamp(min=1e-12)).clamp(max=1.0), 0.0)
        if not bool(finite.all()):
            gradients = [torch.where(finite[:, None], gradient, 0.0) for gradient in gradients]
        return gradients, factors, norms

    def forget(self) -> None:
        """Drop what a pass that was broken off left behind, which would otherwise be taken for a part of the next."""
        for module in self.module.modules():
            for left in ("activations", "max_batch_len"):
                if hasattr(module, left):
                    delattr(module, left)
        for weight in self.weights:
            weight.grad = weight.grad_sample = None  # type: ignore[attr-defined]
            weight._forward_counter = 0  # type: ignore[attr-defined]
            if hasattr(weight, "_current_grad_sample"):
                del weight._current_grad_sample

    def add(self, total: ClippedSum, loss: torch.Tensor, unit: torch.Tensor, units: int) -> None:
        """Backpropagate `loss` (a sum over examples) and add each unit's clipped gradient to `total`.

        unit (examples,) says which of the `units` units an example belongs to.
        """
        gradients, factors, norms = self.clipped(loss, unit, units)
        for accumulated, gradient in zip(total.gradients, gradients, strict=True):
            accumulated += (factors @ gradient).reshape(accumulated.shape)
        total.units += units
        total.clipped += int((norms > self._bound).sum())
        total.loss += float(loss.detach())


def _taken(weight: nn.Parameter) -> torch.Tensor:
    """A weight's per-example gradients as float32, taken off it so that they are never counted twice."""
    samples: torch.Tensor | Sequence[torch.Tensor] | None = weight.grad_sample  # type: ignore[attr-defined]
    if not isinstance(samples, torch.Tensor):
        raise AssertionError("an adapter weight was used twice or not at all in one pass: its gradients would be wrong")
    weight.grad_sample = None  # type: ignore[attr-defined]
    weight.grad = None
    return samples.float()


def _per_unit(samples: torch.Tensor, unit: torch.Tensor, units: int) -> torch.Tensor:
    """Per-example gradients (examples, ...) summed over each unit's examples: (units, ...)."""
    if samples.shape[0] == units:
        return samples
    return torch.zeros((units, *samples.shape[1:]), dtype=samples.dtype, device=samples.device).index_add_(
        0, unit.to(samples.device), samples
    )
