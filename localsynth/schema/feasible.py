"""Which values a column may have so that no constraint is broken, given what else is known of the row.

For each value of a column a constraint is looked at as true, false or unknown, as far as the known values decide it; what is
undecided may be any of them. So a value is left out only where the row would break a constraint whatever else it has: rows
drawn column by column from these sets seldom, but not never, break one, and are looked at once more when they are whole.

Knows the effective schema and conditions, which are public; nothing about how rows are drawn.
"""

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from localsynth.errors import ConfigError
from localsynth.schema.columns import Category, Column, Date, DateTime, Integer, Number, Record, Schema, Value
from localsynth.schema.conditions import Allowed, Conditions, everything, intersection, only, union, whole
from localsynth.schema.constraints import NEGATED, TURNED, All, Comparison, Constant, Missing, Name, Node, Not, by_day
from localsynth.schema.ordinals import Ordered, from_ordinal, ordinal

__all__ = ["Possible", "check_constraints"]

_MOST_STEPS = 20_000
"""Of the search for an example, so that it ends."""
_DAY = 86_400
_EPOCH = dt.date(1970, 1, 1).toordinal()


@dataclass(frozen=True)
class _Sets:
    """The values of one column for which a condition can be true, false, unknown."""

    true: Allowed
    false: Allowed
    unknown: Allowed


@dataclass(frozen=True)
class _Spread:
    """What the other side of a comparison may be: between two values, or one of some; and whether it may be missing."""

    low: Any
    high: Any
    values: frozenset[Value]
    null: bool


class Possible:
    """The constraints of an effective schema, asked column by column. False where there are none."""

    def __init__(self, schema: Schema) -> None:
        self.constraints = schema.read_constraints()
        self._columns = {column.name: column for column in schema.columns}
        named = {name for constraint in self.constraints for name in constraint.names}
        self.names = [column.name for column in schema.columns if column.name in named]
        """The columns that constraints are about, in the schema's order."""

    def __bool__(self) -> bool:
        return bool(self.constraints)

    def holds(self, row: Record) -> bool:
        """Whether a row breaks no constraint."""
        return not any(constraint.broken(row) for constraint in self.constraints)

    def of_column(self, name: str, known: Record, asked: Conditions) -> Allowed:
        """The values of column `name` that are asked for and break no constraint, where the row has the values `known`.

        `asked`: conditions on any columns. May be empty, and may hold values for which the rest of the row cannot be completed.
        """
        column = self._columns[name]
        found = asked.get(name, whole(column))
        for constraint in self.constraints:
            if name in constraint.names:
                sets = _Look(self._columns, column, known, asked).at(constraint.tree)
                found = intersection(found, union(sets.true, sets.unknown))
        return found

    def example(self, asked: Conditions) -> Record | None:
        """Values of `names` that are asked for and break no constraint; None where none were found.

        Order and equality are all that constraints see, so values at and next to the bounds, the constants and the ends of
        conditions are enough to look at. The search ends after a fixed number of steps.
        """
        points = self._points(asked)
        steps = 0

        def search(place: int, known: Record) -> Record | None:
            nonlocal steps
            if place == len(self.names):
                return known if self.holds(known) else None
            allowed = self.of_column(self.names[place], known, asked)
            for value in _candidates(allowed, points, len(self.names)):
                steps += 1
                if steps > _MOST_STEPS:
                    return None
                found = search(place + 1, {**known, self.names[place]: value})
                if found is not None:
                    return found
            return None

        return search(0, {})

    def settled(self, row: Record) -> Conditions:
        """Conditions that allow the values which a row has of `names`, and no other."""
        return {name: only(self._columns[name], row[name]) for name in self.names}

    def _points(self, asked: Conditions) -> list[Value]:
        """Values that the columns are compared with, or end at."""
        points: set[Value] = set()
        for name in self.names:
            column = self._columns[name]
            if isinstance(column, Ordered):
                for low, high in asked.get(name, everything(column)).intervals:
                    points |= {from_ordinal(column, low), from_ordinal(column, high)}
        for constraint in self.constraints:
            points |= {atom.right.value for atom in constraint.comparisons if isinstance(atom.right, Constant)}
        return list(points)


