"""Whether this machine computes a unit's gradient the same whoever else is in the micro-batch.

A unit may move the clipped sum by C and no further: the others must not be rounded anew because of its presence. Micro-batches
are packed for that (`batches`); here it is tried out, on public random tokens, before anything is charged to a batch.
"""

import random

import torch

from localsynth.codec import Encoded
from localsynth.train.private_gradients import PrivateGradients

__all__ = ["neighbours_change"]

_SHAKEN = 0.02
"""Standard deviation of the weights for the trial: about what training makes of them."""


def _unit(draw: random.Random, length: int, vocabulary: int) -> list[Encoded]:
    tokens = [draw.randrange(vocabulary) for _ in range(length)]
    return [Encoded(tokens, [False] + [True] * (length - 1))]


def _gradient_of_last(private: PrivateGradients, units: list[list[Encoded]], token_budget: int) -> torch.Tensor:
    (*_, micro) = private.micro_batches(units, token_budget)
    gradients, factors, _, _ = private.clipped(micro)
    return torch.cat([gradient[-1] * factors[-1] for gradient in gradients]).double()


def neighbours_change(private: PrivateGradients, token_budget: int) -> float:
    """By how much a unit's clipped gradient differs when others fill the micro-batch before it, in shares of its norm.

    0 where every position is computed alike. Takes two micro-batches, for which the weights are random numbers: those of fresh
    adapters are 0, and products with them would show nothing.
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


def _change(private: PrivateGradients, token_budget: int) -> float:
    draw, vocabulary = random.Random(0), private.model.language_model.config.vocab_size
    length = min(40, token_budget // 4)
    one = _unit(draw, length, vocabulary)
    others: list[list[Encoded]] = []
    while private.micro_batches([*others, one], token_budget)[1:] == []:
        others.append(_unit(draw, draw.randint(4, length), vocabulary))
    alone = _gradient_of_last(private, [one], token_budget)
    among = _gradient_of_last(private, [*others[:-1], one], token_budget)
    return float((among - alone).norm() / alone.norm())
