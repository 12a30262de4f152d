"""What the user declares to hold in every row: `discharge >= admission`, `pregnant = true => sex = 'F'`.

A constraint is an SQL condition on the columns of one row, parsed by sqlglot: columns compared with columns or with values,
BETWEEN, IN, IS NULL, NOT, AND, OR, and `A => B` for NOT A OR B. It is read like an SQL CHECK: a comparison with a missing value
is neither true nor false, and a row breaks a constraint only where it is false. A date and a moment are compared by their days.

Knows names and kinds of columns, and single rows; nothing about files, models or how rows are drawn.
"""

import datetime as dt
import difflib
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

__all__ = [
    "NEGATED",
    "TURNED",
    "All",
    "AnyOf",
    "Comparison",
    "Constant",
    "Constraint",
    "Missing",
    "Name",
    "Node",
    "Not",
    "by_day",
    "read_constraints",
]

_LONGEST = 1000
"""Characters of a constraint."""
_KINDS = ("category", "boolean", "integer", "number", "date", "datetime")
_NUMBERS, _TIMES = {"integer", "number"}, {"date", "datetime"}
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
TURNED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""The sign with its sides exchanged."""
NEGATED = {"=": "<>", "<>": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
"""The sign that holds of two values where the other does not."""

Value = Any
Row = Mapping[str, Value]


@dataclass(frozen=True)
class Name:
    """A column."""

    name: str
    kind: str


@dataclass(frozen=True)
class Constant:
    """A value that is written in the constraint."""

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
        return None if left is None or right is None else _SIGNS[self.sign](*by_day(left, right))


@dataclass(frozen=True)
class Missing:
    """IS NULL."""

    left: Name

    def truth(self, row: Row) -> bool | None:
        """Never None."""
        return row[self.left.name] is None


@dataclass(frozen=True)
class Not:
    """NOT."""

    part: "Node"

    def truth(self, row: Row) -> bool | None:
        """None where the part's is."""
        truth = self.part.truth(row)
        return None if truth is None else not truth


@dataclass(frozen=True)
class All:
    """AND."""

    parts: tuple["Node", ...]

    def truth(self, row: Row) -> bool | None:
        """False where one part is, whatever the others are."""
        truths = [part.truth(row) for part in self.parts]
        return False if False in truths else None if None in truths else True


@dataclass(frozen=True)
class AnyOf:
    """OR."""

    parts: tuple["Node", ...]

    def truth(self, row: Row) -> bool | None:
        """True where one part is, whatever the others are."""
        truths = [part.truth(row) for part in self.parts]
        return True if True in truths else None if None in truths else False


Node = Comparison | Missing | Not | All | AnyOf


@dataclass(frozen=True)
class Constraint:
    """One constraint: as it was written, and as it is understood."""

    text: str
    tree: Node

    def broken(self, row: Row) -> bool:
        """Whether a row (every column of `names`, with conforming values) breaks it."""
        return self.tree.truth(row) is False

    @property
    def comparisons(self) -> list[Comparison]:
        """All that are in it."""
        return [atom for atom in _atoms(self.tree) if isinstance(atom, Comparison)]

    @property
    def names(self) -> frozenset[str]:
        """The columns that it is about."""
        found = {atom.left.name for atom in _atoms(self.tree)}
        return frozenset(found | {atom.right.name for atom in self.comparisons if isinstance(atom.right, Name)})


def by_day(left: Value, right: Value) -> tuple[Value, Value]:
    """Both values; of a date and a moment the moment's day."""
    if isinstance(left, dt.datetime) and not isinstance(right, dt.datetime):
        return left.date(), right
    if isinstance(right, dt.datetime) and not isinstance(left, dt.datetime):
        return left, right.date()
    return left, right


def _atoms(node: Node) -> list[Comparison | Missing]:
    if isinstance(node, All | AnyOf):
        return [atom for part in node.parts for atom in _atoms(part)]
    return _atoms(node.part) if isinstance(node, Not) else [node]


@lru_cache(maxsize=64)
def read_constraints(texts: tuple[str, ...], kinds: tuple[tuple[str, str], ...]) -> tuple[Constraint, ...]:
    """The constraints as they are understood for columns of these (name, kind). Raises ValueError, naming the constraint."""
    return tuple(_read(text, dict(kinds)) for text in texts)


def _read(text: str, kinds: dict[str, str]) -> Constraint:
    # sqlglot takes a tenth of a second to load, and most tables have no constraints.
    from sqlglot.errors import SqlglotError

    try:
        if len(text) > _LONGEST:
            raise ValueError(f"it has more than {_LONGEST} characters")
        sides = _sides(text)
        if len(sides) > 2:
            raise ValueError("=> may stand in it once; write the rest with AND, OR and NOT")
        nodes = [_Reader(kinds).node(_parse(side)) for side in sides]
    except (SqlglotError, RecursionError):
        raise ValueError(
            f"constraint {text[:80]!r} is not a valid condition: write it like discharge >= admission, or "
            "pregnant = true => sex = 'F'; names that are SQL words stand in double quotes"
        ) from None
    except ValueError as error:
        raise ValueError(f"constraint {text[:80]!r}: {error}") from None
    return Constraint(text, nodes[0] if len(nodes) == 1 else AnyOf((Not(nodes[0]), nodes[1])))


