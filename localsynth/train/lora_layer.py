"""One linear layer with its LoRA adapter, computed in one piece, and the gradient of each unit, which its backward pass leaves.

PEFT's own layer converts activations to the adapter's float32 and back and lets autograd compute gradients that DP-SGD does not
use (those of the whole batch). Here the adapter's products run in the base's number format, and the backward pass computes the
gradient of the input, for the layers before, and those of factor B for each unit.
"""

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.nn import functional as F

from localsynth.train.batches import MicroBatch


class UnitGradients:
    """Room for the gradients of each unit of a micro-batch, over all weights, filled as the backward pass reaches them.

    Concatenated in the order of `weights`, float32: on a GPU, a kernel launch for each weight takes longer than computing.
    """

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        self._ends: list[int] = []
        for weight in weights:
            self._ends.append((self._ends[-1] if self._ends else 0) + weight.numel())
        self._room = torch.zeros(0, self._ends[-1], device=weights[0].device)
        self._written: set[int] = set()
        self.micro: MicroBatch | None = None

    def begin(self, micro: MicroBatch) -> None:
        """Expect the gradients of this micro-batch's units."""
        self._written.clear()
        self.micro = micro

    def put(self, number: int, rows: torch.Tensor) -> None:
        """The gradients of weight `number` for the micro-batch's examples, (examples, ...) float32 in their order."""
        micro, into = self._place(number)
        self._put(into, micro, rows.reshape(len(rows), -1))

    def put_products(self, number: int, x: torch.Tensor, d: torch.Tensor) -> None:
        """The same as x^T d over each example's positions; x (length, inner), d (length, out), both float32."""
        micro, into = self._place(number)
        # Of one layout whoever is in the micro-batch: a library may choose its kernel by that.
        rows = into.new_empty(len(micro.unit), into.shape[1])
        place = 0
        for group in micro.groups:
            left, right = (each[group.start : group.end].view(group.rows, group.width, -1) for each in (x, d))
            out = rows[place : place + group.rows].view(group.rows, x.shape[1], d.shape[1])
            torch.bmm(left.transpose(1, 2), right, out=out)
            place += group.rows
        self._put(into, micro, rows)

    @staticmethod
    def _put(into: torch.Tensor, micro: MicroBatch, rows: torch.Tensor) -> None:
        if micro.units == len(micro.unit):  # a row each
            into.copy_(rows)
        elif rows.is_cuda:  # where index_add_ adds in any order
            into.zero_().index_put_((micro.unit,), rows, accumulate=True)
        else:
            into.zero_().index_add_(0, micro.unit, rows)

    def _place(self, number: int) -> tuple[MicroBatch, torch.Tensor]:
        """The micro-batch, and where its units' gradients of weight `number` go: (units, numbers of the weight)."""
        assert self.micro is not None
        if number in self._written:
            raise AssertionError("an adapter weight was used twice in one pass: its gradients would be wrong")
        self._written.add(number)
        if len(self._room) < self.micro.units:
            # Kept from one micro-batch to the next: the system clears pages of such a size at every allocation.
            self._room = self._room.new_zeros(self.micro.units, self._ends[-1])
        start = self._ends[number - 1] if number else 0
        return self.micro, self._room[: self.micro.units, start : self._ends[number]]

    def take(self) -> torch.Tensor:
        """The concatenated gradients of all weights, (units, size): a view that the next micro-batch overwrites."""
        assert self.micro is not None
        if len(self._written) != len(self._ends):
            raise AssertionError("an adapter weight was not used in a pass: its gradients would be wrong")
        self._written.clear()
        return self._room[: self.micro.units]

    def forget(self) -> None:
        """Drop the gradients and free their memory."""
        self._room = self._room[:0].clone()
        self._written.clear()
        self.micro = None


def _dense(base: nn.Linear) -> torch.Tensor:
    """The layer's weight (out, in) as numbers to multiply with."""
    state = getattr(base.weight, "quant_state", None)
    if state is None:
        return base.weight
    from bitsandbytes.functional import dequantize_4bit

    weight: torch.Tensor = dequantize_4bit(base.weight.data, state)
    return weight


class _LoraProduct(torch.autograd.Function):
    """x W^T + bias + scale (x A^T) B^T; the gradient of B goes to the layer's `UnitGradients`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, b: torch.Tensor, layer: "LoraLinear") -> torch.Tensor:
        b, a = b.to(x.dtype), layer.a.to(x.dtype)
        flat = x.reshape(-1, x.shape[-1])
        y = F.linear(flat, _dense(layer.base), layer.base.bias)
        inner = flat @ a.T
        y.addmm_(inner, b, alpha=layer.scale)
        ctx.save_for_backward(inner, a, b)
        ctx.layer = layer
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        inner, a, b = ctx.saved_tensors
        layer: LoraLinear = ctx.layer
        dy = gradients[0].reshape(-1, gradients[0].shape[-1])
        layer.leave_gradients(inner, dy)
        if not ctx.needs_input_grad[0]:
            return None, None, None
        dx = dy @ _dense(layer.base)
        dx.addmm_(dy @ b.T, a, alpha=layer.scale)
        return dx.view(*gradients[0].shape[:-1], -1), None, None


class LoraLinear(nn.Module):
    """A frozen linear layer with an adapter: A (rank, in), frozen, too, and B, trained; both float32.

    `b` holds B transposed, (rank, out): so it lies as the products read it.
    """

    def __init__(self, base: nn.Linear, a: nn.Parameter, b: nn.Parameter, scale: float) -> None:
        super().__init__()
        self.base = base
        self.a = a
        self.b = b
        self.scale = scale
        self._into: tuple[UnitGradients, int] | None = None

    def leave_gradients_in(self, gradients: UnitGradients, number: int) -> None:
        """Where the backward pass leaves each unit's gradient of `b`, as weight `number`."""
        self._into = gradients, number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) → (..., out)."""
        y: torch.Tensor = _LoraProduct.apply(x, self.b, self)  # type: ignore[no-untyped-call]
        return y

    def leave_gradients(self, inner: torch.Tensor, dy: torch.Tensor) -> None:
        """Each example's gradient of `b`, scale (x A^T)^T dy over its positions: x A^T (length, rank), dy (length, out)."""
        if self._into is None:
            raise AssertionError("nobody takes this layer's gradients")
        gradients, number = self._into
        # In float32: in bf16 now and then a last digit would depend on the number of rows.
        gradients.put_products(number, inner.float() * self.scale, dy.float())


def fuse_adapters(adapted: PeftModel) -> None:
    """Put a `LoraLinear` in place of each of PEFT's adapted linear layers, with the same weights and adapters."""
    root = adapted.base_model.model
    for name, module in list(root.named_modules()):
        if isinstance(module, LoraLayer):
            b = nn.Parameter(module.lora_B["default"].weight.detach().T.contiguous())
            fused = LoraLinear(module.base_layer, module.lora_A["default"].weight, b, module.scaling["default"])
            parent, _, own = name.rpartition(".")
            setattr(root.get_submodule(parent), own, fused)
