"""Data frames as sources: written as Parquet to a file in memory, which the worker inherits and reads like any other file."""

from typing import Any

import duckdb

from localsynth.errors import ConfigError
from localsynth.schema.sql_conditions import literal
from localsynth.store.bulk import OFFLINE
from localsynth.system.memory_file import descriptor_path, memory_file


def frame_to_memory(frame: Any) -> int:
    """The descriptor of a Parquet file in memory with the rows of a pandas or polars frame or an Arrow table.

    The same rows give the same bytes. Raises ConfigError for anything else.
    """
    table = frame.to_arrow() if type(frame).__module__.startswith("polars") else frame
    descriptor = memory_file("localsynth")
    # One thread, so that the rows keep their order and their groups.
    with duckdb.connect(":memory:", config={**OFFLINE, "threads": 1}) as connection:
        try:
            connection.register("frame", table)
            connection.execute(f"COPY frame TO {literal(descriptor_path(descriptor))} (FORMAT parquet, USE_TMP_FILE false)")
        except duckdb.Error:
            raise ConfigError(
                f"A {type(frame).__name__} cannot be read as a table.",
                "Give a path, a pandas or polars DataFrame, or an Arrow table.",
            ) from None
    return descriptor
