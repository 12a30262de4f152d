"""Conditions on columns, as `--where "rating >= 4 AND department = 'Dresses'"` states them: which values a row may have.

The condition is SQL, parsed by sqlglot, and becomes one set of allowed values for each column it names: comparisons, BETWEEN,
IN, IS NULL, NOT and AND; OR only between conditions on one column, since each column gets its own set. As in SQL, a
comparison with a missing value is neither true nor false, so such rows are left out unless IS NULL asks for them.

Knows the effective schema, which is public; nothing about how rows are drawn.
"""

import datetime as dt
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

from localsynth.errors import ConfigError
from localsynth.schema.columns import Boolean, Category, Column, Date, DateTime, Integer, Number, Schema, Text, Value
from localsynth.schema.ordinals import Ordered, from_ordinal, ordinal

__all__ = [
    "Allowed",
    "Conditions",
    "Single",
    "everything",
    "exactly",
    "intersection",
    "only",
    "parse_where",
    "union",
    "values_of",
    "whole",
]

_QUOTES = "Names that are SQL words, or have other signs than letters, digits and _, stand in double quotes. "
_HINT = "Example: --where \"rating >= 4 AND department = 'Dresses'\""

Interval = tuple[int, int]


@dataclass(frozen=True)
class Single:
    """The one value a set has."""

    value: Value


@dataclass(frozen=True)
class Allowed:
    """A set of values of one column.

    An ordered column (integer, number, date, datetime) has `intervals`, disjoint and ascending, of its values' ordinal
    numbers (`ordinal`); every other kind has `values`. `null` says whether the missing value belongs to the set.
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
            return Single(from_ordinal(self.column, self.intervals[0][0]))
        return None

    def __contains__(self, value: Value) -> bool:
        if value is None:
            return self.null
        if isinstance(self.column, Ordered):
            number = ordinal(self.column, value)
            return any(low <= number <= high for low, high in self.intervals)
        return value in self.values

    def pieces(self) -> list[Column]:
        """Narrowed copies of the column, none nullable, whose values together are the set's values but for the missing one."""
        column = self.column
        if isinstance(column, Ordered):
            bounds = [(from_ordinal(column, low), from_ordinal(column, high)) for low, high in self.intervals]
            return [column.model_copy(update={"min": low, "max": high, "nullable": False}) for low, high in bounds]
        if not self.values:
            return []
        if isinstance(column, Boolean) and len(self.values) == 2:
            return [column.model_copy(update={"nullable": False})]
        if isinstance(column, Boolean):
            # A boolean with one value left is the category of that value's spelling.
            return [Category(name=column.name, values=["yes" if True in self.values else "no"], nullable=False)]
        values = sorted(str(value) for value in self.values)
        meanings = {v: m for v, m in column.meanings.items() if v in values} if isinstance(column, Category) else {}
        return [Category(name=column.name, values=values, meanings=meanings, nullable=False)]


Conditions = Mapping[str, Allowed]
"""Column name → the values it may have. Columns without a condition are not in it."""


def everything(column: Column) -> Allowed:
    """All values of a column but the missing one. Text has no list of its values, so no complement."""
    if isinstance(column, Ordered):
        return Allowed(column, intervals=((ordinal(column, column.min), ordinal(column, column.max)),))
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


def _without(a: Allowed, b: Allowed) -> Allowed:
    """Values of `a` that `b` has not; the missing value is in neither."""
    intervals = list(a.intervals)
    for low, high in b.intervals:
        intervals = [
            piece for x, y in intervals for piece in ((x, min(y, low - 1)), (max(x, high + 1), y)) if piece[0] <= piece[1]
        ]
    return Allowed(a.column, tuple(intervals), a.values - b.values)


@dataclass(frozen=True)
class _Truth:
    """For which values a condition is true, and for which it is false (for the others it is unknown), by column.

    `false` is None where several columns are concerned: then it is no product of sets, and cannot be stated.
    """

    true: dict[str, Allowed]
    false: dict[str, Allowed] | None


def parse_where(text: str, schema: Schema) -> Conditions:
    """The conditions that `text` states over the learned columns of an effective schema.

    Raises ConfigError where it is no condition, or where no value can satisfy it.
    """
    try:
        tree = parse_one(text, dialect="duckdb")
    except SqlglotError:
        raise ConfigError("The condition is not valid SQL.", _QUOTES + _HINT) from None
    true = _truth(tree, schema).true
    for name, allowed in true.items():
        if allowed.empty:
            raise ConfigError(f"The condition leaves no value for column {name!r}.", _values_hint(schema.column(name)))
    return true


