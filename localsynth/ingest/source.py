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


class Source(ABC):
    """A table that can be read from its beginning as often as needed."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        self.path = path
        self.columns = checked_names(path, columns)

    @abstractmethod
    def batches(self, size: int = BATCH) -> Iterator[list[Row]]:
        """All rows in their order, at most `size` at a time, one value per column. Raises DataError."""

    def sha256(self) -> str:
        """The hash of the file as it lies there, in hex."""
        return file_sha256(self.path)


def checked_names(path: Path, names: list[str]) -> list[str]:
    """Usable column names: an empty one becomes `column_<n>` (from 1). Raises DataError for what cannot be a header."""
    if not names:
        raise DataError(f"{path} has no columns.", "The first line must name the columns.")
    if all(_NUMERIC.fullmatch(name.strip()) for name in names):
        # Not named in the message: they would be a row's values.
        raise DataError(
            f"{path}: the first line holds only numbers, so it is no header.", "Add a first line that names the columns."
        )
    result: list[str] = []
    seen: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if _CONTROL.search(name):
            raise DataError(
                f"{path}: the name of column {number} holds a line break or another control character.",
                "Rename the column; if the file is not UTF-8, set data.encoding.",
            )
        if len(name) > _LONGEST_NAME:
            raise DataError(
                f"{path}: the name of column {number} is longer than {_LONGEST_NAME} characters.",
                "The first line must name the columns.",
            )
        used = name if name.strip() else f"column_{number}"
        if used.casefold() in seen:
            raise DataError(
                f"{path}: columns {seen[used.casefold()]} and {number} are both named {used!r} (case does not count).",
                "Rename one of them.",
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
    source = _reader(file_format, path, config)
    if not any(source.batches(1)):
        raise DataError(f"{path} has a header but no rows.", "Check that the export was complete.")
    return source


def _reader(file_format: str, path: Path, config: DataConfig) -> Source:
    # Imported here: opening a CSV file needs no database engine.
    if file_format in ("csv", "tsv"):
        from localsynth.ingest.textfiles import DelimitedSource

        return DelimitedSource(path, config.encoding, delimiter="\t" if file_format == "tsv" else None)
    if file_format == "jsonl":
        from localsynth.ingest.textfiles import JsonLinesSource

        return JsonLinesSource(path, config.encoding)
    from localsynth.ingest.tables import DuckDBSource, ParquetSource

    return ParquetSource(path) if file_format == "parquet" else DuckDBSource(path, config.table)
