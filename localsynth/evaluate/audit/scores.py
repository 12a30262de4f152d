"""A score of each canary from the gradients that training released: the white-box attack.

Steinke et al. score a canary by the inner product of its gradient with the released ones (arXiv:2305.08846). Gradients of
rows of one table are far from orthogonal, so that alone says little. A ridge regression of what was released on all canaries'
gradients separates them: without noise it finds in how many batches each was.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from localsynth.llm.row_text import Encoded
from localsynth.train.private_gradients import PrivateGradients

_SKETCH = 1 << 17
"""Numbers that a gradient is folded into for the products of canaries with each other: whole ones would fill the memory."""
_AT_ONCE = 1 << 13
_SHARED = 128
"""Canaries whose mean gradient stands for what all have in common."""
_RIDGE = 0.3
"""In squares of the gradients' norm. Less finds missing noise a little better, more finds too little noise; measured."""

Floats = NDArray[np.float64]


def canary_gradients(
    private: PrivateGradients,
    canaries: Sequence[Sequence[Encoded]],
    token_budget: int,
    directions: Sequence[torch.Tensor],
    progress: Callable[[int], None],
) -> tuple[Floats, Floats]:
    """(gram, products) of the clipped gradients g of the canaries, at the weights as they are.

    gram (canaries, canaries) holds g_i · g_j, to about 0.3 % of the norms' product; products (directions, canaries) holds
    d · g_i for each of `directions`, which are flat over all weights. `progress` gets the number of canaries done.
    """
    device = private.weights[0].device
    size = sum(weight.numel() for weight in private.weights)
    folded = min(size, _SKETCH)
    signs = torch.randint(0, 2, (size,), generator=torch.Generator().manual_seed(0)).to(device, torch.float32) * 2 - 1

    def flat_gradients(of: Sequence[Sequence[Encoded]]) -> Iterator[torch.Tensor]:
        for micro in private.micro_batches(of, token_budget):
            gradients, factors, _, _ = private.clipped(micro)
            yield gradients * factors[:, None].float()

    # What all gradients share is taken out before folding and put back exactly: its error would be the same for all, and add up.
    some = canaries[:_SHARED]
    shared = sum((flat.sum(0) for flat in flat_gradients(some)), torch.zeros(size, device=device)) / len(some)
    sketch = torch.zeros(len(canaries), folded, dtype=torch.float16)
    along = torch.zeros(len(canaries))
    products = np.zeros((len(directions), len(canaries)))
    # As `micro_batches` orders them: by width, and otherwise as they come.
    order = sorted(range(len(canaries)), key=lambda i: private.model.padded_width(canaries[i]))
    done = 0
    for flat in flat_gradients(canaries):
        these = order[done : done + len(flat)]
        for number, direction in enumerate(directions):
            products[number, these] = (flat @ direction.to(device)).cpu().numpy()
        along[these] = (flat @ shared).cpu()
        flat -= shared
        if folded < size:
            flat = torch.nn.functional.pad(flat * signs, (0, -size % folded)).view(len(flat), -1, folded).sum(1)
        sketch[these] = flat.half().cpu()
        done += len(flat)
        progress(done)
    gram = along[:, None] + along[None, :] - float(shared @ shared)
    for start in range(0, folded, _AT_ONCE):
        part = sketch[:, start : start + _AT_ONCE].float()
        gram += part @ part.T
    return gram.double().numpy(), products


def decode(gram: Floats, products: Floats, expected: float) -> Floats:
    """The estimated number of batches with each canary: n with gram · n ≈ products, shrunk to `expected`, the mean over all.

    gram (canaries, canaries), products (canaries,) of the sum of everything released.
    """
    ridge = _RIDGE * float(np.diagonal(gram).mean()) * np.eye(len(gram))
    result: Floats = expected + np.linalg.solve(gram + ridge, products - expected * gram.sum(1))
    return result
