"""The source table, whatever its format: column names, and rows in batches, with every value as text.

One sort of value (text, or None where a typed source holds a null) makes one parse path, so the same table gives the
same private table from every format. The readers are in textfiles.py (CSV, TSV, JSON lines) and tables.py (Parquet, DuckDB).

No message holds a value of the table: a file, a line and a column are all it says.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from localsynth.config import DataConfig
from localsynth.errors import ConfigError, DataError
from localsynth.workspace import file_sha256

__all__ = ["Row", "Source", "checked_names", "open_source"]

Row: TypeAlias = tuple[str | None, ...]

BATCH = 2000
_LONGEST_NAME = 200
_FORMATS = {
    ".csv": "csv",
    ".txt": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".duckdb": "duckdb",
    ".db": "duckdb",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_NUMERIC = re.compile(r"[+-]?[0-9]+([.,][0-9]+)*")
_DELIMITED = ("csv", "tsv")
_OR_NO_HEADER = "if the first line of a CSV or TSV file is a row of data already, give init --no-header."


class Source(ABC):
    """A table that can be read from its beginning as often as needed."""

    first_lines: dict[str, int] | None = None
    """Where the names of the columns stand in the rows themselves: the line in which each comes first. They may be data then."""
    rare: tuple[str, ...] = ()
    """Columns that fewer than one in a hundred of the first rows have at all, where rows may lack some."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        self.path = path
        self.columns = checked_names(path, columns)

    @abstractmethod
    def batches(self, size: int = BATCH) -> Iterator[list[Row]]:
        """All rows in their order, at most `size` at a time, one value per column. Raises DataError."""

    def sha256(self) -> str:
        """The hash of the file as it lies there, in hex."""
        return file_sha256(self.path)


class SelectedColumns(Source):
    """Some columns of another source."""

    def __init__(self, whole: Source, names: list[str]) -> None:
        absent = [name for name in names if name not in whole.columns]
        if absent:
            raise ConfigError(
                f"{whole.path} lacks columns that were asked for: {', '.join(map(repr, absent))}.",
                "Correct data.columns (init: --columns).",
            )
        super().__init__(whole.path, names)
        self._whole = whole
        self._places = [whole.columns.index(name) for name in names]

    def batches(self, size: int = BATCH) -> Iterator[list[Row]]:
        for batch in self._whole.batches(size):
            yield [tuple(row[place] for place in self._places) for row in batch]


def checked_names(path: Path, names: list[str]) -> list[str]:
    """Usable column names: an empty one becomes `column_<n>` (from 1). Raises DataError for what cannot be a name.

    The messages quote no name: in a file without a header they would be a row's values.
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
        if len(name) > _LONGEST_NAME:
            raise DataError(
                f"{path}: the name of column {number} is longer than {_LONGEST_NAME} characters.",
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


def _format_of(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in (".gz", ".zst"):
        suffixes.pop()
    if suffixes and suffixes[-1] in _FORMATS:
        return _FORMATS[suffixes[-1]]
    hint = "Set data.format to csv, tsv, jsonl, parquet or duckdb."
    if suffixes and suffixes[-1] in (".xlsx", ".xls", ".ods"):
        hint = "Save the sheet as CSV (UTF-8) first."
    raise ConfigError(f"Cannot tell the format of {path} from its name.", hint)


def open_source(config: DataConfig) -> Source:
    """The table that `[data]` describes, with its header checked and at least one row.

    Raises DataError where the table cannot be used, ConfigError where the configuration does not fit it.
    """
    path = Path(config.source).expanduser()
    if path.is_dir():
        raise DataError(f"{path} is a directory.", "Name the file with the table.")
    if not path.is_file():
        raise DataError(f"{path} does not exist.", "Check data.source (a relative path starts at the current directory).")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from None
    if empty:
        raise DataError(f"{path} is empty.", "The table needs a line with column names, and rows.")
    file_format = _format_of(path) if config.format == "auto" else config.format
    if config.table is not None and file_format != "duckdb":
        raise ConfigError(f"data.table is set, but {path} is not a DuckDB file.", "Remove data.table.")
    if config.header is False and file_format not in _DELIMITED:
        raise ConfigError(
            f"data.header is false, but {path} is not a CSV or TSV file: its format names the columns.",
            "Remove data.header (init: leave out --no-header).",
        )
    source = _reader(file_format, path, config)
    if config.header is None and all(_NUMERIC.fullmatch(name.strip()) for name in source.columns):
        # Text files without a header, converted, look like this.
        raise DataError(
            f"{path}: all names of columns are numbers, as if a row of data had been taken for them.",
            "Rename the columns, or give init --header if these are the names (in localsynth.toml: data.header = true).",
        )
    if not any(source.batches(1)):
        raise DataError(f"{path} has a header but no rows.", "Check that the export was complete.")
    return source if config.columns is None else SelectedColumns(source, config.columns)


def _reader(file_format: str, path: Path, config: DataConfig) -> Source:
    # Imported here: opening a CSV file needs no database engine.
    if file_format in _DELIMITED:
        from localsynth.ingest.textfiles import DelimitedSource

        return DelimitedSource(path, config.encoding, "\t" if file_format == "tsv" else None, config.header)
    if file_format == "jsonl":
        from localsynth.ingest.textfiles import JsonLinesSource

        return JsonLinesSource(path, config.encoding)
    from localsynth.ingest.tables import DuckDBSource, ParquetSource

    return ParquetSource(path) if file_format == "parquet" else DuckDBSource(path, config.table)
