"""Which pairs of columns are counted together, and how precisely.

Every step is a Gaussian mechanism. First the distances of all pairs from independence are measured, and a spanning tree of the
most dependent pairs is counted, so that no column stays unlinked. Then the distances of the other pairs from the model of that
tree are measured, and those are counted whose distance outweighs the noise. The choice itself is computed from noisy distances
alone, and so is the precision of each count.

After SWIFT (`dpsynth.discrete_mechanisms.swift` of github.com/google/dpsynth) for the choice by noisy distances and for the
division of the budget, and AIM (McKenna, Mullins, Sheldon & Miklau 2022, arXiv:2201.12677) for distances from the current model
and the bound on its size.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

from localsynth.marginals.accounting import Budget
from localsynth.marginals.fit import Measurement, fit_potentials
from localsynth.marginals.inference import Factor, Names, cells, eliminate, marginal
from localsynth.marginals.mechanisms import PrivateCounts

TREE_FRACTION = 0.4
"""Of ρ, for the spanning tree and the distances that choose it."""
DISTANCES_FRACTION = 0.1
"""Of each step's ρ, for distances; the rest counts tables."""
_MAX_CANDIDATES = 400
"""Distances that are measured once the tree is counted: each more of them adds noise to all."""

Workload = dict[Names, float]
"""Pairs and their weights."""


def pairs_workload(names: Sequence[str], target: str | None) -> Workload:
    """All pairs of columns; those of the target, if there is one, count double."""
    return {pair: 2.0 if target in pair else 1.0 for pair in itertools.combinations(names, 2)}


class _Selection:
    """The model while it grows, and what is known of the pairs that are not counted yet."""

    def __init__(
        self,
        counts: PrivateCounts,
        measured: list[Measurement],
        total: float,
        workload: Workload,
        max_cells: int,
        fixed: Sequence[Factor],
    ) -> None:
        self._private, self._measured, self._total, self._max_cells = counts, measured, total, max_cells
        self._weights = workload
        self._scopes = [*(m.names for m in measured), *(factor.names for factor in fixed)]
        self._gains: dict[Names, float] = {}
        """Of each pair, its weight times its noisy distance."""
        self.potentials = fit_potentials(counts.sizes, measured, total, fixed)

    def _fits(self, pairs: Sequence[Names]) -> bool:
        return cells(self._private.sizes, [*self._scopes, *pairs]) <= self._max_cells

    def _cost(self, pair: Names) -> float:
        """The 2/3 power of the pair's weight times its cells: see `_precisions`."""
        return float((self._weights[pair] * math.prod(self._private.sizes[name] for name in pair)) ** (2 / 3))

    def measure_distances(self, pairs: Sequence[Names], rho: float) -> None:
        """How far the counts of each pair are from what the model expects, for `rho`."""
        chain, _ = eliminate(self._private.sizes, self.potentials)
        expected = [(pair, self._total * marginal(chain, pair)) for pair in pairs]
        distances = self._private.noisy_distances(expected, 1 / math.sqrt(2 * rho))
        self._gains |= {pair: self._weights[pair] * d for pair, d in zip(pairs, distances.tolist(), strict=True)}

    def tree(self) -> list[Names]:
        """The pairs of largest gain that link all variables that are not linked yet and fit into the model (Kruskal)."""
        part = {name: name for name in self._private.sizes}

        def join(names: Names) -> None:
            parts = {part[name] for name in names}
            part.update({name: part[names[0]] for name in part if part[name] in parts})

        for scope in self._scopes:
            join(scope)
        chosen: list[Names] = []
        for pair in sorted(self._gains, key=lambda p: -self._gains[p]):
            if part[pair[0]] != part[pair[1]] and self._fits([*chosen, pair]):
                chosen.append(pair)
                join(pair)
        return chosen

    def candidates(self) -> list[Names]:
        """The pairs that promise most for their cost, are not counted yet, and fit into the model one by one."""
        left = [pair for pair in self._gains if pair not in self._scopes]
        left.sort(key=lambda pair: -self._gains[pair])
        return list(itertools.islice((pair for pair in left if self._fits([pair])), _MAX_CANDIDATES))

    def worthwhile(self, pairs: Sequence[Names], rho: float) -> list[Names]:
        """Those of `pairs` whose gain outweighs the noise that counting them adds, for `rho` together, while they fit."""
        # The expected L1 noise of all tables together is `scale` * (sum of the costs) ** 1.5.
        scale = math.sqrt(2 / math.pi) * self._private.sigma(1 / math.sqrt(2 * rho))
        alone = scale * math.sqrt(2 * len(self._private.sizes))
        fitting: list[Names] = []
        for pair in sorted(pairs, key=lambda p: alone * self._cost(p) ** 1.5 - self._gains[p]):
            if self._gains[pair] > alone * self._cost(pair) ** 1.5 and self._fits([*fitting, pair]):
                fitting.append(pair)
        chosen: list[Names] = []
        spent = 0.0
        for pair in sorted(fitting, key=lambda p: -self._gains[p] / self._cost(p)):
            more = spent + self._cost(pair)
            if self._gains[pair] <= scale * (more**1.5 - spent**1.5):
                break
            chosen.append(pair)
            spent = more
        return chosen

    def count(self, pairs: Sequence[Names], rho: float) -> None:
        """Count `pairs` for `rho` together, and fit the model to all counts."""
        for pair, each in self._precisions(pairs, rho).items():
            noise_multiplier = 1 / math.sqrt(2 * each)
            noisy = self._private.noisy_counts(pair, noise_multiplier)
            self._measured.append(Measurement(pair, noisy, self._private.sigma(noise_multiplier)))
            self._scopes.append(pair)
        self.potentials = fit_potentials(self._private.sizes, self._measured, self._total, self.potentials)

    def _precisions(self, pairs: Sequence[Names], rho: float) -> Mapping[Names, float]:
        """The ρ of each pair, which add up to `rho`.

        The L1 noise of a table of s cells and weight w, w s / √ρ apart from a constant, has its smallest sum where each ρ is in
        proportion to (w s)^(2/3).
        """
        costs = {pair: self._cost(pair) for pair in pairs}
        return {pair: rho * cost / sum(costs.values()) for pair, cost in costs.items()}


def select_tables(
    counts: PrivateCounts,
    budget: Budget,
    measured: list[Measurement],
    total: float,
    workload: Workload,
    max_cells: int,
    report: Callable[[int, int], None],
    fixed: Sequence[Factor] = (),
) -> list[Factor]:
    """Spend the rest of the budget on pairs of `workload`, and return the fitted potentials.

    `measured` has the single columns' counts and gets the pairs' appended. `max_cells`: of the model's tables together, except
    that a pair is always counted. `report(done, of)` is called after each fit. `fixed`: potentials that are known beforehand.
    """
    selection = _Selection(counts, measured, total, workload, max_cells, fixed)
    report(10, 100)
    left = budget.left
    selection.measure_distances(list(workload), DISTANCES_FRACTION * TREE_FRACTION * left)
    tree = selection.tree()
    if tree:
        selection.count(tree, (1 - DISTANCES_FRACTION) * TREE_FRACTION * left)
    report(40, 100)
    if candidates := selection.candidates():
        selection.measure_distances(candidates, DISTANCES_FRACTION * budget.left)
    # Where no other pair is worth it, those of the tree are counted once more.
    selection.count(selection.worthwhile(candidates, budget.left) or tree or candidates[:1], budget.left)
    return selection.potentials
