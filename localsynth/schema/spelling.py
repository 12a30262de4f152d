"""How a column spells its values: what each kind of column inherits to read and write texts in its `format`.

Each class has `plain`, from a text of the file to the one that a parser reads; `written`, from a value to the text of the file;
`rounded`, the value that the file can write; and `is_spelled`, whether the file writes values otherwise than a database does.

Knows one value at a time. What a format means is in `formats`.
"""

import datetime as dt
from typing import Any, ClassVar

from pydantic import BaseModel, Field, field_validator

from localsynth.schema.formats import BooleanFormat, MomentFormat, NumberFormat, number_format

_LIMITS = ("<", ">", "≤", "≥")


def is_none(value: object) -> bool:
    """For fields that are left out where they are not set."""
    return value is None


class SpelledNumbers(BaseModel):
    """Of numbers."""

    format: str | None = Field(default=None, exclude_if=is_none)
    """How the file writes 1234.5, e.g. "1.234,5 €" or "1234,5"; of whole numbers 1234, e.g. "$1,234"; durations as
    "h:mm:ss" (in seconds) or "h:mm" (in minutes). None: as Python does."""

    @field_validator("format")
    @classmethod
    def _format_is_of_numbers(cls, text: str | None) -> str | None:
        if text is not None:
            number_format(text)
        return text

    @property
    def digits(self) -> int:
        """Digits after the point."""
        return 0

    @property
    def is_spelled(self) -> bool:
        """Whether the file writes values otherwise than a database does."""
        return self.format is not None

    def plain(self, text: str) -> str | None:
        """What the file writes, as Python writes the number; None where it has another form than `format`."""
        if self.format is None or text.lstrip("+-").isalpha():
            return text
        return number_format(self.format).read(text)

    def written(self, value: Any) -> str:
        """A value as the file writes it."""
        return (NumberFormat() if self.format is None else number_format(self.format)).write(value, self.digits)


class SpelledLimits(SpelledNumbers):
    """Of numbers some of which are only limits: <0.5."""

    below: float | None = Field(default=None, allow_inf_nan=False, exclude_if=is_none)
    """A limit, as public knowledge, below which the file writes only that: <0.5. None: a value "<0.5" is read as 0.5."""
    above: float | None = Field(default=None, allow_inf_nan=False, exclude_if=is_none)
    """A limit above which the file writes only that: >100. None: a value ">100" is read as 100."""

    @property
    def is_spelled(self) -> bool:
        """Whether the file writes values otherwise than a database does."""
        return not (self.format is None and self.below is None and self.above is None)

    def plain(self, text: str) -> str | None:
        """What the file writes, as Python writes the number; None where it has another form than `format`.

        Without a limit `below`, "<0.5" is 0.5. With one it is the next smaller value.
        """
        if not text.startswith(_LIMITS):
            return super().plain(text)
        if (self.below if text[0] in "<≤" else self.above) is None:
            return super().plain(text[1:].removeprefix("=").strip())
        return f"{self._beyond(text):.{self.digits}f}"

    def _beyond(self, text: str) -> float:
        """The value that stands for all beyond a limit; `text` begins with its sign."""
        limit = self.below if text[0] in "<≤" else self.above
        assert limit is not None
        return round(limit + (-1 if text[0] in "<≤" else 1) * 10.0**-self.digits, self.digits)

    def rounded(self, value: Any) -> Any:
        """The value that the file can write: beyond a limit always the same one."""
        sign = self._limit_of(value)
        return value if sign is None else type(value)(self._beyond(sign))

    def written(self, value: Any) -> str:
        """A value as the file writes it."""
        sign = self._limit_of(value)
        return super().written(value) if sign is None else sign + super().written(self.below if sign == "<" else self.above)

    def _limit_of(self, value: Any) -> str | None:
        """The sign of a value beyond a limit."""
        if self.below is not None and value < self.below:
            return "<"
        return ">" if self.above is not None and value > self.above else None


class SpelledBooleans(BaseModel):
    """Of true and false."""

    format: str | None = Field(default=None, exclude_if=is_none)
    """The spellings of true and false in the file, e.g. "Y/N". None: true/false."""

    @field_validator("format")
    @classmethod
    def _format_is_of_booleans(cls, text: str | None) -> str | None:
        if text is not None:
            BooleanFormat.of(text)
        return text

    @property
    def is_spelled(self) -> bool:
        """Whether the file writes values otherwise than a database does."""
        return self.format is not None

    def rounded(self, value: Any) -> Any:
        """The value that the file can write: each."""
        return value

    def plain(self, text: str) -> str:
        """What the file writes, as true or false where it is spelled as `format` says."""
        value = None if self.format is None else BooleanFormat.of(self.format).read(text)
        return text if value is None else str(value).lower()

    def written(self, value: Any) -> str:
        """A value as the file writes it."""
        return BooleanFormat.of(self.format or "true/false").write(value)


class SpelledDateTimes(BaseModel):
    """Of dates with times."""

    format: str | None = Field(default=None, exclude_if=is_none)
    """The form in the file, in the codes of strftime, e.g. "%d.%m.%Y"; %-d is a day without a zero. None: as ISO 8601."""

    _ISO: ClassVar[str] = "%Y-%m-%d %H:%M:%S"
    """The form where there is no format."""
    _parts: ClassVar[tuple[bool, bool]] = (True, True)
    """Whether a format has a date, and a time."""

    @field_validator("format")
    @classmethod
    def _format_fits(cls, text: str | None) -> str | None:
        if text is not None:
            form = MomentFormat.of(text)
            if (form.has_date, form.has_time) != cls._parts:
                raise ValueError("the format has other parts (year to day, hour to second) than the kind")
        return text

    @property
    def is_spelled(self) -> bool:
        """Whether the file writes values otherwise than a database does."""
        return self.format is not None

    def rounded(self, value: Any) -> Any:
        """The value that the file can write: without seconds the full minute."""
        return value if self.format is None else MomentFormat.of(self.format).rounded(value)

    def plain(self, text: str) -> str:
        """What the file writes, as ISO 8601 has it where it is of the form `format`."""
        moment = None if self.format is None else MomentFormat.of(self.format).read(text)
        return text if moment is None else moment.isoformat(" ")

    def written(self, value: Any) -> str:
        """A value as the file writes it."""
        return MomentFormat.of(self.format or self._ISO).write(value)


class SpelledDates(SpelledDateTimes):
    """Of days and months."""

    _ISO = "%Y-%m-%d"
    _parts = (True, False)

    def rounded(self, value: Any) -> Any:
        """The value that the file can write: of months the first day."""
        return super().rounded(dt.datetime(value.year, value.month, value.day)).date()

    def plain(self, text: str) -> str:
        """What the file writes, as ISO 8601 has it where it is of the form `format`."""
        moment = None if self.format is None else MomentFormat.of(self.format).read(text)
        return text if moment is None else moment.date().isoformat()


class SpelledTimes(SpelledDateTimes):
    """Of times of day."""

    _ISO = "%H:%M:%S"
    _parts = (False, True)

    @property
    def is_spelled(self) -> bool:
        """Always: the moment has a day, which no file shows."""
        return True

    def plain(self, text: str) -> str:
        """The time in `text` on 1970-01-01, as ISO 8601 has it; the text where it has another form."""
        moment = MomentFormat.of(self.format or self._ISO).read(text)
        return text if moment is None else moment.isoformat(" ")
