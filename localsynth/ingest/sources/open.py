"""Opens the source file that `[data]` describes, by its format."""

import re
from collections.abc import Iterator
from pathlib import Path

from localsynth.config import DataConfig
from localsynth.errors import ConfigError, DataError
from localsynth.ingest.sources.base import BATCH, Row, Source

__all__ = ["SelectedColumns", "open_source"]

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


_DELIMITED = ("csv", "tsv")
_NUMERIC = re.compile(r"[+-]?[0-9]+([.,][0-9]+)*")


class SelectedColumns(Source):
    """Some columns of another source."""

    def __init__(self, whole: Source, names: list[str]) -> None:
        absent = [name for name in names if name not in whole.columns]
        if absent:
            raise ConfigError(
                f"{whole.path} lacks columns that were requested: {', '.join(map(repr, absent))}.",
                "Correct data.columns (init: --columns).",
            )
        super().__init__(whole.path, names)
        self._whole = whole
        self._indices = [whole.columns.index(name) for name in names]

    def batches(self, size: int = BATCH) -> Iterator[list[Row]]:
        for batch in self._whole.batches(size):
            yield [tuple(row[index] for index in self._indices) for row in batch]


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
            f"{path}: all names of columns are numbers, as in a row of data.",
            "Rename the columns, or give init --header if these are the names (in localsynth.toml: data.header = true).",
        )
    if not any(source.batches(1)):
        raise DataError(f"{path} has a header but no rows.", "Check that the export was complete.")
    return source if config.columns is None else SelectedColumns(source, config.columns)


def _reader(file_format: str, path: Path, config: DataConfig) -> Source:
    # Imported here: opening a CSV file needs no database engine.
    if file_format in _DELIMITED:
        from localsynth.ingest.sources.text_files import DelimitedSource

        return DelimitedSource(path, config.encoding, "\t" if file_format == "tsv" else None, config.header)
    if file_format == "jsonl":
        from localsynth.ingest.sources.text_files import JsonLinesSource

        return JsonLinesSource(path, config.encoding)
    from localsynth.ingest.sources.duckdb_files import DuckDBSource, ParquetSource

    return ParquetSource(path) if file_format == "parquet" else DuckDBSource(path, config.table)
