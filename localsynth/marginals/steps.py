"""Values as whole numbers: every structured column is a run of evenly spaced steps 0, 1, 2, ... on its public bounds.

A category's steps are its list of values, a number's its decimals, a date's the days, a datetime's the seconds. Only the
effective schema is read, so nothing here depends on the rows. Whole numbers have no size limit in Python: neither have steps.
"""

import datetime as dt
from typing import Any

from localsynth.schema import Boolean, Category, Column, Date, DateTime, Identifier, Integer, Number, Surrogate, Text, Value

__all__ = ["Structured", "from_step", "is_structured", "special_steps", "step_count", "to_step"]

Structured = Category | Boolean | Integer | Number | Date | DateTime

_DAY = 86_400


def is_structured(column: Column) -> bool:
    """Whether the column has steps: not so text, identifiers and surrogates."""
    return not isinstance(column, Text | Identifier | Surrogate)


def _seconds(span: dt.timedelta) -> int:
    return span.days * _DAY + span.seconds


def _lowest(column: Number) -> int:
    assert column.min is not None
    scaled: int = round(column.min * 10**column.decimals)
    return scaled


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
    if isinstance(column, Number):
        scaled: int = round(float(value) * 10**column.decimals)
        return scaled - _lowest(column)
    assert column.min is not None, "steps need the effective schema"
    if isinstance(column, Integer):
        return int(value) - column.min
    span: dt.timedelta = value - column.min
    return _seconds(span) if isinstance(column, DateTime) else span.days


def from_step(column: Structured, step: int) -> Value:
    """The inverse of `to_step`: a value inside the column's bounds."""
    if isinstance(column, Category):
        return column.allowed()[step]
    if isinstance(column, Boolean):
        return bool(step)
    if isinstance(column, Number):
        assert column.min is not None and column.max is not None
        # Rounded once; where steps are finer than floats even that may leave the bounds.
        value = round(float((_lowest(column) + step) / 10**column.decimals), column.decimals)
        return min(column.max, max(column.min, value))
    assert column.min is not None
    if isinstance(column, Integer):
        return column.min + step
    if isinstance(column, DateTime):
        return column.min + dt.timedelta(seconds=step)
    return column.min + dt.timedelta(days=step)


def special_steps(column: Structured, steps: int) -> list[int]:
    """Steps that many rows may share for reasons known beforehand, ascending: both bounds, where values beyond them are
    brought to, and zero, the usual value of an amount that is not there."""
    special = {0, steps - 1}
    if isinstance(column, Integer | Number):
        assert column.min is not None and column.max is not None
        if column.min <= 0 <= column.max:
            special.add(to_step(column, 0))
    return sorted(special)
