"""The schema: what each column is, what values it may take, and where that knowledge comes from.

A bound or category list is either *declared* (written in `localsynth.toml`, public knowledge) or to be *measured* under
differential privacy at ingest. Until it is measured it is None here; after ingest the *effective* schema (`schema.json`)
has every one filled in, and `Column.measured` names those that were measured.

Knows nothing about files, models or privacy accounting.
"""

import datetime as dt
import math
import operator
import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from localsynth.errors import ConfigError
from localsynth.schema.constraints import Constraint, read_constraints
from localsynth.schema.formats import Check, KeyFormat, checked_key
from localsynth.schema.formulas import Formula, read_formula
from localsynth.schema.spelling import (
    SpelledBooleans,
    SpelledDates,
    SpelledDateTimes,
    SpelledLimits,
    SpelledNumbers,
    SpelledTimes,
    is_none,
)
from localsynth.schema.sql_conditions import Constant

Value: TypeAlias = str | int | float | bool | dt.date | dt.datetime | None
Record: TypeAlias = dict[str, Value]

Outside = Literal["clamp", "null", "drop"]
"""What to do with a value outside the bounds: the nearest bound, a null, or leave the whole row out."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_DESCRIPTION = 200


class _Column(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    nullable: bool = True
    """Whether a row may have no value here."""
    missing: list[str] | None = Field(default=None, exclude_if=is_none)
    """Strings that mean "no value" in this column; None: those of data.missing."""
    measured: list[str] = Field(default_factory=list)
    """Names of the fields of this column that were measured under DP (only in the effective schema)."""

    @field_validator("name")
    @classmethod
    def _name_is_one_line(cls, name: str) -> str:
        if not name.strip() or _CONTROL.search(name):
            raise ValueError("a column name must not be empty or hold control characters")
        return name

    def unmeasured(self) -> list[str]:
        """The fields that must be measured before the column can be used."""
        return []


class Category(_Column):
    """One of a list of strings. A measured list always ends with `other`."""

    kind: Literal["category"] = "category"
    values: list[str] | None = None
    """The list, where it is public knowledge. None: measured under DP."""
    other: str | None = None
    """The value that stands for every value outside the list; None: such values become null (or the row is dropped)."""
    outside: Literal["other", "null", "drop"] = "other"
    """What to do with a value that is not in the list."""
    descriptions: dict[str, str] = Field(default_factory=dict, exclude_if=operator.not_)
    """What values stand for, in words, as public knowledge, e.g. {J45 = "asthma"}. The model reads them beside the values, so it
    writes texts that go with a code or an abbreviation."""

    @field_validator("values")
    @classmethod
    def _values_are_usable(cls, values: list[str] | None) -> list[str] | None:
        if values is not None:
            if not values:
                raise ValueError("the list of values is empty")
            if len(set(values)) != len(values):
                raise ValueError("the list of values has duplicates")
        return values

    @field_validator("descriptions")
    @classmethod
    def _descriptions_are_short_lines(cls, descriptions: dict[str, str]) -> dict[str, str]:
        for value, description in descriptions.items():
            if not description.strip() or len(description) > _MAX_DESCRIPTION or _CONTROL.search(description):
                raise ValueError(f"the description of {value[:40]!r} must be one line of 1 to {_MAX_DESCRIPTION} characters")
        return descriptions

    @model_validator(mode="after")
    def _descriptions_tell_values_apart(self) -> "Category":
        if self.values is None or not self.descriptions:
            return self
        unknown = [value for value in self.descriptions if value not in self.allowed()]
        if unknown:
            raise ValueError(f"{unknown[0][:40]!r} has a description but is not in the list of values")
        if len({self.spelled(value) for value in self.allowed()}) < len(self.allowed()):
            raise ValueError("a value reads like another one with its description")
        return self

    def spelled(self, value: str) -> str:
        """A value as the model reads and writes it: with its description, where it has one."""
        description = self.descriptions.get(value)
        return value if description is None else f"{value} ({description})"

    def unmeasured(self) -> list[str]:
        return ["values"] if self.values is None else []

    def allowed(self) -> list[str]:
        """Every value a record may hold, `other` included."""
        values = list(self.values or [])
        if self.other is not None and self.other not in values:
            values.append(self.other)
        return values


class _Bounded(_Column):
    outside: Outside = "clamp"
    """What to do with a value outside the bounds: the nearest bound, no value, or leave the row out."""

    def unmeasured(self) -> list[str]:
        return [field for field in ("min", "max") if getattr(self, field) is None]

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> "_Bounded":
        low, high = getattr(self, "min"), getattr(self, "max")  # noqa: B009 - declared by the subclasses
        if low is not None and high is not None and low > high:
            raise ValueError(f"min {low} is above max {high}")
        return self


class Integer(SpelledLimits, _Bounded):
    """A whole number between `min` and `max`, both included."""

    kind: Literal["integer"] = "integer"
    min: int | None = Field(default=None, ge=-(2**62), le=2**62)
    """The smallest value. None: measured under DP."""
    max: int | None = Field(default=None, ge=-(2**62), le=2**62)
    """The largest value. None: measured under DP."""
    edges: list[int] | None = Field(default=None, max_length=1000, exclude_if=is_none)
    """First values of the bins that marginals count. None: by the range, where that is measured, else of equal width."""
    common: list[int] | None = Field(default=None, max_length=1000, exclude_if=is_none)
    """Values that many rows share, which keep their shares exactly. None: measured under DP with the range, where that is."""
    step: int | None = Field(default=None, ge=1, le=2**62, exclude_if=is_none)
    """How far values are apart, from `min` on. None: found under DP with the range, where that is measured, else 1."""


class Number(SpelledLimits, _Bounded):
    """A decimal number between `min` and `max`, both included, with exactly `decimals` digits after the point."""

    kind: Literal["number"] = "number"
    min: float | None = Field(default=None, allow_inf_nan=False, ge=-1e15, le=1e15)
    """The smallest value. None: measured under DP."""
    max: float | None = Field(default=None, allow_inf_nan=False, ge=-1e15, le=1e15)
    """The largest value. None: measured under DP."""
    edges: list[float] | None = Field(default=None, max_length=1000, exclude_if=is_none)
    """First values of the bins that marginals count. None: by the range, where that is measured, else of equal width."""
    common: list[float] | None = Field(default=None, max_length=1000, exclude_if=is_none)
    """Values that many rows share, which keep their shares exactly. None: measured under DP with the range, where that is."""
    step: float | None = Field(default=None, gt=0, le=1e15, exclude_if=is_none)
    """How far values are apart, from `min` on. None: found under DP with the range, where that is measured, else a last digit."""
    decimals: int = Field(default=2, ge=0, le=9)
    """Digits after the point."""

    @property
    def digits(self) -> int:
        """Digits after the point."""
        return self.decimals

    @model_validator(mode="after")
    def _bounds_have_no_more_decimals(self) -> "Number":
        for bound in (self.min, self.max, self.step):
            if bound is not None and not math.isclose(round(bound, self.decimals), bound, rel_tol=1e-12, abs_tol=1e-12):
                raise ValueError(f"the bound or step {bound} has more than {self.decimals} digits after the point (decimals)")
        return self


class Boolean(SpelledBooleans, _Column):
    """True or false."""

    kind: Literal["boolean"] = "boolean"


class Date(SpelledDates, _Bounded):
    """A calendar day between `min` and `max`; a month is its first day (format "%Y-%m")."""

    kind: Literal["date"] = "date"
    min: dt.date | None = None
    """The smallest value. None: measured under DP."""
    max: dt.date | None = None
    """The largest value. None: measured under DP."""
    edges: list[dt.date] | None = Field(default=None, max_length=1000, exclude_if=is_none)
    """First values of the bins that marginals count. None: by the range, where that is measured, else of equal width."""
    common: list[dt.date] | None = Field(default=None, max_length=1000, exclude_if=is_none)
    """Values that many rows share, which keep their shares exactly. None: measured under DP with the range, where that is."""


class DateTime(SpelledDateTimes, _Bounded):
    """A moment, to the second and without a time zone, between `min` and `max`."""

    kind: Literal["datetime"] = "datetime"
    min: dt.datetime | None = None
    """The smallest value. None: measured under DP."""
    max: dt.datetime | None = None
    """The largest value. None: measured under DP."""
    edges: list[dt.datetime] | None = Field(default=None, max_length=1000, exclude_if=is_none)
    """First values of the bins that marginals count. None: by the range, where that is measured, else of equal width."""
    common: list[dt.datetime] | None = Field(default=None, max_length=1000, exclude_if=is_none)
    """Values that many rows share, which keep their shares exactly. None: measured under DP with the range, where that is."""
    step: int | None = Field(default=None, ge=1, le=2**31, exclude_if=is_none)
    """How many seconds values are apart, from `min` on. None: found under DP with the range, where that is measured, else by the
    format."""

    @field_validator("min", "max")
    @classmethod
    def _plain_seconds(cls, value: dt.datetime | None) -> dt.datetime | None:
        return None if value is None else value.replace(tzinfo=None, microsecond=0)


class Time(SpelledTimes, DateTime):
    """A time of day, to the second, as a moment of 1970-01-01. Its range is the whole day unless `min` and `max` say less."""

    kind: Literal["time"] = "time"  # type: ignore[assignment]
    min: dt.datetime = dt.datetime(1970, 1, 1)
    """The smallest value."""
    max: dt.datetime = dt.datetime(1970, 1, 1, 23, 59, 59)
    """The largest value."""

    @field_validator("min", "max", mode="before")
    @classmethod
    def _times_of_the_day(cls, value: Any) -> Any:
        if isinstance(value, dt.time):
            return dt.datetime.combine(dt.date(1970, 1, 1), value)
        return f"1970-01-01 {value}" if isinstance(value, str) and ":" in value[:3] else value


class Text(_Column):
    """Free text of at most `max_tokens` tokens of the base model; longer originals are cut at the end."""

    kind: Literal["text"] = "text"
    max_tokens: int = Field(default=128, ge=4, le=4096)
    """Tokens that a text has at most."""


class Identifier(_Column):
    """A key without meaning. Never learned: the synthetic table gets fresh values 1, 2, 3, ..., each once."""

    kind: Literal["identifier"] = "identifier"
    nullable: bool = False
    format: str | None = Field(default=None, exclude_if=is_none)
    """The form of the new keys: # is a digit, ? a letter, the rest stands for itself, e.g. "INV-2024-#####". None: 1, 2, ..."""
    check: Check | None = Field(default=None, exclude_if=is_none)
    """Which digits of the form are check digits: the last one (luhn: cards; ean: articles), or the third and fourth (iban)."""

    @field_validator("format")
    @classmethod
    def _format_is_of_keys(cls, text: str | None) -> str | None:
        if text is not None:
            KeyFormat.of(text)
        return text

    @model_validator(mode="after")
    def _check_fits(self) -> "Identifier":
        if self.check is not None:
            checked_key(self.format or "", self.check, 1)
        return self

    def numbered(self, number: int) -> int | str:
        """The new key of that number, from 1."""
        if self.format is None:
            return number
        return KeyFormat.of(self.format).write(number) if self.check is None else checked_key(self.format, self.check, number)


