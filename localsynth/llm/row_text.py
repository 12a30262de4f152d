r"""Record ⇄ text: one line for each column, `name: value`, and which of its tokens are learned.

    type: ham
    text: Ok lar... Joking wif u oni...

Names, colons and what the schema fixes are *forced*: the model reads them, and they are never learned or sampled. Values and
the line break that ends them are *learned*. A null is written `\N`; in a value, a backslash is written `\\`, a line break `\n`,
a carriage return `\r`, a tab `\t`, so every Unicode string survives the round trip and a raw line break always ends a value.
A category's value is followed by its description in brackets, where the schema gives one: `type: ham (a personal message)`.

Each span is tokenized separately, so training and sampling split the text at the same places.
Knows the schema and a tokenize function; nothing about files, models or privacy.
"""

import datetime as dt
import re
from bisect import bisect_right
from collections.abc import Callable, Set
from dataclasses import dataclass

from localsynth.llm.value_regex import date_range, datetime_range, decimal_range, integer_range
from localsynth.schema.columns import Boolean, Category, Column, Date, DateTime, Integer, Number, Record, Schema, Text, Value
from localsynth.schema.conditions import Allowed

NULL = r"\N"
END = "\n"

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"})
_UNESCAPES = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}
_UNESCAPED = re.compile(r"\\(.)", re.DOTALL)

# Any character but the control characters and the backslash, or one of the escapes above.
_TEXT_PATTERN = r"(?:[^\x00-\x1f\x7f\\]|\\[\\nrt])*"


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)


def _unescape(text: str) -> str:
    return _UNESCAPED.sub(lambda match: _UNESCAPES[match.group(1)], text)


def format_value(column: Column, value: Value) -> str:
    """A value as the model writes it, without the space before and the line break after it."""
    if value is None:
        return NULL
    if isinstance(column, Boolean):
        return "yes" if value else "no"
    if isinstance(column, Number):
        text = f"{float(value):.{column.decimals}f}"  # type: ignore[arg-type]
        return text.lstrip("-") if float(text) == 0 else text
    if isinstance(column, DateTime):
        assert isinstance(value, dt.datetime)
        return value.strftime("%Y-%m-%d %H:%M:%S").rjust(19, "0")
    if isinstance(column, Date):
        assert isinstance(value, dt.date)
        return value.isoformat()
    if isinstance(column, Integer):
        return str(value)
    assert isinstance(value, str)
    return _escape(column.spelled(value) if isinstance(column, Category) else value)


def parse_value(column: Column, text: str) -> Value:
    """The inverse of `format_value`. Raises ValueError on text that `value_pattern` does not match."""
    if text == NULL:
        return None
    if isinstance(column, Boolean):
        return {"yes": True, "no": False}[text]
    if isinstance(column, Number):
        return float(text)
    if isinstance(column, DateTime):
        return dt.datetime.strptime(text, "%Y-%m-%d %H:%M:%S")
    if isinstance(column, Date):
        return dt.date.fromisoformat(text)
    if isinstance(column, Integer):
        return int(text)
    if isinstance(column, Category) and column.descriptions:
        for value in column.allowed():
            if format_value(column, value) == text:
                return value
        raise ValueError(f"not a value of {column.name!r}")
    return _unescape(text)


def value_pattern(column: Column) -> str:
    """A regular expression of all texts `format_value` can give for a value that the effective schema allows."""
    if isinstance(column, Category):
        pattern = "|".join(re.escape(format_value(column, value)) for value in column.allowed())
    elif isinstance(column, Boolean):
        pattern = "yes|no"
    elif isinstance(column, Text):
        pattern = _TEXT_PATTERN
    else:
        assert isinstance(column, Integer | Number | Date | DateTime), column.kind
        low, high = column.min, column.max
        assert low is not None and high is not None, "the grammar needs the effective schema"
        if isinstance(column, Integer):
            pattern = integer_range(low, high)  # type: ignore[arg-type]
        elif isinstance(column, Number):
            pattern = decimal_range(low, high, column.decimals)  # type: ignore[arg-type]
        elif isinstance(column, DateTime):
            pattern = datetime_range(low, high)  # type: ignore[arg-type]
        else:
            pattern = date_range(low, high)  # type: ignore[arg-type]
    return rf"(?:{pattern}|\\N)" if column.nullable else f"(?:{pattern})"


