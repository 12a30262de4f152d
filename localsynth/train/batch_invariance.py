"""Tests whether a micro-batch fits into this machine's memory and is batch-invariant.

One unit may move the clipped sum by at most C, so its presence must not change how the others are rounded. `batches` packs
micro-batches accordingly; this module tests the result on public random tokens, before the first step is charged.
"""

import random

import torch

from localsynth.llm.row_text import Encoded
from localsynth.train.attention import attention_change
from localsynth.train.batches import WIDTH_STEPS
from localsynth.train.private_gradients import HEADROOM, PrivateGradients

_WEIGHT_STD = 0.02
"""Standard deviation of the random weights of the test: about that of trained ones."""


def _unit(rng: random.Random, rows: int, longest: int, vocabulary: int) -> list[Encoded]:
    lengths = [rng.randint(4, longest) for _ in range(rows)]
    return [Encoded([rng.randrange(vocabulary) for _ in range(n)], [False] + [True] * (n - 1)) for n in lengths]


def tolerance(batch_size: int) -> float:
    """The largest accepted relative change of a unit's clipped gradient by the other rows, for batches of this expected size.

    A unit's presence may change all others, at worst in one direction: those of a batch of twice the expected size then use half
    of the headroom of clipping. Float32 has eight digits, so large batches need gradients that do not change at all.
    """
    return min(1e-6, HEADROOM / 2 / (2 * batch_size))


def _gradients(private: PrivateGradients, units: list[list[Encoded]], token_budget: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients (units, size) of units that fit one micro-batch, and the factors (units,) that clip them."""
    (micro,) = private.micro_batches(units, token_budget)
    gradients, factors, _, _ = private.clipped(micro)
    return gradients.clone(), factors


def try_memory(private: PrivateGradients, token_budget: int) -> None:
    """Compute a micro-batch with the maximum number of units. Raises what torch raises when memory runs out."""
    shortest = [Encoded([0] * 8, [True] * 8)]
    width = private.model.padded_width(shortest)
    (micro,) = private.micro_batches([shortest] * max(1, token_budget // width), token_budget)
    private.clipped(micro)


def max_gradient_change(private: PrivateGradients, token_budget: int) -> float:
    """The largest relative change of a unit's clipped gradient when another unit precedes it in a full micro-batch.

    0 where the computation is batch-invariant. Computes two micro-batches with random weights: those of fresh adapters are 0,
    so products with them would show nothing.
    """
    kept = [weight.detach().clone() for weight in private.weights]
    generator = torch.Generator().manual_seed(0)
    for weight in private.weights:
        weight.data.copy_(_WEIGHT_STD * torch.randn(weight.shape, generator=generator))
    try:
        return _change(private, token_budget)
    finally:
        for weight, values in zip(private.weights, kept, strict=True):
            weight.data.copy_(values)


_MAX_WIDTH = 512
"""Rows up to this long are tested in every number."""


def max_attention_change(private: PrivateGradients, token_budget: int) -> float:
    """`attention_change` of the model for each width up to 512 that rows have on a GPU. Takes some seconds there.

    Products of a fixed length treat each row alike, whatever its position. Those of attention, and those of each unit's gradient
    (in float32), have as many rows as the micro-batch.
    """
    model, step = private.model.language_model, WIDTH_STEPS["cuda"]
    config, like = model.config, model.lm_head.weight
    if private.model.attention_in_float32:
        like = torch.zeros((), device=like.device)
    widths = range(step, min(token_budget, _MAX_WIDTH) + 1, step)
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    return attention_change(heads, key_heads, config.head_dim, widths, token_budget, like)


def _change(private: PrivateGradients, token_budget: int) -> float:
    rng, vocabulary = random.Random(0), private.model.language_model.config.vocab_size
    longest = max(4, min(40, token_budget // 8))
    units: list[list[Encoded]] = []
    while not private.micro_batches(units, token_budget)[1:]:
        rows = 3 if len(units) % 5 == 4 else 1  # of which a library may add up two and then the third in any order
        units.append(_unit(rng, rows, longest, vocabulary))
    # In packing order; without the last, they fit into one micro-batch.
    units = sorted(units[:-1], key=private.model.padded_width)
    if len(units) < 2:  # no two share a micro-batch
        return 0.0
    whole, factors = _gradients(private, units, token_budget)
    without, other_factors = _gradients(private, units[1:], token_budget)
    clipped = zip(whole[1:], factors[1:], without, other_factors, strict=True)
    # A unit at a time: in float64, all of them would take twice the memory of a micro-batch again.
    changes = [(g.double() * f - h.double() * e).norm() / (g.double() * f).norm() for g, f, h, e in clipped]
    return float(torch.stack(changes).max())