def only(column: Column, value: Value) -> Allowed:
    """The set of the one value, which the effective schema allows."""
    if value is None:
        return Allowed(column, null=True)
    if isinstance(column, Ordered):
        place = ordinal(column, value)
        return Allowed(column, intervals=((place, place),))
    return Allowed(column, values=frozenset({value}))


def exactly(column: Column, text: str | None) -> Allowed:
    """The set of the one value that `text` spells (None: the missing value). Raises ConfigError where the schema has it not."""
    if text is None:
        found = Allowed(column, null=column.nullable)
    else:
        found = _compared(column, "=", exp.Literal.string(text)).true[column.name]
    if found.empty:
        raise ConfigError(f"A value given for column {column.name!r} is none that its schema allows.", _values_hint(column))
    return found


def values_of(column: Column) -> list[str]:
    """The spellings of all values of a category, boolean or narrow integer column. Raises ConfigError for any other."""
    if isinstance(column, Category):
        return column.allowed()
    if isinstance(column, Boolean):
        return ["true", "false"]
    if isinstance(column, Integer):
        low, high = int(column.min or 0), int(column.max or 0)
        if high - low < 100:
            return [str(value) for value in range(low, high + 1)]
    raise ConfigError(
        f"Column {column.name!r} has no list of values to share rows out to.",
        "Choose a category, a boolean, or an integer of at most 100 values.",
    )


def _values_hint(column: Column) -> str:
    if isinstance(column, Category):
        shown = ", ".join(column.allowed()[:12])
        return f"It has the values {shown}{', ...' if len(column.allowed()) > 12 else ''}."
    if isinstance(column, Ordered):
        return f"It lies between {column.min} and {column.max}{'' if column.nullable else ' and is never missing'}."
    return "" if column.nullable else "It is never missing."


def _truth(node: exp.Expr, schema: Schema) -> _Truth:
    if isinstance(node, exp.Paren):
        return _truth(node.this, schema)
    if isinstance(node, exp.And):
        return _and(_truth(node.left, schema), _truth(node.right, schema))
    if isinstance(node, exp.Or):
        return _or(_truth(node.left, schema), _truth(node.right, schema))
    if isinstance(node, exp.Not):
        inner = _truth(node.this, schema)
        if inner.false is None:
            raise ConfigError("NOT can be put before a condition on one column only.", _HINT)
        return _Truth(inner.false, inner.true)
    return _atom(node, schema)


def _and(a: _Truth, b: _Truth) -> _Truth:
    true = dict(a.true)
    for name, allowed in b.true.items():
        true[name] = intersection(true[name], allowed) if name in true else allowed
    if len(true) > 1 or a.false is None or b.false is None:
        return _Truth(true, None)
    return _Truth(true, {name: union(a.false[name], b.false[name]) for name in true})


def _or(a: _Truth, b: _Truth) -> _Truth:
    if len(a.true) > 1 or a.true.keys() != b.true.keys() or a.false is None or b.false is None:
        raise ConfigError(
            "OR can stand only between conditions on the same column.", "Draw the rows of each part by a command of its own."
        )
    return _Truth(
        {name: union(a.true[name], b.true[name]) for name in a.true},
        {name: intersection(a.false[name], b.false[name]) for name in a.true},
    )


_COMPARISONS: dict[type[exp.Expr], str] = {exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}
_TURNED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _atom(node: exp.Expr, schema: Schema) -> _Truth:
    if isinstance(node, exp.Column):
        column = _column(node, schema)
        if isinstance(column, Boolean):
            return _compared(column, "=", exp.true())
    for kind, sign in _COMPARISONS.items():
        if type(node) is kind:
            if isinstance(node.this, exp.Column):
                return _compared(_column(node.this, schema), sign, node.expression)
            if isinstance(node.expression, exp.Column):
                return _compared(_column(node.expression, schema), _TURNED[sign], node.this)
    if isinstance(node, exp.Between) and isinstance(node.this, exp.Column):
        column = _column(node.this, schema)
        return _and(_compared(column, ">=", node.args["low"]), _compared(column, "<=", node.args["high"]))
    if isinstance(node, exp.In) and isinstance(node.this, exp.Column) and node.expressions:
        column = _column(node.this, schema)
        parts = [_compared(column, "=", literal) for literal in node.expressions]
        result = parts[0]
        for part in parts[1:]:
            result = _or(result, part)
        return result
    if isinstance(node, exp.Is) and isinstance(node.this, exp.Column):
        column = _column(node.this, schema)
        if isinstance(node.expression, exp.Null):
            missing = Allowed(column, null=column.nullable)
            return _Truth({column.name: missing}, {column.name: everything(column)})
        compared = _compared(column, "=", node.expression)
        # IS TRUE, unlike = TRUE, is false for a missing value.
        missing = Allowed(column, null=column.nullable)
        return _Truth(compared.true, {column.name: union(_without(everything(column), compared.true[column.name]), missing)})
    raise ConfigError(f"The condition cannot use {node.sql(dialect='duckdb')}.", _QUOTES + _HINT)


