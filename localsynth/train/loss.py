"""The cross-entropy over a large vocabulary, without ever holding all logits."""

from typing import Any

import torch

_CHUNK = 256
"""Positions multiplied at once: the vocabulary's weights are read once for each chunk."""

_SLICE = 16
"""Positions whose shares of the vocabulary are computed at once on a CPU: 16 x 49,152 float32 numbers (3 MB) stay in the cache. A
GPU, which would wait for many small orders, takes a chunk at once."""

_LEAST = torch.finfo(torch.float32).tiny
"""A target less likely than this counts as this likely: its loss is 87 nats."""


class _SummedCrossEntropy(torch.autograd.Function):
    """Computes the gradient together with the loss, chunk by chunk, since logits are dearer to keep than to use at once.

    The last chunk is filled up, so that all are computed by the same kernels: which positions share one does not change them.
    """

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        positions = len(targets)
        empty = -positions % _CHUNK
        padded = torch.cat([hidden, hidden.new_zeros(empty, hidden.shape[1])])
        wanted = torch.cat([targets, targets.new_zeros(empty)])[:, None]
        size = _SLICE if hidden.device.type == "cpu" else _CHUNK
        one = torch.full((size, 1), -1.0, device=hidden.device)
        losses = torch.empty(len(padded), 1, device=hidden.device)
        gradient = torch.empty_like(padded)
        logits = hidden.new_empty(_CHUNK, len(weight))
        shares = torch.empty(size, len(weight), device=hidden.device)
        for start in range(0, len(padded), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            torch.mm(padded[chunk], weight.T, out=logits)
            for first in range(0, _CHUNK, size):
                part = slice(start + first, start + first + size)
                piece = logits[first : first + size]
                torch.softmax(shares.copy_(piece), 1, out=shares)
                losses[part] = -shares.gather(1, wanted[part]).clamp_(min=_LEAST).log_()
                # d loss / d logits is softmax - 1 at the target.
                piece.copy_(shares.scatter_add_(1, wanted[part], one))
            gradient[chunk] = logits @ weight
        ctx.save_for_backward(gradient[:positions])
        return losses[:positions].sum()

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
