"""SQL conditions on one row: `discharge >= admission`, `pregnant = true => sex = 'F'`.

Columns compared with columns or values, BETWEEN, IN, IS NULL, NOT, AND, OR, and
`A => B` for NOT A OR B. A comparison with a missing value is neither true nor false,
as in SQL. A date and a datetime are compared by their days. sqlglot parses the text.

Knows names and kinds of columns, and single rows; nothing about files, models or
sampling.
"""

import datetime as dt
import difflib
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from localsynth.errors import ConfigError

_NUMBERS, _TIMES = {"integer", "number"}, {"date", "datetime"}
_UNORDERED = {"category", "boolean", "text"}
_TRUTH_VALUES = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_EXAMPLES = {"boolean": "true or false", "date": "'2024-01-31'", "datetime": "'2024-01-31 08:30:00'", "time": "'08:30'"}
_QUOTES = "Names that are SQL words, or have other characters than letters, digits and _, stand in double quotes."
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
FLIPPED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""The sign with its sides exchanged."""
NEGATED = {"=": "<>", "<>": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
"""The sign that is true of two values where the other is false."""

Value = Any
Row = Mapping[str, Value]
SqlColumns = Mapping[str, str]
"""Column name → the SQL of its value."""


def literal(value: Value) -> str:
    """A value as an SQL constant."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, dt.datetime):
        return f"TIMESTAMP '{value.isoformat(' ')}'"
    if isinstance(value, dt.date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, float):
        # 1e-07 would be a binary fraction, 0.0000001 is a decimal one.
        return format(Decimal(repr(value)), "f")
    return str(value).lower()


@dataclass(frozen=True)
class Name:
    """A column."""

    name: str
    kind: str


@dataclass(frozen=True)
class Constant:
    """A value that is written in the condition."""

    value: Value


@dataclass(frozen=True)
class Comparison:
    """A column against a column or a value."""

    left: Name
    sign: str
    right: Name | Constant

    def truth(self, row: Row) -> bool | None:
        """None where a value is missing."""
        left = row[self.left.name]
        right = row[self.right.name] if isinstance(self.right, Name) else self.right.value
        return None if left is None or right is None else _OPERATORS[self.sign](*by_day(left, right))

    def sql(self, columns: SqlColumns) -> str:
        """The condition in SQL."""
        left = columns[self.left.name]
        right = columns[self.right.name] if isinstance(self.right, Name) else literal(self.right.value)
        if self._by_day:
            left, right = f"CAST({left} AS DATE)", f"CAST({right} AS DATE)"
        return f"({left} {self.sign} {right})"

    @property
    def _by_day(self) -> bool:
        kinds = {self.left.kind}
        if isinstance(self.right, Name):
            kinds.add(self.right.kind)
        elif isinstance(self.right.value, dt.date):
            kinds.add("datetime" if isinstance(self.right.value, dt.datetime) else "date")
        return kinds >= {"date", "datetime"}


@dataclass(frozen=True)
class Missing:
    """IS NULL."""

    left: Name

    def truth(self, row: Row) -> bool | None:
        """Never None."""
        return row[self.left.name] is None

    def sql(self, columns: SqlColumns) -> str:
        """The condition in SQL."""
        return f"({columns[self.left.name]} IS NULL)"


@dataclass(frozen=True)
class Not:
    """NOT."""

    part: "Node"

    def truth(self, row: Row) -> bool | None:
        """None where the part's is."""
        truth = self.part.truth(row)
        return None if truth is None else not truth

    def sql(self, columns: SqlColumns) -> str:
        """The condition in SQL."""
        return f"(NOT {self.part.sql(columns)})"


@dataclass(frozen=True)
class All:
    """AND."""

    parts: tuple["Node", ...]

    def truth(self, row: Row) -> bool | None:
        """False where one part is, whatever the others are."""
        truths = [part.truth(row) for part in self.parts]
        return False if False in truths else None if None in truths else True

    def sql(self, columns: SqlColumns) -> str:
        """The condition in SQL."""
        return f"({' AND '.join(part.sql(columns) for part in self.parts)})"


