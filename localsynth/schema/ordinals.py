"""Values as integers.

`to_int` counts in units that depend on the column's kind alone: days, seconds, smallest
decimals. `to_ordinal` numbers the values of a structured column 0, 1, 2, ... within its
public bounds or list, by its step where it has one.

Only the effective schema is read, so nothing here depends on the rows. Integers have no
size limit in Python: neither have ordinals.
"""

import datetime as dt
from typing import Any

from localsynth.schema.columns import Boolean, Category, Date, DateTime, Integer, Number, Time, Value
from localsynth.schema.formats import MomentFormat

Ordered = Integer | Number | Date | DateTime | Time
Structured = Category | Boolean | Ordered
"""Columns whose values have ordinals."""

MISSING = -1
"""In place of the ordinal of a missing value."""

_EPOCH = dt.datetime(1970, 1, 1)


def to_int(column: Ordered, value: Any) -> int:
    """A value of an ordered column as an integer, whatever the bounds. Keeps the order."""
    if isinstance(column, DateTime):
        since: dt.timedelta = value - _EPOCH
        return since.days * 86_400 + since.seconds
    if isinstance(column, Date):
        return int(value.toordinal())
    if isinstance(column, Number):
        return round(float(value) * int(10**column.decimals))
    return int(value)


def from_int(column: Ordered, number: int) -> Value:
    """The inverse of `to_int`."""
    if isinstance(column, DateTime):
        return _EPOCH + dt.timedelta(seconds=number)
    if isinstance(column, Date):
        return dt.date.fromordinal(number)
    if isinstance(column, Number):
        return round(number / int(10**column.decimals), column.decimals)
    return number


def value_count(column: Structured) -> int:
    """The number of different values, without the missing one. Needs the effective schema."""
    if isinstance(column, Category):
        return len(column.allowed())
    if isinstance(column, Boolean):
        return 2
    assert column.min is not None and column.max is not None, "ordinals need the effective schema"
    return (to_int(column, column.max) - to_int(column, column.min)) // step_of(column) + 1


def step_of(column: Ordered) -> int:
    """How far values are apart, in the units of `to_int`."""
    if isinstance(column, Date):
        return 1
    if isinstance(column, DateTime):
        return column.step or (1 if column.format is None else MomentFormat.of(column.format).seconds)
    return 1 if column.step is None else to_int(column, column.step)


def ordinal_from(column: Ordered, number: int) -> int:
    """The ordinal of the first value at or above a number of `to_int`; it may lie outside the bounds."""
    return -((to_int(column, column.min) - number) // step_of(column))


def to_ordinal(column: Structured, value: Any) -> int:
    """The ordinal of a value that `conform` let through, or of the nearest value that is of the column's step.

    Raises ValueError (category) or TypeError on any other.
    """
    if isinstance(column, Category):
        return column.allowed().index(value)
    if isinstance(column, Boolean):
        return int(bool(value))
    assert column.min is not None, "ordinals need the effective schema"
    distance, step = to_int(column, value) - to_int(column, column.min), step_of(column)
    nearest = (distance + step // 2) // step
    # There may be no value of the step at the upper bound.
    return (
        nearest - 1
        if step > 1 and nearest * step > to_int(column, column.max) - to_int(column, column.min) >= distance
        else nearest
    )


def from_ordinal(column: Structured, ordinal: int) -> Value:
    """The inverse of `to_ordinal`: a value inside the column's bounds."""
    if isinstance(column, Category):
        return column.allowed()[ordinal]
    if isinstance(column, Boolean):
        return bool(ordinal)
    assert column.min is not None and column.max is not None, "ordinals need the effective schema"
    value = from_int(column, to_int(column, column.min) + ordinal * step_of(column))
    if isinstance(column, Number):
        # Rounded once; where decimals are finer than floats even that may leave the bounds.
        return min(column.max, max(column.min, value))  # type: ignore[type-var]
    return value


def shared_ordinals(column: Ordered) -> set[int]:
    """Ordinals that many rows may share: `common` values, declared bounds (others are clamped to them), and zero, the usual
    amount of what is not there."""
    shared: list[Any] = [*(column.common or []), *(getattr(column, end) for end in ("min", "max") if end not in column.measured)]
    if isinstance(column, Integer | Number):
        shared.append(0)
    low, high = (to_int(column, getattr(column, end)) for end in ("min", "max"))
    return {to_ordinal(column, value) for value in shared if low <= to_int(column, value) <= high}
