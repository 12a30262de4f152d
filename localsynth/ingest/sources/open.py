"""Opens the source file that `[data]` describes, by its format."""

import re
from pathlib import Path

from localsynth.config import DATA_FRAME, DataConfig
from localsynth.errors import ConfigError, DataError
from localsynth.ingest.sources.archives import unpacked
from localsynth.ingest.sources.base import Source
from localsynth.system.memory_file import MemoryPath

SUFFIXES = {
    ".csv": "csv",
    ".txt": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".duckdb": "duckdb",
    ".db": "duckdb",
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods"), "excel"),
    **dict.fromkeys((".sav", ".zsav", ".por"), "spss"),
    **dict.fromkeys((".sas7bdat", ".xpt"), "sas"),
    ".dta": "stata",
    **dict.fromkeys((".sqlite", ".sqlite3"), "sqlite"),
    **dict.fromkeys((".arrow", ".arrows", ".feather"), "arrow"),
}
"""The format of a file by the end of its name."""
_DELIMITED = ("csv", "tsv")
_WITH_TABLES = ("duckdb", "sqlite", "excel")
_NUMERIC = re.compile(r"[+-]?[0-9]+([.,][0-9]+)*")


_ARCHIVE = "Unpack the archive on an encrypted disk, and name the file in it; or make it a .zip with one file."
_IN_R = "Export it in R: write.csv({}, 't.csv', row.names = FALSE)."
_IN_PYTHON = "Export it as Parquet; in Python: pandas.{}(FILE).to_parquet('t.parquet')."
_HINTS = {
    **dict.fromkeys((".7z", ".tar", ".tgz", ".rar", ".bz2", ".xz"), _ARCHIVE),
    ".rds": _IN_R.format("readRDS(FILE)"),
    **dict.fromkeys((".rdata", ".rda"), "Export the table in R: load(FILE); write.csv(NAME, 't.csv', row.names = FALSE)."),
    ".json": "One JSON document is not read. Make it JSON lines: jq -c '.[]' FILE > t.jsonl",
    ".geojson": "Make it JSON lines: jq -c '.features[].properties' FILE > t.jsonl",
    **dict.fromkeys((".mdb", ".accdb"), "Export the table in Access as text with delimiters."),
    ".orc": _IN_PYTHON.format("read_orc"),
    **dict.fromkeys((".pkl", ".pickle"), _IN_PYTHON.format("read_pickle")),
    **dict.fromkeys((".h5", ".hdf5"), _IN_PYTHON.format("read_hdf")),
    ".avro": "Export it as Parquet or JSON lines, with avro-tools: avro-tools tojson FILE > t.jsonl",
    ".xml": "Export it as CSV with the program that wrote it.",
}
"""What helps with files that are not read, by the end of their names."""
_SQLITE = b"SQLite format 3\x00"


