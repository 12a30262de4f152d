"""From the structured columns of the original rows to a model of them, under one budget.

First every column is counted by itself and its bins are merged. Then pairs of columns are
chosen and counted (`select_tables`), and a model is fitted to the noisy counts.
The exact number of rows is never used: the total is a sum of noisy counts, or public.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from localsynth.errors import ConfigError
from localsynth.marginals.accounting import Budget
from localsynth.marginals.bin_merging import MergedBins, denoised, merge_bins
from localsynth.marginals.domain import Codes, Domain
from localsynth.marginals.fit import Measurement, fit_potentials
from localsynth.marginals.mechanisms import PrivateCounts
from localsynth.marginals.model import MarginalModel
from localsynth.marginals.select_tables import pairs_workload, select_tables
from localsynth.privacy.noise import RandomSource

_CELLS_PER_COLUMN = 30_000


@dataclass(frozen=True)
class MarginalSettings:
    """How to measure. Public: nothing here may be chosen after looking at the rows."""

    rows_per_unit: int = 1
    """The maximum number of rows of a privacy unit."""
    public_rows: int | None = None
    """The number of rows, where it is public knowledge."""
    target: str | None = None
    """A column whose associations with all others count double."""
    single_fraction: float = 0.15
    """Fraction of ρ for the counts of single columns."""
    max_groups: int = 12
    """About the number of groups that the bins of a column are merged into."""
    max_cells: int | None = None
    """Maximum size of the fitted model's tables, which bounds memory and time; None: 30,000 a column."""

    def cells_for(self, columns: int) -> int:
        """`max_cells` of a model of so many columns."""
        return _CELLS_PER_COLUMN * columns if self.max_cells is None else self.max_cells


def _check(domain: Domain, settings: MarginalSettings) -> None:
    if settings.rows_per_unit < 1 or (settings.public_rows is not None and settings.public_rows < 1):
        raise ConfigError(
            "A unit and a table have at least one row each.", "Correct privacy.max_rows_per_unit or privacy.public_size."
        )
    if settings.target is not None and settings.target not in domain.names:
        raise ConfigError(f"The target {settings.target!r} is not a structured column.", f"One of: {', '.join(domain.names)}.")
    if not 0 < settings.single_fraction < 1 or settings.max_groups < 2 or settings.cells_for(1) < 1:
        raise ConfigError("A setting of the marginals is out of range.", "Fractions lie between 0 and 1, numbers are positive.")


def measure_marginals(
    domain: Domain,
    codes: Codes,
    rho: float,
    random: RandomSource,
    settings: MarginalSettings | None = None,
    report: Callable[[int, int], None] = lambda done, of: None,
) -> MarginalModel:
    """Spend at most `rho` (add or remove one unit) on `codes` = domain.encode(records), and fit a model.

    `random` is the only source of randomness. `report(done, of)` is called after each fit. Raises ConfigError, BudgetError.
    """
    settings = settings or MarginalSettings()
    _check(domain, settings)
    budget = Budget(rho)
    bins = {attribute.name: attribute.size for attribute in domain.attributes}
    of_bins = PrivateCounts(codes, bins, settings.rows_per_unit, budget, random)

    fraction = settings.single_fraction if len(bins) > 1 else 1.0
    noise_multiplier = math.sqrt(len(bins) / (2 * fraction * budget.left))
    sigma = of_bins.sigma(noise_multiplier)
    counts = {name: of_bins.noisy_counts((name,), noise_multiplier) for name in bins}
    total = float(settings.public_rows) if settings.public_rows is not None else total_of(list(counts.values()))

    found = {a.name: denoised(a, counts[a.name], sigma, total) for a in domain.attributes}
    merged_bins = {
        a.name: merge_bins(a, found[a.name][0], sigma, settings.max_groups, found[a.name][1]) for a in domain.attributes
    }
    of_groups = of_bins.regrouped({name: merged.group_of for name, merged in merged_bins.items()})
    measured = [single_measurement(name, counts[name], merged_bins[name], sigma, found[name][1]) for name in bins]

    if len(bins) > 1:
        workload = pairs_workload(list(bins), settings.target)
        potentials = select_tables(of_groups, budget, measured, total, workload, settings.cells_for(len(bins)), report)
    else:
        potentials = fit_potentials(of_groups.sizes, measured, total)
    report(100, 100)
    return MarginalModel(domain, merged_bins, total, potentials, measured, budget.rho, budget.spends, random.label)


def total_of(counts: list[np.ndarray]) -> float:
    """The number of rows, at least 1: the mean of the columns' sums, weighted by their inverse variances."""
    weights = [1 / len(column) for column in counts]
    return max(1.0, float(np.average([column.sum() for column in counts], weights=weights)))


def single_measurement(
    name: str, counts: np.ndarray, merged: MergedBins, sigma: float, present: np.ndarray | None = None
) -> Measurement:
    """The counts of a column's groups, of the bins that are `present` (None: all). A group of k such bins has k times the
    variance, so it is divided by √k."""
    here = np.full(len(counts), True) if present is None else present
    weights = 1 / np.sqrt(merged.sums(here.astype(np.float64)))
    return Measurement((name,), merged.sums(counts * here) * weights, sigma, None if np.all(weights == 1) else weights)