class Surrogate(_Column):
    """A direct identifier. Never learned: the synthetic table gets invented values of the same sort."""

    kind: Literal["surrogate"] = "surrogate"
    of: Literal["name", "email", "phone", "address", "ip", "ipv6"]
    """What kind of value the column holds."""
    nullable: bool = False


class Derived(SpelledNumbers, _Column):
    """A number that follows from other columns of its row. Never learned: it is calculated for each synthetic row."""

    kind: Literal["derived"] = "derived"
    formula: str = Field(max_length=1000)
    """How to calculate it, e.g. "net + tax", "quantity * price", "year(arrival) - year(born)"."""
    decimals: int = Field(default=0, ge=0, le=9)
    """Digits after the point, rounded half up; 0: a whole number."""

    @property
    def digits(self) -> int:
        """Digits after the point."""
        return self.decimals


Column = Annotated[
    Category | Integer | Number | Boolean | Date | DateTime | Time | Text | Identifier | Surrogate | Derived,
    Field(discriminator="kind"),
]


Formatted = Integer | Number | Boolean | Date | DateTime | Derived
"""Columns whose values are typed, and spelled by a format."""


class Schema(BaseModel):
    """The columns of a table, in their order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    confirmed: bool = False
    """The user has checked kinds, decimals, formats, nullability and max_tokens, which `init` guessed from the data."""
    constraints: list[str] = Field(default_factory=list, max_length=100, exclude_if=operator.not_)
    """What holds in every row and is public knowledge, e.g. ["discharge >= admission", "pregnant = true => sex = 'F'"]: columns
    compared with columns or values, IN, BETWEEN, IS NULL, NOT, AND, OR, =>. Rows of the original that break one are left out."""
    columns: list[Column]

    @model_validator(mode="after")
    def _columns_are_usable(self) -> "Schema":
        if not self.columns:
            raise ValueError("the schema has no columns")
        seen: set[str] = set()
        for column in self.columns:
            if column.name.casefold() in seen:
                raise ValueError(f"two columns are named {column.name!r} (upper and lower case count as the same)")
            seen.add(column.name.casefold())
        if not self.learned():
            raise ValueError("no column is learned: every one is an identifier, a surrogate or derived")
        return self

    @model_validator(mode="after")
    def _formulas_are_about_the_columns(self) -> "Schema":
        for column in self.columns:
            if isinstance(column, Derived):
                try:
                    self.formula(column)
                except ConfigError as error:
                    raise ValueError(f"derived column {column.name!r}: {error.message} {error.hint}") from None
        return self

    @model_validator(mode="after")
    def _constraints_are_about_the_columns(self) -> "Schema":
        for constraint in self.read_constraints():
            for leaf in constraint.comparisons:
                column = self.column(leaf.left.name)
                if not isinstance(column, Category) or not isinstance(leaf.right, Constant) or "values" in column.measured:
                    continue
                if column.values is not None and leaf.right.value not in column.allowed():
                    raise ValueError(
                        f"constraint {constraint.text[:80]!r}: {leaf.right.value[:40]!r} is not in the list of {column.name!r}"
                    )
        return self

    def read_constraints(self) -> tuple[Constraint, ...]:
        """The constraints as they are understood."""
        if not self.constraints:
            return ()
        return read_constraints(tuple(self.constraints), tuple((column.name, column.kind) for column in self.columns))

    def formula(self, column: Derived) -> Formula:
        """The formula of a derived column. Raises ConfigError."""
        return read_formula(column.formula, tuple((column.name, column.kind) for column in self.learned()))

    def learned(self) -> list[Column]:
        """The columns the model learns and writes: all but identifiers, surrogates and derived ones."""
        return [column for column in self.columns if not isinstance(column, Identifier | Surrogate | Derived)]

    def unmeasured(self) -> list[tuple[str, str]]:
        """(column, field) pairs that are neither declared nor measured yet."""
        return [(column.name, field) for column in self.columns for field in column.unmeasured()]

    def column(self, name: str) -> Column:
        """The column of that name. Raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


