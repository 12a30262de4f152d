"""What becomes of columns that nothing is declared of: `python benchmarks/measured_values.py [EPSILON]`.

Eleven columns, measured and counted as a run does, as marginals alone, with 2,000 and 10,000 rows. Prints for each the share of
rows outside of its range, of synthetic values that no row has, and of those beyond the smallest and the largest value, and the
distance of the distributions (Kolmogorov & Smirnov).
"""

import datetime as dt
import math
import sys
from collections import Counter
from typing import Any

import numpy as np

from localsynth.ingest.measurement import Measurement
from localsynth.ingest.private_bounds import measure_column
from localsynth.marginals.domain import Domain
from localsynth.marginals.measure import measure_marginals
from localsynth.planning.budgets import SCHEMA_SHARE
from localsynth.privacy.gaussian import rho_for
from localsynth.privacy.noise import SecureRandom
from localsynth.schema.columns import Column, Date, DateTime, Integer, Number, Record, Schema, conform

_DELTA = 1e-6


def table(n: int, random: np.random.Generator) -> dict[str, tuple[Column, list[Any]]]:
    """Name → its column and `n` values."""
    day, moment = dt.date(2015, 1, 1).toordinal(), dt.datetime(2021, 1, 1)
    until = [dt.date.fromordinal(day + int(later)) for later in random.integers(0, 3650, n)]
    born = day + 3287 - 365.25 * np.clip(random.normal(55, 22, n), 0, 110)
    amounts = np.exp(random.normal(7, 1, n)).round(2)
    made: dict[str, tuple[Any, Any]] = {
        "fiscal year": (Integer, random.integers(2018, 2025, n)),
        "four prices": (Number, random.choice([4.99, 9.99, 19.99, 49.0], n)),
        "signed, sd 40": (Number, random.normal(0, 40, n).round(1)),
        "claim, 60 % zero": (Number, np.where(random.random(n) < 0.6, 0, amounts)),
        "-999 in 10 %": (Integer, np.where(random.random(n) < 0.1, -999, random.integers(0, 50, n))),
        "milliseconds": (Integer, 1_672_531_200_000 + random.integers(0, 31_536_000_000, n)),
        "40 articles": (Integer, random.choice(9_780_000_000_000 + random.integers(0, 10**10, 40), n)),
        "9999-12-31 in 45 %": (Date, [dt.date.max if random.random() < 0.45 else value for value in until]),
        "births, 90 years": (Date, [dt.date.fromordinal(int(value)) for value in born]),
        "full hours": (DateTime, [moment + dt.timedelta(hours=int(hour)) for hour in random.integers(0, 26_280, n)]),
        "steps of five": (Integer, 5 * random.integers(0, 101, n)),
    }
    return {name: (kind(name=name), v.tolist() if isinstance(v, np.ndarray) else v) for name, (kind, v) in made.items()}


class _Rows:
    def __init__(self, columns: list[list[Any]]) -> None:
        self.columns = columns

    def column_counts(self, index: int, split: str) -> Counter[Any]:
        return Counter(value for value in self.columns[index] if value is not None)


def _numbers(values: list[Any]) -> np.ndarray:
    start = dt.datetime(1970, 1, 1)
    return np.sort(
        [
            (v - start).total_seconds() if isinstance(v, dt.datetime) else v.toordinal() if isinstance(v, dt.date) else v
            for v in values
            if v is not None
        ]
    )


def main() -> None:
    """Print a table for each number of rows."""
    epsilon = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0
    random, secret = np.random.default_rng(0), SecureRandom()
    for n in (2000, 10_000):
        columns = table(n, random)
        noise = math.sqrt(len(columns) / (2 * rho_for(SCHEMA_SHARE * epsilon, _DELTA)))
        one = Measurement(noise, 0.05 * _DELTA / len(columns), 1)
        store: Any = _Rows([values for _, values in columns.values()])
        settled = [
            measure_column(column, index, store, one, lambda what, mechanism: None, secret)
            for index, (column, _) in enumerate(columns.values())
        ]
        schema = Schema(columns=settled)
        rows: list[Record] = [dict(zip(columns, row, strict=True)) for row in zip(*store.columns, strict=True)]
        conformed = [kept for row in rows if (kept := conform(schema, row)) is not None]
        domain = Domain.of_schema(schema)
        rho = rho_for(epsilon, _DELTA) - rho_for(SCHEMA_SHARE * epsilon, _DELTA)
        made = measure_marginals(domain, domain.encode(conformed), rho, secret).sample(n, 0)
        print(f"{n:,} rows, epsilon {epsilon:g}")
        for column in settled:
            values, theirs = columns[column.name][1], [row[column.name] for row in made]
            cut = np.mean([before[column.name] != after[column.name] for before, after in zip(rows, conformed, strict=True)])
            ours, others = _numbers(values), _numbers(theirs)
            points = np.concatenate([ours, others])
            shares = [np.searchsorted(side, points, side="right") / len(side) for side in (ours, others)]
            known = set(values)
            unknown = np.mean([value not in known for value in theirs])
            beyond = np.mean((others < ours[0]) | (others > ours[-1]))
            print(
                f"  {column.name:20} cut {cut:5.3f}, other values {unknown:5.3f}, beyond {beyond:5.3f},"
                f" distance {np.abs(shares[0] - shares[1]).max():5.3f}"
            )


if __name__ == "__main__":
    main()
