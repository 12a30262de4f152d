"""How a column spells its values: numbers, dates, booleans and keys, read from text and written as text.

A format is public: it is guessed from the rows like the kind of a column, and confirmed by the user. Values are kept typed;
a format only says how a file spells them.

    number     how 1234.5 is written: "1.234,5 €", "$1,234.5", "1234,5", "1234.5 %"; of whole numbers 1234: "1,234", "1234.0"
    duration   "h:mm:ss" in seconds; "h:mm" in minutes, or of minutes and seconds in seconds; "hh" with two digits at least
    moment     the codes of strftime: "%d.%m.%Y", "%-m/%-d/%y", "%Y-%m-%dT%H:%M:%SZ", "%H:%M"
    boolean    the spellings of true and false: "Y/N", "1/0"
    key        # is a digit, ? a letter, anything else stands for itself: "INV-2024-#####"; with check digits, where it has some

Knows nothing about columns.
"""

import datetime as dt
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar, Literal, TypeAlias

_MINUS = "-\u2212"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_LENGTH = 60
_KNOWN = 1024
"""Formats that are kept: each value of a column asks for it."""


def _checked(text: str) -> str:
    if not text.strip() or len(text) > _MAX_LENGTH or _CONTROL.search(text):
        raise ValueError(f"a format is one line of 1 to {_MAX_LENGTH} characters")
    return text


@dataclass(frozen=True)
class NumberFormat:
    """What stands before and after a number, and its thousands and decimal signs; a sign stands first of all."""

    before: str = ""
    thousands: str = ""
    decimal: str = "."
    after: str = ""

    _TEMPLATE = re.compile(r"(?P<before>[^0-9]*)1(?P<thousands>[^0-9]?)234(?:(?P<decimal>[^0-9])5)?(?P<after>\D.*|)")

    @classmethod
    @lru_cache(_KNOWN)
    def of(cls, text: str) -> "NumberFormat":
        """The format that writes 1234.5 (or 1234) as `text`. Raises ValueError."""
        found = cls._TEMPLATE.fullmatch(_checked(text))
        if found is None:
            raise ValueError('a format of numbers says how 1234.5 is written, such as "1.234,5" or "$1,234.5"')
        decimal = found["decimal"] or ("," if found["thousands"] == "." else ".")
        if decimal == found["thousands"]:
            raise ValueError("a format of numbers needs different signs for thousands and decimals")
        return cls(found["before"], found["thousands"], decimal, found["after"])

    def text(self, *, whole: bool) -> str:
        """The format as `of` reads it. `whole`: of whole numbers."""
        return f"{self.before}1{self.thousands}234{'' if whole else self.decimal + '5'}{self.after}"

    def read(self, text: str) -> str | None:
        """The number in `text` as Python writes it; None where it has another form. `before` and `after` may be absent."""
        sign = ""
        rest = text.strip()
        for affix in (self.before.strip(), ""):
            if rest[:1] in (*_MINUS, "+") and not sign:
                sign, rest = "-" if rest[0] in _MINUS else "+", rest[1:].lstrip()
            if affix:
                rest = rest.removeprefix(affix).lstrip()
        rest = rest.removesuffix(self.after.strip()).rstrip() if self.after.strip() else rest
        found = self._pattern.fullmatch(rest)
        if found is None:
            return None
        whole = found["whole"].replace(self.thousands, "") if self.thousands else found["whole"]
        return sign.removeprefix("+") + whole + found["part"].replace(self.decimal, ".") + found["exponent"]

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        grouped = rf"[0-9]{{1,3}}(?:{re.escape(self.thousands)}[0-9]{{3}})+|" if self.thousands else ""
        part = rf"{re.escape(self.decimal)}[0-9]*"
        return re.compile(
            rf"(?P<whole>{grouped}[0-9]+|(?={part}[0-9]))(?P<part>(?:{part})?)(?P<exponent>(?:[eE][+-]?[0-9]{{1,4}})?)"
        )

    def write(self, value: float, decimals: int) -> str:
        """`value` with that many digits after the decimal sign."""
        digits = f"{abs(value):,.{decimals}f}"
        negative = value < 0 and any(digit in digits for digit in "123456789")
        signs = {",": self.thousands, ".": self.decimal}
        number = "".join(signs.get(character, character) for character in digits)
        return f"{'-' if negative else ''}{self.before}{number}{self.after}"


