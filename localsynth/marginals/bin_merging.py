"""Removing the noise of single columns' counts, and merging bins into groups, so that tables of several columns stay small.

Only noisy counts are read, so both cost no privacy. A bin that holds no more than noise never appears in a synthetic row.
The bin of a row in a group is sampled later from the shares of the group's bins, which are noisy counts too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localsynth.marginals.domain import Attribute

CLEAR = 3.0
"""How many standard deviations of its noise a group's count must reach to stand alone."""
_PRESENT = 4.0
"""How many a bin's count must reach to be taken for more than noise: a table has hundreds of bins."""


@dataclass(frozen=True)
class MergedBins:
    """The group of each bin of an attribute, and its share of the group."""

    groups: tuple[int, ...]
    """Shape (bins,): 0 .. size-1, every one used."""
    shares: tuple[float, ...]
    """Shape (bins,): probability of the bin within its group; those of a group sum to 1."""

    @property
    def size(self) -> int:
        """The number of groups."""
        return max(self.groups) + 1

    @property
    def group_of(self) -> NDArray[Any]:
        """The group of each bin, shape (bins,), in integers that just fit: there is one for each original row."""
        return np.array(self.groups, dtype=np.min_scalar_type(self.size))

    def sums(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (groups,): the counts of the bins, shape (bins,), added up."""
        return np.bincount(self.groups, weights=counts, minlength=self.size).astype(np.float64)

    def widths(self) -> NDArray[np.int64]:
        """Shape (groups,): the number of bins of each."""
        return np.bincount(self.groups, minlength=self.size)

    def check(self, bins: int) -> None:
        """Raise ValueError where these are not groups of so many bins."""
        groups, shares = np.array(self.groups), np.array(self.shares)
        if groups.shape != (bins,) or shares.shape != (bins,) or groups.dtype != np.int64 or shares.dtype.kind not in "if":
            raise ValueError("groups of other bins")
        if (groups < 0).any() or (shares < 0).any():
            raise ValueError("a group or a share below 0")
        if len(set(self.groups)) != self.size or not np.allclose(np.bincount(groups, weights=shares), 1.0):
            raise ValueError("groups without shares")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"groups": list(self.groups), "shares": list(self.shares)}

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> "MergedBins":
        """The inverse of `to_json`."""
        return cls(tuple(tree["groups"]), tuple(tree["shares"]))


def onto_simplex(counts: NDArray[np.float64], total: float) -> NDArray[np.float64]:
    """The nonnegative vector nearest to `counts` that sums to `total` > 0 (Duchi et al. 2008).

    Removes the noise of empty bins evenly. Clipping negative counts at 0 would keep the positive noise.
    """
    falling = np.sort(counts)[::-1]
    over = (np.cumsum(falling) - total) / np.arange(1, len(counts) + 1)
    last = np.flatnonzero(falling > over)[-1]
    nearest: NDArray[np.float64] = np.maximum(counts - over[last], 0.0)
    return nearest


def _ordered_groups(counts: NDArray[np.float64], sigma: float, max_groups: int) -> list[int]:
    """Runs of neighbours: a heavy bin alone, others together until their sum is clear and a fair part of the rest."""
    total = max(0.0, float(counts.sum()))
    heavy = (counts > total / max_groups) & (counts > CLEAR * sigma)
    fair = max(0.0, float(counts[~heavy].sum())) / max(1, max_groups - int(heavy.sum()))
    runs: list[list[int]] = []
    open_run: list[int] = []

    def is_clear(run: Sequence[int], minimum: float) -> bool:
        return float(counts[list(run)].sum()) >= max(CLEAR * sigma * math.sqrt(len(run)), minimum)

    def close() -> None:
        if not open_run:
            return
        if is_clear(open_run, 0.0) or not runs or heavy[runs[-1][0]]:
            runs.append(list(open_run))
        else:
            runs[-1].extend(open_run)
        open_run.clear()

    for index in range(len(counts)):
        if heavy[index]:
            close()
            runs.append([index])
        else:
            open_run.append(index)
            if is_clear(open_run, fair):
                close()
    close()
    # Runs between two heavy bins that are too small for a group of their own join the smaller neighbour.
    faint = [run for run in runs if not heavy[run[0]] and not is_clear(run, 0.0)]
    for run in faint:
        index = runs.index(run)
        neighbours = [n for n in (index - 1, index + 1) if 0 <= n < len(runs)]
        if neighbours:
            to = min(neighbours, key=lambda n: float(counts[runs[n]].sum()))
            runs[to] = sorted(runs[to] + run)
            del runs[index]
    groups = [0] * len(counts)
    for number, run in enumerate(runs):
        for index in run:
            groups[index] = number
    return groups


def _category_groups(counts: NDArray[np.float64], sigma: float, max_groups: int) -> list[int]:
    """The most frequent clear values alone, all others together in the last group."""
    falling = np.argsort(-counts, kind="stable")
    clear = [int(index) for index in falling if counts[index] >= CLEAR * sigma]
    if len(clear) > max_groups or len(clear) < len(counts):
        clear = clear[: max_groups - 1]
    # A group of one rare value is that value.
    alone = {index: number for number, index in enumerate(sorted(clear))}
    return [alone.get(index, len(alone)) for index in range(len(counts))]


def denoised(
    attribute: Attribute, counts: NDArray[np.float64], sigma: float, total: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(estimates, which bins hold more than noise), each of shape (bins,), from `counts` with noise of deviation `sigma`.

    Bins are clear one by one. What they leave of the `total` is shared by the other values, where it is more than noise: so thin
    tails stay, and a list with no further values gets none. A missing value is there if its count is clear.
    """
    clear = counts >= _PRESENT * sigma
    others = ~clear
    others[attribute.missing if attribute.missing is not None else len(counts) :] = False
    rest = total - float(counts[clear].sum())
    if not others.any() or (clear.any() and rest < CLEAR * sigma * math.sqrt(1 + clear.sum())):
        return counts, clear
    estimates = counts.copy()
    estimates[others] = onto_simplex(counts[others], max(rest, 1.0))
    return estimates, clear | others


def merge_bins(
    attribute: Attribute,
    counts: NDArray[np.float64],
    sigma: float,
    max_groups: int,
    present: NDArray[np.bool_] | None = None,
) -> MergedBins:
    """Merge the bins of one attribute into at most about `max_groups` groups of values and one for a missing value.

    `counts`, shape (bins,), has noise of standard deviation `sigma`. Neighbours are merged in ordered columns, rare
    values into one group elsewhere. Bins that are not `present` (None: all are) join a neighbour, with a share of 0.
    """
    here = np.full(len(counts), True) if present is None else present
    groups = np.full(len(counts), -1)
    values = np.flatnonzero(here[: attribute.missing])
    merge = _ordered_groups if attribute.ordered else _category_groups
    groups[values] = merge(counts[values], sigma, max_groups) if len(values) > 1 else 0
    if attribute.missing is not None and here[attribute.missing]:
        groups[attribute.missing] = groups.max() + 1
    known, absent = np.flatnonzero(here), np.flatnonzero(~here)
    groups[absent] = groups[known[np.maximum(np.searchsorted(known, absent) - 1, 0)]]
    shares = np.zeros(len(counts))
    for group in range(groups.max() + 1):
        members = np.flatnonzero((groups == group) & here)
        mass = float(counts[members].sum())
        # Where noise makes the count of a group negative, nothing is known of its bins.
        shares_in_group = onto_simplex(counts[members], mass) / mass if mass > 0 else np.full(len(members), 1 / len(members))
        shares[members] = shares_in_group / shares_in_group.sum()
    return MergedBins(tuple(groups.tolist()), tuple(shares.tolist()))
