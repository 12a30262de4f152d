"""How much of ordinary columns a measured range cuts off: `python benchmarks/measured_ranges.py [EPSILON [REPEATS]]`.

Ten columns, nothing declared, as a run measures them (the same noise for each); ten ranges each, or REPEATS, for 2,000 and
10,000 rows. Prints the mean and the largest share of rows outside of the range, how many ranges cut more than 5 %, and the median
and the 90th percentile of its width over that of the data.
"""

import datetime as dt
import math
import sys

import numpy as np
from numpy.typing import NDArray

from localsynth.planning.budgets import SCHEMA_SHARE
from localsynth.privacy.gaussian import rho_for
from localsynth.privacy.grids import Grid, date_grid, datetime_grid, integer_grid, number_grid
from localsynth.privacy.mechanisms import RangePlan
from localsynth.privacy.noise import SecureRandom

_DELTA = 1e-6


def columns(n: int, random: np.random.Generator) -> dict[str, tuple[Grid, NDArray[np.float64]]]:
    """Name → its grid and `n` values."""
    day = dt.date(1935, 1, 1).toordinal()
    moment = (dt.datetime(2021, 1, 1) - dt.datetime(1970, 1, 1)).total_seconds()
    gains = np.where(random.random(n) < 0.92, 0, np.exp(random.normal(8.8, 0.8, n)))
    made = {
        "dates over 70 years": (date_grid(), random.integers(day, day + 70 * 365, n)),
        "dates over 90 years": (date_grid(), random.integers(day, day + 90 * 365, n)),
        "years 2018 to 2024": (integer_grid(), random.integers(2018, 2025, n)),
        "ages": (integer_grid(), np.clip(random.normal(45, 18, n), 0, 100).astype(int)),
        "signed normal, sd 40": (number_grid(1), np.round(random.normal(0, 40, n), 1)),
        "log-normal, sigma 1.5": (number_grid(2), np.round(np.exp(random.normal(4, 1.5, n)), 2)),
        "prices": (number_grid(2), np.round(random.gamma(2, 30, n), 2)),
        "temperatures": (number_grid(1), np.round(random.normal(37, 0.8, n), 1)),
        "timestamps of 3 years": (datetime_grid(), moment + random.integers(0, 3 * 365 * 86400, n)),
        "gains, 92 % zero": (integer_grid(), gains.astype(int)),
    }
    return {name: (grid, np.asarray(values, dtype=np.float64)) for name, (grid, values) in made.items()}


def main() -> None:
    """Print a table for each number of rows."""
    epsilon = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    noise = math.sqrt(10 / (2 * rho_for(SCHEMA_SHARE * epsilon, _DELTA)))
    data, secret = np.random.default_rng(0), SecureRandom()
    for n in (2000, 10_000):
        print(f"{n:,} rows, epsilon {epsilon:g}, noise {noise:.1f} rows a bucket")
        cut: dict[str, list[float]] = {}
        width: dict[str, list[float]] = {}
        for _ in range(repeats):
            for name, (grid, values) in columns(n, data).items():
                steps = grid.steps(values)
                found = RangePlan(noise, _DELTA / 200, 1, grid).release(steps, secret)
                cut.setdefault(name, []).append(float(((steps < found.starts[0]) | (steps >= found.starts[-1])).mean()))
                width.setdefault(name, []).append((found.starts[-1] - found.starts[0]) / float(np.ptp(steps)))
        for name, shares in cut.items():
            above, wide = np.mean(np.array(shares) > 0.05), np.quantile(width[name], [0.5, 0.9])
            print(f"  {name:24} cut {np.mean(shares):6.3f}, at most {max(shares):6.3f}, above 5 % in {above:5.3f};", end="")
            print(f" width {wide[0]:7.2f}, {wide[1]:9.2f}")
        every = np.concatenate([*cut.values()])
        print(
            f"  all: cut {every.mean():.4f}, above 5 % in {(every > 0.05).mean():.4f}, above 10 % in {(every > 0.1).mean():.4f}"
        )


if __name__ == "__main__":
    main()
