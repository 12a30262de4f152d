"""Poisson batches of privacy units, and how a batch is packed into micro-batches that fit in memory.

Knows nothing about models, gradients or budgets.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from localsynth.llm.row_text import Encoded
from localsynth.privacy.noise import RandomSource

IGNORE = -100
"""Target of a position without loss (PyTorch's convention)."""


def poisson_batch(random: RandomSource, units: int, rate: float) -> NDArray[np.intp]:
    """The indices of the units in one batch: each of `units` takes part independently, with probability `rate`.

    The batch may be empty or large: its size is not fixed, since a fixed size would make units displace one another and the
    accountant's amplification by Poisson sampling would not hold.
    """
    return np.flatnonzero(random.bernoulli(rate, units))


@dataclass(frozen=True)
class Group:
    """Consecutive examples of one width: `rows` of `width` positions each, from position `start` of the micro-batch."""

    start: int
    rows: int
    width: int

    @property
    def end(self) -> int:
        """The position after its last."""
        return self.start + self.rows * self.width


@dataclass(frozen=True)
class MicroBatch:
    """Examples computed together, one after another in one sequence of positions (packed). An example sees itself alone.

    tokens     (length,) int64
    positions  (length,) int64: each token's place in its example
    targets    (length,) int64: the next token where it is learned, -100 elsewhere
    groups     where the examples lie; positions in no group fill up to the length
    unit       (examples,) int64: which of the micro-batch's units (0 .. units-1) an example belongs to
    masks      what attention adds to scores, made once for all layers; by width and window
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    groups: tuple[Group, ...]
    unit: torch.Tensor
    units: int
    masks: dict[tuple[int, int | None], torch.Tensor] = field(default_factory=dict, compare=False)

    def to(self, device: torch.device | str) -> "MicroBatch":
        """The same on another device."""
        tokens, positions, targets, unit = (t.to(device) for t in (self.tokens, self.positions, self.targets, self.unit))
        return MicroBatch(tokens, positions, targets, self.groups, unit, self.units)


WIDTH_STEPS = {"cpu": 4, "cuda": 16}
"""What widths are multiples of, by device. Each width needs a kernel launch of its own in every layer's attention, which takes a
GPU longer than computing a few empty positions."""


def padded_width(unit: Sequence[Encoded], step: int) -> int:
    """What a unit's rows are padded to: a multiple of `step`, or of a sixteenth of its longest row if that is more; 8 or more."""
    longest = max(len(example.tokens) for example in unit)
    step = max(step, 1 << max(0, longest.bit_length() - 5))
    return max(8, -(-longest // step) * step)


def _pack(units: Sequence[tuple[int, Sequence[Encoded]]], length: int) -> MicroBatch:
    """One micro-batch of (width, unit) in rising order of width."""
    tokens, positions = np.zeros(length, dtype=np.int64), np.zeros(length, dtype=np.int64)
    targets = np.full(length, IGNORE, dtype=np.int64)
    groups, place = [], 0
    for width, same in itertools.groupby(units, key=lambda pair: pair[0]):
        examples = [example for _, unit in same for example in unit]
        groups.append(Group(place, len(examples), width))
        for example in examples:
            size = len(example.tokens)
            positions[place : place + width] = np.arange(width)
            tokens[place : place + size] = example.tokens
            targets[place : place + size - 1] = np.where(example.learned[1:], example.tokens[1:], IGNORE)
            place += width
    unit = torch.tensor([number for number, (_, unit) in enumerate(units) for _ in unit])
    return MicroBatch(
        torch.from_numpy(tokens), torch.from_numpy(positions), torch.from_numpy(targets), tuple(groups), unit, len(units)
    )


def micro_batches(units: Sequence[Sequence[Encoded]], token_budget: int, step: int = WIDTH_STEPS["cpu"]) -> list[MicroBatch]:
    """Pack a batch, given as the examples of each of its units, into micro-batches of `token_budget` positions.

    Every micro-batch has the same length, filled up where units end early, and a unit is padded to a width that depends on that
    unit alone. So all are computed by the same kernels, and a unit's presence moves others to other places without changing
    how they are computed: with micro-batches of different sizes, a unit moved the sum in bf16 by more than the clipping allows
    (docs/lab/batch-invariance.md).

    A unit is never split: its examples' gradients are summed before clipping, so they are needed together. A unit larger
    than the budget gets a micro-batch of its own, of its own length. Widths are multiples of `step`.
    """
    present = sorted(((padded_width(unit, step), unit) for unit in units if unit), key=lambda pair: pair[0])
    result: list[MicroBatch] = []
    packed: list[tuple[int, Sequence[Encoded]]] = []
    place = 0
    for width, unit in present:
        size = len(unit) * width
        if packed and place + size > token_budget:
            result.append(_pack(packed, max(place, token_budget)))
            packed, place = [], 0
        packed.append((width, unit))
        place += size
    if packed:
        result.append(_pack(packed, max(place, token_budget)))
    return result
