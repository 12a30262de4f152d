"""MST: a spanning tree of the pairs of columns that depend most on each other.

After McKenna, Miklau & Sheldon 2021, "Winning the NIST Contest" (arXiv:2108.04978), section 4: for tables too wide for AIM.
"""

import itertools
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from localsynth.marginals.accounting import Budget
from localsynth.marginals.fit import Measurement
from localsynth.marginals.inference import Names
from localsynth.marginals.mechanisms import PrivateCounts

__all__ = ["CHOICE_FRACTION", "select_mst"]

CHOICE_FRACTION = 1 / 3
"""Fraction of the remaining budget for choosing the tree; the rest measures its pairs."""


def select_mst(
    counts: PrivateCounts, budget: Budget, single: Mapping[str, NDArray[np.float64]], total: float
) -> list[Measurement]:
    """Choose and measure the pairs of a spanning tree, one less than there are columns, with the rest of the budget.

    `single[name]`: the probabilities of each column, from noisy counts; they sum to 1.
    """
    names = list(single)
    edges = len(names) - 1
    if edges < 1:
        return []
    left = budget.left
    epsilon = math.sqrt(8 * CHOICE_FRACTION * left / edges)
    expected = {(a, b): total * np.outer(single[a], single[b]) for a, b in itertools.combinations(names, 2)}
    part = {name: name for name in names}
    chosen: list[Names] = []
    for _ in range(edges):
        open_ = [pair for pair in expected if part[pair[0]] != part[pair[1]]]
        nothing = np.zeros(len(open_))
        pair = open_[counts.choose([(p, expected[p]) for p in open_], nothing + 1, nothing, epsilon)]
        chosen.append(pair)
        joined, gone = part[pair[0]], part[pair[1]]
        part = {name: joined if of == gone else of for name, of in part.items()}
    noise_multiplier = math.sqrt(edges / (2 * (1 - CHOICE_FRACTION) * left))
    return [Measurement(p, counts.noisy_counts(p, noise_multiplier), counts.sigma(noise_multiplier)) for p in chosen]
