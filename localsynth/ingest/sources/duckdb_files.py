"""Typed sources: Parquet and Arrow files, and tables of a DuckDB file. DuckDB converts every value to its canonical text.

Dates are in ISO form, booleans true/false, datetimes with a time zone in UTC, durations as 26:30:05, decimals unchanged.
"""

import functools
import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from localsynth.errors import ConfigError, DataError, ResourceError
from localsynth.ingest.sources.base import BATCH, BadRows, Row, Source
from localsynth.schema.sql_conditions import literal
from localsynth.store.bulk import OFFLINE, as_text, parquet, quoted
from localsynth.system.extras import need_format_part
from localsynth.system.files import file_sha256

_MEMORY = "1GB"
_HEADER = 84
_OLDEST = 64
"""The storage version of DuckDB 0.9 to 1.1, the oldest that later ones read."""
_NO_SCALARS = ("[", "STRUCT", "MAP", "UNION", "BLOB", "BIT", "VARIANT", "GEOMETRY")


def _other_version(path: Path) -> str:
    """The storage version of a DuckDB file that is not read here, from its first block, and what wrote it; "" for any other."""
    with path.open("rb") as file:
        header = file.read(_HEADER)
    if len(header) < _HEADER or header[8:12] != b"DUCK":
        return ""
    writer = header[52:84].split(b"\x00")[0].decode("ascii", "replace")
    known = f", written by DuckDB {writer}" if re.fullmatch(r"v[0-9.]+[\w.-]*", writer) else ""
    version = _storage_version(header)
    return "" if _OLDEST <= version <= _newest() else f"storage version {version}{known}"


def _storage_version(header: bytes) -> int:
    return int.from_bytes(header[12:20], "little")


@functools.cache
def _newest() -> int:
    """The newest storage version that this DuckDB knows."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "newest.duckdb"
        with duckdb.connect(":memory:", config=OFFLINE) as connection:
            connection.execute(f"ATTACH {literal(str(path))} AS newest (STORAGE_VERSION 'latest')")
            connection.execute("CREATE TABLE newest.t (n INTEGER)")
        return _storage_version(path.read_bytes()[:_HEADER])


def _unreadable(path: Path) -> DataError:
    return DataError(
        f"{path} cannot be read: it is damaged, encrypted or of another format.", "Check data.format, or export the file again."
    )


def _is_scalar(sql_type: str) -> bool:
    return not sql_type.endswith("]") and not sql_type.startswith(_NO_SCALARS)


class _TypedSource(Source):
    """A relation DuckDB can select from."""

    def __init__(self, path: Path, relation: str) -> None:
        self._relation = relation
        with self._connected(path) as connection:
            described = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
        super().__init__(path, [str(row[0]) for row in described])
        self._fields = dict(zip(self.columns, described, strict=True))
        self.durations = [name for name, field in self._fields.items() if field[1] == "INTERVAL"]

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
                raise ResourceError(
                    f"{path} is open in another program.", "Close that program, then start the command again."
                ) from None
            if other := _other_version(path):
                raise DataError(
                    f"{path} is a DuckDB file of {other}, and is read here by DuckDB {duckdb.__version__}, which cannot.",
                    "Export the table as Parquet with the DuckDB that wrote it: COPY NAME TO 't.parquet'",
                ) from None
            raise _unreadable(path) from None
        finally:
            connection.close()

    def batches(self, size: int = BATCH) -> Iterator[list[Row]]:
        for name in self.columns:
            if not _is_scalar(str(self._fields[name][1])):
                raise DataError(
                    f"{self.path}: column {name!r} holds lists, objects or binary data.",
                    "Name the columns to use in data.columns (init: --columns), or flatten the column.",
                )
        picked = ", ".join(as_text(quoted(str(self._fields[name][0])), str(self._fields[name][1])) for name in self.columns)
        with self._connected(self.path) as connection:
            connection.execute(f"SELECT {picked} FROM {self._relation}")
            self.bad = BadRows()
            while batch := connection.fetchmany(size):
                yield batch
            self.refuse_bad_rows()


class ParquetSource(_TypedSource):
    """A Parquet file, or a folder of such files (`parts`), which are parts of one table."""

    def __init__(self, path: Path, parts: Sequence[Path] = ()) -> None:
        self._parts = parts
        super().__init__(path, parquet(*(parts or [path])))
        for part in parts:
            with self._connected(part) as connection:
                described = connection.execute(f"DESCRIBE SELECT * FROM {parquet(part)}").fetchall()
            if described != list(self._fields.values()):
                raise DataError(f"{part} has other columns, or other types, than {parts[0].name}.", "Write the table again.")

    def sha256(self) -> str:
        """Of a folder, that of the hashes of its parts, in their order."""
        if not self._parts:
            return super().sha256()
        return hashlib.sha256("".join(map(file_sha256, self._parts)).encode()).hexdigest()


class ArrowSource(_TypedSource):
    """A file in Arrow's IPC format (Feather), or a stream of it in a file."""

    def __init__(self, path: Path) -> None:
        need_format_part("pyarrow", path)
        super().__init__(path, "batches")

    def _attach(self, connection: duckdb.DuckDBPyConnection, path: Path) -> None:
        import pyarrow
        from pyarrow import ipc

        file = pyarrow.memory_map(str(path))
        try:
            try:
                whole = ipc.open_file(file)
                batches = (whole.get_batch(number) for number in range(whole.num_record_batches))
                reader = pyarrow.RecordBatchReader.from_batches(whole.schema, batches)
            except pyarrow.ArrowInvalid:
                file.seek(0)
                reader = ipc.open_stream(file)
        except (pyarrow.ArrowException, OSError):
            raise _unreadable(path) from None
        connection.register("batches", reader)


class DuckDBSource(_TypedSource):
    """A table or view of a DuckDB file: the one named `table` ("name" or "schema.name"), or the only one there is."""

    def __init__(self, path: Path, table: str | None) -> None:
        super().__init__(path, self._find(path, table))

    def _attach(self, connection: duckdb.DuckDBPyConnection, path: Path) -> None:
        connection.execute(f"ATTACH {literal(str(path))} AS source (TYPE duckdb, READ_ONLY)")
        # A view finds its tables in its own database, and no other files.
        connection.execute("USE source")
        connection.execute("SET enable_external_access = false")

    def _find(self, path: Path, table: str | None) -> str:
        with self._connected(path) as connection:
            found = connection.execute(
                "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'source' UNION ALL "
                "SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = 'source' AND NOT internal ORDER BY ALL"
            ).fetchall()
        names = [name if schema == "main" else f"{schema}.{name}" for schema, name in found]
        fitting = [table_name for table_name, name in zip(found, names, strict=True) if table is None or name == table]
        if len(fitting) == 1:
            return f"source.{quoted(fitting[0][0])}.{quoted(fitting[0][1])}"
        if not found:
            raise DataError(f"{path} has no tables or views.", "Name a DuckDB file that holds the table.")
        wrong = f"has no table or view {table!r}" if table is not None else "has several tables or views"
        raise ConfigError(f"{path} {wrong}.", f"Set data.table to one of: {', '.join(names)}.")
