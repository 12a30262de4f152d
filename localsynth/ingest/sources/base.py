"""The source table, whatever its format: column names, and rows in batches, with every value as text.

All values are text, or None where a typed source holds a null. So there is one parser,
and the same table gives the same private table from every format. The readers are in
`text_files` (CSV, TSV, JSON lines) and `duckdb_files` (Parquet, DuckDB).

No message holds a value of the table: it names the file, the line and the column.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from localsynth.errors import DataError
from localsynth.system.files import file_sha256

Row: TypeAlias = tuple[str | None, ...]

BATCH = 2000
_MAX_NAME_LENGTH = 200
_MAX_BAD_ROWS = 20
"""Named in a message; the others are counted."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_OR_NO_HEADER = "if the first line of a CSV or TSV file is a row of data, give init --no-header."


class BadRows:
    """The rows of a reading that have no place in the table: how many, and where the first are. Holds no value."""

    def __init__(self) -> None:
        self.count = 0
        self.joins_rows = False
        """Whether one of them spans several lines. Then it may hold rows of others, which must not be left out with it."""
        self._first: list[str] = []
        self._hint = ""

    def add(self, place: str, what: str, hint: str, *, joins_rows: bool = False) -> None:
        """One more, at "line 7" or "row 7". The first one's hint is shown."""
        self.count += 1
        self.joins_rows |= joins_rows
        self._hint = self._hint or hint
        if len(self._first) < _MAX_BAD_ROWS:
            self._first.append(f"{place}: {what}")

    def error(self, path: Path) -> DataError:
        """All of them in one message."""
        message = f"{path}, {self._first[0]}."
        if self.count > 1:
            more = f"; and {self.count - len(self._first):,} more" if self.count > len(self._first) else ""
            message = f"{path}: {self.count:,} rows cannot be read. {'; '.join(self._first)}{more}."
        drop = "" if self.joins_rows else ' To leave such rows out, set data.bad_rows = "drop" (init: --bad-rows drop).'
        return DataError(message, self._hint + drop)


class Source(ABC):
    """A table that can be read repeatedly from its beginning."""

    first_lines: dict[str, int] | None = None
    """The line in which each column name first occurs, where rows hold the names. They may be data then."""
    rare: tuple[str, ...] = ()
    """Columns that fewer than one in a hundred of the first rows have, where rows may lack some."""

    descriptions: Mapping[str, Mapping[str, str]] = {}
    """What values of a column stand for, where the file says so. The user is told that they are published."""
    labels: Mapping[str, str] = {}
    """What columns are, in words, where the file says so."""

    durations: Collection[str] = ()
    """Columns that the file says are durations, whose values could be times of day, too."""

    drops_bad_rows = False
    """Whether rows that cannot be read are left out; else they are an error."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        self.path = path
        self.columns = checked_names(path, columns)
        self.bad = BadRows()
        """What the last reading left out."""

    def refuse_bad_rows(self) -> None:
        """Raise DataError where the last reading left rows out, and that is not wanted, or may concern other rows."""
        if self.bad.joins_rows or (self.bad.count and not self.drops_bad_rows):
            raise self.bad.error(self.path)

    def select(self, names: list[str]) -> None:
        """Read only these columns, in this order. `names` are columns of the source."""
        self.columns = checked_names(self.path, names)
        # They were chosen.
        self.rare = ()

    @abstractmethod
    def batches(self, size: int = BATCH) -> Iterator[list[Row]]:
        """All rows in their order, at most `size` at a time, one value per column.

        Raises DataError, at the end where single rows cannot be read; what a reader of the rows adds to `bad` counts, too.
        """

    def sha256(self) -> str:
        """The SHA-256 of the file, in hex."""
        return file_sha256(self.path)


def checked_names(path: Path, names: list[str]) -> list[str]:
    """Usable column names: an empty one becomes `column_<n>` (from 1). Raises DataError for invalid names.

    The messages quote no name: in a file without a header names are a row's values.
    """
    if not names:
        raise DataError(f"{path} has no columns.", "The first line must name the columns.")
    result: list[str] = []
    seen: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if _CONTROL.search(name):
            raise DataError(
                f"{path}: the name of column {number} holds a line break or another control character.",
                "Rename the column, or give init --header if that is its name; if the file is not UTF-8, set data.encoding; "
                f"{_OR_NO_HEADER}",
            )
        if len(name) > _MAX_NAME_LENGTH:
            raise DataError(
                f"{path}: the name of column {number} is longer than {_MAX_NAME_LENGTH} characters.",
                f"Rename the column; {_OR_NO_HEADER}",
            )
        used = name if name.strip() else f"column_{number}"
        if used.casefold() in seen:
            raise DataError(
                f"{path}: columns {seen[used.casefold()]} and {number} have the same name (case does not count).",
                f"Rename one of them; {_OR_NO_HEADER}",
            )
        seen[used.casefold()] = number
        result.append(used)
    return result
