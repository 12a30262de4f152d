"""Does the first line of a text file name the columns, or is it a row already?

Column names are printed, and published in the schema and the certificate. A file without a header, taken for one with a
header, would give away the row it begins with: so a first line that looks like data is refused until the user has said
what it is. A wrong refusal costs a flag, a wrong acceptance somebody's row.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from localsynth.errors import DataError
from localsynth.ingest.value_patterns import DATE, EMAIL, UUID

__all__ = ["check_header", "looks_like_data"]

_MOST_NAMED = 5
_WITH_EXPONENT = re.compile(r"[+-]?[0-9.,]+[eE][+-]?[0-9]+")
_LETTERS = re.compile(r"[^\W\d_]+")
_DIGIT = re.compile(r"\d")


def check_header(path: Path, fields: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Raises DataError where `looks_like_data(fields, rows)` finds something. The message tells positions and quotes no field."""
    positions = looks_like_data(fields, rows)
    if not positions:
        return
    named = ("column " if len(positions) == 1 else "columns ") + ", ".join(map(str, positions[:_MOST_NAMED]))
    if len(positions) > _MOST_NAMED:
        named += f" and {len(positions) - _MOST_NAMED} more"
    raise DataError(
        f"{path}: the first line looks like a row of data, not like column names ({named}).",
        "Give init --header if these are the names of the columns, --no-header if the file has none "
        "(in localsynth.toml: data.header = true or false).",
    )


def looks_like_data(fields: Sequence[str], rows: Iterable[Sequence[str]]) -> list[int]:
    """The positions, from 1, of the fields of a first line that look like values; none where they may be column names.

    A field looks like a value if it is a number, a date, a telephone number or anything else with digits and no letters; if
    it holds an e-mail address or a UUID; if it stands in its own column of `rows` (those that follow; a few thousand will do)
    in the same letters; or if it has digits and is built like most values there (`P-0017` above `P-0018`). An empty field does
    not: programs leave the name of a column of row numbers empty.
    """
    following = list(rows)
    return [
        place + 1
        for place, field in enumerate(fields)
        if field.strip()
        and (_has_the_look(field.strip()) or _fits_in(field, [row[place] for row in following if place < len(row)]))
    ]


def _has_the_look(text: str) -> bool:
    if _DIGIT.search(text) and not _LETTERS.search(text):
        return True
    if _WITH_EXPONENT.fullmatch(text) or DATE.fullmatch(text):
        return True
    return bool(EMAIL.search(text) or UUID.search(text))


def _fits_in(field: str, values: list[str]) -> bool:
    if field in values:
        return True
    if not _DIGIT.search(field):
        return False
    filled = [value for value in values if value.strip()]
    return 2 * sum(_build(value) == _build(field) for value in filled) > len(filled)


def _build(text: str) -> str:
    """How a code is built: `a-9999` for "P-0017"."""
    return _LETTERS.sub("a", _DIGIT.sub("9", text.strip()))
