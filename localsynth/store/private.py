"""private.duckdb: the original rows, typed and encrypted. Only this module opens it.

Tables: `original(row_id, unit_id, split, c0, c1, ...)`, where `c<i>` is the i-th learned column of the schema (the user's
names are never SQL here), rows are ordered by unit_id and row_id, and row_id is the row's number in the source or, with
`data.sequence_by`, in its unit; `info(key, value)`; and, if there are any, `artifacts(name, document)`.

No value of a row is printed, logged or put into a message; DuckDB's messages, which may quote values, are not passed on.
"""

import json
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, TypeAlias

import duckdb
import numpy as np
import numpy.typing as npt

from localsynth.errors import ConfigError, IntegrityError, LocalsynthError, ResourceError
from localsynth.schema.column_sql import conformed_sql, to_ordinal_sql
from localsynth.schema.columns import Boolean, Column, Date, DateTime, Integer, Number, Record, Schema, Time, Value, conform
from localsynth.schema.ordinals import Structured, value_count
from localsynth.store.bulk import array_type, insert_columns, insert_rows
from localsynth.store.encryption import attach, connect
from localsynth.store.key import make_key, read_key
from localsynth.system.closing import Closing
from localsynth.system.lock import file_lock
from localsynth.workspace.paths import Workspace

Split: TypeAlias = Literal["train", "holdout"]

_FETCH = 2000
_UNITS = 500_000
"""Units whose rows are read at once."""
_MAX_INT64 = 2**62
_TYPES: dict[type, str] = {
    Boolean: "BOOLEAN",
    Date: "DATE",
    DateTime: "TIMESTAMP",
    Time: "TIMESTAMP",
    Integer: "BIGINT",
    Number: "DOUBLE",
}
_READ_AGAIN = "remove that file and run `localsynth ingest` (earlier measurements are kept and not charged again)."


def _sql_type(column: Column) -> str:
    return _TYPES.get(type(column), "VARCHAR")


def _layout(schema: Schema) -> str:
    """The learned columns, in order, with their SQL types: they must not change between writing and reading."""
    return json.dumps([[column.name, _sql_type(column)] for column in schema.learned()], ensure_ascii=False)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Translate DuckDB's errors, without their text, which may quote a value."""
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise ResourceError(
            f"Not enough memory or disk space to work on {path}.",
            "Close other programs or free disk space, then start the command again.",
        ) from None
    except duckdb.Error as error:
        text = str(error)
        if "No space left" in text or "Could not write" in text:
            raise ResourceError(
                f"Cannot write {path}: the disk is full.", "Free some space, then start the command again."
            ) from None
        if "Could not set lock" in text:
            raise ResourceError(f"{path} is in use by another process.", "Wait until it is done, or stop that process.") from None
        if "Wrong encryption key" in text:
            raise IntegrityError(f"The key does not fit {path}.", f"Restore the matching key, or {_READ_AGAIN}") from None
        raise IntegrityError(f"{path} is damaged.", f"Restore it from a backup, or {_READ_AGAIN}") from None


