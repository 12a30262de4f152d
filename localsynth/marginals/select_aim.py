"""AIM: measure repeatedly the columns whose joint counts the current model gets most wrong.

After McKenna, Mullins, Sheldon & Miklau 2022, "AIM: An Adaptive and Iterative Mechanism for Differentially Private Synthetic
Data" (arXiv:2201.12677), algorithm 2, with three changes. Several tables are chosen between two fits, which take most of
the time. At most `rounds` tables are measured. The model may not exceed a number of cells fixed beforehand.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localsynth.marginals.accounting import Budget
from localsynth.marginals.fit import Measurement, fit_potentials
from localsynth.marginals.inference import Conditional, Factor, Names, cells, eliminate, marginal
from localsynth.marginals.mechanisms import PrivateCounts

__all__ = ["MEASURED_FRACTION", "Workload", "pairs_workload", "select_aim"]

MEASURED_FRACTION = 0.9
"""Fraction of a round's ρ for the measurement; the rest chooses what to measure (as in the paper)."""
_ANNEALING_FACTOR = 2.0
_ITERATIONS = 500
_FINAL_ITERATIONS = 2000

Workload = dict[Names, float]
"""Tables and their weights."""


def pairs_workload(names: Sequence[str], target: str | None) -> Workload:
    """All pairs of columns; with a target, its pairs count double, and all pairs together with it are added."""
    workload: Workload = {pair: 2.0 if target in pair else 1.0 for pair in itertools.combinations(names, 2)}
    if target is not None:
        others = [name for name in names if name != target]
        workload |= {(*pair, target): 1.0 for pair in itertools.combinations(others, 2)}
    return workload


@dataclass
class _Pace:
    """The cost of each choice and measurement of a round."""

    rho: float

    @property
    def noise_multiplier(self) -> float:
        return math.sqrt(1 / (2 * MEASURED_FRACTION * self.rho))

    @property
    def epsilon(self) -> float:
        return math.sqrt(8 * (1 - MEASURED_FRACTION) * self.rho)


def _choose_some(
    counts: PrivateCounts,
    chain: Sequence[Conditional],
    total: float,
    workload: Workload,
    scopes: list[Names],
    batch: int,
    pace: _Pace,
    max_cells: int,
) -> tuple[list[Names], dict[Names, NDArray[np.float64]]]:
    """Up to `batch` different tables to measure that fit into the model together, and what the model expects."""
    expected = {names: total * marginal(chain, names) for names in workload}
    sigma = counts.sigma(pace.noise_multiplier)
    chosen: list[Names] = []
    for _ in range(batch):
        open_ = [n for n in workload if n not in chosen and cells(counts.sizes, [*scopes, *chosen, n]) <= max_cells]
        if not open_:
            break
        # The error that measuring would leave: the mean of |noise| in each cell.
        penalties = np.array([math.sqrt(2 / math.pi) * sigma * expected[names].size for names in open_])
        weights = np.array([workload[names] for names in open_])
        chosen.append(open_[counts.choose([(n, expected[n]) for n in open_], weights, penalties, pace.epsilon)])
    return chosen, expected


def select_aim(
    counts: PrivateCounts,
    budget: Budget,
    measured: list[Measurement],
    total: float,
    workload: Workload,
    rounds: int,
    batch: int,
    max_cells: int,
    report: Callable[[int, int], None],
    fixed: Sequence[Factor] = (),
) -> list[Factor]:
    """Spend the rest of the budget on at most `rounds` tables, and return the fitted potentials.

    `measured` has the single columns' counts and gets the tables' appended. `report(done, of)` is called with shares of the
    budget in percent, which reveals only which rounds were annealed. `fixed`: potentials that are known beforehand.
    """
    pace = _Pace(budget.left / rounds)
    potentials = fit_potentials(counts.sizes, measured, total, fixed, _ITERATIONS)
    whole = budget.left
    while budget.left > 0:
        if budget.left < 2 * batch * pace.rho:
            batch = max(1, min(batch, round(budget.left / pace.rho)))
            pace, last = _Pace(budget.left / batch), True
        else:
            last = False
        chain, _ = eliminate(counts.sizes, potentials)
        scopes = [*(m.names for m in measured), *(factor.names for factor in fixed)]
        chosen, expected = _choose_some(counts, chain, total, workload, scopes, batch, pace, max_cells)
        if not chosen:
            break
        for names in chosen:
            noisy = counts.noisy_counts(names, pace.noise_multiplier)
            measured.append(Measurement(names, noisy, counts.sigma(pace.noise_multiplier)))
        potentials = fit_potentials(counts.sizes, measured, total, potentials, _FINAL_ITERATIONS if last else _ITERATIONS)
        report(round(100 * (1 - budget.left / whole)), 100)
        if last:
            break
        chain, _ = eliminate(counts.sizes, potentials)
        moved = [float(np.abs(total * marginal(chain, n) - expected[n]).sum()) for n in chosen]
        noise = [math.sqrt(2 / math.pi) * counts.sigma(pace.noise_multiplier) * expected[n].size for n in chosen]
        if sum(m <= s for m, s in zip(moved, noise, strict=True)) * 2 > len(chosen):
            # What was learned does not exceed the noise: measure fewer tables with less noise.
            pace = _Pace(pace.rho * _ANNEALING_FACTOR**2)
    return potentials
