"""Bounds, category lists and the number of units, measured under differential privacy.

Exact minima, maxima or lists of values would reveal single rows. Each measurement here is
charged before it runs.
"""

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np

from localsynth.ingest.measurement import Measurement
from localsynth.privacy.accountant import Mechanism
from localsynth.privacy.grids import Grid, date_grid, datetime_grid, integer_grid, number_grid
from localsynth.privacy.mechanisms import CategoriesPlan, CountPlan, RangePlan
from localsynth.privacy.noise import RandomSource
from localsynth.schema.columns import Category, Column, Date, DateTime, Integer, Number
from localsynth.store.private import PrivateStore

Charge = Callable[[str, Mechanism], None]
"""Records (what is measured, its mechanism) in the ledger, or raises BudgetError; called before anything is released."""


def measure_unit_count(units: int, epsilon: float, charge: Charge) -> int:
    """The noisy number of units. A unit counts once, however many rows it has."""
    plan = CountPlan(epsilon)
    charge("number of units", plan.mechanism)
    return plan.release(units)


def measure_column(
    column: Column, index: int, store: PrivateStore, measurement: Measurement, charge: Charge, random: RandomSource
) -> Column:
    """`column` (the `index`-th learned one) with its open bounds or list filled in from the training rows."""
    fields = column.unmeasured()
    if isinstance(column, Category):
        assert measurement.delta is not None
        plan = CategoriesPlan(measurement.noise_multiplier, measurement.delta, measurement.contributions)
        charge(f"list of values of column {column.name}", plan.mechanism)
        values = plan.release([str(value) for value in store.column_values(index, "train") if value is not None], random)
        other = column.other or _unused_name(values)
        listed = [value for value in values if value != other]
        found = [*listed, other]
        descriptions = _usable_descriptions(column, found)
        return column.model_copy(update={"values": found, "other": other, "descriptions": descriptions, "measured": fields})
    assert isinstance(column, Integer | Number | Date | DateTime)
    ranges = RangePlan(measurement.noise_multiplier, measurement.contributions, _grid(column))
    charge(f"range of column {column.name}", ranges.mechanism)
    present = [value for value in store.column_values(index, "train") if value is not None]
    released = ranges.release(np.array([_to_number(value) for value in present], dtype=float), random)
    low, high = (_from_number(column, value) for value in released)
    declared = {"min": column.min, "max": column.max}
    bounds: dict[str, Any] = {"min": low, "max": high} | {k: v for k, v in declared.items() if v is not None}
    if bounds["min"] > bounds["max"]:
        # One bound is declared and the data is beyond it: the range is then that one value.
        bounds = dict.fromkeys(bounds, next(v for v in declared.values() if v is not None))
    return column.model_copy(update={**bounds, "measured": fields})


def _usable_descriptions(column: Category, values: list[str]) -> dict[str, str]:
    """The descriptions of measured values, without those that would make a value read like another one."""
    taken, usable = set(values), {}
    for value in values:
        description, spelled = column.descriptions.get(value), column.spelled(value)
        if description is not None and spelled not in taken:
            usable[value] = description
            taken.add(spelled)
    return usable


def _unused_name(values: list[str]) -> str:
    name = "other"
    while name in values:
        name += "_"
    return name


def _grid(column: Integer | Number | Date | DateTime) -> Grid:
    if isinstance(column, Integer):
        return integer_grid()
    if isinstance(column, Number):
        return number_grid(column.decimals)
    return datetime_grid() if isinstance(column, DateTime) else date_grid()


_EPOCH = dt.datetime(1970, 1, 1)


def _to_number(value: Any) -> float:
    if isinstance(value, dt.datetime):
        return (value - _EPOCH).total_seconds()
    if isinstance(value, dt.date):
        return float(value.toordinal())
    return float(value)


def _from_number(column: Column, number: float) -> Any:
    if isinstance(column, DateTime):
        return _EPOCH + dt.timedelta(seconds=round(number))
    if isinstance(column, Date):
        return dt.date.fromordinal(round(number))
    return round(number) if isinstance(column, Integer) else float(number)
