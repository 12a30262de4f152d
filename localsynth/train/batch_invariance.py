"""Whether a micro-batch fits into this machine's memory, and whether a unit's gradient is the same whoever else is in it.

A unit may move the clipped sum by C and no further: the others must not be rounded anew because of its presence. Micro-batches
are packed for that (`batches`); here it is tried out, on public random tokens, before anything is charged to a batch.
"""

import random

import torch

from localsynth.llm.row_text import Encoded
from localsynth.train.attention import attention_change
from localsynth.train.batches import WIDTH_STEPS
from localsynth.train.private_gradients import PrivateGradients

__all__ = ["neighbours_change", "numbers_change", "try_memory"]

_SHAKEN = 0.02
"""Standard deviation of the weights for the trial: about what training makes of them."""


def _unit(draw: random.Random, rows: int, longest: int, vocabulary: int) -> list[Encoded]:
    lengths = [draw.randint(4, longest) for _ in range(rows)]
    return [Encoded([draw.randrange(vocabulary) for _ in range(n)], [False] + [True] * (n - 1)) for n in lengths]


def _gradients(private: PrivateGradients, units: list[list[Encoded]], token_budget: int) -> torch.Tensor:
    """The clipped gradients (units, size) of units that fit one micro-batch."""
    (micro,) = private.micro_batches(units, token_budget)
    gradients, factors, _, _ = private.clipped(micro)
    return gradients * factors[:, None]


def try_memory(private: PrivateGradients, token_budget: int) -> None:
    """Compute a micro-batch of as many units as one can hold. Raises what torch raises where memory runs out."""
    shortest = [Encoded([0] * 8, [True] * 8)]
    width = private.model.padded_width(shortest)
    (micro,) = private.micro_batches([shortest] * max(1, token_budget // width), token_budget)
    private.clipped(micro)


def neighbours_change(private: PrivateGradients, token_budget: int) -> float:
    """By how much units' clipped gradients differ when one more comes before them in a full micro-batch: the most, in shares of
    a gradient's norm. 0 where every position is computed alike.

    Takes two micro-batches, for which the weights are random numbers: those of fresh adapters are 0, and products with them
    would show nothing.
    """
    kept = [weight.detach().clone() for weight in private.weights]
    generator = torch.Generator().manual_seed(0)
    for weight in private.weights:
        weight.data.copy_(_SHAKEN * torch.randn(weight.shape, generator=generator))
    try:
        return _change(private, token_budget)
    finally:
        for weight, values in zip(private.weights, kept, strict=True):
            weight.data.copy_(values)


_WIDEST = 512
"""Rows up to this long are tried in each number."""


def numbers_change(private: PrivateGradients, token_budget: int) -> float:
    """`attention_change` of the model in each width up to 512 that its rows have on a GPU. Takes some seconds there.

    Products of a fixed length are the same for each row wherever it stands; those of attention have as many rows as there are,
    and so have those of each unit's gradient, which are in float32.
    """
    model, step = private.model.language_model, WIDTH_STEPS["cuda"]
    config, like = model.config, model.lm_head.weight
    if private.model.attention_in_float32:
        like = torch.zeros((), device=like.device)
    widths = range(step, min(token_budget, _WIDEST) + 1, step)
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    return attention_change(heads, key_heads, config.head_dim, widths, token_budget, like)


def _change(private: PrivateGradients, token_budget: int) -> float:
    draw, vocabulary = random.Random(0), private.model.language_model.config.vocab_size
    longest = max(4, min(40, token_budget // 8))
    units: list[list[Encoded]] = []
    while not private.micro_batches(units, token_budget)[1:]:
        rows = 2 if len(units) % 5 == 4 else 1
        units.append(_unit(draw, rows, longest, vocabulary))
    # In the order in which they are packed; without the last, they fit one micro-batch.
    units = sorted(units[:-1], key=private.model.padded_width)
    if len(units) < 2:  # no two ever share one
        return 0.0
    whole, without = _gradients(private, units, token_budget), _gradients(private, units[1:], token_budget)
    return float(((without - whole[1:]).norm(dim=1) / whole[1:].norm(dim=1)).max())
