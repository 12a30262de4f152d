"""Data frames as sources: written as Parquet to a file in memory, which the worker inherits and reads like any other file."""

import os
from pathlib import Path
from typing import Any

import duckdb

from localsynth.errors import ConfigError
from localsynth.ingest.sources.base import checked_names
from localsynth.schema.sql_conditions import literal
from localsynth.store.bulk import OFFLINE, as_text, quoted
from localsynth.system.memory_file import descriptor_path, memory_file


def frame_to_memory(frame: Any) -> int:
    """The descriptor of a Parquet file in memory with the rows of a pandas or polars frame or an Arrow table.

    The same rows give the same bytes. Raises ConfigError for anything else, and for an index with a name, which would be lost;
    DataError for unusable names of columns.
    """
    names = getattr(frame, "column_names", getattr(frame, "columns", None))
    if names is None or not hasattr(frame, "shape"):
        raise _no_table(frame)
    if any(not isinstance(name, str) for name in names):
        raise ConfigError("The names of the columns are not all strings.", "Rename them: frame.columns = [...].")
    checked_names(Path("data frame"), list(names))
    index = [name for name in getattr(getattr(frame, "index", None), "names", ()) if name is not None]
    if index:
        raise ConfigError(f"The index {index[0]!r} would be lost.", "Make it a column: frame.reset_index().")
    if type(frame).__module__.startswith("polars"):
        table = frame.to_arrow()
    else:
        table = _with_whole_numbers(frame) if type(frame).__module__.startswith("pandas") else frame
    descriptor = memory_file("localsynth")
    # One thread, so that the rows keep their order and their groups.
    config = {**OFFLINE, "threads": 1, "temp_directory": ""}
    try:
        with duckdb.connect(":memory:", config=config) as connection:
            connection.register("frame", table)
            described = [(quoted(str(name)), str(kind)) for name, kind, *_ in connection.execute("DESCRIBE frame").fetchall()]
            fields = ", ".join(f"{_element(connection, name, kind)} AS {name}" for name, kind in described)
            file = literal(descriptor_path(descriptor))
            connection.execute(f"COPY (SELECT {fields} FROM frame) TO {file} (FORMAT parquet, USE_TMP_FILE false)")
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, duckdb.Error):
            raise _no_table(frame) from None
        raise
    return descriptor


def _element(connection: duckdb.DuckDBPyConnection, name: str, kind: str) -> str:
    """A column as Parquet holds it: negative durations are text there."""
    if kind != "INTERVAL":
        return name
    found = connection.execute(f"SELECT min(epoch_us({name})) FROM frame").fetchone()
    return as_text(name, kind) if found and found[0] is not None and found[0] < 0 else name


def _with_whole_numbers(frame: Any) -> Any:
    """The pandas frame, with integers where they are floats only because values are missing."""
    whole = {
        name: "Int64"
        for name, column in frame.items()
        if column.dtype.kind == "f" and column.isna().any() and (column.dropna() % 1 == 0).all() and column.abs().max() < 2**53
    }
    return frame.astype(whole) if whole else frame


def _no_table(frame: Any) -> ConfigError:
    return ConfigError(
        f"A {type(frame).__name__} cannot be read as a table.",
        "Give a path, a pandas or polars DataFrame, or an Arrow table, with columns of plain values.",
    )
