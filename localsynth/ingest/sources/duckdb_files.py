"""Typed sources: Parquet files and tables of a DuckDB file. DuckDB converts every value to its canonical text.

Dates are in ISO form, booleans true/false, datetimes with a time zone in UTC, decimals unchanged.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from localsynth.errors import ConfigError, DataError, ResourceError
from localsynth.ingest.sources.base import BATCH, Row, Source
from localsynth.store.bulk import OFFLINE, literal, quoted

__all__ = ["DuckDBSource", "ParquetSource"]

_MEMORY = "1GB"
_NO_SCALARS = ("[", "STRUCT", "MAP", "UNION", "BLOB", "BIT", "VARIANT", "GEOMETRY")


def _is_scalar(sql_type: str) -> bool:
    return not sql_type.endswith("]") and not sql_type.startswith(_NO_SCALARS)


class _TypedSource(Source):
    """A relation DuckDB can select from."""

    def __init__(self, path: Path, relation: str) -> None:
        self._relation = relation
        with self._connected(path) as connection:
            described = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
        self._names = [str(row[0]) for row in described]
        super().__init__(path, self._names)
        for name, row in zip(self.columns, described, strict=True):
            if not _is_scalar(str(row[1])):
                raise DataError(
                    f"{path}: column {name!r} holds lists, objects or binary data.",
                    "Flatten the column or leave it out of the file.",
                )

    def _attach(self, connection: duckdb.DuckDBPyConnection, path: Path) -> None:
        """Attach the file of the relation."""

    @contextmanager
    def _connected(self, path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        connection = duckdb.connect(
            ":memory:",
            config={
                **OFFLINE,
                "memory_limit": _MEMORY,
                "temp_directory": "",  # original values must not reach the disk unencrypted
            },
        )
        try:
            connection.execute("SET TimeZone = 'UTC'")
            self._attach(connection, path)
            yield connection
        except duckdb.OutOfMemoryException:
            raise ResourceError(f"Not enough memory to read {path}.", "Export it with smaller row groups, or as CSV.") from None
        except duckdb.Error as error:
            if "Could not set lock" in str(error):
                raise ResourceError(f"{path} is open in another program.", "Close that program, then try again.") from None
            raise DataError(
                f"{path} cannot be read: it is damaged, encrypted or of another format.",
                "Check data.format, or export the file again.",
            ) from None
        finally:
            connection.close()

    def batches(self, size: int = BATCH) -> Iterator[list[Row]]:
        picked = ", ".join(f"CAST({quoted(name)} AS VARCHAR)" for name in self._names)
        with self._connected(self.path) as connection:
            connection.execute(f"SELECT {picked} FROM {self._relation}")
            while batch := connection.fetchmany(size):
                yield batch


class ParquetSource(_TypedSource):
    """A Parquet file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, f"read_parquet({literal(path)})")


class DuckDBSource(_TypedSource):
    """A table of a DuckDB file: the one named `table` ("name" or "schema.name"), or the only one there is."""

    def __init__(self, path: Path, table: str | None) -> None:
        super().__init__(path, self._find(path, table))

    def _attach(self, connection: duckdb.DuckDBPyConnection, path: Path) -> None:
        connection.execute(f"ATTACH {literal(path)} AS source (TYPE duckdb, READ_ONLY)")

    def _find(self, path: Path, table: str | None) -> str:
        with self._connected(path) as connection:
            found = connection.execute(
                "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'source' ORDER BY ALL"
            ).fetchall()
        names = [name if schema == "main" else f"{schema}.{name}" for schema, name in found]
        fitting = [table_name for table_name, name in zip(found, names, strict=True) if table is None or name == table]
        if len(fitting) == 1:
            return f"source.{quoted(fitting[0][0])}.{quoted(fitting[0][1])}"
        if not found:
            raise DataError(f"{path} has no tables.", "Name a DuckDB file that holds the table.")
        wrong = f"has no table {table!r}" if table is not None else "has several tables"
        raise ConfigError(f"{path} {wrong}.", f"Set data.table to one of: {', '.join(names)}.")
