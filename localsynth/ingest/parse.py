"""Parsing one value: from the source's text to its type. What cannot be parsed is refused.

The messages say what was expected, never what was found.
"""

import datetime as dt
import decimal
import math
import re
from collections.abc import Callable, Collection
from functools import partial

from localsynth.schema.columns import (
    Boolean,
    Category,
    Column,
    Date,
    DateTime,
    Formatted,
    Integer,
    Number,
    Text,
    Time,
    Value,
)

TRUE_WORDS = frozenset({"true", "t", "yes", "y", "1", "1.0"})
FALSE_WORDS = frozenset({"false", "f", "no", "n", "0", "0.0"})

_WHOLE = re.compile(r"[+-]?[0-9]{1,19}(\.0*)?")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ISO_START = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ]|$)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_MAX_MAGNITUDE = 2**62


class UnreadableValueError(ValueError):
    """A value is not of its column's kind; the text says which kind, and never holds the value."""


def _integer(text: str) -> Value:
    if _WHOLE.fullmatch(text):
        number = int(text.partition(".")[0])
    elif _NOT_FINITE.fullmatch(text):
        return None
    else:
        number = _whole_decimal(text)
    if abs(number) > _MAX_MAGNITUDE:
        raise UnreadableValueError("a whole number beyond 2^62")
    return number


def _whole_decimal(text: str) -> int:
    # Statistics programs write 100000 as 1e+05.
    if _DECIMAL.fullmatch(text):
        value = decimal.Decimal(text)
        if value.adjusted() > 30:
            raise UnreadableValueError("a whole number beyond 2^62")
        if value == value.to_integral_value():
            return int(value)
    raise UnreadableValueError("not a whole number")


def _number(text: str, decimals: int) -> float | None:
    if not _DECIMAL.fullmatch(text):
        if _NOT_FINITE.fullmatch(text):
            return None
        raise UnreadableValueError("not a number (written with a decimal point and no thousands separators)")
    value = float(text)
    # Adding 0.0 turns a rounded-away "-0.0" into "0.0".
    return round(value, decimals) + 0.0 if math.isfinite(value) else None


def _boolean(text: str) -> Value:
    word = text.lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise UnreadableValueError("not true or false")


def _datetime(text: str) -> dt.datetime:
    if not _ISO_START.match(text):
        raise UnreadableValueError("not a date and time of the form YYYY-MM-DD HH:MM:SS")
    try:
        moment = dt.datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            moment = moment.astimezone(dt.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise UnreadableValueError("not a date and time of the form YYYY-MM-DD HH:MM:SS") from None
    return moment.replace(microsecond=0)


def _time(text: str) -> dt.datetime:
    if not text.startswith("1970-01-01 "):
        raise UnreadableValueError("not a time of day of the form HH:MM:SS")
    return _datetime(text)


def _date(text: str) -> dt.date:
    try:
        if _ISO_DATE.fullmatch(text):
            return dt.date.fromisoformat(text)
        # Programs without a date type append midnight; the day is the one before any time zone.
        if _ISO_START.match(text):
            return dt.datetime.fromisoformat(text).date()
    except ValueError:
        pass
    raise UnreadableValueError("not a date of the form YYYY-MM-DD")


def _text(text: str) -> str:
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def _category(text: str) -> Value:
    return " ".join(_text(text).split()) or None


def _formatted(column: Formatted, convert: Callable[[str], Value], text: str) -> Value:
    plain = column.plain(text)
    if plain is not None:
        try:
            return convert(plain)
        except UnreadableValueError:
            if column.format is None:
                raise
    raise UnreadableValueError(f"not a value of the form {column.format}")


_CONVERTERS: dict[type, Callable[[str], Value]] = {
    Integer: _integer,
    Boolean: _boolean,
    Date: _date,
    DateTime: _datetime,
    Time: _time,
    Category: _category,
}


def parser_for(column: Column, missing: Collection[str]) -> Callable[[str | None], Value]:
    """The function that parses the texts of a learned column. `missing`: the strings that mean "no value".

    A text of the column's format is read by that; else:

    - integer: "3", "3.0", "1e+05"; number: rounded to the column's decimals; NaN and infinities are missing values
    - boolean: true/false, t/f, yes/no, y/n, 1/0 in any case
    - date, datetime, time: ISO 8601; a datetime's time zone is converted to UTC and dropped, as are fractions of a second
    - category: white space stripped at the ends, single blanks inside
    - text: line ends become \\n, other control characters except tab are removed

    Blank strings are missing values except in a text column. The function raises UnreadableValueError.
    """
    absent = frozenset(missing if column.missing is None else column.missing)
    if isinstance(column, Text):

        def parse_text(text: str | None) -> Value:
            return None if text is None or text in absent or text.strip() in absent else _text(text)

        return parse_text
    convert = partial(_number, decimals=column.decimals) if isinstance(column, Number) else _CONVERTERS[type(column)]
    if isinstance(column, Formatted):
        convert = partial(_formatted, column, convert)

    def parse(text: str | None) -> Value:
        stripped = (text or "").strip()
        return None if not stripped or text in absent or stripped in absent else convert(stripped)

    return parse


def parse_value(column: Column, text: str | None, missing: Collection[str]) -> Value:
    """`parser_for(column, missing)(text)`, for a single value."""
    return parser_for(column, missing)(text)
