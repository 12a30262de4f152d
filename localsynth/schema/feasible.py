"""Which values a column may have so that no constraint is violated, given what else is known of the row.

For each value of a column a constraint is true, false or unknown, as far as the known
values decide it. A value is left out only where the row would violate a constraint
whatever else it has. So rows sampled column by column from these sets can still violate
one, if seldom, and are checked when they are complete.

Knows the effective schema and conditions, which are public; nothing about sampling.
"""

import datetime as dt
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from typing import Any

from localsynth.errors import ConfigError
from localsynth.schema.columns import Category, Column, Date, DateTime, Integer, Number, Record, Schema, Text, Value
from localsynth.schema.conditions import Allowed, Conditions, everything, intersection, only, union, whole
from localsynth.schema.ordinals import Ordered, from_int, to_int
from localsynth.schema.sql_conditions import FLIPPED, NEGATED, All, AnyOf, Comparison, Constant, Missing, Name, Node, Not, by_day

_MAX_STEPS = 20_000
"""Of the search for a witness, so that it ends."""
_FAR = 10**40
"""Above the integer of any value."""
_DAY = 86_400
_EPOCH = dt.date(1970, 1, 1).toordinal()


@dataclass(frozen=True)
class _Sets:
    """The values of one column for which a condition can be true, false, unknown."""

    true: Allowed
    false: Allowed
    unknown: Allowed


@dataclass(frozen=True)
class _Range:
    """The other side of a comparison: values between two, or one of some; and whether it may be missing."""

    low: Any
    high: Any
    values: frozenset[Value]
    null: bool

    @property
    def has_values(self) -> bool:
        return self.low is not None or bool(self.values)


class FeasibleSet:
    """The rows that satisfy the constraints of an effective schema, column by column. False where there are none."""

    def __init__(self, schema: Schema) -> None:
        self.constraints = schema.read_constraints()
        self._columns = {column.name: column for column in schema.columns}
        named = {name for constraint in self.constraints for name in constraint.names}
        self.names = [column.name for column in schema.columns if column.name in named]
        """The columns in constraints, in the schema's order."""

    def __bool__(self) -> bool:
        return bool(self.constraints)

    def satisfied(self, row: Record) -> bool:
        """Whether a row violates no constraint."""
        return not any(constraint.violated(row) for constraint in self.constraints)

    def of_column(self, name: str, known: Record, requested: Conditions) -> Allowed:
        """The requested values of column `name` that violate no constraint, where the row has the values `known`.

        `requested`: conditions on any columns. The set may be empty, and may hold values for which the rest of the row
        cannot be completed.
        """
        column = self._columns[name]
        found = requested.get(name, whole(column))
        for constraint in self.constraints:
            if name in constraint.names:
                sets = _Evaluator(self._columns, column, known, requested).at(constraint.tree)
                found = intersection(found, union(sets.true, sets.unknown))
        return found

    def witness(self, requested: Conditions) -> Record | None:
        """Requested values of `names` that violate no constraint; None where none were found.

        Constraints see only order and equality. So it is enough to try values at and next to the bounds, the constants and
        the ends of conditions. The search ends after a fixed number of steps.
        """
        points = self._points(requested)
        steps = 0

        def search(depth: int, known: Record) -> Record | None:
            nonlocal steps
            if depth == len(self.names):
                return known if self.satisfied(known) else None
            allowed = self.of_column(self.names[depth], known, requested)
            for value in _candidates(allowed, points, len(self.names)):
                steps += 1
                if steps > _MAX_STEPS:
                    return None
                found = search(depth + 1, {**known, self.names[depth]: value})
                if found is not None:
                    return found
            return None

        return search(0, {})

    def repaired(
        self, row: Record, requested: Conditions, resample: Callable[[str, Allowed, Record], Value], fallback: Record
    ) -> Record:
        """A row that satisfies the constraints, from one that does not.

        One of `names` after the other keeps its value where that is feasible. Otherwise it gets `resample(name, feasible
        values, row so far)`. Where that does not lead to a row, all of `names` get the values of `fallback`.
        """
        repaired = dict(row)
        fixed: Record = {name: value for name, value in row.items() if name not in self.names}
        for name in self.names:
            allowed = self.of_column(name, fixed, requested)
            if allowed.empty:
                break
            if repaired[name] not in allowed:
                repaired[name] = resample(name, allowed, repaired)
            fixed[name] = repaired[name]
        return repaired if self.satisfied(repaired) else {**row, **fallback}

    def fixed(self, row: Record) -> Conditions:
        """Conditions that allow the values which a row has of `names`, and no other."""
        return {name: only(self._columns[name], row[name]) for name in self.names}

    def _points(self, requested: Conditions) -> list[Value]:
        """Values that the columns are compared with, or end at."""
        points: set[Value] = set()
        for name in self.names:
            column = self._columns[name]
            if isinstance(column, Ordered):
                for low, high in requested.get(name, everything(column)).intervals:
                    points |= {from_int(column, low), from_int(column, high)}
        for constraint in self.constraints:
            points |= {leaf.right.value for leaf in constraint.comparisons if isinstance(leaf.right, Constant)}
        return list(points)


