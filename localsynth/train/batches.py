"""Poisson batches of privacy units, and how a batch is cut into micro-batches that fit in memory.

Knows nothing about models, gradients or budgets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from localsynth.codec import Encoded
from localsynth.privacy.noise import SecureRandom

__all__ = ["IGNORE", "MicroBatch", "micro_batches", "poisson_batch"]

IGNORE = -100
"""Target of a position without loss (PyTorch's convention)."""


def poisson_batch(random: SecureRandom, units: int, rate: float) -> NDArray[np.intp]:
    """The indices of the units in one batch: each of `units` takes part by an independent coin of chance `rate`.

    The batch may be empty or large: its size is not fixed, since a fixed size would make units displace one another and the
    accountant's amplification by Poisson sampling would not hold.
    """
    return np.flatnonzero(random.bernoulli(rate, units))


@dataclass(frozen=True)
class MicroBatch:
    """Examples computed together, padded on the right.

    tokens   (examples, length) int64
    targets  (examples, length) int64: the next token where it is learned, -100 elsewhere
    unit     (examples,) int64: which of the micro-batch's units (0 .. units-1) an example belongs to
    """

    tokens: torch.Tensor
    targets: torch.Tensor
    unit: torch.Tensor
    units: int


def _collate(group: Sequence[Sequence[Encoded]]) -> MicroBatch:
    examples = [(example, unit) for unit, rows in enumerate(group) for example in rows]
    length = max(len(example.tokens) for example, _ in examples)
    tokens = np.zeros((len(examples), length), dtype=np.int64)
    targets = np.full((len(examples), length), IGNORE, dtype=np.int64)
    for i, (example, _) in enumerate(examples):
        size = len(example.tokens)
        tokens[i, :size] = example.tokens
        following = np.asarray(example.tokens[1:])
        targets[i, : size - 1] = np.where(example.learned[1:], following, IGNORE)
    unit = torch.tensor([unit for _, unit in examples])
    return MicroBatch(torch.from_numpy(tokens), torch.from_numpy(targets), unit, len(group))


def micro_batches(units: Sequence[Sequence[Encoded]], token_budget: int) -> list[MicroBatch]:
    """Cut a batch, given as the examples of each of its units, into micro-batches of about `token_budget` padded tokens.

    Units are sorted by their longest example, so that little is padding. A unit is never split: its examples' gradients
    are summed before clipping, so they are needed together. A unit larger than the budget gets a micro-batch of its own.
    """
    result: list[MicroBatch] = []
    group: list[Sequence[Encoded]] = []
    rows = longest = 0
    for unit in sorted((u for u in units if u), key=lambda u: max(len(e.tokens) for e in u)):
        length = max(longest, *(len(example.tokens) for example in unit))
        if group and (rows + len(unit)) * length > token_budget:
            result.append(_collate(group))
            group, rows, length = [], 0, max(len(example.tokens) for example in unit)
        group.append(unit)
        rows += len(unit)
        longest = length
    if group:
        result.append(_collate(group))
    return result