def _format_of(path: Path, declared: str) -> str:
    """The format of a file that is not empty. Raises DataError or ConfigError."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_SQLITE))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from None
    if not start:
        raise DataError(f"{path} is empty.", "The table needs a line with column names, and rows.")
    if declared != "auto":
        return declared
    return "sqlite" if start == _SQLITE else _format_by_name(path)


def _format_by_name(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    if suffixes and suffixes[-1] in SUFFIXES:
        return SUFFIXES[suffixes[-1]]
    if suffixes and (hint := _HINTS.get(suffixes[-1])):
        raise ConfigError(f"{path}: files of the type {suffixes[-1]} are not read.", hint)
    raise ConfigError(
        f"Cannot tell the format of {path} from its name.",
        f"Set data.format to one of {', '.join(dict.fromkeys(SUFFIXES.values()))} (init: --format).",
    )


def _parquet_parts(path: Path) -> list[Path]:
    """The Parquet files in a folder, by their names. Raises DataError where there are none, or some are left out."""
    parts = sorted(each for each in path.iterdir() if each.suffix == ".parquet" and each.is_file())
    if not parts:
        raise DataError(f"{path} is a directory without Parquet files.", "Name the file with the table.")
    if any(each.is_dir() and any(each.rglob("*.parquet")) for each in path.iterdir()):
        raise DataError(
            f"{path} holds directories with further Parquet files.",
            "Only the files in the directory itself are read. Write the table as one file, or into one directory.",
        )
    return parts


def open_source(config: DataConfig, frame: str | None = None) -> Source:
    """The table that `[data]` describes, with its header checked and at least one row. `frame`: the path of a data frame's file.

    Raises DataError where the table cannot be used, ConfigError where the configuration does not fit it.
    """
    if config.source == DATA_FRAME and frame is None:
        raise ConfigError("The table was a data frame, which is not kept.", "Give it again: Synthesizer.fit(frame), in Python.")
    if frame:
        path: Path = MemoryPath.of(frame, Path(DATA_FRAME))
    else:
        path = Path(config.source).expanduser()
        if not path.exists():
            raise DataError(f"{path} does not exist.", "Check data.source (a relative path starts at the current directory).")
    parts = _parquet_parts(path) if path.is_dir() else []
    if not parts:
        path = unpacked(path)
    file_format = "parquet" if frame or parts else _format_of(path, config.format)
    if config.table is not None and file_format not in _WITH_TABLES:
        raise ConfigError(f"data.table is set, but {path} holds one table.", "Remove data.table.")
    if config.header is False and file_format not in _DELIMITED:
        raise ConfigError(
            f"data.header is false, but {path} is not a CSV or TSV file: its format names the columns.",
            "Remove data.header (init: leave out --no-header).",
        )
    for option in ("quote", "comment", "skip_lines"):
        used = _DELIMITED if option != "skip_lines" else (*_DELIMITED, "excel")
        if option in config.model_fields_set and file_format not in used:
            raise ConfigError(f"data.{option} is set, but {path} is not a CSV or TSV file.", f"Remove data.{option}.")
    source = _reader(file_format, path, config, parts)
    source.drops_bad_rows = config.bad_rows == "drop"
    if config.header is None and all(_NUMERIC.fullmatch(name.strip()) for name in source.columns):
        # Text files without a header, converted, look like this.
        raise DataError(
            f"{path}: all names of columns are numbers, as in a row of data.",
            "Rename the columns, or give init --header if these are the names (in localsynth.toml: data.header = true).",
        )
    if config.columns is not None:
        absent = [name for name in config.columns if name not in source.columns]
        if absent:
            raise ConfigError(
                f"{path} lacks columns that were requested: {', '.join(map(repr, absent))}.",
                "Correct data.columns (init: --columns).",
            )
        source.select(config.columns)
    if not any(source.batches(1)):
        source.refuse_bad_rows()
        raise DataError(f"{path} has a header but no rows.", "Check that the export was complete.")
    return source


def _reader(file_format: str, path: Path, config: DataConfig, parts: list[Path]) -> Source:
    # Imported here: opening a CSV file needs no database engine.
    if file_format in _DELIMITED:
        from localsynth.ingest.sources.text_files import DelimitedSource, Dialect

        dialect = Dialect("\t" if file_format == "tsv" else None, config.quote, config.comment, config.skip_lines)
        return DelimitedSource(path, config.encoding, dialect, config.header)
    if file_format == "jsonl":
        from localsynth.ingest.sources.text_files import JsonLinesSource

        return JsonLinesSource(path, config.encoding)
    if file_format in ("excel", "spss", "sas", "stata", "sqlite"):
        from localsynth.ingest.sources.record_files import ExcelSource, SqliteSource, StatisticsSource

        if file_format == "excel":
            return ExcelSource(path, config.table, config.skip_lines)
        if file_format == "sqlite":
            return SqliteSource(path, config.table)
        return StatisticsSource(path, file_format, config.encoding if "encoding" in config.model_fields_set else None)
    from localsynth.ingest.sources.duckdb_files import ArrowSource, DuckDBSource, ParquetSource

    if file_format == "arrow":
        return ArrowSource(path)
    return ParquetSource(path, parts) if file_format == "parquet" else DuckDBSource(path, config.table)
