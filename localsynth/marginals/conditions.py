"""What a column's value is to be when rows are drawn under a condition: a set of values, or a range."""

import math
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from localsynth.errors import ConfigError
from localsynth.marginals.domain import Attribute
from localsynth.marginals.steps import Structured, from_step, to_step
from localsynth.schema import Value

__all__ = ["Allowed", "Between", "Condition", "allowed_steps"]


@dataclass(frozen=True)
class Between:
    """From `low` to `high`, both included; None leaves that side open. Never a missing value. Not for categories."""

    low: Value = None
    high: Value = None


Condition: TypeAlias = AbstractSet[Value] | Between
"""A set of values, None in it for a missing one; or a range."""


@dataclass(frozen=True)
class Allowed:
    """For each bin the allowed steps, as ascending runs (first, one past the last); and whether a missing value is."""

    attribute: Attribute
    runs: tuple[tuple[tuple[int, int], ...], ...]
    missing: bool

    def fraction(self, bin_: int) -> float:
        """The allowed part of a bin's values."""
        if bin_ == self.attribute.missing:
            return float(self.missing)
        starts = self.attribute.starts
        return sum(stop - first for first, stop in self.runs[bin_]) / (starts[bin_ + 1] - starts[bin_])

    def pick(self, bin_: int, uniform: float) -> Value:
        """The value that `uniform`, in [0, 1), points to among the evenly likely allowed ones of a bin that has some."""
        if bin_ == self.attribute.missing:
            return None
        width = sum(stop - first for first, stop in self.runs[bin_])
        place = min(width - 1, int(uniform * width))
        for first, stop in self.runs[bin_]:
            if place < stop - first:
                return from_step(self.attribute.column, first + place)
            place -= stop - first
        raise AssertionError("the bin has no allowed value")


def _runs_of_range(column: Structured, steps: int, between: Between) -> list[tuple[int, int]]:
    first, stop = 0, steps
    if between.low is not None:
        first = max(0, to_step(column, between.low))
        # The bound may lie between two steps.
        if first < steps and from_step(column, first) < between.low:  # type: ignore[operator]
            first += 1
    if between.high is not None:
        last = min(steps - 1, to_step(column, between.high))
        if last >= 0 and from_step(column, last) > between.high:  # type: ignore[operator]
            last -= 1
        stop = last + 1
    return [(first, stop)] if first < stop else []


def _runs_of_values(column: Structured, steps: int, values: AbstractSet[Value]) -> list[tuple[int, int]]:
    found = sorted({to_step(column, value) for value in values if value is not None})
    if any(not 0 <= step < steps or from_step(column, step) not in values for step in found):
        raise ValueError("a value is outside the schema")
    return [(step, step + 1) for step in found]


def allowed_steps(attribute: Attribute, condition: Condition | None) -> Allowed:
    """What `condition` allows; all of it for None. Raises ConfigError where nothing is, or the values do not fit the column."""
    column, starts = attribute.column, attribute.starts
    steps = starts[-1]
    try:
        if condition is None:
            runs, missing = [(0, steps)], attribute.missing is not None
        elif isinstance(condition, Between):
            if not attribute.ordinal:
                raise TypeError("no order")
            numbers = [b for b in (condition.low, condition.high) if isinstance(b, float)]
            if any(math.isnan(b) or math.isinf(b) for b in numbers):
                raise ValueError("not a number")
            runs, missing = _runs_of_range(column, steps, condition), False
        else:
            runs, missing = _runs_of_values(column, steps, condition), None in condition and attribute.missing is not None
    except (ValueError, TypeError, OverflowError):
        raise ConfigError(
            f"The condition on column {attribute.name!r} does not fit the column.",
            "Give values of the column's schema, or for numbers and dates a range.",
        ) from None
    if not runs and not missing:
        raise ConfigError(f"The condition on column {attribute.name!r} allows no value.", "Widen it; the schema has the bounds.")
    cut = []
    for first, stop in pairwise(starts):
        cut.append(tuple((max(a, first), min(b, stop)) for a, b in runs if a < stop and b > first))
    return Allowed(attribute, tuple(cut), missing)