def values_that_satisfy(condition: Node, column: Column) -> Allowed:
    """The values of a column for which a condition on it alone is true."""
    return _Evaluator({column.name: column}, column, {}, {}).at(condition).true


def check_constraints(schema: Schema) -> None:
    """Raise ConfigError where no row can satisfy all constraints. Bounds and lists may be open: then any value may come."""
    if not schema.constraints:
        return
    constants: dict[str, set[str]] = defaultdict(set)
    for constraint in schema.read_constraints():
        for leaf in constraint.comparisons:
            if isinstance(leaf.right, Constant):
                constants[leaf.left.name].add(str(leaf.right.value))
    widest = [_widest(column, constants[column.name]) for column in schema.columns]

    def can_hold(constraints: list[str]) -> bool:
        update = {"columns": widest, "constraints": constraints}
        return FeasibleSet(schema.model_copy(update=update)).witness({}) is not None

    if can_hold(schema.constraints):
        return
    alone = [text for text in schema.constraints if not can_hold([text])]
    raise ConfigError(
        f"No row that the schema allows can satisfy the constraint {alone[0]!r}."
        if alone
        else "No row was found that the schema allows and that satisfies all of schema.constraints together.",
        "Correct it, or widen the bounds and lists of its columns, in localsynth.toml.",
    )


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
    if not isinstance(column, Ordered) or not column.unmeasured():
        return column
    low, high = ends[type(column)]
    return column.model_copy(
        update={"min": low if column.min is None else column.min, "max": high if column.max is None else column.max}
    )


class _Evaluator:
    """Evaluates conditions for all values of one column at once, with some values of other columns known."""

    def __init__(self, columns: dict[str, Column], column: Column, known: Record, requested: Conditions) -> None:
        self._columns, self._column, self._known, self._requested = columns, column, known, requested
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
        if isinstance(node, AnyOf):
            return self.at(Not(All(tuple(Not(part) for part in node.parts))))
        return reduce(_and, (self.at(part) for part in node.parts))

    def _missing(self, node: Missing) -> _Sets:
        if node.left.name == self._column.name:
            return _Sets(self._null, everything(self._column), self._none)
        other = self._range(node.left)
        return _Sets(self._if(other.null), self._if(other.has_values), self._none)

    def _comparison(self, node: Comparison) -> _Sets:
        left, sign, right = node.left, node.sign, node.right
        if isinstance(right, Name) and right.name == self._column.name:
            left, sign, right = right, FLIPPED[sign], left
        other = self._range(right)
        if left.name == self._column.name:
            true, false = self._none, self._none
            if other.has_values:
                true, false = (_related(self._column, s, other) for s in (sign, NEGATED[sign]))
            return _Sets(true, false, self._all if other.null else self._null)
        one = self._range(left)
        both = one.has_values and other.has_values
        true, false = (self._if(both and _can_be(one, s, other)) for s in (sign, NEGATED[sign]))
        return _Sets(true, false, self._if(one.null or other.null))

    def _if(self, truth: bool) -> Allowed:
        return self._all if truth else self._none

    def _range(self, side: Name | Constant) -> _Range:
        if isinstance(side, Constant):
            return _Range(side.value, side.value, frozenset({side.value}), False)
        if side.name in self._known:
            value = self._known[side.name]
            return _Range(value, value, frozenset() if value is None else frozenset({value}), value is None)
        column = self._columns[side.name]
        allowed = self._requested.get(side.name, whole(column))
        if isinstance(column, Ordered) and allowed.intervals:
            low, high = (from_int(column, end) for end in (allowed.intervals[0][0], allowed.intervals[-1][1]))
            return _Range(low, high, frozenset(), allowed.null)
        return _Range(None, None, allowed.values, allowed.null)


