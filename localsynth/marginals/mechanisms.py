"""The two mechanisms that read original counts, and the only users of secret randomness here.

Every count that is released has noise. Every choice is made by the exponential mechanism.
Each is charged before it reads the data.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from localsynth.marginals.accounting import Budget, Spend
from localsynth.marginals.domain import Codes
from localsynth.marginals.inference import Names
from localsynth.privacy.noise import RandomSource

__all__ = ["PrivateCounts"]


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
        """Shape (candidates,): sum of |count - expected| over each table. Exact: for `choose` alone.

        The sensitivity of each is `rows_per_unit`.
        """
        return np.array([np.abs(self._counts(names) - table).sum() for names, table in expected])

    def choose(
        self,
        expected: Sequence[tuple[Names, NDArray[np.float64]]],
        weights: NDArray[np.float64],
        penalties: NDArray[np.float64],
        epsilon: float,
    ) -> int:
        """Index of a candidate whose table differs much from what is expected, by the exponential mechanism.

        Score i is weights[i] * (distance i - penalties[i]), of sensitivity max(weights) * rows_per_unit: weights, penalties
        and expected tables may depend on the rows only through what was released. Sampled as the largest of score plus
        Gumbel noise (McKenna & Sheldon 2020, arXiv:2010.12603, section 2, for the equivalence).
        """
        self._budget.charge(Spend("exponential", epsilon, ()))
        scores = weights * (self._distances(expected) - penalties)
        sensitivity = float(np.max(weights)) * self._sensitivity
        # Inside (0, 1), so that both logarithms are finite.
        uniform = np.maximum(self._random.uniform(len(scores)), 2.0**-54)
        return int(np.argmax(epsilon * scores / (2 * sensitivity) - np.log(-np.log(uniform))))
