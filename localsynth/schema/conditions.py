"""Sets of values of a column, which conditions and constraints leave.

Knows the effective schema, which is public; nothing about sampling.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from localsynth.schema.columns import Boolean, Category, Column, Value
from localsynth.schema.ordinals import Ordered, from_int, to_int

Interval = tuple[int, int]


@dataclass(frozen=True)
class Single:
    """The one value a set has."""

    value: Value


@dataclass(frozen=True)
class Allowed:
    """A set of values of one column.

    An ordered column (integer, number, date, datetime) has `intervals`, disjoint and ascending, of its values as
    integers (`to_int`); every other kind has `values`. `null` says whether the missing value belongs to the set.
    """

    column: Column = field(hash=False)
    intervals: tuple[Interval, ...] = ()
    values: frozenset[Value] = frozenset()
    null: bool = False

    @property
    def empty(self) -> bool:
        """No value at all."""
        return not (self.intervals or self.values or self.null)

    @property
    def single(self) -> Single | None:
        """The value of a set that has only one."""
        if self.null:
            return None if self.intervals or self.values else Single(None)
        if len(self.values) == 1:
            return Single(next(iter(self.values)))
        if isinstance(self.column, Ordered) and len(self.intervals) == 1 and self.intervals[0][0] == self.intervals[0][1]:
            return Single(from_int(self.column, self.intervals[0][0]))
        return None

    def __contains__(self, value: Value) -> bool:
        if value is None:
            return self.null
        if isinstance(self.column, Ordered):
            number = to_int(self.column, value)
            return any(low <= number <= high for low, high in self.intervals)
        return value in self.values

    def pieces(self) -> list[Column]:
        """Narrowed copies of the column, none nullable, whose values together are the set's values but for the missing one."""
        column = self.column
        if isinstance(column, Ordered):
            bounds = [(from_int(column, low), from_int(column, high)) for low, high in self.intervals]
            return [column.model_copy(update={"min": low, "max": high, "nullable": False}) for low, high in bounds]
        if not self.values:
            return []
        if isinstance(column, Boolean) and len(self.values) == 2:
            return [column.model_copy(update={"nullable": False})]
        if isinstance(column, Boolean):
            # A boolean with one value left is the category of that value's spelling.
            return [Category(name=column.name, values=["yes" if True in self.values else "no"], nullable=False)]
        values = sorted(str(value) for value in self.values)
        descriptions = {v: d for v, d in column.descriptions.items() if v in values} if isinstance(column, Category) else {}
        return [Category(name=column.name, values=values, descriptions=descriptions, nullable=False)]


Conditions = Mapping[str, Allowed]
"""Column name → the values it may have. Columns without a condition are not in it."""


def everything(column: Column) -> Allowed:
    """All values of a column but the missing one. Text has no list of its values, so no complement."""
    if isinstance(column, Ordered):
        return Allowed(column, intervals=((to_int(column, column.min), to_int(column, column.max)),))
    if isinstance(column, Category):
        return Allowed(column, values=frozenset(column.allowed()))
    return Allowed(column, values=frozenset({True, False}) if isinstance(column, Boolean) else frozenset())


def whole(column: Column) -> Allowed:
    """All values of a column, the missing one among them where it may be."""
    found = everything(column)
    return Allowed(column, found.intervals, found.values, column.nullable)


def intersection(a: Allowed, b: Allowed) -> Allowed:
    """Values in both sets of a column."""
    both = [(max(low, other_low), min(high, other_high)) for low, high in a.intervals for other_low, other_high in b.intervals]
    intervals = tuple(sorted(piece for piece in both if piece[0] <= piece[1]))
    return Allowed(a.column, intervals, a.values & b.values, a.null and b.null)


def union(a: Allowed, b: Allowed) -> Allowed:
    """Values in either set of a column."""
    merged: list[Interval] = []
    for low, high in sorted(a.intervals + b.intervals):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return Allowed(a.column, tuple(merged), a.values | b.values, a.null or b.null)


def only(column: Column, value: Value) -> Allowed:
    """The set of the one value, which the effective schema allows."""
    if value is None:
        return Allowed(column, null=True)
    if isinstance(column, Ordered):
        number = to_int(column, value)
        return Allowed(column, intervals=((number, number),))
    return Allowed(column, values=frozenset({value}))
