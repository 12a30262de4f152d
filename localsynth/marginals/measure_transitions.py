"""From the rows of units in their order to a model of sequences, under one budget (see `transitions`).

Single variables are counted, then pairs: of columns in one row, of a column and any
column of the row before, and of either with the index in the sequence. Pairs within the
row before equal those within a row and are not counted again. What the row before is like
at each index follows from rows one index earlier. Otherwise the index and the row before
would count as independent evidence.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from localsynth.marginals.accounting import Budget
from localsynth.marginals.bin_merging import MergedBins, denoised, merge_bins, onto_simplex
from localsynth.marginals.domain import Codes
from localsynth.marginals.fit import Measurement, fit_potentials
from localsynth.marginals.inference import Factor, eliminate, marginal
from localsynth.marginals.measure import MarginalSettings, single_measurement, total_of
from localsynth.marginals.mechanisms import PrivateCounts
from localsynth.marginals.model import MarginalModel
from localsynth.marginals.select_tables import Workload, select_tables
from localsynth.marginals.sequence_model import SequenceModel
from localsynth.marginals.transitions import EARLIER, LAST, Layout, as_before, before, since
from localsynth.privacy.noise import RandomSource

_OWN_WEIGHT, _CROSS_WEIGHT = 2.0, 0.5
_SMALL = 1e-9
_IMPOSSIBLE = -100.0
"""Logarithm of the probability, in effect 0, of the impossible: a first row with a row before it. Finite, as JSON needs."""


def transitions_workload(layout: Layout) -> Workload:
    """Pairs and their weights: most for a column with itself in the row before, least for another column there."""
    rest = [a.name for a in layout.own if a.name not in layout.columns.names]
    current = layout.columns.names
    workload: Workload = {}
    for pair in itertools.combinations(current, 2):
        workload[pair] = 1.0
    for name, earlier in itertools.product(current, layout.described):
        workload[name, before(earlier)] = _OWN_WEIGHT if name == earlier else _CROSS_WEIGHT
    for name, other in itertools.product(current, rest):
        workload[name, other] = 1.0
    if layout.order is not None:
        gap = since(layout.order)
        workload |= {(before(name), gap): _CROSS_WEIGHT for name in layout.described}
        workload[gap, LAST] = 1.0
    return workload


def measure_sequences(
    layout: Layout,
    codes: Codes,
    rho: float,
    random: RandomSource,
    settings: MarginalSettings,
    report: Callable[[int, int], None] = lambda done, of: None,
) -> SequenceModel:
    """Spend at most `rho` (add or remove one unit) on `codes` = layout.encode(units), and fit a model.

    `settings.rows_per_unit` is the layout's `max_rows`. Raises ConfigError, BudgetError.
    """
    budget = Budget(rho)
    own = layout.own
    ends = (EARLIER, LAST)
    # These two are counted as a pair, which holds the lengths of the sequences and each of them.
    single = [*((a.name,) for a in own if a.name not in ends), *((name,) for name in layout.repeated), ends]
    sizes = {a.name: a.size for a in own} | dict.fromkeys(layout.repeated, 2)
    sizes |= {before(name): layout.columns[name].size + 1 for name in layout.described}
    of_bins = PrivateCounts(codes, sizes, settings.rows_per_unit, budget, random)
    noise_multiplier = math.sqrt(len(single) / (2 * settings.single_fraction * budget.left))
    sigma = of_bins.sigma(noise_multiplier)
    found = {names: of_bins.noisy_counts(names, noise_multiplier) for names in single}
    total = float(settings.public_rows) if settings.public_rows is not None else total_of([c.ravel() for c in found.values()])
    counts = {names[0]: table for names, table in found.items() if names != ends}
    counts |= {EARLIER: found[ends].sum(axis=1), LAST: found[ends].sum(axis=0)}

    columns = layout.columns.attributes
    found_in = {a.name: denoised(a, counts[a.name], sigma, total) for a in columns}
    present = {name: here for name, (_, here) in found_in.items()}
    # The index in the sequence and the gap keep each of their bins: `_constraints` tells them apart by their groups.
    estimates = counts | {name: estimate for name, (estimate, _) in found_in.items()}
    merged_bins = {a.name: merge_bins(a, estimates[a.name], sigma, settings.max_groups, present.get(a.name)) for a in own}
    merged_bins |= {before(name): _with_none(merged_bins[name]) for name in layout.described}
    of_groups = of_bins.regrouped({name: np.array(merged.groups) for name, merged in merged_bins.items()})
    measured = [
        single_measurement(a.name, counts[a.name], merged_bins[a.name], sigma, present.get(a.name))
        for a in own
        if a.name not in ends
    ]
    measured.append(_ends_measurement(found[ends], merged_bins[EARLIER], merged_bins[LAST], sigma))
    workload = transitions_workload(layout)
    fixed = [*_constraints(layout, merged_bins), *_initial(layout, merged_bins, counts, total)]
    potentials = select_tables(of_groups, budget, measured, total, workload, settings.cells_for(len(own)), report, fixed)
    start = {factor.names: factor for factor in potentials}
    start |= {factor.names: factor for factor in _earlier_rows(layout, merged_bins, potentials)}
    potentials = fit_potentials(of_groups.sizes, measured, total, list(start.values()))
    report(100, 100)
    variables = layout.variables
    transitions = MarginalModel(variables, merged_bins, total, potentials, measured, budget.rho, budget.spends, random.label)
    repeated = [Measurement((name,), counts[name], sigma) for name in layout.repeated]
    return SequenceModel(layout, transitions, _repeats(layout, transitions, counts), repeated)


def _ends_measurement(counts: NDArray[np.float64], earlier: MergedBins, last: MergedBins, sigma: float) -> Measurement:
    """The counts of both variables together, by groups, with noise of the same scale as in `single_measurement`."""
    summed = np.zeros((earlier.size, last.size))
    np.add.at(summed, np.ix_(earlier.groups, last.groups), counts)
    weights = 1 / np.sqrt(np.outer(earlier.widths(), last.widths()))
    return Measurement((EARLIER, LAST), summed * weights, sigma, weights)


def _with_none(merged: MergedBins) -> MergedBins:
    """The same groups for the row before, and one for none."""
    return MergedBins((*merged.groups, merged.size), (*merged.shares, 1.0))


def _constraints(layout: Layout, merged_bins: dict[str, MergedBins]) -> list[Factor]:
    """True of every transition: a first row has no row before, any other has one."""
    of_first = merged_bins[EARLIER].groups[-1]
    factors = []
    others = [before(name) for name in layout.described] + ([since(layout.order)] if layout.order is not None else [])
    for name in others:
        table = np.zeros((merged_bins[EARLIER].size, merged_bins[name].size))
        none = merged_bins[name].groups[-1]
        table[of_first] = _IMPOSSIBLE
        table[:, none] = _IMPOSSIBLE
        table[of_first, none] = 0.0
        factors.append(Factor((EARLIER, name), table))
    return factors


def _initial(
    layout: Layout, merged_bins: dict[str, MergedBins], counts: dict[str, NDArray[np.float64]], total: float
) -> list[Factor]:
    """Initial potentials: a row before is like any row."""
    factors = []
    for name in layout.described:
        probabilities = onto_simplex(merged_bins[name].sums(counts[name]), total) / total
        factors.append(Factor((before(name),), np.log(np.append(np.maximum(probabilities, 1e-6), 1.0))))
    return factors


def _earlier_rows(layout: Layout, merged_bins: dict[str, MergedBins], potentials: Sequence[Factor]) -> list[Factor]:
    """The row before at each index is like the rows one index earlier. Replaces the factors of `_constraints`."""
    sizes = {name: merged.size for name, merged in merged_bins.items()}
    chain, _ = eliminate(sizes, potentials)
    earlier = merged_bins[EARLIER]
    # The bins are 1, 2, ... rows before, and none; the row before the one with k rows before it has k - 1.
    groups, shares = earlier.groups, earlier.shares
    one_less = np.array([groups[-1], *groups[:-2]])
    factors = []
    for name in layout.described:
        pair = np.maximum(marginal(chain, (EARLIER, name)), _SMALL)
        pair /= pair.sum(axis=1, keepdims=True)
        like = np.full((earlier.size, merged_bins[name].size), _SMALL)
        np.add.at(like, np.array(groups[:-1]), np.array(shares[:-1])[:, None] * pair[one_less])
        table = np.full((earlier.size, merged_bins[name].size + 1), _IMPOSSIBLE)
        table[:, :-1] = np.log(like / like.sum(axis=1, keepdims=True))
        table[groups[-1]] = _IMPOSSIBLE
        table[groups[-1], -1] = 0.0
        factors.append(Factor((EARLIER, before(name)), table))
        # Everything known of that variable is in it.
        factors.append(Factor((before(name),), np.zeros(merged_bins[name].size + 1)))
    return factors


def _repeats(layout: Layout, transitions: MarginalModel, counts: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    """Of the transitions within a group, the fraction that keeps the value."""
    chain, _ = eliminate(transitions.sizes, transitions.potentials)
    repeats = {}
    for name in layout.described:
        if as_before(name) in layout.repeated:
            pair = marginal(chain, (name, before(name)))
            in_group = transitions.total * float(np.trace(pair[:, :-1]))
            repeats[name] = float(np.clip(counts[as_before(name)][1] / max(in_group, 1.0), 0.0, 1.0))
    return repeats
