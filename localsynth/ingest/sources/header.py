"""Whether the first line of a text file names the columns or is a row of data.

Column names are printed, and published in the schema and the certificate. If a file
without a header were read as one with a header, its first row would be published. So a
first line that looks like data is refused until the user says what it is. A name may look
like a value in a column or two, where others are unlike anything below them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from localsynth.errors import DataError
from localsynth.ingest.value_patterns import DATE, EMAIL, UUID

_MAX_NAMED = 5
_WITH_EXPONENT = re.compile(r"[+-]?[0-9.,]+[eE][+-]?[0-9]+")
_LETTERS = re.compile(r"[^\W\d_]+")
_DIGIT = re.compile(r"\d")
_MISSING = {"na", "n/a", "nan", "null", "none", "missing", "unknown", "inf"}
"""Words in a column of numbers that may be in its first row."""
_NEARLY_ALL = 0.95
_MIN_FILLED = 5
_MIN_REPEATED = 100
"""Values, none of them there only once, from which a field that is none of them is hardly another one."""


def check_header(path: Path, fields: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Raises DataError where `looks_like_data(fields, rows)` finds something. The message tells positions and quotes no field."""
    positions = looks_like_data(fields, rows)
    if not positions:
        return
    named = ("column " if len(positions) == 1 else "columns ") + ", ".join(map(str, positions[:_MAX_NAMED]))
    if len(positions) > _MAX_NAMED:
        named += f" and {len(positions) - _MAX_NAMED} more"
    raise DataError(
        f"{path}: the first line looks like a row of data, not like column names ({named}).",
        "Give init --header if these are the names of the columns, --no-header if the file has none "
        "(in localsynth.toml: data.header = true or false).",
    )


def looks_like_data(fields: Sequence[str], rows: Iterable[Sequence[str]]) -> list[int]:
    """The positions, from 1, of the fields of a first line that look like values; empty where the line names the columns.

    A field looks like a value if it is a number, a date, a telephone number or anything else with digits and no letters; if
    it holds an e-mail address or a UUID; if it occurs in its own column of `rows` (the following ones; a few thousand
    suffice); or if it has digits and the shape of most values there (`P-0017` above `P-0018`). An empty field does not:
    programs leave the name of a column of row numbers empty.

    The line names the columns if no field looks like a value, or if more fields cannot be one: words above numbers, or above
    values that all repeat and that they are none of. A row of data hardly has any of these.
    """
    following = list(rows)
    columns = [(field.strip(), [row[index] for row in following if index < len(row)]) for index, field in enumerate(fields)]
    like = [index for index, (field, values) in enumerate(columns, 1) if field and _is_like(field, values)]
    if not like:
        return []
    unlike = sum(_is_unlike(field, values) for index, (field, values) in enumerate(columns, 1) if field and index not in like)
    return like if len(like) >= unlike else []


def _looks_like_value(text: str) -> bool:
    if _DIGIT.search(text) and not _LETTERS.search(text):
        return True
    return any(match for match in (_WITH_EXPONENT.fullmatch(text), DATE.fullmatch(text), EMAIL.search(text), UUID.search(text)))


def _is_like(field: str, values: list[str]) -> bool:
    filled = [stripped for value in values if (stripped := value.strip())]
    if _looks_like_value(field) or field in filled:
        return True
    if not _DIGIT.search(field):
        return False
    shape = _shape(field)
    return 2 * sum(shape.fullmatch(value) is not None for value in filled) > len(filled)


def _is_unlike(field: str, values: list[str]) -> bool:
    """Whether a field that is none of the values cannot be one either."""
    filled = [stripped for value in values if (stripped := value.strip())]
    if len(filled) < _MIN_FILLED or field.lower() in _MISSING:
        return False
    numbers = sum(bool(_DIGIT.search(value)) and _looks_like_value(value) for value in filled)
    # What was never seen has about the share of what was seen once (Good and Turing).
    repeated = len(filled) >= _MIN_REPEATED and 1 not in Counter(filled).values()
    return repeated or numbers >= _NEARLY_ALL * len(filled)


def _shape(text: str) -> re.Pattern[str]:
    """The pattern of codes like this one: for "P-0017" letters, a hyphen and four digits."""
    parts = re.findall(r"\d|[^\W\d_]+|.", text, re.DOTALL)
    digits_or_letters = ((_DIGIT, r"\d"), (_LETTERS, _LETTERS.pattern))
    return re.compile("".join(next((new for old, new in digits_or_letters if old.match(p)), re.escape(p)) for p in parts))