@dataclass(frozen=True)
class AnyOf:
    """OR."""

    parts: tuple["Node", ...]

    def truth(self, row: Row) -> bool | None:
        """True where one part is, whatever the others are."""
        truths = [part.truth(row) for part in self.parts]
        return True if True in truths else None if None in truths else False

    def sql(self, columns: SqlColumns) -> str:
        """The condition in SQL."""
        return f"({' OR '.join(part.sql(columns) for part in self.parts)})"


Node = Comparison | Missing | Not | All | AnyOf


def _leaves(node: Node) -> list[Comparison | Missing]:
    if isinstance(node, All | AnyOf):
        return [leaf for part in node.parts for leaf in _leaves(part)]
    return _leaves(node.part) if isinstance(node, Not) else [node]


def comparisons_of(node: Node) -> list[Comparison]:
    """All comparisons in a condition."""
    return [leaf for leaf in _leaves(node) if isinstance(leaf, Comparison)]


def names_of(node: Node) -> frozenset[str]:
    """The columns in a condition."""
    right = {leaf.right.name for leaf in comparisons_of(node) if isinstance(leaf.right, Name)}
    return frozenset({leaf.left.name for leaf in _leaves(node)} | right)


def by_day(left: Value, right: Value) -> tuple[Value, Value]:
    """Both values; of a date and a datetime the datetime's day."""
    if isinstance(left, dt.datetime) and not isinstance(right, dt.datetime):
        return left.date(), right
    if isinstance(right, dt.datetime) and not isinstance(left, dt.datetime):
        return left, right.date()
    return left, right


def read_condition(text: str, kinds: Mapping[str, str], refused: Collection[str]) -> Node:
    """The condition that `text` states about columns of these (name: kind); `refused` are kinds it must not use.

    Raises ConfigError.
    """
    # sqlglot takes a tenth of a second to load, and most commands read no condition.
    from sqlglot import parse_one
    from sqlglot.errors import SqlglotError

    try:
        sides = _sides(text)
        if len(sides) > 2:
            raise ConfigError("The condition has more than one =>.", "Write the rest with AND, OR and NOT.")
        nodes = [_Reader(kinds, refused).node(parse_one(side, dialect="duckdb")) for side in sides]
    except (SqlglotError, RecursionError):
        raise ConfigError(
            "The condition is not valid SQL.",
            f"Write it like rating >= 4 AND department = 'Dresses'. {_QUOTES}",
        ) from None
    return nodes[0] if len(nodes) == 1 else AnyOf((Not(nodes[0]), nodes[1]))


def _sides(text: str) -> list[str]:
    """The parts of the text before, between and after the arrows outside parentheses."""
    from sqlglot.dialects import DuckDB

    sides, depth, begin = [], 0, 0
    for token in DuckDB().tokenize(text):
        depth += (token.token_type.name == "L_PAREN") - (token.token_type.name == "R_PAREN")
        if token.token_type.name == "FARROW" and depth == 0:
            sides.append(text[begin : token.start])
            begin = token.end + 1
    return [*sides, text[begin:]]