_DURATION = re.compile(r"(?P<sign>-?)(?P<first>[0-9]{1,9})(?P<others>(?::[0-5][0-9]){1,2})(?P<part>(?:\.[0-9]+)?)")


@dataclass(frozen=True)
class DurationFormat:
    """A duration as a number of its smallest unit: hours, minutes and seconds, or two of them that follow each other."""

    form: str

    FORMS: ClassVar = ("h:mm:ss", "hh:mm:ss", "h:mm", "hh:mm")

    def read(self, text: str) -> str | None:
        """The number in `text` as Python writes it; None where it has another form."""
        found = _DURATION.fullmatch(text.strip())
        if found is None or found["others"].count(":") != self.form.count(":"):
            return None
        total = int(found["first"])
        for number in found["others"][1:].split(":"):
            total = 60 * total + int(number)
        return f"{found['sign']}{total}{found['part']}"

    def write(self, value: float, decimals: int) -> str:
        """`value` with that many digits after the point."""
        whole, point, part = f"{abs(value):.{decimals}f}".partition(".")
        rest = int(whole)
        numbers: list[str] = []
        for _ in range(self.form.count(":")):
            rest, number = divmod(rest, 60)
            numbers.insert(0, f":{number:02d}")
        return f"{'-' if value < 0 else ''}{rest:0{self.form.index(':')}d}{''.join(numbers)}{point}{part}"


def number_format(text: str) -> NumberFormat | DurationFormat:
    """The format of numbers or durations with that text. Raises ValueError."""
    return DurationFormat(text) if text in DurationFormat.FORMS else NumberFormat.of(text)


_MONTHS = ["January", "February", "March", "April", "May", "June", "July"]
_MONTHS += ["August", "September", "October", "November", "December"]
_MONTH_OF = {name[:length].lower(): number for number, name in enumerate(_MONTHS, 1) for length in (3, len(name))} | {"sept": 9}
_CODES = {
    "Y": r"(?P<Y>[0-9]{4})",
    "y": r"(?P<y>[0-9]{2})",
    "m": r"(?P<m>[0-9]{1,2})",
    "d": r"(?P<d>[0-9]{1,2})",
    "b": r"(?P<b>[A-Za-z]{3,4}\.?)",
    "B": r"(?P<B>[A-Za-z]{3,9})",
    "H": r"(?P<H>[0-9]{1,2})",
    "I": r"(?P<I>[0-9]{1,2})",
    "M": r"(?P<M>[0-9]{1,2})",
    # A fraction of a second is read, and left out.
    "S": r"(?P<S>[0-9]{1,2})(?:[.,][0-9]{1,9})?",
    "f": r"(?P<f>[0-9]{1,9})",
    "p": r"(?P<p>[AaPp]\.?[Mm]\.?)",
    "z": r"(?P<z>[Zz]|[+-][0-9]{2}:?[0-9]{2})",
}
_COMPACT = {"m": r"(?P<m>[0-9]{2})", "d": r"(?P<d>[0-9]{2})", "H": r"(?P<H>[0-9]{2})", "M": r"(?P<M>[0-9]{2})"}
"""Where no sign separates two numbers, they have both digits."""
_TOKEN = re.compile(r"%(?P<flag>[-:1-9]?)(?P<code>.)|(?P<literal>[^%]+)", re.DOTALL)
_PARTS = {"second": "S", "minute": "M", "hour": "HI", "day": "d", "month": "mbB", "year": "Yy"}
"""The codes of each part, the smallest first."""
_FIRST = (1, 1, 1, 0, 0, 0)
_NO_DATE = dt.date(1970, 1, 1)
_CENTURY_STARTS = 69
"""Two-digit years from here on are of the 20th century, as POSIX has it."""


