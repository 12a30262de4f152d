"""Attention over examples packed one after another: each sees itself alone, and what comes before in it.

transformers calls it by its registered name. Examples of one width are computed together; query heads that share a key are
rows of one product. Knows nothing about privacy.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface

from localsynth.train.batches import Group, MicroBatch

PACKED_ATTENTION = "localsynth_packed"
"""Its name among transformers' attention functions. The model's forward call must be given `packing`, a MicroBatch, and may be
given `in_float32`, to compute attention in float32 whatever the model is in."""


def _mask(width: int, sharing: int, window: int | None, like: torch.Tensor) -> torch.Tensor:
    """(sharing * width, width) to add to scores: -inf where a key is ahead of the query, or `window` or more behind it."""
    behind = torch.arange(width)[:, None] - torch.arange(width)
    hidden = (behind < 0) | (behind >= (window or width))
    mask = torch.zeros(width, width).masked_fill_(hidden, float("-inf"))
    return mask.repeat(sharing, 1).to(like)


def _masks(packing: MicroBatch, sharing: int, window: int | None, like: torch.Tensor) -> list[torch.Tensor]:
    """The mask of each group, made in the first layer that asks for it."""
    for width in {group.width for group in packing.groups}:
        if (width, window) not in packing.masks:
            packing.masks[width, window] = _mask(width, sharing, window, like)
    return [packing.masks[group.width, window] for group in packing.groups]


def _queries(x: torch.Tensor, group: Group, sharing: int) -> torch.Tensor:
    """A group's part of (length, heads, size) as (rows * key heads, sharing * width, size)."""
    _, heads, size = x.shape
    parts = x[group.start : group.end].view(group.rows, group.width, heads // sharing, sharing, size)
    return parts.permute(0, 2, 3, 1, 4).reshape(-1, sharing * group.width, size)


def _put_queries(into: torch.Tensor, group: Group, sharing: int, values: torch.Tensor) -> None:
    """The inverse of `_queries`."""
    _, heads, size = into.shape
    parts = values.view(group.rows, heads // sharing, sharing, group.width, size).permute(0, 3, 1, 2, 4)
    into[group.start : group.end].view(group.rows, group.width, heads // sharing, sharing, size).copy_(parts)


class _PackedAttention(torch.autograd.Function):
    """softmax(scale q k^T + mask) v for each example; q (length, heads, size), k and v (length, key heads, size)."""

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        scale: float,
        groups: tuple[Group, ...],
        masks: list[torch.Tensor],
    ) -> torch.Tensor:
        sharing = q.shape[1] // k.shape[1]
        out = torch.zeros_like(q, memory_format=torch.contiguous_format)
        saved = []
        for group, mask in zip(groups, masks, strict=True):
            queries, keys, values = _queries(q, group, sharing), _queries(k, group, 1), _queries(v, group, 1)
            scores = torch.baddbmm(mask, queries, keys.transpose(1, 2), alpha=scale)
            shares = torch.softmax(scores, -1)
            _put_queries(out, group, sharing, shares @ values)
            saved += [queries, keys, values, shares]
        ctx.save_for_backward(*saved)
        ctx.scale, ctx.groups, ctx.shapes = scale, groups, (q.shape, k.shape)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (d_out,) = gradients
        q_shape, k_shape = ctx.shapes
        sharing = q_shape[1] // k_shape[1]
        d_out = d_out.contiguous()
        dq, dk, dv = d_out.new_zeros(q_shape), d_out.new_zeros(k_shape), d_out.new_zeros(k_shape)
        for number, group in enumerate(ctx.groups):
            queries, keys, values, shares = ctx.saved_tensors[4 * number : 4 * number + 4]
            wanted = _queries(d_out, group, sharing)
            _put_queries(dv, group, 1, shares.transpose(1, 2) @ wanted)
            d_shares = wanted @ values.transpose(1, 2)
            d_scores = torch.ops.aten._softmax_backward_data(d_shares, shares, -1, shares.dtype).mul_(ctx.scale)
            _put_queries(dq, group, sharing, d_scores @ keys)
            _put_queries(dk, group, 1, d_scores.transpose(1, 2) @ queries)
        return dq, dk, dv, None, None, None


def _packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    packing: MicroBatch,
    in_float32: bool = False,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers asks for it: query (1, heads, length, size), key and value with fewer heads → (1, length, heads, size)."""
    q, k, v = (x[0].transpose(0, 1).to(torch.float32 if in_float32 else x.dtype) for x in (query, key, value))
    masks = _masks(packing, q.shape[1] // k.shape[1], sliding_window, q)
    out: torch.Tensor = _PackedAttention.apply(q, k, v, scaling, packing.groups, masks)  # type: ignore[no-untyped-call]
    return out[None].to(query.dtype), None


def _attended(given: Sequence[torch.Tensor], rows: int, width: int, mask: torch.Tensor) -> torch.Tensor:
    """Attention over the first `rows` examples of `width` positions, and its gradients for q, k and v: (rows, numbers)."""
    q, k, v, wanted = (tensor[: rows * width].detach().requires_grad_() for tensor in given)
    groups = (Group(0, rows, width),)
    out: torch.Tensor = _PackedAttention.apply(q, k, v, q.shape[-1] ** -0.5, groups, [mask])  # type: ignore[no-untyped-call]
    gradients = torch.autograd.grad(out, (q, k, v), wanted.detach())
    return torch.cat([part.detach().reshape(rows, -1).float() for part in (out, *gradients)], 1)


def attention_change(heads: int, key_heads: int, size: int, widths: Sequence[int], tokens: int, like: torch.Tensor) -> float:
    """By how much attention over an example differs with how many of its width are computed together, gradients included: the
    most, in shares of its norm, over `widths` and all numbers of examples that `tokens` positions hold.

    On random numbers of the type and on the device of `like`. A library may choose another kernel for another number of
    products: an H100 did for one number of examples of 12 positions in bf16.
    """
    changes = []
    for width in widths:
        most, generator = tokens // width, torch.Generator().manual_seed(width)
        shapes = ((most * width, each, size) for each in (heads, key_heads, key_heads, heads))
        given = [torch.randn(shape, generator=generator).to(like) for shape in shapes]
        mask = _mask(width, heads // key_heads, None, like)
        whole = _attended(given, most, width, mask)
        for rows in range(1, most):
            difference = _attended(given, rows, width, mask) - whole[:rows]
            changes.append((difference.norm(dim=1) / whole[:rows].norm(dim=1)).max())
    return float(torch.stack(changes).max()) if changes else 0.0


AttentionInterface.register(PACKED_ATTENTION, _packed_attention)
