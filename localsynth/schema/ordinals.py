"""Values as integers.

`to_int` counts in units that depend on the column's kind alone: days, seconds, smallest
decimals. `to_ordinal` numbers the values of a structured column 0, 1, 2, ... within its
public bounds or list.

Only the effective schema is read, so nothing here depends on the rows. Integers have no
size limit in Python: neither have ordinals.
"""

import datetime as dt
from typing import Any

from localsynth.schema.columns import Boolean, Category, Date, DateTime, Integer, Number, Time, Value

Ordered = Integer | Number | Date | DateTime | Time
Structured = Category | Boolean | Ordered
"""Columns whose values have ordinals."""

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
    assert column.max is not None, "ordinals need the effective schema"
    return to_ordinal(column, column.max) + 1


def to_ordinal(column: Structured, value: Any) -> int:
    """The ordinal of a value that `conform` let through. Raises ValueError (category) or TypeError on any other."""
    if isinstance(column, Category):
        return column.allowed().index(value)
    if isinstance(column, Boolean):
        return int(bool(value))
    assert column.min is not None, "ordinals need the effective schema"
    return to_int(column, value) - to_int(column, column.min)


def from_ordinal(column: Structured, ordinal: int) -> Value:
    """The inverse of `to_ordinal`: a value inside the column's bounds."""
    if isinstance(column, Category):
        return column.allowed()[ordinal]
    if isinstance(column, Boolean):
        return bool(ordinal)
    assert column.min is not None and column.max is not None, "ordinals need the effective schema"
    value = from_int(column, to_int(column, column.min) + ordinal)
    if isinstance(column, Number):
        # Rounded once; where decimals are finer than floats even that may leave the bounds.
        return min(column.max, max(column.min, value))  # type: ignore[type-var]
    return value


def special_ordinals(column: Structured, count: int) -> list[int]:
    """Ordinals that many rows may share for public reasons, ascending; `count` is that of all values.

    They are both bounds, to which values beyond them are clamped, and zero, the usual
    amount of what is not there.
    """
    special = {0, count - 1}
    if isinstance(column, Integer | Number):
        assert column.min is not None and column.max is not None
        if column.min <= 0 <= column.max:
            special.add(to_ordinal(column, 0))
    return sorted(special)