@dataclass(frozen=True)
class MomentFormat:
    """A date, a time of day, or both, in the codes of strftime: %Y %y %m %d %b %B %H %I %M %S %p %z, and %-d without a zero.

    %3f has the digits of milliseconds, and %6f those of microseconds: they are read and left out, and written as zeros.
    """

    codes: str

    @classmethod
    @lru_cache(_KNOWN)
    def of(cls, text: str) -> "MomentFormat":
        """The format with these codes. Raises ValueError."""
        found = cls(_checked(text))
        tokens = list(_TOKEN.finditer(text))
        used = [token["code"] for token in tokens if token["code"]]
        if "".join(token.group() for token in tokens) != text or not used or not set(used) <= set(_CODES):
            raise ValueError('a format of dates and times is made of %Y %y %m %d %b %B %H %I %M %S %3f %p %z, such as "%d.%m.%Y"')
        if len(set(used)) != len(used) or not (found._has("Yy") or found._has("HI")) or (found._has("I") and not found._has("p")):
            raise ValueError("a format of dates and times has a year or an hour, each code once, and %p beside %I")
        if found.has_date and not (found._has("Yy") and (found._has("mbB") or not found._has("d"))):
            raise ValueError("a format of dates has a year, and a month where it has a day")
        return found

    def _has(self, codes: str) -> bool:
        return any(token["code"] in codes for token in _TOKEN.finditer(self.codes) if token["code"])

    @property
    def has_date(self) -> bool:
        """Whether it has a year, a month or a day."""
        return self._has("YymdbB")

    @property
    def has_time(self) -> bool:
        """Whether it has an hour."""
        return self._has("HI")

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts, before = [], ""
        for token in _TOKEN.finditer(self.codes):
            if token["literal"]:
                parts.append(r"\s+".join(map(re.escape, re.split(r"\s+", token["literal"]))))
            else:
                compact = before in _CODES and token["code"] in _COMPACT
                parts.append(_COMPACT[token["code"]] if compact else _CODES[token["code"]])
            before = token["code"] or ""
        return re.compile("".join(parts))

    def parts(self, text: str) -> dict[str, str] | None:
        """What stands in `text` for each code; None where it has another form."""
        found = self._pattern.fullmatch(text.strip())
        return None if found is None else {code: value for code, value in found.groupdict().items() if value is not None}

    def read(self, text: str) -> dt.datetime | None:
        """The moment in `text`, to the second and without a zone; None where it has another form. What is absent is the lowest.

        A zone is converted to UTC. Without a date the day is 1970-01-01. Names of months are English.
        """
        part = self.parts(text)
        if part is None:
            return None
        year = int(part.get("Y") or part.get("y") or _NO_DATE.year)
        if "y" in part:
            year += 1900 if year >= _CENTURY_STARTS else 2000
        name = (part.get("b") or part.get("B") or "").rstrip(".").lower()
        month = _MONTH_OF.get(name, 0) if name else int(part.get("m", 1))
        hour = int(part.get("H") or part.get("I") or 0)
        if "I" in part:
            if not 1 <= hour <= 12:
                return None
            hour = hour % 12 + (12 if part["p"][0] in "pP" else 0)
        try:
            moment = dt.datetime(year, month, int(part.get("d", 1)), hour, int(part.get("M", 0)), int(part.get("S", 0)))
            if (zone := part.get("z", "Z")) not in "Zz":
                away = dt.timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
                moment += away if zone[0] == "-" else -away
        except (ValueError, OverflowError):
            return None
        return moment

    def write(self, value: dt.date) -> str:
        """A date or a moment; of a date the time is midnight. A zone is that of UTC."""
        moment = value if isinstance(value, dt.datetime) else dt.datetime(value.year, value.month, value.day)
        return _TOKEN.sub(lambda token: token["literal"] or self._part(token["code"], token["flag"], moment), self.codes)

    @staticmethod
    def _part(code: str, flag: str, moment: dt.datetime) -> str:
        if code in "bB":
            name = _MONTHS[moment.month - 1]
            return name[:3] if code == "b" else name
        if code == "p":
            return "AM" if moment.hour < 12 else "PM"
        if code == "z":
            return "+00:00" if flag == ":" else "+0000"
        if code == "f":
            return "0" * int(flag or 6)
        if code == "Y":
            return f"{moment.year:04d}"
        number = {
            "y": moment.year % 100,
            "m": moment.month,
            "d": moment.day,
            "H": moment.hour,
            "I": (moment.hour - 1) % 12 + 1,
            "M": moment.minute,
            "S": moment.second,
        }[code]
        return str(number) if flag == "-" else f"{number:02d}"

    @property
    def seconds(self) -> int:
        """How far moments of a day that are written differently are apart."""
        return 1 if self._has("S") else 60 if self._has("M") else 3600

    @property
    def precision(self) -> str:
        """The smallest part that is written: "year", "month", "day", "hour", "minute" or "second"."""
        return next(part for part, codes in _PARTS.items() if self._has(codes))

    def rounded(self, value: dt.datetime) -> dt.datetime:
        """The earliest moment that is written like `value`: the first day of a month, the full minute."""
        written = len(_PARTS) - list(_PARTS).index(self.precision)
        year, month, day, hour, minute, second = (*value.timetuple()[:written], *_FIRST[written:])
        return dt.datetime(year, month, day, hour, minute, second)


