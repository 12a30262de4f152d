"""The one seam to mbi (Private-PGM, McKenna, Sheldon & Miklau 2019, arXiv:1901.09136) and through it to jax.

Finds the product of potentials whose marginals are nearest to the noisy ones. Sees noisy counts only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localsynth.marginals.inference import Factor, Names

__all__ = ["Measurement", "fit_potentials"]

_STEPS = 50
"""mbi looks at its progress after every so many steps."""


@dataclass(frozen=True)
class Measurement:
    """The noisy counts of the groups of some columns together."""

    names: Names
    counts: NDArray[np.float64]
    """One axis for each of `names`."""
    deviation: float
    """Standard deviation of the noise in each cell."""
    weights: NDArray[np.float64] | None = None
    """What cells were multiplied with beforehand, where their noise differed; None: nothing."""


def _mbi() -> Any:
    import jax

    # mbi stalls in float32 above 100,000 rows; this must be set before anything is traced.
    jax.config.update("jax_enable_x64", True)
    # Each fit compiles its own program, so a cache on disk only grows.
    jax.config.update("jax_enable_compilation_cache", False)
    import mbi

    return mbi


def fit_potentials(
    sizes: Mapping[str, int],
    measurements: Sequence[Measurement],
    total: float,
    start: Sequence[Factor] = (),
    iterations: int = 1000,
) -> list[Factor]:
    """Logarithmic potentials over the maximal column sets measured. `start`: those of an earlier fit, to begin with.

    `total` is how many rows there are, by noisy counts or public knowledge.
    """
    mbi = _mbi()
    domain = mbi.Domain.fromdict(dict(sizes))
    observed = []
    for measurement in measurements:
        query = mbi.DatavectorQuery() if measurement.weights is None else mbi.WeightedQuery(measurement.weights.ravel())
        observed.append(mbi.LinearMeasurement(measurement.counts.ravel(), measurement.names, measurement.deviation, query))
    warm = None
    if start:
        tables = {factor.names: mbi.Factor(domain.project(factor.names), factor.table) for factor in start}
        warm = mbi.CliqueVector(domain, list(tables), tables)
    model = mbi.estimation.MirrorDescent().estimate(
        domain, observed, known_total=total, iters=iterations, warm_start=warm, tol=1e-4
    )
    potentials = model.potentials
    return [Factor(tuple(clique), np.asarray(potentials[clique].values)) for clique in potentials.cliques]