def allowed_pattern(allowed: Allowed) -> str:
    """A regular expression of a set's values, each with its leading space and ending line break, as in `Field.pattern`."""
    patterns = [value_pattern(piece) for piece in allowed.pieces()] + ([r"\\N"] if allowed.null else [])
    return f" (?:{'|'.join(patterns)})\\n"


@dataclass(frozen=True)
class Field:
    """One learned column as the model sees it."""

    column: Column
    key: list[int]
    """Forced tokens before the value: the start of the row for the first column, then `name:`."""
    pattern: str
    """Regular expression of the value with its leading space and ending line break."""
    budget: int
    """Maximum tokens of a value, the line break included."""


@dataclass(frozen=True)
class Encoded:
    """One record as tokens; `learned[i]` says whether token i carries loss."""

    tokens: list[int]
    learned: list[bool]


class Codec:
    """Turns records of a schema into tokens and back.

    `tokenize` gives the tokens of a span of text. Every row begins with the tokens `start` (a BOS token, if the model has
    one), then `description`, a public line. The model reads the values of columns in `given` and learns only the others'.
    """

    def __init__(
        self,
        schema: Schema,
        tokenize: Callable[[str], list[int]],
        start: list[int],
        description: str = "",
        given: Set[str] = frozenset(),
    ) -> None:
        self._tokenize = tokenize
        self._given = given
        head = start + (tokenize(_escape(description) + END) if description else [])
        self._end = tokenize(END)
        self.fields: list[Field] = []
        for column in schema.learned():
            key = (head if not self.fields else []) + tokenize(f"{_escape(column.name)}:")
            self.fields.append(Field(column, key, f" {value_pattern(column)}\\n", self._budget(column)))

    def _budget(self, column: Column) -> int:
        if isinstance(column, Text):
            return column.max_tokens
        # A token has at least one byte, so the longest text bounds the tokens: the space, the value, the line break.
        if isinstance(column, Category):
            longest = max(len(format_value(column, value).encode()) for value in column.allowed())
        elif isinstance(column, Integer | Number):
            longest = max(len(format_value(column, column.min)), len(format_value(column, column.max)))
        else:
            longest = 19
        return max(longest, len(NULL)) + 2

    @property
    def longest_row(self) -> int:
        """Maximum tokens of a row."""
        return sum(len(field.key) + field.budget for field in self.fields)

    def encode_value(self, field: Field, value: Value) -> list[int]:
        """The tokens of one value with its leading space and line break; a text is cut to the field's budget."""
        tokens = self._tokenize(" " + format_value(field.column, value))
        max_tokens = field.budget - len(self._end)
        if len(tokens) > max_tokens and isinstance(value, str):
            tokens = self._cut(value, max_tokens)
        return tokens + self._end

    def _cut(self, text: str, max_tokens: int) -> list[int]:
        """The longest prefix of `text`, in whole characters, with at most `max_tokens` tokens."""

        def tokens(length: int) -> list[int]:
            return self._tokenize(" " + _escape(text[:length]))

        longer = bisect_right(range(len(text) + 1), max_tokens, key=lambda length: len(tokens(length)))
        return tokens(longer - 1)

    def encode(self, record: Record) -> Encoded:
        """The tokens of a whole record that conforms to the schema."""
        tokens: list[int] = []
        learned: list[bool] = []
        for field in self.fields:
            value = self.encode_value(field, record[field.column.name])
            tokens += field.key + value
            # Where other columns are given, so is whether a text is null.
            learns = field.column.name not in self._given and not (self._given and record[field.column.name] is None)
            learned += [False] * len(field.key) + [learns] * len(value)
        return Encoded(tokens, learned)

    def decode(self, values: list[bytes]) -> Record:
        """A record from the bytes of each field's value (leading space, line break). Raises ValueError."""
        return {field.column.name: self.decode_value(field, data) for field, data in zip(self.fields, values, strict=True)}

    def decode_value(self, field: Field, data: bytes) -> Value:
        """The value that a field's bytes (leading space, line break) spell. Raises ValueError."""
        text = data.decode("utf-8")
        if not (text.startswith(" ") and text.endswith(END)):
            raise ValueError(f"the value of {field.column.name!r} is not complete")
        return parse_value(field.column, text[1 : -len(END)])
