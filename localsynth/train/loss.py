"""The cross-entropy over a large vocabulary, without ever holding all logits."""

from typing import Any

import torch

__all__ = ["summed_cross_entropy"]

_CHUNK = 96
"""Positions computed at once: 96 x 49,152 float32 logits take 19 MB, which the allocator reuses (50 MB it gives back)."""


class _SummedCrossEntropy(torch.autograd.Function):
    """Computes the gradient together with the loss, chunk by chunk, since logits are dearer to keep than to use at once."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss = hidden.new_zeros((), dtype=torch.float32)
        gradient = torch.empty_like(hidden)
        for start in range(0, len(targets), _CHUNK):
            part, wanted = hidden[start : start + _CHUNK], targets[start : start + _CHUNK, None]
            logits = (part @ weight.T).float()
            logits -= logits.max(dim=1, keepdim=True).values
            picked = logits.gather(1, wanted)
            shares = logits.exp_()
            total = shares.sum(dim=1, keepdim=True)
            loss += (total.log() - picked).sum()
            shares /= total
            shares.scatter_add_(1, wanted, torch.full_like(picked, -1.0))
            gradient[start : start + _CHUNK] = shares.to(hidden.dtype) @ weight
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0].to(gradient.dtype), None, None


def summed_cross_entropy(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum over positions of -log softmax(hidden W^T)[target], in nats; gradients reach `hidden` only.

    hidden (positions, width), weight (vocabulary, width), targets (positions,).
    """
    loss: torch.Tensor = _SummedCrossEntropy.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return loss
