"""One linear layer with its LoRA adapter, computed in one piece, and how Opacus gets its per-example gradients.

PEFT's own layer converts activations to the adapter's float32 and back and lets autograd compute gradients that DP-SGD does not
use (those of the whole batch). Here the adapter's products run in the base's number format, and only the gradient of the
input is computed; the adapter's gradients come per example from the hooks. NF4 layers keep PEFT's.
"""

from typing import Any

import torch
from opacus.grad_sample import register_grad_sampler
from peft import PeftModel
from peft.tuners.lora import Linear as PeftLinear
from torch import nn
from torch.nn import functional as F

__all__ = ["LoraLinear", "fuse_adapters"]


class _LoraProduct(torch.autograd.Function):
    """x W^T + bias + scale (x A^T) B^T. Gives a gradient to x alone."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor, scale: float
    ) -> torch.Tensor:
        a, b = a.to(x.dtype), b.to(x.dtype)
        flat = x.reshape(-1, x.shape[-1])
        y = F.linear(flat, weight, bias)
        y.addmm_(flat @ a.T, b.T, alpha=scale)
        ctx.save_for_backward(weight, a, b)
        ctx.scale = scale
        return y.reshape(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, None, None
        weight, a, b = ctx.saved_tensors
        flat = gradients[0].reshape(-1, gradients[0].shape[-1])
        dx = flat @ weight
        dx.addmm_(flat @ b, a, alpha=ctx.scale)
        return dx.reshape(*gradients[0].shape[:-1], -1), None, None, None, None, None


class LoraLinear(nn.Module):
    """A frozen linear layer with an adapter: A (rank, in), frozen, too, and B (out, rank), trained; both float32."""

    def __init__(self, base: nn.Linear, a: nn.Parameter, b: nn.Parameter, scale: float) -> None:
        super().__init__()
        self.base = base
        self.a = a
        self.b = b
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) → (..., out)."""
        y: torch.Tensor = _LoraProduct.apply(x, self.base.weight, self.base.bias, self.a, self.b, self.scale)  # type: ignore[no-untyped-call]
        return y


@register_grad_sampler(LoraLinear)  # type: ignore[untyped-decorator]
def _per_example(layer: LoraLinear, activations: list[torch.Tensor], backprops: torch.Tensor) -> dict[nn.Parameter, torch.Tensor]:
    """The gradients of B (examples, out, rank) from x and dy, each (examples, length, width). A is not trained."""
    x, dy = activations[0], backprops
    return {layer.b: dy.transpose(1, 2) @ ((x @ layer.a.to(x.dtype).T) * layer.scale)}


def fuse_adapters(adapted: PeftModel) -> None:
    """Put a `LoraLinear` in place of each of PEFT's adapted plain linear layers; weights and adapters stay the same objects."""
    root = adapted.base_model.model
    for name, module in list(root.named_modules()):
        if isinstance(module, PeftLinear) and type(module.base_layer) is nn.Linear:
            fused = LoraLinear(
                module.base_layer, module.lora_A["default"].weight, module.lora_B["default"].weight, module.scaling["default"]
            )
            parent, _, own = name.rpartition(".")
            setattr(root.get_submodule(parent), own, fused)
