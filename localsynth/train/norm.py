"""RMS normalisation in as few passes over memory as it takes.

transformers' own converts to float32 and back in steps of their own, which on a CPU cost more than a small model's products.
"""

from typing import Any

import torch
from torch import nn


class _Normalised(torch.autograd.Function):
    """weight * x / sqrt(mean(x^2) + eps) over the last dimension (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = (length.square_().div_(x.shape[-1]).add_(eps)).rsqrt_().to(x.dtype)
        normal = x * inverse
        ctx.save_for_backward(normal, inverse, weight)
        y: torch.Tensor = normal * weight
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        normal, inverse, weight = ctx.saved_tensors
        g = gradients[0] * weight
        along = torch.linalg.vecdot(g, normal)[..., None].div_(g.shape[-1])
        return torch.addcmul(g, normal, along, value=-1).mul_(inverse), None, None


class FastNorm(nn.Module):
    """An RMS norm with a frozen weight."""

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., width) → the same shape."""
        y: torch.Tensor = _Normalised.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
        return y


def fuse_norms(root: nn.Module) -> None:
    """Put a `FastNorm` in place of each of transformers' RMS norms below `root`."""
    for name, module in list(root.named_modules()):
        kind = type(module).__name__
        if kind.endswith("RMSNorm"):
            # Gemma's weights are differences to 1.
            weight = module.weight.detach() + 1 if kind.startswith("Gemma") else module.weight.detach()
            eps = module.eps if kind.startswith("Gemma") else module.variance_epsilon
            parent, _, own = name.rpartition(".")
            setattr(root.get_submodule(parent), own, FastNorm(weight, eps))