class _Reader:
    """From sqlglot's tree to nodes."""

    def __init__(self, kinds: Mapping[str, str], refused: Collection[str]) -> None:
        self._kinds, self._refused = kinds, refused

    def node(self, tree: Any) -> Node:
        from sqlglot import exp

        signs = {exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}
        if isinstance(tree, exp.Paren):
            return self.node(tree.this)
        if isinstance(tree, exp.Not):
            return Not(self.node(tree.this))
        if isinstance(tree, exp.And):
            return All(tuple(self.node(part) for part in tree.flatten()))
        if isinstance(tree, exp.Or):
            return AnyOf(tuple(self.node(part) for part in tree.flatten()))
        if type(tree) in signs:
            return self._comparison(tree.left, signs[type(tree)], tree.right)
        if isinstance(tree, exp.Column) and self._name(tree).kind == "boolean":
            return Comparison(self._name(tree), "=", Constant(True))
        if isinstance(tree, exp.Between):
            low, high = tree.args["low"], tree.args["high"]
            return All((self._comparison(tree.this, ">=", low), self._comparison(tree.this, "<=", high)))
        if isinstance(tree, exp.In) and tree.expressions:
            return AnyOf(tuple(self._comparison(tree.this, "=", value) for value in tree.expressions))
        if isinstance(tree, exp.Is) and isinstance(tree.this, exp.Column):
            missing = Missing(self._name(tree.this))
            if isinstance(tree.expression, exp.Null):
                return missing
            # IS TRUE, unlike = TRUE, is false for a missing value.
            return All((self._comparison(tree.this, "=", tree.expression), Not(missing)))
        raise ConfigError(
            f"The condition cannot use {_sql(tree)}.",
            "Write comparisons, IN, BETWEEN and IS NULL, joined by AND, OR, NOT and =>.",
        )

    def _name(self, tree: Any) -> Name:
        usable = [name for name, kind in self._kinds.items() if kind not in self._refused]
        name = {name.casefold(): name for name in self._kinds}.get(tree.name.casefold())
        if name is None:
            near = difflib.get_close_matches(tree.name, usable, 1)
            raise ConfigError(
                f"There is no column {tree.name!r}.", f"Did you mean {near[0]!r}?" if near else f"Columns: {', '.join(usable)}."
            )
        kind = self._kinds[name]
        if kind in self._refused:
            raise ConfigError(f"{name!r} is a column of kind {kind}: not usable here.", f"Use one of: {', '.join(usable)}.")
        return Name(name, kind)

    def _comparison(self, left: Any, sign: str, right: Any) -> Comparison:
        from sqlglot import exp

        if not isinstance(left, exp.Column):
            left, sign, right = right, FLIPPED[sign], left
        if not isinstance(left, exp.Column):
            raise ConfigError(f"{_sql(left)} is compared, which is no column.", _QUOTES)
        name = self._name(left)
        other = self._name(right) if isinstance(right, exp.Column) else Constant(read_constant(name, _literal(right)))
        if sign not in ("=", "<>") and name.kind in _UNORDERED:
            raise ConfigError(f"{name.name!r} has no order.", "Use =, <> or IN.")
        if isinstance(other, Name):
            if other.name == name.name:
                raise ConfigError(f"{name.name!r} is compared with itself.", "Text stands in single quotes.")
            if name.kind != other.kind and not any({name.kind, other.kind} <= alike for alike in (_NUMBERS, _TIMES)):
                raise ConfigError(
                    f"{name.name!r} ({name.kind}) and {other.name!r} ({other.kind}) cannot be compared.",
                    "Compare columns of the same kind.",
                )
        return Comparison(name, sign, other)


def read_constant(name: Name, text: str) -> Value:
    """The value of a column that `text` spells. Raises ConfigError, which does not repeat the text."""
    try:
        if name.kind == "boolean":
            return _TRUTH_VALUES[text.casefold()]
        if name.kind == "integer" and text.lstrip("-").isdecimal():
            return int(text)
        if name.kind in _NUMBERS:
            number = float(text)
            if not abs(number) <= 1e18:
                raise ValueError
            return number
        if name.kind == "date" and len(text) == len("2024-01-31"):
            return dt.date.fromisoformat(text)
        if name.kind == "time" and text[2:3] == ":":
            text = f"1970-01-01 {text}"
        if name.kind in _TIMES or name.kind == "time":
            return dt.datetime.fromisoformat(text).replace(tzinfo=None, microsecond=0)
    except (KeyError, ValueError):
        raise ConfigError(
            f"A value compared with {name.name!r} is not of its kind ({name.kind}).",
            f"Write it as {_EXAMPLES.get(name.kind, '42')}.",
        ) from None
    return text


def _literal(tree: Any) -> str:
    """The text of a literal: 'x', 4, -2.5, true, DATE '2024-01-31'."""
    from sqlglot import exp

    if isinstance(tree, exp.Neg):
        return f"-{_literal(tree.this)}"
    if isinstance(tree, exp.Cast):
        return _literal(tree.this)
    if isinstance(tree, exp.Boolean):
        return "true" if tree.this else "false"
    if isinstance(tree, exp.Literal):
        return str(tree.this)
    raise ConfigError(
        f"{_sql(tree)} is neither a column nor a value.", "Text stands in single quotes; missing values are IS NULL."
    )


def _sql(tree: Any) -> str:
    return str(tree.sql(dialect="duckdb"))[:80]