@dataclass(frozen=True)
class BooleanFormat:
    """The spellings of true and false."""

    true: str
    false: str

    @classmethod
    def of(cls, text: str) -> "BooleanFormat":
        """The format of "Y/N". Raises ValueError."""
        true, _, false = (part.strip() for part in _checked(text).partition("/"))
        if not true or not false or "/" in false or true.casefold() == false.casefold():
            raise ValueError('a format of booleans has the two spellings of true and false, such as "Y/N"')
        return cls(true, false)

    def read(self, text: str) -> bool | None:
        """What `text` spells, in any case; None where it is neither."""
        word = text.casefold()
        return True if word == self.true.casefold() else False if word == self.false.casefold() else None

    def write(self, value: bool) -> str:
        """The spelling of a value."""
        return self.true if value else self.false


_DIGITS, _LETTERS = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class KeyFormat:
    """The form of new keys: # is a digit, ? a letter. They are numbered, so no two are the same."""

    form: str

    @classmethod
    def of(cls, text: str) -> "KeyFormat":
        """The format "INV-2024-#####". Raises ValueError."""
        if "#" not in _checked(text) and "?" not in text:
            raise ValueError('a format of keys has # for digits and ? for letters, such as "INV-2024-#####"')
        return cls(text)

    def write(self, number: int) -> str:
        """The key of that number, from 1. A number with more digits than there is space for makes the key longer."""
        places = [_DIGITS if sign == "#" else _LETTERS for sign in self.form if sign in "#?"]
        filled: list[str] = []
        for characters in reversed(places):
            number, digit = divmod(number, len(characters))
            filled.append(characters[digit])
        values = iter(reversed(filled))
        key = "".join(next(values) if sign in "#?" else sign for sign in self.form)
        first = next(place for place, sign in enumerate(self.form) if sign in "#?")
        return key[:first] + (str(number) if number else "") + key[first:]


Check: TypeAlias = Literal["luhn", "ean", "iban"]


def checked_key(form: str, check: Check, number: int) -> str:
    """The key of that number, and its check digits: the last one (luhn, ean), or the third and fourth (iban).

    Raises ValueError where the form has no digits in these places.
    """
    from stdnum import ean, iban, luhn

    start, end = (2, 4) if check == "iban" else (len(form) - 1, len(form))
    if set(form[start:end]) != {"#"} or len(form) < end:
        raise ValueError(f"check {check} needs a format with # where the check digits are")
    key = KeyFormat.of(form[:start] + form[end:]).write(number)
    signs = re.sub("[ -]", "", key)
    if check == "iban":
        return f"{key[:2]}{iban.calc_check_digits(f'{signs[:2]}00{signs[2:]}')}{key[2:]}"
    return f"{key}{(luhn if check == 'luhn' else ean).calc_check_digit(signs)}"