def _and(a: _Sets, b: _Sets) -> _Sets:
    unknown = union(
        intersection(a.unknown, union(b.true, b.unknown)),
        intersection(b.unknown, union(a.true, a.unknown)),
    )
    return _Sets(intersection(a.true, b.true), union(a.false, b.false), unknown)


def _less(a: Value, b: Value, or_equal: bool) -> bool:
    a, b = by_day(a, b)
    return bool(a < b or (or_equal and a == b))  # type: ignore[operator]


def _can_be(left: _Range, sign: str, right: _Range) -> bool:
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


def _related(column: Column, sign: str, other: _Range) -> Allowed:
    """The values of a column, the missing one not among them, that are in that relation to some value of the other side."""
    all_values = everything(column)
    if isinstance(column, Text):
        # Text has no list of its values: only the equal ones can be named.
        return Allowed(column, values=other.values if sign == "=" else frozenset())
    if not isinstance(column, Ordered):
        if sign == "=":
            return intersection(all_values, Allowed(column, values=other.values))
        return all_values if len(other.values) > 1 else Allowed(column, values=all_values.values - other.values)
    (first_low, last_low), (first_high, last_high) = _integers(column, other.low), _integers(column, other.high)
    pieces = {
        "<": [(-_FAR, first_high - 1)],
        "<=": [(-_FAR, last_high)],
        ">": [(last_low + 1, _FAR)],
        ">=": [(first_low, _FAR)],
        "=": [(first_low, last_high)],
        "<>": [(-_FAR, first_low - 1), (last_low + 1, _FAR)] if other.low == other.high else [(-_FAR, _FAR)],
    }[sign]
    return intersection(all_values, Allowed(column, intervals=tuple((low, high) for low, high in pieces if low <= high)))


def _integers(column: Ordered, value: Any) -> tuple[int, int]:
    """(the first integer of the column at or above a value, the last one at or below it).

    The first is above the last where the column cannot have the value, and below it where several of its values equal it: a
    datetime equals a day on all of it.
    """
    if isinstance(column, DateTime) and not isinstance(value, dt.datetime):
        midnight = (value.toordinal() - _EPOCH) * _DAY
        return midnight, midnight + _DAY - 1
    if isinstance(column, Date):
        day = (value.date() if isinstance(value, dt.datetime) else value).toordinal()
        return day, day
    if isinstance(column, DateTime):
        number = to_int(column, value)
        return number, number
    scaled = Decimal(str(value)).scaleb(column.decimals if isinstance(column, Number) else 0)
    return math.ceil(scaled), math.floor(scaled)


def _candidates(allowed: Allowed, points: Sequence[Value], distance: int) -> Iterator[Value]:
    """Values of a set to look at, those first that leave most room to the others."""
    column = allowed.column
    if isinstance(column, Ordered):
        numbers: set[int] = {end for piece in allowed.intervals for end in piece}
        unit = {Number: 10 ** getattr(column, "decimals", 0), DateTime: _DAY}.get(type(column), 1)
        for point in points:
            if isinstance(point, str | bool) or isinstance(point, dt.date) != isinstance(column, Date | DateTime):
                continue
            for number in _integers(column, point):
                numbers |= {number + step * by for by in range(-distance, distance + 1) for step in (1, unit)}
        for number in sorted(numbers):
            if any(low <= number <= high for low, high in allowed.intervals):
                yield from_int(column, number)
    else:
        yield from sorted(allowed.values, key=str)
    if allowed.null:
        yield None
