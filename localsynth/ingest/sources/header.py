"""Whether the first line of a text file names the columns or is a row of data.

Column names are printed, and published in the schema and the certificate. If a file
without a header were read as one with a header, its first row would be published. So a
first line that looks like data is refused until the user says what it is.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from localsynth.errors import DataError
from localsynth.ingest.value_patterns import DATE, EMAIL, UUID

_MAX_NAMED = 5
_WITH_EXPONENT = re.compile(r"[+-]?[0-9.,]+[eE][+-]?[0-9]+")
_LETTERS = re.compile(r"[^\W\d_]+")
_DIGIT = re.compile(r"\d")


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
    """The positions, from 1, of the fields of a first line that look like values; empty where all may be column names.

    A field looks like a value if it is a number, a date, a telephone number or anything else with digits and no letters; if
    it holds an e-mail address or a UUID; if it occurs in its own column of `rows` (the following ones; a few thousand
    suffice); or if it has digits and the shape of most values there (`P-0017` above `P-0018`). An empty field does not:
    programs leave the name of a column of row numbers empty.
    """
    following = list(rows)
    return [
        index + 1
        for index, field in enumerate(fields)
        if field.strip()
        and (_looks_like_value(field.strip()) or _resembles(field, [row[index] for row in following if index < len(row)]))
    ]


def _looks_like_value(text: str) -> bool:
    if _DIGIT.search(text) and not _LETTERS.search(text):
        return True
    return any(match for match in (_WITH_EXPONENT.fullmatch(text), DATE.fullmatch(text), EMAIL.search(text), UUID.search(text)))


def _resembles(field: str, values: list[str]) -> bool:
    if field in values:
        return True
    if not _DIGIT.search(field):
        return False
    filled = [value for value in values if value.strip()]
    return 2 * sum(_shape(value) == _shape(field) for value in filled) > len(filled)


def _shape(text: str) -> str:
    """The shape of a code: `a-9999` for "P-0017"."""
    return _LETTERS.sub("a", _DIGIT.sub("9", text.strip()))
