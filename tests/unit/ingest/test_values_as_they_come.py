"""Columns with nothing declared come out as they were, measured and counted with the noise of eight columns at epsilon 4."""

import datetime as dt
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from localsynth.ingest.measurement import Measurement
from localsynth.ingest.private_bounds import measure_column
from localsynth.marginals.domain import Domain
from localsynth.marginals.measure import MarginalSettings, measure_marginals
from localsynth.privacy.gaussian import rho_for
from localsynth.schema.columns import Boolean, Category, Column, Date, DateTime, Integer, Number, Record, Schema, conform
from tests.helpers.seeded_random import InsecureRandom

DELTA, COLUMNS = 1e-6, 8
NOISE = math.sqrt(COLUMNS / (2 * rho_for(0.2 * 4, DELTA)))
RHO = 0.15 * rho_for(3.5, DELTA) / COLUMNS
MEASUREMENT = Measurement(NOISE, 0.05 * DELTA / COLUMNS, 1)
RNG = np.random.default_rng(3)


class Store:
    """One column."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def column_counts(self, index: int, split: str) -> Counter[Any]:
        return Counter(value for value in self._values if value is not None)


def measured(column: Column, values: list[Any]) -> Any:
    store: Any = Store(values)
    return measure_column(column, 0, store, MEASUREMENT, lambda what, mechanism: None, InsecureRandom(5))


def synthetic(column: Column, values: list[Any]) -> list[Any]:
    """As many values as there are, from marginals of the measured column."""
    schema = Schema(columns=[measured(column, values) if column.unmeasured() else column])
    rows: list[Record] = [kept for value in values if (kept := conform(schema, {"x": value})) is not None]
    domain = Domain.of_schema(schema)
    settings = MarginalSettings(public_rows=len(rows))
    model = measure_marginals(domain, domain.encode(rows), RHO, InsecureRandom(6), settings)
    return [row["x"] for row in model.sample(len(values), 0)]


def days(first: dt.date, numbers: Any) -> list[dt.date]:
    return [first + dt.timedelta(days=int(number)) for number in numbers]


FEW: dict[str, tuple[Column, list[Any]]] = {
    "fiscal years": (Integer(name="x"), RNG.integers(2018, 2025, 3000).tolist()),
    "four prices": (Number(name="x"), RNG.choice([4.99, 9.99, 19.99, 49.0], 3000).tolist()),
    "article numbers": (Integer(name="x"), RNG.choice(9_780_000_000_000 + RNG.integers(0, 10**10, 40), 20_000).tolist()),
    "steps of five": (Integer(name="x"), (5 * RNG.integers(0, 101, 12_000)).tolist()),
    "full hours of a day": (
        DateTime(name="x"),
        [dt.datetime(2024, 5, 6) + dt.timedelta(hours=int(hour)) for hour in RNG.integers(0, 24, 12_000)],
    ),
    "one value in a list": (Category(name="x"), ["A"] * 3000),
    "one truth value": (Boolean(name="x"), [True] * 3000),
    "no truth value": (Boolean(name="x"), [None] * 3000),
}


@pytest.mark.parametrize("name", list(FEW))
def test_a_column_of_few_values_gets_these_alone(name: str) -> None:
    """No other value, and no missing one."""
    column, values = FEW[name]
    ours, theirs = Counter(values), Counter(synthetic(column, values))
    assert not theirs.keys() - ours.keys()
    assert sum(abs(ours[value] - theirs[value]) for value in ours) / 2 < 0.09 * len(values)


SPIKES: dict[str, tuple[Column, Any, float, list[Any]]] = {
    "an end that never comes": (
        Date(name="x"),
        dt.date(9999, 12, 31),
        0.45,
        days(dt.date(2015, 1, 1), RNG.integers(0, 3650, 1650)),
    ),
    "a code for missing": (Integer(name="x"), -999, 0.1, RNG.integers(0, 50, 5400).tolist()),
    "no claim": (Number(name="x"), 0.0, 0.6, np.exp(RNG.normal(7, 1, 1200)).round(2).tolist()),
}


@pytest.mark.parametrize("name", list(SPIKES))
def test_a_frequent_value_stays_beside_the_others(name: str) -> None:
    column, spike, share, others = SPIKES[name]
    values = [spike] * round(len(others) * share / (1 - share)) + others
    made = synthetic(column, values)
    assert made.count(spike) / len(made) == pytest.approx(share, abs=0.03)
    rest = [value for value in made if value != spike]
    assert np.mean([min(others) <= value <= max(others) for value in rest]) > 0.93
    assert Counter(rest).most_common(1)[0][1] < 0.06 * len(rest), "none of the others became one value"


SPREAD: dict[str, tuple[Column, list[Any]]] = {
    "births over 90 years": (Date(name="x"), days(dt.date(2024, 1, 1), -365.25 * np.clip(RNG.normal(55, 22, 3000), 0, 110))),
    "milliseconds": (Integer(name="x"), (1_672_531_200_000 + RNG.integers(0, 31_536_000_000, 3000)).tolist()),
    "positive and negative": (Number(name="x", decimals=1), RNG.normal(0, 40, 2000).round(1).tolist()),
    "amounts": (Number(name="x"), np.exp(RNG.normal(4, 1.5, 2000)).round(2).tolist()),
}


def number(value: Any) -> float:
    return float(value.toordinal() if isinstance(value, dt.date) else value)


@pytest.mark.parametrize("name", list(SPREAD))
def test_spread_values_keep_their_distribution(name: str) -> None:
    column, values = SPREAD[name]
    settled = measured(column, values)
    assert np.mean([not settled.min <= value <= settled.max for value in values]) < 0.1
    made = synthetic(column, values)
    assert None not in made and Counter(made).most_common(1)[0][1] < 0.05 * len(made), "none is heaped on a bound"
    ours, theirs = (np.sort([number(value) for value in table]) for table in (values, made))
    apart = [abs(np.searchsorted(ours, x) - np.searchsorted(theirs, x)) for x in ours]
    assert max(apart) < 0.08 * len(values)


def test_an_open_column_without_values_stays_empty() -> None:
    assert set(synthetic(Integer(name="x"), [None] * 2000)) == {None}
