"""Poisson batches of privacy units, and how a batch is cut into micro-batches that fit in memory.

Knows nothing about models, gradients or budgets.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from localsynth.codec import Encoded
from localsynth.privacy.noise import RandomSource

__all__ = ["IGNORE", "MicroBatch", "micro_batches", "padded_width", "poisson_batch"]

IGNORE = -100
"""Target of a position without loss (PyTorch's convention)."""


def poisson_batch(random: RandomSource, units: int, rate: float) -> NDArray[np.intp]:
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


def padded_width(unit: Sequence[Encoded]) -> int:
    """What a unit's rows are padded to: at least 16, and at most seven tokens or an eighth above its longest row."""
    longest = max(len(example.tokens) for example in unit)
    step = max(8, 1 << max(0, longest.bit_length() - 4))
    return max(16, -(-longest // step) * step)


def _collate(group: Sequence[Sequence[Encoded]], width: int) -> MicroBatch:
    examples = [(example, unit) for unit, rows in enumerate(group) for example in rows]
    tokens = np.zeros((len(examples), width), dtype=np.int64)
    targets = np.full((len(examples), width), IGNORE, dtype=np.int64)
    for i, (example, _) in enumerate(examples):
        size = len(example.tokens)
        tokens[i, :size] = example.tokens
        following = np.asarray(example.tokens[1:])
        targets[i, : size - 1] = np.where(example.learned[1:], following, IGNORE)
    unit = torch.tensor([unit for _, unit in examples])
    return MicroBatch(torch.from_numpy(tokens), torch.from_numpy(targets), unit, len(group))


def micro_batches(units: Sequence[Sequence[Encoded]], token_budget: int) -> list[MicroBatch]:
    """Cut a batch, given as the examples of each of its units, into micro-batches of about `token_budget` padded tokens.

    A unit is padded to a width that depends on that unit alone, and computed only with others of the same width. So little is
    padding, and a unit's presence does not change how the others are computed: padded to another width, a gradient in bf16
    differed by up to 0.8 % (docs/experiments.md), which would have moved the sum by more than the clipping allows.

    A unit is never split: its examples' gradients are summed before clipping, so they are needed together. A unit larger
    than the budget gets a micro-batch of its own.
    """
    result: list[MicroBatch] = []
    present = sorted(((padded_width(unit), unit) for unit in units if unit), key=lambda pair: pair[0])
    for width, same in itertools.groupby(present, key=lambda pair: pair[0]):
        group: list[Sequence[Encoded]] = []
        rows = 0
        for _, unit in same:
            if group and (rows + len(unit)) * width > token_budget:
                result.append(_collate(group, width))
                group, rows = [], 0
            group.append(unit)
            rows += len(unit)
        result.append(_collate(group, width))
    return result