def check_constraints(schema: Schema) -> None:
    """Raise ConfigError where no row can keep all constraints. Bounds and lists may be open: then any value may come."""
    if not schema.constraints:
        return
    constants: dict[str, set[str]] = {}
    for constraint in schema.read_constraints():
        for atom in constraint.comparisons:
            if isinstance(atom.right, Constant):
                constants.setdefault(atom.left.name, set()).add(str(atom.right.value))
    widest = [_widest(column, constants.get(column.name, set())) for column in schema.columns]
    if Possible(schema.model_copy(update={"columns": widest})).example({}) is not None:
        return
    alone = [text for text in schema.constraints if _cannot_hold(schema, widest, text)]
    raise ConfigError(
        f"The constraint {alone[0]!r} can hold in no row that the schema allows."
        if alone
        else "No row was found that keeps all of schema.constraints together and that the schema allows.",
        "Correct it, or widen the bounds and lists of its columns, in localsynth.toml.",
    )


def _cannot_hold(schema: Schema, columns: list[Column], text: str) -> bool:
    return Possible(schema.model_copy(update={"columns": columns, "constraints": [text]})).example({}) is None


def _widest(column: Column, constants: set[str]) -> Column:
    """The column with the widest bounds, or the fullest list, that measuring could give it."""
    if isinstance(column, Category) and column.values is None:
        return column.model_copy(update={"values": sorted({*constants, "some value"}), "other": "other"})
    ends: dict[type, tuple[Value, Value]] = {
        Integer: (-(2**62), 2**62),
        Number: (-1e15, 1e15),
        Date: (dt.date.min, dt.date.max),
        DateTime: (dt.datetime.min, dt.datetime.max.replace(microsecond=0)),
    }
    if not isinstance(column, Ordered):
        return column
    low, high = ends[type(column)]
    return column.model_copy(
        update={"min": low if column.min is None else column.min, "max": high if column.max is None else column.max}
    )


class _Look:
    """One look at a constraint from one column, with some values known."""

    def __init__(self, columns: dict[str, Column], column: Column, known: Record, asked: Conditions) -> None:
        self._columns, self._column, self._known, self._asked = columns, column, known, asked
        self._all, self._none = whole(column), Allowed(column)
        self._null = Allowed(column, null=column.nullable)

    def at(self, node: Node) -> _Sets:
        if isinstance(node, Not):
            sets = self.at(node.part)
            return _Sets(sets.false, sets.true, sets.unknown)
        if isinstance(node, Comparison):
            return self._comparison(node)
        if isinstance(node, Missing):
            return self._missing(node)
        parts = [self.at(part) for part in node.parts]
        if not isinstance(node, All):
            parts = [_Sets(sets.false, sets.true, sets.unknown) for sets in parts]
        both = parts[0]
        for sets in parts[1:]:
            both = _and(both, sets)
        return both if isinstance(node, All) else _Sets(both.false, both.true, both.unknown)

    def _missing(self, node: Missing) -> _Sets:
        if node.left.name == self._column.name:
            return _Sets(self._null, everything(self._column), self._none)
        spread = self._spread(node.left)
        return _Sets(self._if(spread.null), self._if(_has_values(spread)), self._none)

    def _comparison(self, node: Comparison) -> _Sets:
        left, sign, right = node.left, node.sign, node.right
        if isinstance(right, Name) and right.name == self._column.name:
            left, sign, right = right, TURNED[sign], left
        spread = self._spread(right)
        if left.name == self._column.name:
            true, false = self._none, self._none
            if _has_values(spread):
                true, false = (_where(self._column, s, spread) for s in (sign, NEGATED[sign]))
            return _Sets(true, false, self._all if spread.null else self._null)
        other = self._spread(left)
        valued = _has_values(spread) and _has_values(other)
        true, false = (self._if(valued and _can_be(other, s, spread)) for s in (sign, NEGATED[sign]))
        return _Sets(true, false, self._if(spread.null or other.null))

    def _if(self, truth: bool) -> Allowed:
        return self._all if truth else self._none

    def _spread(self, side: Name | Constant) -> _Spread:
        if isinstance(side, Constant):
            return _Spread(side.value, side.value, frozenset({side.value}), False)
        if side.name in self._known:
            value = self._known[side.name]
            return _Spread(value, value, frozenset() if value is None else frozenset({value}), value is None)
        column = self._columns[side.name]
        allowed = self._asked.get(side.name, whole(column))
        if isinstance(column, Ordered) and allowed.intervals:
            low, high = (from_ordinal(column, end) for end in (allowed.intervals[0][0], allowed.intervals[-1][1]))
            return _Spread(low, high, frozenset(), allowed.null)
        return _Spread(None, None, allowed.values, allowed.null)


