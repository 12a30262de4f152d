"""The two mechanisms that read original counts, and the only users of secret randomness here.

Both are Gaussian: noisy counts, and the noisy distances of tables from what is expected. Each is charged before it reads the
data.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from localsynth.marginals.accounting import Budget, Spend
from localsynth.marginals.domain import Codes
from localsynth.marginals.inference import Names
from localsynth.privacy.noise import RandomSource

_GRID = 2.0**10
"""Distances and their noise are multiples of 1 / _GRID, so that their sum is exact."""


class PrivateCounts:
    """Counts of the original rows behind a budget: whatever is released of them is noisy and charged.

    `codes[name]`, shape (rows,), lies in 0 .. sizes[name]-1. One unit has at most `rows_per_unit` rows, so the
    sensitivity of a table of counts is that number, in L1 and (all rows in one cell) in L2.
    """

    def __init__(self, codes: Codes, sizes: dict[str, int], rows_per_unit: int, budget: Budget, random: RandomSource) -> None:
        self._codes = codes
        self.sizes = sizes
        self._sensitivity = rows_per_unit
        self._budget = budget
        self._random = random
        self._counted: dict[Names, NDArray[np.int64]] = {}

    def regrouped(self, groups: dict[str, NDArray[np.int64]]) -> "PrivateCounts":
        """The same rows, budget and randomness with bin b of column c replaced by groups[c][b]; other columns are left out."""
        codes = {name: of_bins[self._codes[name]] for name, of_bins in groups.items()}
        sizes = {name: int(groups[name].max()) + 1 for name in codes}
        return PrivateCounts(codes, sizes, self._sensitivity, self._budget, self._random)

    def sigma(self, noise_multiplier: float) -> float:
        """Standard deviation of each noisy count at this noise multiplier."""
        return noise_multiplier * self._sensitivity

    def _counts(self, names: Names) -> NDArray[np.int64]:
        """Exact: must not leave this object."""
        if names not in self._counted:
            shape = tuple(self.sizes[name] for name in names)
            flat = np.ravel_multi_index([self._codes[name] for name in names], shape)
            self._counted[names] = np.bincount(flat, minlength=math.prod(shape)).reshape(shape)
        return self._counted[names]

    def noisy_counts(self, names: Names, noise_multiplier: float) -> NDArray[np.float64]:
        """One axis for each name: integers, each count plus N(0, sigma²) rounded.

        The noise is rounded before it is added, and counts are integers, so the sum is exact. Floating-point artefacts are
        then in the noise alone, never in its sum with the data. Rounding a noisy count is post-processing.
        """
        self._budget.charge(Spend("gaussian", noise_multiplier, names))
        counts = self._counts(names)
        noise = np.rint(self._random.gaussian(counts.size) * self.sigma(noise_multiplier)).reshape(counts.shape)
        return counts.astype(np.float64) + noise

    def _distances(self, expected: Sequence[tuple[Names, NDArray[np.float64]]]) -> NDArray[np.float64]:
        """Shape (tables,): sum of |count - expected| over each table. Exact: for `noisy_distances` alone.

        The sensitivity of each is `rows_per_unit`.
        """
        return np.array([np.abs(self._counts(names) - table).sum() for names, table in expected])

    def noisy_distances(
        self, expected: Sequence[tuple[Names, NDArray[np.float64]]], noise_multiplier: float
    ) -> NDArray[np.float64]:
        """Shape (tables,): the L1 distance of each table of counts from an expected one, plus N(0, sigma²).

        Each distance changes by at most `rows_per_unit`, so the L2 sensitivity of k of them together is √k times that; sigma is
        `noise_multiplier` times it. The expected tables may depend on the rows only through what was released. They and the
        noise are rounded to a grid of powers of two, on which the arithmetic is exact.
        """
        self._budget.charge(Spend("distances", noise_multiplier, ()))
        distances = self._distances([(names, np.rint(table * _GRID) / _GRID) for names, table in expected])
        sigma = self.sigma(noise_multiplier) * math.sqrt(len(expected))
        return distances + np.rint(self._random.gaussian(len(expected)) * sigma * _GRID) / _GRID
