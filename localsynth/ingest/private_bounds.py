"""Bounds, category lists and the number of units, measured under differential privacy.

Exact minima, maxima or lists of values would reveal single rows. Each measurement here is
charged before it runs.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localsynth.errors import ConfigError
from localsynth.ingest.measurement import Measurement
from localsynth.marginals.bin_merging import onto_simplex
from localsynth.marginals.domain import EQUAL_WIDTH_BINS
from localsynth.privacy.accountant import Mechanism
from localsynth.privacy.grids import Grid, grid_of
from localsynth.privacy.mechanisms import CategoriesPlan, CountPlan, Range, RangePlan
from localsynth.privacy.noise import RandomSource
from localsynth.schema.columns import Category, Column, Date, DateTime, Integer, Number
from localsynth.schema.ordinals import Ordered, from_int, to_int
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
    if isinstance(column, Category):
        plan = CategoriesPlan(measurement.noise_multiplier, measurement.delta, measurement.contributions)
        charge(f"list of values of column {column.name}", plan.mechanism)
        values = plan.release({str(value): rows for value, rows in store.column_counts(index, "train").items()}, random)
        other = column.other or _unused_name(values)
        listed = [value for value in values if value != other]
        found = [*listed, other]
        descriptions = _usable_descriptions(column, found)
        return column.model_copy(update={"values": found, "other": other, "descriptions": descriptions, "measured": ["values"]})
    assert isinstance(column, Integer | Number | Date | DateTime)
    grid = grid_of(column)
    ranges = RangePlan(measurement.noise_multiplier, measurement.delta, measurement.contributions, grid)
    charge(f"range of column {column.name}", ranges.mechanism)
    counts = store.column_counts(index, "train")
    measured = ranges.release(_whole_steps(column, grid, counts), random)
    if measured.hidden:
        raise ConfigError(
            f"The noise hides the range of column {column.name!r}: it has too few values.",
            "Declare its min and max, which must be public knowledge, or raise privacy.schema_epsilon; then ingest with --again. "
            "That adds a second budget of privacy.epsilon to the guarantee, as would a new workspace on the same data.",
        )
    return _with_range(column, measured)


def _whole_steps(column: Ordered, grid: Grid, counts: Mapping[Any, int]) -> NDArray[np.int64]:
    """The values of all rows as steps inside the grid, without NaN. `counts`: value → its number of rows."""
    rows = np.array(list(counts.values()), dtype=np.int64)
    if isinstance(column, Number):
        numbers = np.array(list(counts), dtype=float)
        known = ~np.isnan(numbers)
        return np.repeat(grid.steps(numbers[known]), rows[known])
    first, last = int(grid.starts[0]), int(grid.starts[-1]) - 1
    return np.repeat(np.array([min(max(to_int(column, value), first), last) for value in counts], dtype=np.int64), rows)


def _with_range(column: Integer | Number | Date | DateTime, found: Range) -> Column:
    """The column with what was found of it; what is declared stays."""
    low, high = found.starts[0], found.starts[-1] - 1
    first = -(-low // found.step) * found.step
    bounds: dict[str, Any] = {"min": from_int(column, first if first <= high else low), "max": from_int(column, high)}
    declared = {end: getattr(column, end) for end in ("min", "max") if getattr(column, end) is not None}
    bounds |= declared
    if bounds["min"] > bounds["max"]:
        # One bound is declared and the data is beyond it: the range is then that one value.
        bounds = dict.fromkeys(bounds, next(iter(declared.values())))
    low, high = (to_int(column, bounds[end]) for end in ("min", "max"))
    more: dict[str, Any] = {
        "common": [from_int(column, value) for value in sorted(found.common) if low <= value <= high],
        "edges": [from_int(column, edge) for edge in _edges(found) if low < edge <= high],
    }
    if not isinstance(column, Date) and found.step > 1 and low % found.step == 0:
        more["step"] = from_int(column, found.step) if isinstance(column, Number) else found.step
    update = bounds | {field: value for field, value in more.items() if value and getattr(column, field) is None}
    return column.model_copy(update={**update, "measured": [field for field in update if field not in declared]})


def _edges(found: Range) -> list[int]:
    """First values of bins with about equal parts of the rows, without frequent values; empty stretches are apart."""
    buckets = np.searchsorted(found.starts, list(found.common), side="right") - 1
    rows = found.rows - np.bincount(buckets, weights=list(found.common.values()), minlength=len(found.rows))
    rows = onto_simplex(rows, max(1.0, float(rows.sum())))
    below = np.concatenate([[0.0], np.cumsum(rows)])
    parts = np.interp(np.linspace(0, below[-1], EQUAL_WIDTH_BINS + 1), below, np.array(found.starts, dtype=float))
    turns = np.flatnonzero(np.diff(rows > 0)) + 1
    return sorted({int(edge) for edge in parts} | {found.starts[turn] for turn in turns})


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