class PrivateStore(Closing):
    """Reads private.duckdb. A context manager; several may be open at once."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, path: Path) -> None:
        self._connection = connection
        self._path = path

    @staticmethod
    def open(workspace: Workspace) -> "PrivateStore":
        """The finished store. Raises ConfigError where nothing was ingested, IntegrityError for a wrong key or a damaged file."""
        path = workspace.private_path
        if not path.is_file():
            raise ConfigError(
                f"{workspace.root} holds no ingested data.", f"Read the source table first: localsynth ingest {workspace.root}"
            )
        key = read_key(workspace)
        connection = connect()
        try:
            with _translated(path):
                attach(connection, path, key, read_only=True)
        except LocalsynthError:
            connection.close()
            raise
        return PrivateStore(connection, path)

    def close(self) -> None:
        """Close the file. Open iterators become unusable."""
        self._connection.close()

    def _rows(self, sql: str, values: Sequence[object] = ()) -> Iterator[tuple[Value, ...]]:
        with _translated(self._path):
            # A cursor of its own: several iterators may be open.
            cursor = self._connection.cursor()
            try:
                cursor.execute(sql, list(values))
                while batch := cursor.fetchmany(_FETCH):
                    yield from batch
            finally:
                cursor.close()

    def info(self) -> dict[str, str]:
        """Facts recorded at ingest (the source's hash, the unit, ...)."""
        return {str(key): str(value) for key, value in self._rows("SELECT key, value FROM private.info")}

    def units(self, split: Split) -> npt.NDArray[np.int64]:
        """The distinct unit ids of a split, ascending: int64 of shape (units,)."""
        found = self._rows("SELECT DISTINCT unit_id FROM private.original WHERE split = ? ORDER BY unit_id", [split])
        return np.fromiter((row[0] for row in found), dtype=np.int64)

    def records(self, split: Split, schema: Schema, unit_ids: Iterable[int] | None = None) -> Iterator[tuple[int, Record]]:
        """(unit id, record of the learned columns) of a split, or of some of its units.

        Ordered by unit id, then by source order or `sequence_by`. Memory does not grow with the table.
        Raises ConfigError where the learned columns are not those of the ingest.
        """
        self._check_columns(schema)
        names = [column.name for column in schema.learned()]
        selected = ", ".join(["unit_id", *(f"c{i}" for i in range(len(names)))])
        values: list[object] = [split]
        only = ""
        if unit_ids is not None:
            only = " AND unit_id IN (SELECT unnest(from_json(?, '[\"BIGINT\"]')))"
            values.append(json.dumps([int(unit) for unit in unit_ids]))
        # The rows were written in this order; sorting a subset again is cheap, sorting the whole table is not.
        order = " ORDER BY unit_id, row_id" if only else ""
        before = -1
        for row in self._rows(f"SELECT {selected} FROM private.original WHERE split = ?{only}{order}", values):
            unit = int(row[0])  # type: ignore[arg-type]
            if unit < before:
                # Training would take a unit in two places for two units, each with its own share of the gradient.
                raise IntegrityError(f"{self._path} does not keep the rows of a unit together.", f"Restore it, or {_READ_AGAIN}")
            before = unit
            yield unit, dict(zip(names, row[1:], strict=True))

    def _check_columns(self, schema: Schema) -> None:
        if self.info().get("columns") != _layout(schema):
            raise ConfigError(
                "The schema's columns have changed since the data was ingested.", "Ingest again: localsynth ingest WS --again"
            )

    def conformed_units(self, split: Split, schema: Schema) -> Iterator[list[Record]]:
        """The rows of each unit inside an effective schema (`conform`), in their order. A unit may have none.

        Raises as `records`.
        """
        for _, rows in groupby(self.records(split, schema), key=itemgetter(0)):
            conformed = (conform(schema, record) for _, record in rows)
            yield [record for record in conformed if record is not None]

    def conformed_ordinals(self, split: Split, schema: Schema) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """The structured columns of the rows of `conformed_units`, as ordinals, shape (rows,), in batches.

        Integers of 64 bits; of any size where a column needs them. Raises as `records`.
        """
        ordinals, kept = self._conformed(schema)
        wide = {c.name for c in schema.learned() if isinstance(c, Structured) and value_count(c) > _MAX_INT64}
        kinds = {name: "VARCHAR" if name in wide else "BIGINT" for name in ordinals}
        selected = ", ".join(f"CAST({sql} AS {kinds[name]}) AS o{i}" for i, (name, sql) in enumerate(ordinals.items()))
        ((last,),) = self._rows("SELECT coalesce(max(unit_id), -1) FROM private.original WHERE split = ?", [split])
        for first in range(0, int(str(last)) + 1, _UNITS):
            with _translated(self._path):
                found = self._connection.execute(
                    f"SELECT {selected} FROM private.original WHERE split = ? AND unit_id BETWEEN ? AND ? AND {kept}",
                    [split, first, first + _UNITS - 1],
                ).fetchnumpy()
            yield {
                name: np.array([int(text) for text in found[f"o{i}"]], dtype=object) if name in wide else found[f"o{i}"]
                for i, name in enumerate(ordinals)
            }

    def _conformed(self, schema: Schema) -> tuple[dict[str, str], str]:
        """The SQL of the ordinals of structured columns, and of whether the row is kept; see `conform`."""
        self._check_columns(schema)
        structured = {f"c{i}": column for i, column in enumerate(schema.learned()) if isinstance(column, Structured)}
        conformed = {column.name: conformed_sql(column, value) for value, column in structured.items()}
        values = {name: value for name, (value, _) in conformed.items()}
        violated = [constraint.violated_sql(values) for constraint in schema.read_constraints()]
        kept = " AND ".join(f"NOT ({sql})" for sql in [*(sql for _, sql in conformed.values()), *violated]) or "true"
        return {column.name: to_ordinal_sql(column, values[column.name]) for column in structured.values()}, kept

    def constrained_out(self, schema: Schema) -> tuple[int, int]:
        """(how many rows of both splits are dropped for a constraint, how many there are). Raises as `records`."""
        _, kept = self._conformed(schema)
        _, kept_without = self._conformed(schema.model_copy(update={"constraints": []}))
        counts = f"count(*) FILTER (({kept_without}) AND NOT ({kept})), count(*)"
        ((broken, rows),) = self._rows(f"SELECT {counts} FROM private.original")
        return int(str(broken)), int(str(rows))

    def check_readable(self) -> None:
        """Read every stored value, so that a damaged file is found before anything is charged.

        Also checks the maximum number of rows per unit, on which sensitivities rely. Raises IntegrityError. The outcome
        depends on the integrity of the file, not on the values: no ingest keeps more rows of a unit than it records.
        """
        list(self._rows("SELECT bit_xor(hash(stored)) FROM private.original AS stored"))
        ((largest,),) = self._rows("SELECT max(n) FROM (SELECT count(*) AS n FROM private.original GROUP BY unit_id)", [])
        info = self.info()
        # With unit = "row" the bound is 1, whatever max_rows_per_unit says.
        bound = "1" if info.get("unit", "row") == "row" else info["max_rows_per_unit"]
        if largest is not None and int(str(largest)) > int(bound):
            raise IntegrityError(
                f"{self._path} holds units with more rows than max_rows_per_unit, for which the noise would be too small.",
                "Ingest again: localsynth ingest WS --again",
            )

    def artifact(self, name: str) -> Any:
        """The document stored by `keep_artifact` under this name, or None."""
        tables = self._rows("SELECT table_name FROM duckdb_tables() WHERE database_name = 'private'")
        if ("artifacts",) not in list(tables):
            return None
        found = list(self._rows("SELECT document FROM private.artifacts WHERE name = ?", [name]))
        return json.loads(str(found[0][0])) if found else None

    def column_counts(self, index: int, split: Split) -> dict[Value, int]:
        """Value of the `index`-th learned column → its number of rows, without nulls. Exact: must not leave without noise."""
        column = f"c{int(index)}"
        counted = f"SELECT {column}, count(*) FROM private.original WHERE split = ? AND {column} IS NOT NULL GROUP BY ALL"
        return {value: int(str(rows)) for value, rows in self._rows(counted, [split])}


def keep_artifact(workspace: Workspace, name: str, document: Any) -> None:
    """Store a JSON document in the finished store, replacing one of that name; the next ingest drops it.

    Reads no row. Atomic: it is written into a copy, which then replaces the store. Raises as `open`.
    """
    path = workspace.private_path
    with file_lock(path.with_name(".private.lock"), "The private data of this workspace"), ExitStack() as left:
        PrivateStore.open(workspace).close()
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        left.callback(lambda: part.unlink(missing_ok=True))
        connection = connect()
        left.callback(connection.close)
        try:
            shutil.copyfile(path, part)
            part.chmod(0o600)
        except OSError as error:
            raise ResourceError(
                f"Cannot write {part}: {error.strerror}.", "Free some disk space, then start the command again."
            ) from None
        with _translated(path):
            attach(connection, part, read_key(workspace), read_only=False)
            connection.execute("CREATE TABLE IF NOT EXISTS private.artifacts (name VARCHAR, document VARCHAR)")
            connection.execute("DELETE FROM private.artifacts WHERE name = ?", [name])
            connection.execute("INSERT INTO private.artifacts VALUES (?, ?)", [name, json.dumps(document, allow_nan=False)])
            connection.execute("CHECKPOINT private")
            connection.execute("DETACH private")
        part.replace(path)


class PrivateWriter(Closing):
    """Writes a new private.duckdb in three steps: add rows, assign splits, finish.

    Until `finish`, all rows are in an encrypted temporary table. A writer that is closed or killed before that does not
    change the present private.duckdb. One process at a time. The key is created if there is none.

    `sequence_by`: the column that orders the rows of a unit; None: the order of the source. `rows`: how many were added.
    """

    def __init__(self, workspace: Workspace, schema: Schema, sequence_by: str | None = None) -> None:
        self._path = workspace.private_path
        self._part = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}.part")
        self._spill = self._path.with_name(".private.spill")
        self._schema = schema
        self._types = [_sql_type(column) for column in schema.learned()]
        learned = [column.name for column in schema.learned()]
        self._order = None if sequence_by is None else f"c{learned.index(sequence_by)}" if sequence_by in learned else "place"
        self.rows = 0
        self._open = ExitStack()
        with ExitStack() as failed:
            self._open.enter_context(file_lock(self._path.with_name(".private.lock"), "The private data of this workspace"))
            failed.enter_context(self._open)
            self._sweep()
            self._open.callback(self._sweep)
            key = make_key(workspace)
            self._spill.mkdir(mode=0o700)
            self._connection = connect(spill=self._spill)
            self._open.callback(self._connection.close)
            with self._writing():
                attach(self._connection, self._part, key, read_only=False)
                self._part.chmod(0o600)
                self._make_tables()
            failed.pop_all()

    def _make_tables(self) -> None:
        columns = ", ".join(f"c{i} {kind}" for i, kind in enumerate(self._types))
        self._connection.execute(f"CREATE TEMP TABLE source_rows (row_id BIGINT, unit VARCHAR, place VARCHAR, {columns})")
        self._connection.execute("CREATE TEMP TABLE row_units (row_id BIGINT, unit_id BIGINT)")
        self._connection.execute("CREATE TEMP TABLE splits (unit_id BIGINT, keep BOOLEAN, holdout BOOLEAN)")
        self._connection.execute("CREATE TEMP TABLE priorities (row_id BIGINT, priority BIGINT)")
        self._connection.execute(f"CREATE TABLE private.original (row_id BIGINT, unit_id BIGINT, split VARCHAR, {columns})")
        self._connection.execute("CREATE TABLE private.info (key VARCHAR, value VARCHAR)")

    def _sweep(self) -> None:
        # Left by a killed writer (this one holds the lock): encrypted, but useless.
        for path in self._path.parent.glob(f".{self._path.name}.*.part*"):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._spill, ignore_errors=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with _translated(self._path):
                yield
        except IntegrityError:  # the file is new, so the fault is the disk's
            raise ResourceError(
                f"Cannot write {self._path}.", "Check the disk's space and permissions, then start the command again."
            ) from None

    def close(self) -> None:
        """Discard everything that is not finished."""
        self._open.close()

    @property
    def elements(self) -> list[Callable[[Value], Any]]:
        """For each learned column the function that makes of a value what `add_columns` takes."""
        return [array_type(kind).element for kind in self._types]

    def add_columns(
        self,
        rows: int,
        columns: Sequence[Sequence[Any]],
        units: Sequence[str | None] | None = None,
        places: Sequence[str | None] | None = None,
    ) -> None:
        """Add rows, numbered 1, 2, 3, ... over all calls: for each learned column the elements of its values.

        `units`: the unit's text of each row; None: each row is a unit. `places`: for each row a text that orders it within its
        unit, where the column to order by is not a learned one. `finish` uses it; it is not stored.
        """
        numbers = np.arange(self.rows + 1, self.rows + rows + 1)
        texts = [[None] * rows if column is None else column for column in (units, places)]
        with self._writing():
            insert_columns(
                self._connection, "source_rows", ["BIGINT", "VARCHAR", "VARCHAR", *self._types], [numbers, *texts, *columns]
            )
        self.rows += rows

    def number_units(self) -> int:
        """Number the units 0, 1, 2, ... and return how many there are. A row whose unit is None is a unit of its own."""
        with self._writing():
            self._connection.execute("""
                CREATE TEMP TABLE named_units AS
                SELECT unit, row_number() OVER (ORDER BY min(row_id)) - 1 AS unit_id
                FROM source_rows WHERE unit IS NOT NULL GROUP BY unit""")
            self._connection.execute(
                "INSERT INTO row_units SELECT row_id, unit_id FROM source_rows JOIN named_units USING (unit)"
            )
            self._connection.execute("""
                INSERT INTO row_units
                SELECT row_id, (SELECT count(*) FROM named_units) + row_number() OVER (ORDER BY row_id) - 1
                FROM source_rows WHERE unit IS NULL""")
            found = self._connection.execute("SELECT count(DISTINCT unit_id) FROM row_units").fetchone()
        return int(found[0]) if found else 0

    def assign_splits(self, first_unit: int, keep: npt.ArrayLike, holdout: npt.ArrayLike) -> None:
        """For the units first_unit, first_unit + 1, ...: whether each is kept, and whether it is held out."""
        kept, held_out = np.array(keep, dtype=np.int8), np.array(holdout, dtype=np.int8)
        units = np.arange(first_unit, first_unit + len(kept))
        with self._writing():
            insert_columns(self._connection, "splits", ["BIGINT", "BOOLEAN", "BOOLEAN"], [units, kept, held_out])

    def add_priorities(self, first_row: int, priorities: Sequence[int] | npt.NDArray[np.int64]) -> None:
        """Random priorities of the rows first_row, first_row + 1, ...: of a unit with too many rows, the lowest stay.

        Of a sequence, consecutive rows stay, from a position given by the priority of its first row.
        """
        rows = np.arange(first_row, first_row + len(priorities))
        with self._writing():
            insert_columns(self._connection, "priorities", ["BIGINT", "BIGINT"], [rows, priorities])

    def _select_kept_rows(self) -> str:
        """SQL that creates the table of the rows to keep; place_id orders those of a unit."""
        if self._order is None:
            return """
                CREATE TEMP TABLE kept_rows AS
                SELECT row_id, row_id AS place_id, unit_id, CASE WHEN holdout THEN 'holdout' ELSE 'train' END AS split
                FROM row_units JOIN splits USING (unit_id) LEFT JOIN priorities USING (row_id)
                WHERE keep
                QUALIFY row_number() OVER (PARTITION BY unit_id ORDER BY priority, row_id) <= ?"""
        # Consecutive rows, so that each row's predecessor is kept with it; every start is equally likely.
        return f"""
            CREATE TEMP TABLE kept_rows AS
            SELECT row_id, place_id, unit_id, split FROM (
                SELECT row_id, unit_id, CASE WHEN holdout THEN 'holdout' ELSE 'train' END AS split,
                    row_number() OVER in_order AS place_id, count(*) OVER (PARTITION BY unit_id) AS "rows",
                    coalesce(first_value(priority) OVER in_order, 0) AS priority, ? AS max_rows
                FROM row_units JOIN splits USING (unit_id) JOIN source_rows USING (row_id) LEFT JOIN priorities USING (row_id)
                WHERE keep AND {self._order} IS NOT NULL
                WINDOW in_order AS (PARTITION BY unit_id ORDER BY {self._order}, row_id))
            WHERE place_id - priority % (greatest("rows" - max_rows, 0) + 1) BETWEEN 1 AND max_rows"""

    def finish(self, max_rows_per_unit: int, info: dict[str, str]) -> tuple[int, int]:
        """Write the rows of the kept units, at most `max_rows_per_unit` each, and replace the file. Returns (rows, units)."""
        columns = ", ".join(f"c{i}" for i in range(len(self._types)))
        with self._writing():
            self._connection.execute(self._select_kept_rows(), [max_rows_per_unit])
            self._connection.execute(f"""
                INSERT INTO private.original
                SELECT place_id, unit_id, split, {columns} FROM source_rows JOIN kept_rows USING (row_id)
                ORDER BY unit_id, place_id""")
            recorded = [*info.items(), ("columns", _layout(self._schema))]
            insert_rows(self._connection, "private.info", ["VARCHAR", "VARCHAR"], recorded)
            counted = self._connection.execute("SELECT count(*), count(DISTINCT unit_id) FROM private.original").fetchone()
            self._connection.execute("CHECKPOINT private")
            self._connection.execute("DETACH private")
            self._part.replace(self._path)
        assert counted is not None
        return int(counted[0]), int(counted[1])