def _column(node: exp.Column, schema: Schema) -> Column:
    learned = {column.name.casefold(): column for column in schema.learned()}
    found = learned.get(node.name.casefold())
    if found is None:
        near = difflib.get_close_matches(node.name, [column.name for column in schema.learned()], 1)
        raise ConfigError(
            f"There is no learned column {node.name!r}.",
            f"Did you mean {near[0]!r}?" if near else f"Columns: {', '.join(column.name for column in schema.learned())}.",
        )
    return found


def _literal(node: exp.Expr) -> str:
    """The text of a literal: 'x', 4, -2.5, true, DATE '2024-01-31'."""
    if isinstance(node, exp.Neg):
        return f"-{_literal(node.this)}"
    if isinstance(node, exp.Cast):
        return _literal(node.this)
    if isinstance(node, exp.Boolean):
        return "true" if node.this else "false"
    if isinstance(node, exp.Literal):
        return str(node.this)
    raise ConfigError(f"{node.sql(dialect='duckdb')} is not a value.", "Text goes in single quotes. " + _HINT)


def _compared(column: Column, sign: str, literal: exp.Expr) -> _Truth:
    text = _literal(literal)
    if isinstance(column, Ordered):
        true = _ordered(column, sign, text)
    elif sign in ("=", "<>"):
        true = Allowed(column, values=frozenset({_plain(column, text)}))
        if isinstance(column, Category | Boolean):
            true = intersection(true, everything(column))
            if sign == "<>":
                true = _without(everything(column), true)
        elif sign == "<>":
            raise ConfigError(f"Text column {column.name!r} can only be given, with = or IN.", _HINT)
    else:
        raise ConfigError(f"Column {column.name!r} has no order: {sign} does not apply.", "Use =, <> or IN.")
    return _Truth({column.name: true}, {column.name: _without(everything(column), true)})


def _plain(column: Column, text: str) -> Value:
    if isinstance(column, Boolean):
        known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.casefold() not in known:
            raise ConfigError(f"Column {column.name!r} is true or false.", _HINT)
        return known[text.casefold()]
    assert isinstance(column, Category | Text)
    return text


def _ordered(column: Ordered, sign: str, text: str) -> Allowed:
    bounds = everything(column)
    ((least, most),) = bounds.intervals
    place = _place(column, text)
    below, above = math.floor(place), math.ceil(place)  # the same where the value is one that the column can have
    intervals: dict[str, list[Interval]] = {
        "=": [(below, above)] if below == above else [],
        "<>": [(least, below - 1), (above + 1, most)] if below == above else [(least, most)],
        "<": [(least, above - 1)],
        "<=": [(least, below)],
        ">": [(below + 1, most)],
        ">=": [(above, most)],
    }
    wanted = Allowed(column, intervals=tuple(piece for piece in intervals[sign] if piece[0] <= piece[1]))
    return intersection(wanted, bounds)


def _place(column: Ordered, text: str) -> Decimal:
    """Where `text` lies among the column's ordinal numbers; between two of them where it has more digits than the column."""
    try:
        if isinstance(column, DateTime):
            moment = dt.datetime.fromisoformat(text)
            return Decimal(ordinal(column, moment.replace(tzinfo=None)))
        if isinstance(column, Date):
            return Decimal(dt.date.fromisoformat(text).toordinal())
        number = Decimal(text)
        if not number.is_finite():
            raise ValueError
        scaled = number.scaleb(column.decimals if isinstance(column, Number) else 0)
        # Far outside any bound the exact place does not matter, and a huge exponent would make a huge integer.
        return max(Decimal(-(10**30)), min(Decimal(10**30), scaled))
    except (ValueError, ArithmeticError):
        examples: dict[type, str] = {Date: "'2024-01-31'", DateTime: "'2024-01-31 08:30:00'"}
        raise ConfigError(
            f"A value compared with column {column.name!r} is not one of its kind ({column.kind}).",
            f"Write it as {examples.get(type(column), '42')}.",
        ) from None
