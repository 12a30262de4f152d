"""From the structured columns of the original rows to a model of them, under one zCDP budget.

First every column is counted by itself and its bins are merged; then tables of several columns are chosen and counted (AIM or
MST); then a model is fitted to the noisy counts. How many rows there are is never used: the total is a sum of noisy counts, or
public knowledge.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from localsynth.errors import ConfigError
from localsynth.marginals.accounting import Budget
from localsynth.marginals.bin_merging import Grouping, group_bins, onto_simplex
from localsynth.marginals.domain import Codes, Domain
from localsynth.marginals.fit import Measurement, fit_potentials
from localsynth.marginals.mechanisms import Table
from localsynth.marginals.model import MarginalModel
from localsynth.marginals.select_aim import pairs_workload, select_aim
from localsynth.marginals.select_mst import select_mst
from localsynth.privacy.noise import RandomSource

__all__ = ["MOST_COLUMNS_OF_AIM", "MarginalSettings", "measure_marginals", "single_measurement", "total_of"]

MOST_COLUMNS_OF_AIM = 20
"""Above this, `method="auto"` is MST."""

_BATCHES = 8
"""About how many fits AIM's rounds are spread over."""


@dataclass(frozen=True)
class MarginalSettings:
    """How to measure. Public: nothing here may be chosen by looking at the rows."""

    method: Literal["auto", "aim", "mst"] = "auto"
    rows_per_unit: int = 1
    """The most rows that one privacy unit has."""
    public_rows: int | None = None
    """How many rows there are, where that is public knowledge."""
    target: str | None = None
    """A column whose relation to all others, two at a time, matters most (AIM only)."""
    single_share: float = 0.15
    """Share of ρ for the counts of single columns."""
    most_groups: int = 24
    """Into about how many groups the values of a column are merged."""
    rounds: int | None = None
    """Tables that AIM measures at most; None: twice the columns."""
    max_cells: int = 200_000
    """Of the fitted model's tables: bounds memory and time."""


def _check(domain: Domain, settings: MarginalSettings) -> None:
    if settings.rows_per_unit < 1 or (settings.public_rows is not None and settings.public_rows < 1):
        raise ConfigError(
            "A unit has at least one row, and a table too.", "Correct privacy.max_rows_per_unit or privacy.public_size."
        )
    if settings.target is not None and settings.target not in domain.names:
        raise ConfigError(f"The target {settings.target!r} is not a structured column.", f"One of: {', '.join(domain.names)}.")
    if (
        not 0 < settings.single_share < 1
        or settings.most_groups < 2
        or (settings.rounds is not None and settings.rounds < 1)
        or settings.max_cells < 1
    ):
        raise ConfigError("The settings of the marginals make no sense.", "Shares lie between 0 and 1, numbers are positive.")


def measure_marginals(
    domain: Domain,
    codes: Codes,
    rho: float,
    random: RandomSource,
    settings: MarginalSettings | None = None,
    report: Callable[[int, int], None] = lambda done, of: None,
) -> MarginalModel:
    """Spend at most `rho` (zCDP, add or remove one unit) on `codes` = domain.encode(records), and fit a model.

    `random` is the only source of chance. `report(done, of)` is called after each fit. Raises ConfigError, BudgetError.
    """
    settings = settings or MarginalSettings()
    _check(domain, settings)
    budget = Budget(rho)
    bins = {attribute.name: attribute.size for attribute in domain.attributes}
    rows = Table(codes, bins, settings.rows_per_unit, budget, random)

    share = settings.single_share if len(bins) > 1 else 1.0
    noise_multiplier = math.sqrt(len(bins) / (2 * share * budget.left))
    noise = rows.deviation(noise_multiplier)
    counts = {name: rows.noisy_counts((name,), noise_multiplier) for name in bins}
    total = float(settings.public_rows) if settings.public_rows is not None else total_of(list(counts.values()))

    groupings = {a.name: group_bins(a, counts[a.name], noise, settings.most_groups) for a in domain.attributes}
    table = rows.regrouped({name: np.array(grouping.groups) for name, grouping in groupings.items()})
    measured = [single_measurement(name, counts[name], groupings[name], noise) for name in bins]

    method = settings.method
    if method == "auto":
        method = "aim" if len(bins) <= MOST_COLUMNS_OF_AIM else "mst"
    if method == "aim" and len(bins) > 1:
        rounds = settings.rounds or 2 * len(bins)
        workload = pairs_workload(list(bins), settings.target)
        batch = max(1, rounds // _BATCHES)
        potentials = select_aim(table, budget, measured, total, workload, rounds, batch, settings.max_cells, report)
    else:
        known = {name: onto_simplex(groupings[name].sums(counts[name]), total) / total for name in bins}
        measured += select_mst(table, budget, known, total)
        potentials = fit_potentials(table.sizes, measured, total, iterations=2000)
        report(100, 100)
    return MarginalModel(domain, groupings, total, potentials, measured, budget.rho, budget.spends, random.label)


def total_of(counts: list[np.ndarray]) -> float:
    """How many rows there are, at least 1: the mean of the columns' sums, each with the inverse of its variance as weight."""
    weights = [1 / len(column) for column in counts]
    return max(1.0, float(np.average([column.sum() for column in counts], weights=weights)))


def single_measurement(name: str, counts: np.ndarray, grouping: Grouping, noise: float) -> Measurement:
    """The counts of a column's groups. A group of k bins has k times the variance: dividing by √k makes it the same for all."""
    weights = 1 / np.sqrt(grouping.widths())
    return Measurement((name,), grouping.sums(counts) * weights, noise, None if np.all(weights == 1) else weights)
