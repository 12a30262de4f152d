"""Values as whole numbers: every structured column is a run of evenly spaced steps 0, 1, 2, ... on its public bounds.

A category's steps are its list of values, a number's its decimals, a date's the days, a datetime's the seconds. Only the
effective schema is read, so nothing here depends on the rows. Whole numbers have no size limit in Python: neither have steps.
"""

import datetime as dt
from typing import Any

from localsynth.schema.columns import (
    Boolean,
    Category,
    Column,
    Date,
    DateTime,
    Identifier,
    Integer,
    Number,
    Surrogate,
    Text,
    Value,
)

__all__ = [
    "Ordered",
    "Structured",
    "from_ordinal",
    "from_step",
    "is_structured",
    "ordinal",
    "special_steps",
    "step_count",
    "to_step",
]

Ordered = Integer | Number | Date | DateTime
Structured = Category | Boolean | Integer | Number | Date | DateTime

_EPOCH = dt.datetime(1970, 1, 1)


def is_structured(column: Column) -> bool:
    """Whether the column has steps: not so text, identifiers and surrogates."""
    return not isinstance(column, Text | Identifier | Surrogate)


def ordinal(column: Ordered, value: Any) -> int:
    """The place of a value among all values that a column of this kind can have, whatever its bounds: whole units from zero."""
    if isinstance(column, DateTime):
        since: dt.timedelta = value - _EPOCH
        return since.days * 86_400 + since.seconds
    if isinstance(column, Date):
        return int(value.toordinal())
    if isinstance(column, Number):
        return round(float(value) * int(10**column.decimals))
    return int(value)


def from_ordinal(column: Ordered, number: int) -> Value:
    """The inverse of `ordinal`."""
    if isinstance(column, DateTime):
        return _EPOCH + dt.timedelta(seconds=number)
    if isinstance(column, Date):
        return dt.date.fromordinal(number)
    if isinstance(column, Number):
        return round(number / int(10**column.decimals), column.decimals)
    return number


def step_count(column: Structured) -> int:
    """How many different values the column has, null not among them. Needs the effective schema."""
    if isinstance(column, Category):
        return len(column.allowed())
    if isinstance(column, Boolean):
        return 2
    assert column.max is not None, "steps need the effective schema"
    return to_step(column, column.max) + 1


def to_step(column: Structured, value: Any) -> int:
    """The step of a value that `schema.conform` let through. Raises ValueError (category) or TypeError on any other."""
    if isinstance(column, Category):
        return column.allowed().index(value)
    if isinstance(column, Boolean):
        return int(bool(value))
    assert column.min is not None, "steps need the effective schema"
    return ordinal(column, value) - ordinal(column, column.min)


def from_step(column: Structured, step: int) -> Value:
    """The inverse of `to_step`: a value inside the column's bounds."""
    if isinstance(column, Category):
        return column.allowed()[step]
    if isinstance(column, Boolean):
        return bool(step)
    assert column.min is not None and column.max is not None, "steps need the effective schema"
    value = from_ordinal(column, ordinal(column, column.min) + step)
    if isinstance(column, Number):
        # Rounded once; where steps are finer than floats even that may leave the bounds.
        return min(column.max, max(column.min, value))  # type: ignore[type-var]
    return value


def special_steps(column: Structured, steps: int) -> list[int]:
    """Steps that many rows may share for reasons known beforehand, ascending: both bounds, where values beyond them are
    brought to, and zero, the usual value of an amount that is not there."""
    special = {0, steps - 1}
    if isinstance(column, Integer | Number):
        assert column.min is not None and column.max is not None
        if column.min <= 0 <= column.max:
            special.add(to_step(column, 0))
    return sorted(special)