def written(column: Column, value: Value) -> str | None:
    """A value as the file writes it, whatever the kind; None: no value."""
    return None if value is None else column.written(value) if isinstance(column, Formatted) else str(value)


def ends(column: Integer | Number | Date | DateTime) -> list[str]:
    """The bounds of an ordered column, to be shown: in its format, where it has one."""
    bounds = (column.min, column.max)
    return [column.written(bound) if column.is_spelled and bound is not None else str(bound) for bound in bounds]


_DROP = object()
"""Stands for a value whose row is to be left out."""


def _conform_value(column: Column, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(column, Category):
        if value in (column.values or []) or value == column.other:
            return value
        replacement: Value = column.other
    elif isinstance(column, Integer | Number | Date | DateTime):
        if isinstance(column, Number):
            value = round(float(value), column.decimals)
            if not math.isfinite(value):
                return None
        low, high = column.min, column.max
        assert low is not None and high is not None, "conform() needs the effective schema"
        if low <= value <= high:
            return value
        replacement = low if value < low else high
    else:
        return value
    return {"drop": _DROP, "null": None}.get(column.outside, replacement)


def conform(schema: Schema, record: Record) -> Record | None:
    """`record` (learned columns) with every value inside the effective schema; None if the schema drops the row.

    Works on one record alone, so it neither reveals nor counts which rows were outside. A null in a column declared
    not nullable drops the row, and so does a constraint that is violated once all values are inside.
    """
    result: Record = {}
    for column in schema.learned():
        value = _conform_value(column, record[column.name])
        if value is _DROP or (value is None and not column.nullable):
            return None
        result[column.name] = value
    return None if any(constraint.violated(result) for constraint in schema.read_constraints()) else result