def _and(a: _Sets, b: _Sets) -> _Sets:
    unknown = union(
        intersection(a.unknown, union(b.true, b.unknown)),
        intersection(b.unknown, union(a.true, a.unknown)),
    )
    return _Sets(intersection(a.true, b.true), union(a.false, b.false), unknown)


def _has_values(spread: _Spread) -> bool:
    return spread.low is not None or bool(spread.values)


def _less(a: Value, b: Value, or_equal: bool) -> bool:
    a, b = by_day(a, b)
    return bool(a < b or (or_equal and a == b))  # type: ignore[operator]


def _can_be(left: _Spread, sign: str, right: _Spread) -> bool:
    """Whether some value of one is in that relation to some value of the other."""
    if left.low is None or right.low is None or isinstance(left.low, str | bool):
        if sign == "=":
            return bool(left.values & right.values)
        return len(left.values | right.values) > 1
    if sign in ("<", "<="):
        return _less(left.low, right.high, sign == "<=")
    if sign in (">", ">="):
        return _less(right.low, left.high, sign == ">=")
    meet = _less(left.low, right.high, True) and _less(right.low, left.high, True)
    return meet if sign == "=" else not (meet and left.low == left.high and right.low == right.high)


def _where(column: Column, sign: str, other: _Spread) -> Allowed:
    """The values of a column, the missing one not among them, that are in that relation to some value of the other side."""
    everywhere = everything(column)
    if not isinstance(column, Ordered):
        if sign == "=":
            return intersection(everywhere, Allowed(column, values=other.values))
        return everywhere if len(other.values) > 1 else Allowed(column, values=everywhere.values - other.values)
    (first_low, last_low), (first_high, last_high) = _places(column, other.low), _places(column, other.high)
    least, most = -(10**40), 10**40
    pieces = {
        "<": [(least, first_high - 1)],
        "<=": [(least, last_high)],
        ">": [(last_low + 1, most)],
        ">=": [(first_low, most)],
        "=": [(first_low, last_high)],
        "<>": [(least, first_low - 1), (last_low + 1, most)] if other.low == other.high else [(least, most)],
    }[sign]
    return intersection(everywhere, Allowed(column, intervals=tuple((low, high) for low, high in pieces if low <= high)))


def _places(column: Ordered, value: Any) -> tuple[int, int]:
    """(the first ordinal number of the column at or above a value, the last one at or below it).

    The first is above the last where the column cannot have the value, and below it where several of its values equal it: a
    moment equals a day on all of it.
    """
    if isinstance(column, DateTime) and not isinstance(value, dt.datetime):
        midnight = (value.toordinal() - _EPOCH) * _DAY
        return midnight, midnight + _DAY - 1
    if isinstance(column, Date):
        day = (value.date() if isinstance(value, dt.datetime) else value).toordinal()
        return day, day
    if isinstance(column, DateTime):
        place = ordinal(column, value)
        return place, place
    scaled = Decimal(str(value)).scaleb(column.decimals if isinstance(column, Number) else 0)
    return math.ceil(scaled), math.floor(scaled)


def _candidates(allowed: Allowed, points: Sequence[Value], distance: int) -> Iterator[Value]:
    """Values of a set to look at, those first that leave most room to the others."""
    column = allowed.column
    if isinstance(column, Ordered):
        places: set[int] = {end for piece in allowed.intervals for end in piece}
        unit = {Number: 10 ** getattr(column, "decimals", 0), DateTime: _DAY}.get(type(column), 1)
        for point in points:
            if isinstance(point, str | bool) or isinstance(point, dt.date) != isinstance(column, Date | DateTime):
                continue
            for place in _places(column, point):
                places |= {place + step * by for by in range(-distance, distance + 1) for step in (1, unit)}
        for place in sorted(places):
            if any(low <= place <= high for low, high in allowed.intervals):
                yield from_ordinal(column, place)
    else:
        yield from sorted(allowed.values, key=str)
    if allowed.null:
        yield None
