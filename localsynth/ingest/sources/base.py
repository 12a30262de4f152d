"""The source table, whatever its format: column names, and rows in batches, with every value as text.

All values are text, or None where a typed source holds a null. So there is one parser,
and the same table gives the same private table from every format. The readers are in
`text_files` (CSV, TSV, JSON lines) and `duckdb_files` (Parquet, DuckDB).

No message holds a value of the table: it names the file, the line and the column.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from localsynth.errors import DataError
from localsynth.system.files import file_sha256

__all__ = ["Row", "Source", "checked_names"]

Row: TypeAlias = tuple[str | None, ...]

BATCH = 2000
_MAX_NAME_LENGTH = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_OR_NO_HEADER = "if the first line of a CSV or TSV file is a row of data, give init --no-header."


class Source(ABC):
    """A table that can be read repeatedly from its beginning."""

    first_lines: dict[str, int] | None = None
    """The line in which each column name first occurs, where rows hold the names. They may be data then."""
    rare: tuple[str, ...] = ()
    """Columns that fewer than one in a hundred of the first rows have, where rows may lack some."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        self.path = path
        self.columns = checked_names(path, columns)

    @abstractmethod
    def batches(self, size: int = BATCH) -> Iterator[list[Row]]:
        """All rows in their order, at most `size` at a time, one value per column. Raises DataError."""

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
                f"Rename the column; if the file is not UTF-8, set data.encoding; {_OR_NO_HEADER}",
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
