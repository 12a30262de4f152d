"""Formulas of derived columns: `net + tax`, `quantity * price`, `year(arrival) - year(born)`.

Numbers, + - * /, parentheses, abs(), the year(), month() and day() of a date, and the difference of two dates in days. Values
are decimals, not floats: 0.1 + 0.2 is 0.3. As in SQL, a missing value or a division by zero makes the result missing.

sqlglot parses the text. Knows names and kinds of columns, and single rows.
"""

import datetime as dt
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation, localcontext
from functools import lru_cache
from typing import Any

from localsynth.errors import ConfigError

_NUMBERS, _DATES = {"integer", "number"}, {"date", "datetime"}
_DIGITS = 60
"""Of intermediate results."""
_LARGEST = Decimal(10) ** 18
"""In units of the last decimal. A larger result does not fit into 64 bits and counts as missing."""
_HINT = "Write numeric columns, numbers, + - * /, abs(), year(), month(), day(), and differences of dates."

Values = Mapping[str, Any]
_Evaluate = Callable[[Values], Any]


@dataclass(frozen=True)
class Formula:
    """A formula, and the columns that it reads."""

    names: frozenset[str]
    evaluate: _Evaluate

    def value(self, row: Values, decimals: int) -> int | float | None:
        """The result for a row, rounded half up; an int without decimals; None where a value is missing or the result huge."""
        with localcontext() as context:
            context.prec = _DIGITS
            try:
                result = self.evaluate(row)
                if result is None:
                    return None
                rounded = Decimal(result).quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP)
            except InvalidOperation:
                return None
        if abs(rounded).scaleb(decimals) >= _LARGEST:
            return None
        return float(rounded) if decimals else int(rounded)


@lru_cache(maxsize=64)
def read_formula(text: str, kinds: tuple[tuple[str, str], ...]) -> Formula:
    """The formula that `text` states about columns of these (name, kind). Raises ConfigError."""
    # sqlglot takes a tenth of a second to load, and most schemas have no formula.
    from sqlglot import parse_one
    from sqlglot.errors import SqlglotError

    reader = _Reader(dict(kinds))
    try:
        kind, evaluate = reader.read(parse_one(text, dialect="duckdb"))
    except (SqlglotError, RecursionError):
        raise ConfigError("The formula cannot be read.", _HINT) from None
    if kind != "number":
        raise ConfigError("The formula gives a date, not a number.", _HINT)
    if not reader.names:
        raise ConfigError("The formula names no column.", _HINT)
    return Formula(frozenset(reader.names), evaluate)


def _of_both(function: Callable[[Any, Any], Any], left: _Evaluate, right: _Evaluate) -> _Evaluate:
    def evaluate(row: Values) -> Any:
        a, b = left(row), right(row)
        return None if a is None or b is None else function(a, b)

    return evaluate


def _of_one(function: Callable[[Any], Any], inner: _Evaluate) -> _Evaluate:
    def evaluate(row: Values) -> Any:
        value = inner(row)
        return None if value is None else function(value)

    return evaluate


def _divided(a: Decimal, b: Decimal) -> Decimal | None:
    return a / b if b else None


def _days_between(later: dt.date, earlier: dt.date) -> Decimal:
    """Whole days; of moments, those of their dates."""
    return Decimal(later.toordinal() - earlier.toordinal())


class _Reader:
    """From sqlglot's tree to functions of a row. `names` collects the columns."""

    def __init__(self, kinds: dict[str, str]) -> None:
        self._kinds = {name.casefold(): (name, kind) for name, kind in kinds.items()}
        self.names: set[str] = set()

    def read(self, tree: Any) -> tuple[str, _Evaluate]:
        """("number" or "date", the value in a row)."""
        from sqlglot import exp

        if isinstance(tree, exp.Paren):
            return self.read(tree.this)
        if isinstance(tree, exp.Column):
            return self._column(tree)
        if isinstance(tree, exp.Literal) and not tree.is_string:
            number = Decimal(str(tree.this))
            return "number", lambda row: number
        if isinstance(tree, exp.Sub) and self._is_date(tree.left) and self._is_date(tree.right):
            return "number", _of_both(_days_between, self.read(tree.left)[1], self.read(tree.right)[1])
        binary = {exp.Add: operator.add, exp.Sub: operator.sub, exp.Mul: operator.mul, exp.Div: _divided}
        if type(tree) in binary:
            return "number", _of_both(binary[type(tree)], self._number(tree.left), self._number(tree.right))
        unary: dict[Any, Callable[[Any], Any]] = {exp.Neg: operator.neg, exp.Abs: abs}
        if type(tree) in unary:
            return "number", _of_one(unary[type(tree)], self._number(tree.this))
        parts = {exp.Year: "year", exp.Month: "month", exp.Day: "day"}
        if type(tree) in parts and self._is_date(tree.this):
            part = parts[type(tree)]
            return "number", _of_one(lambda date: Decimal(getattr(date, part)), self.read(tree.this)[1])
        raise ConfigError(f"The formula cannot use {str(tree.sql(dialect='duckdb'))[:80]}.", _HINT)

    def _column(self, tree: Any) -> tuple[str, _Evaluate]:
        name, kind = self._kinds.get(tree.name.casefold(), (tree.name, ""))
        if kind not in _NUMBERS | _DATES:
            problem = f"{name!r} is of kind {kind}" if kind else f"there is no column {name!r}"
            usable = ", ".join(name for name, kind in self._kinds.values() if kind in _NUMBERS | _DATES)
            raise ConfigError(f"The formula: {problem}.", f"Columns with numbers or dates: {usable or 'none'}.")
        self.names.add(name)
        if kind in _DATES:
            return "date", lambda row: row[name]
        # Through its shortest spelling: 0.1 as a tenth.
        return "number", _of_one(lambda value: Decimal(str(value)), lambda row: row[name])

    def _is_date(self, tree: Any) -> bool:
        return self.read(tree)[0] == "date"

    def _number(self, tree: Any) -> _Evaluate:
        kind, evaluate = self.read(tree)
        if kind != "number":
            raise ConfigError("The formula calculates with a date as if it were a number.", _HINT)
        return evaluate