def _sides(text: str) -> list[str]:
    """What stands before, between and after the arrows that are in no parentheses."""
    from sqlglot.dialects import DuckDB

    sides, depth, begin = [], 0, 0
    for token in DuckDB().tokenize(text):
        depth += (token.token_type.name == "L_PAREN") - (token.token_type.name == "R_PAREN")
        if token.token_type.name == "FARROW" and depth == 0:
            sides.append(text[begin : token.start])
            begin = token.end + 1
    return [*sides, text[begin:]]


def _parse(text: str) -> Any:
    from sqlglot import parse_one

    return parse_one(text, dialect="duckdb")


class _Reader:
    """From sqlglot's tree to ours. Raises ValueError."""

    def __init__(self, kinds: dict[str, str]) -> None:
        self._kinds = kinds

    def node(self, tree: Any) -> Node:
        from sqlglot import exp

        signs = {exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}
        if isinstance(tree, exp.Paren):
            return self.node(tree.this)
        if isinstance(tree, exp.Not):
            return Not(self.node(tree.this))
        if isinstance(tree, exp.And):
            return All((self.node(tree.left), self.node(tree.right)))
        if isinstance(tree, exp.Or):
            return AnyOf((self.node(tree.left), self.node(tree.right)))
        if type(tree) in signs:
            return self._comparison(tree.left, signs[type(tree)], tree.right)
        if isinstance(tree, exp.Column) and self._name(tree).kind == "boolean":
            return Comparison(self._name(tree), "=", Constant(True))
        if isinstance(tree, exp.Between):
            low, high = tree.args["low"], tree.args["high"]
            return All((self._comparison(tree.this, ">=", low), self._comparison(tree.this, "<=", high)))
        if isinstance(tree, exp.In) and tree.expressions:
            return AnyOf(tuple(self._comparison(tree.this, "=", value) for value in tree.expressions))
        if isinstance(tree, exp.Is) and isinstance(tree.this, exp.Column) and isinstance(tree.expression, exp.Null):
            return Missing(self._name(tree.this))
        raise ValueError(f"it cannot use {tree.sql(dialect='duckdb')[:80]}")

    def _name(self, tree: Any) -> Name:
        known = {name.casefold(): name for name in self._kinds}
        name = known.get(tree.name.casefold())
        if name is None:
            near = difflib.get_close_matches(tree.name, self._kinds, 1)
            raise ValueError(f"there is no column {tree.name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        kind = self._kinds[name]
        if kind not in _KINDS:
            raise ValueError(f"{name!r} is a column of kind {kind}, of which nothing can be promised")
        return Name(name, kind)

    def _comparison(self, left: Any, sign: str, right: Any) -> Comparison:
        from sqlglot import exp

        if not isinstance(left, exp.Column):
            left, sign, right = right, TURNED[sign], left
        if not isinstance(left, exp.Column):
            raise ValueError(f"it compares {left.sql(dialect='duckdb')[:80]}, which is no column")
        name = self._name(left)
        other = self._name(right) if isinstance(right, exp.Column) else Constant(_constant(name, right))
        if sign not in ("=", "<>") and name.kind in ("category", "boolean"):
            raise ValueError(f"{name.name!r} has no order, so only = and <> apply")
        if isinstance(other, Name):
            if other.name == name.name:
                raise ValueError(f"it compares {name.name!r} with itself")
            if name.kind != other.kind and not any({name.kind, other.kind} <= alike for alike in (_NUMBERS, _TIMES)):
                raise ValueError(f"{name.name!r} ({name.kind}) and {other.name!r} ({other.kind}) cannot be compared")
        return Comparison(name, sign, other)


def _constant(name: Name, tree: Any) -> Value:
    text = _spelled(tree)
    try:
        if name.kind == "boolean":
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.casefold()]
        if name.kind == "integer" and text.lstrip("-").isdecimal():
            return int(text)
        if name.kind in _NUMBERS:
            number = float(text)
            if not abs(number) <= 1e18:
                raise ValueError
            return number
        if name.kind == "date" and len(text) == len("2024-01-31"):
            return dt.date.fromisoformat(text)
        if name.kind in _TIMES:
            return dt.datetime.fromisoformat(text).replace(tzinfo=None, microsecond=0)
    except (KeyError, ValueError):
        raise ValueError(f"{text[:40]!r} is not a value of {name.name!r} ({name.kind})") from None
    return text


def _spelled(tree: Any) -> str:
    """The text of a literal: 'x', 4, -2.5, true, DATE '2024-01-31'."""
    from sqlglot import exp

    if isinstance(tree, exp.Neg):
        return f"-{_spelled(tree.this)}"
    if isinstance(tree, exp.Cast):
        return _spelled(tree.this)
    if isinstance(tree, exp.Boolean):
        return "true" if tree.this else "false"
    if isinstance(tree, exp.Literal):
        return str(tree.this)
    raise ValueError(f"{tree.sql(dialect='duckdb')[:80]} is neither a column nor a value (missing values: IS NULL)")
