"""synthetic.duckdb: the synthetic rows and their provenance. Only this module opens it.

    numbered_rows(row_number, job, chunk, c0, c1, ...)   the table; c<i> is the i-th column of the schema
    synthetic     a view with the user's column names only, in the order of the row numbers
    definition    the schema, as JSON: how an export spells the values
    provenance    a view (row_number, job, chunk, run, model_sha256, seed, epsilon, delta, asked); chunk is the number of the
                  chunk's first row
    jobs(job, run, model_sha256, seed, epsilon, delta, created, settings, asked, first_row, rows, more)
                  one model and one request: its rows are first_row ... first_row + rows - 1. epsilon and delta are the
                  guaranteed ones; asked holds the requested conditions ({} for none); more is the number of rows to add,
                  until they are generated and reported

DuckDB allows one writing process or many readers. So the writer opens the file for one chunk, under a
lock file that names it, readers open it for one statement, and both retry for a while when it is open elsewhere.
"""

import datetime as dt
import decimal
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import duckdb

from localsynth.errors import ConfigError, IntegrityError, ResourceError
from localsynth.schema.columns import (
    Boolean,
    Column,
    Date,
    DateTime,
    Derived,
    Formatted,
    Identifier,
    Integer,
    Number,
    Record,
    Schema,
    Time,
    Value,
)
from localsynth.schema.sql_conditions import literal
from localsynth.store.bulk import OFFLINE, insert_rows, quoted
from localsynth.store.column_batch import ColumnBatch
from localsynth.store.typed_files import WRITERS, Field
from localsynth.system.lock import file_lock

ExportFormat: TypeAlias = Literal["csv", "parquet", "jsonl", "arrow", "excel", "spss", "stata", "duckdb"]

_WAIT_SECONDS = 10.0
_PAUSE = 0.05
_FETCH = 2000
_CONFIG = {**OFFLINE, "temp_directory": ""}
_HARMLESS = {**_CONFIG, "enable_external_access": False, "lock_configuration": True}
_COPY_OPTIONS: dict[str, str] = {"csv": "FORMAT csv, HEADER", "parquet": "FORMAT parquet", "jsonl": "FORMAT json, ARRAY false"}
_TYPES: dict[type, str] = {Boolean: "BOOLEAN", Date: "DATE", DateTime: "TIMESTAMP", Time: "TIME", Integer: "BIGINT"}
_DAY = dt.date(1970, 1, 1)
"""The day of a time of day, where it is a moment."""
_SAMPLE_FIRST = "Generate rows first: localsynth sample WORKSPACE"


def _sql_type(column: Column) -> str:
    if isinstance(column, Number):
        # 18 digits fit into 64 bits; larger ranges take 128.
        largest = max(abs(bound) for bound in (column.min, column.max, 0.0) if bound is not None)
        return f"DECIMAL({18 if largest < 10 ** (18 - column.decimals) else 38},{column.decimals})"
    if isinstance(column, Derived):
        return f"DECIMAL(18,{column.decimals})" if column.decimals else "BIGINT"
    if isinstance(column, Identifier) and column.format is None:
        return "BIGINT"
    return _TYPES.get(type(column), "VARCHAR")


@dataclass(frozen=True)
class Origin:
    """The provenance of rows: the run and its model, the guaranteed ε and δ, and the request. All public."""

    run: str
    model_sha256: str
    seed: int
    epsilon: float
    delta: float
    settings: dict[str, Any]
    asked: dict[str, Any]
    """The requested conditions; {} for none."""


@dataclass(frozen=True)
class Job:
    """Rows to generate: numbers first_row ... first_row + rows - 1, of which the first `done` are written."""

    number: int
    first_row: int
    rows: int
    done: int


_BUSY = (
    "Could not set lock",  # another process
    "different configuration",  # another thread of this process
    "Unique file handle conflict",  # the same
)


def _is_busy(error: duckdb.Error) -> bool:
    return any(sign in str(error) for sign in _BUSY)


def _is_full(error: duckdb.Error) -> bool:
    """Opening, writing and committing raise different errors for a full disk."""
    return any(sign in str(error) for sign in ("No space left", "Could not write"))


class SyntheticStore:
    """The synthetic table of a workspace. Holds no open file between calls, so it never has to be closed."""

    def __init__(self, path: Path, wait_seconds: float = _WAIT_SECONDS) -> None:
        """`path` need not exist yet; `wait_seconds`: for another process."""
        self._path = path
        self._wait_seconds = wait_seconds

    # --- opening -----------------------------------------------------------------------------------------------------

    def _connect(self, read_only: bool, config: dict[str, Any]) -> duckdb.DuckDBPyConnection:
        if read_only and not self._path.is_file():
            raise ConfigError(f"There is no synthetic table yet: {self._path} does not exist.", _SAMPLE_FIRST)
        deadline = time.monotonic() + self._wait_seconds
        while True:
            try:
                return duckdb.connect(str(self._path), read_only=read_only, config=config)
            except duckdb.Error as error:
                if isinstance(error, duckdb.IOException) and "denied" in str(error):
                    raise ResourceError(f"{self._path} cannot be opened.", "Check its permissions.") from None
                if _is_full(error):
                    raise self._disk_full() from None
                if not _is_busy(error):
                    raise IntegrityError(
                        f"{self._path} cannot be opened: it is damaged or not a DuckDB file.", "Remove it and sample again."
                    ) from None
                if time.monotonic() >= deadline:
                    raise ResourceError(
                        f"{self._path} is in use by another process.",
                        "Close the program that has it open, then start the command again.",
                    ) from None
            time.sleep(_PAUSE)

    def _disk_full(self) -> ResourceError:
        return ResourceError(f"Cannot write {self._path}.", "Free some disk space, then start the command again.")

    def _reading(self) -> duckdb.DuckDBPyConnection:
        return self._connect(True, _CONFIG)

    def _locked(self) -> AbstractContextManager[None]:
        return file_lock(self._path.with_name(f".{self._path.stem}.lock"), str(self._path), self._wait_seconds)

    @contextmanager
    def _writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """One transaction; rolled back when the block fails."""
        with self._locked(), closing(self._connect(False, _CONFIG)) as connection:
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            except duckdb.Error as error:
                if isinstance(error, duckdb.IOException) or _is_full(error):
                    raise self._disk_full() from None
                raise

    # --- writing -----------------------------------------------------------------------------------------------------

    def create_table(self, schema: Schema) -> None:
        """Create the empty table for an effective schema. Does nothing where it exists with these columns.

        Raises ConfigError where it exists with other columns.
        """
        wanted = [(column.name, _sql_type(column)) for column in schema.columns]
        self._create_file()
        with self._writing() as connection:
            present = self._present_columns(connection)
            if present:
                if present != wanted:
                    raise ConfigError(
                        f"{self._path} holds rows with other columns than the schema has now.",
                        "Export them if you need them, then run again with --again.",
                    )
                connection.execute("UPDATE definition SET schema = ?", [schema.model_dump_json()])
                return
            columns = ", ".join(f"c{i} {kind}" for i, (_, kind) in enumerate(wanted))
            named = ", ".join(f"c{i} AS {quoted(name)}" for i, (name, _) in enumerate(wanted))
            connection.execute(f"CREATE TABLE numbered_rows (row_number BIGINT, job INTEGER, chunk BIGINT, {columns})")
            # Qualified, since a column of the user may be called row_number, too.
            connection.execute(f"CREATE VIEW synthetic AS SELECT {named} FROM numbered_rows ORDER BY numbered_rows.row_number")
            connection.execute("CREATE TABLE definition (schema VARCHAR)")
            connection.execute("INSERT INTO definition VALUES (?)", [schema.model_dump_json()])
            connection.execute("""
                CREATE TABLE jobs (job INTEGER, run VARCHAR, model_sha256 VARCHAR, seed BIGINT, epsilon DOUBLE, delta DOUBLE,
                    created DATE, settings JSON, asked JSON, first_row BIGINT, "rows" BIGINT, more BIGINT)""")
            connection.execute("""
                CREATE VIEW provenance AS
                SELECT row_number, job, chunk, run, model_sha256, seed, epsilon, delta, asked
                FROM numbered_rows JOIN jobs USING (job) ORDER BY row_number""")

    def _create_file(self) -> None:
        """Create an empty database if there is none; under another name first, since a killed DuckDB leaves a damaged file."""
        part = self._path.with_name(f".{self._path.name}.part")
        with self._locked():
            if not self._path.exists():
                part.unlink(missing_ok=True)
                try:
                    SyntheticStore(part, self._wait_seconds)._connect(False, _CONFIG).close()
                    part.replace(self._path)
                finally:
                    part.unlink(missing_ok=True)

    def _present_columns(self, connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
        return connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'synthetic' ORDER BY column_index"
        ).fetchall()

    def clear(self) -> None:
        """Remove the table with all its rows and jobs."""
        with self._locked():
            # The log first: otherwise it would be replayed into the next file.
            self._path.with_name(self._path.name + ".wal").unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)

    def open_job(self, origin: Origin, *, total: int | None = None, more: int | None = None) -> Job:
        """The job that brings the table to `total` rows, or adds `more` (one of the two is given).

        A newest job with the same origin is resumed: the same `more` again is the rest of that job until `close_job`, and
        further rows afterwards. A job interrupted by another one ends with the rows it has.
        """
        with self._writing() as connection:
            present = self._count(connection, None)
            newest = connection.execute(
                'SELECT job, first_row, "rows", more, settings, asked, run, model_sha256, seed, epsilon, delta '
                "FROM jobs ORDER BY job DESC LIMIT 1"
            ).fetchone()
            if newest is not None:
                number, first_row, rows, asked_more, settings, asked, *facts = newest
                done = present - first_row
                if [*facts, json.loads(settings), json.loads(asked)] == list(asdict(origin).values()):
                    if total is not None:
                        rows = max(done, total - first_row)
                    elif more != asked_more:
                        rows = done + (more or 0)
                    connection.execute('UPDATE jobs SET "rows" = ?, more = ? WHERE job = ?', [rows, more, number])
                    return Job(number, first_row, rows, done)
                connection.execute('UPDATE jobs SET "rows" = ? WHERE job = ?', [done, number])
            job = Job(newest[0] + 1 if newest else 1, present, max(0, (total or 0) - present) if more is None else more, 0)
            # The day only: the duration of training depends on the private rows.
            created = dt.datetime.now(dt.UTC).date().isoformat()
            facts = [origin.run, origin.model_sha256, origin.seed, origin.epsilon, origin.delta, created]
            documents = [json.dumps(origin.settings), json.dumps(origin.asked)]
            values = [job.number, *facts, *documents, job.first_row, job.rows, more]
            connection.execute(f"INSERT INTO jobs VALUES ({', '.join('?' * len(values))})", values)
            return job

    def close_job(self, job: int) -> None:
        """Mark the job's rows as generated and reported, so that the same `more` again adds further rows.

        The last row alone does not: a command killed after it has reported nothing and will be repeated.
        """
        with self._writing() as connection:
            connection.execute("UPDATE jobs SET more = NULL WHERE job = ?", [job])

    def append(self, job: int, first_row_number: int, rows: Sequence[Record] | ColumnBatch) -> bool:
        """Add `rows` (all columns of the schema) as first_row_number, first_row_number + 1, ... in one transaction.

        False, with nothing changed, where this job has written exactly these row numbers before: a resumed job may send
        its last chunk again. Raises IntegrityError where only some of the numbers are taken, or by another job.
        """
        if not len(rows):
            return False
        with self._writing() as connection:
            columns = self._present_columns(connection)
            if not columns:
                raise ConfigError(f"{self._path} has no synthetic table.", _SAMPLE_FIRST)
            taken = connection.execute(
                "SELECT count(*), count(*) FILTER (job = ?) FROM numbered_rows WHERE row_number BETWEEN ? AND ?",
                [job, first_row_number, first_row_number + len(rows) - 1],
            ).fetchone()
            if taken == (len(rows), len(rows)):
                return False
            if taken != (0, 0):
                raise IntegrityError(
                    f"{self._path} already holds some of the rows {first_row_number} to {first_row_number + len(rows) - 1}.",
                    "Make a new table: run again with --again.",
                )
            if isinstance(rows, ColumnBatch):
                written = rows.written()
                values = ", ".join(f"CAST({written[name]} AS {kind})" for name, kind in columns)
                rows.register(connection, "batch")
                numbers = f"{first_row_number} + place, {job}, {first_row_number}"
                connection.execute(f"INSERT INTO numbered_rows SELECT {numbers}, {values} FROM batch")
                return True
            numbered: list[list[Any]] = [
                [first_row_number + i, job, first_row_number, *(_stored(row[name], kind) for name, kind in columns)]
                for i, row in enumerate(rows)
            ]
            insert_rows(connection, "numbered_rows", ["BIGINT", "INTEGER", "BIGINT", *(kind for _, kind in columns)], numbered)
        return True

    # --- reading -----------------------------------------------------------------------------------------------------

    def row_count(self, run: str | None = None) -> int:
        """The number of rows, of one run or in total; 0 where there is no table yet."""
        if not self._path.is_file():
            return 0
        with self._reading() as connection:
            return self._count(connection, run) if self._present_columns(connection) else 0

    def _count(self, connection: duckdb.DuckDBPyConnection, run: str | None) -> int:
        found = connection.execute(
            "SELECT count(*) FROM numbered_rows LEFT JOIN jobs USING (job) WHERE run = ? OR ? IS NULL", [run, run]
        ).fetchone()
        return int(found[0]) if found else 0

    def jobs(self) -> list[dict[str, Any]]:
        """The jobs whose rows the table holds, with the columns of the table `jobs`; created is the day, in UTC."""
        with self._reading() as connection:
            found = connection.execute("SELECT * REPLACE (created::VARCHAR AS created) FROM jobs ORDER BY job")
            names = [column[0] for column in found.description]
            rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        return [{**row, "settings": json.loads(row["settings"]), "asked": json.loads(row["asked"])} for row in rows]

    def records(self, plain: bool = False) -> Iterator[Record]:
        """Every row as a record (all columns of the schema; a number is a float), in order. Holds the file open meanwhile.

        `plain`: only the rows generated without conditions.
        """
        with self._reading() as connection:
            names = [name for name, _ in self._present_columns(connection)]
            columns = ", ".join(f"c{i}" for i in range(len(names)))
            connection.execute(
                f"SELECT {columns} FROM numbered_rows LEFT JOIN jobs USING (job) "
                "WHERE NOT ? OR asked = '{}' ORDER BY row_number",
                [plain],
            )
            while batch := connection.fetchmany(_FETCH):
                for row in batch:
                    yield {name: _as_recorded(value) for name, value in zip(names, row, strict=True)}

    def rows(self, first: int, count: int) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Column names, and `count` rows from the row number `first` on, in order."""
        with self._reading() as connection:
            names = self._select(connection, first, count)
            return names, connection.fetchall()

    def frame(self, kind: Literal["pandas", "polars", "arrow"], first: int, count: int) -> Any:
        """As `rows`, as a data frame. Raises ImportError where the library for it is missing."""
        with self._reading() as connection:
            self._select(connection, first, count)
            if kind == "pandas":
                return connection.df()
            return connection.pl() if kind == "polars" else connection.to_arrow_table()

    def _select(self, connection: duckdb.DuckDBPyConnection, first: int, count: int) -> list[str]:
        """Select rows with the names of their columns, whose decimals are floats; the names."""
        present = self._present_columns(connection)
        columns = [
            f"{f'c{i}::DOUBLE' if kind.startswith('DECIMAL') else f'c{i}'} AS {quoted(name)}"
            for i, (name, kind) in enumerate(present)
        ]
        connection.execute(
            f"SELECT {', '.join(columns)} FROM numbered_rows WHERE numbered_rows.row_number >= ? "
            "ORDER BY numbered_rows.row_number LIMIT ?",
            [first, count],
        )
        return [name for name, _ in present]

    def query(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Column names and rows of one SELECT. It cannot write, attach, or read any other file.

        Decimals come as float. Raises ConfigError for anything that is not a single, valid SELECT.
        """
        with self._connect(True, _HARMLESS) as connection:
            try:
                statements = connection.extract_statements(sql)
                if [s.type for s in statements] not in ([duckdb.StatementType.SELECT], [duckdb.StatementType.EXPLAIN]):
                    raise ConfigError(
                        "The query must be a single SELECT statement.", 'Example: localsynth query WS "select * from synthetic"'
                    )
                connection.execute(statements[0])
                names = [str(column[0]) for column in connection.description or []]
                return names, [tuple(_float_for_decimal(value) for value in row) for row in connection.fetchall()]
            except duckdb.Error as error:
                raise ConfigError(f"The query failed: {str(error).strip()}", "The table is called synthetic.") from None

    def export(self, file_format: ExportFormat, out: Path, overwrite: bool = False, for_spreadsheets: bool = False) -> int:
        """Write the table to `out`, atomically, and return the number of rows. A null is an empty CSV field.

        CSV and JSON lines spell values in the formats of their columns; the other formats keep them typed.

        `for_spreadsheets` (CSV only): a text or column name that a spreadsheet would evaluate as a formula gets a leading
        apostrophe; numbers do not change.

        Raises ConfigError where `out` exists (unless `overwrite`) or cannot be there, or the format cannot hold the rows;
        ResourceError where the disk is full or a library is missing.
        """
        if out.is_dir() or not out.parent.is_dir():
            raise ConfigError(f"{out} cannot be a file.", "Name a file in an existing directory.")
        if out.exists() and not overwrite:
            raise ConfigError(f"{out} exists already.", "Choose another name, or allow overwriting it.")
        part = out.with_name(f".{out.name}.{secrets.token_hex(4)}.part")
        if for_spreadsheets and file_format != "csv":
            raise ConfigError(
                "--for-spreadsheets needs the format CSV.", "Remove the option: the other formats mark what is text."
            )
        try:
            with self._reading() as connection:
                fields = self._fields(connection)
                if file_format in WRITERS:
                    count = self._count(connection, None)
                    WRITERS[file_format](connection.execute("SELECT * FROM synthetic"), fields, part)
                else:
                    selected = _selected(connection, fields, file_format != "parquet", for_spreadsheets)
                    copied = connection.execute(
                        f"COPY (SELECT {selected} FROM synthetic) TO {literal(str(part))} ({_COPY_OPTIONS[file_format]})"
                    ).fetchone()
                    count = int(copied[0]) if copied else 0
            part.replace(out)
        except duckdb.CatalogException:
            raise ConfigError(f"{self._path} has no synthetic table.", _SAMPLE_FIRST) from None
        except (duckdb.Error, OSError):
            raise ResourceError(f"Cannot write {out}.", "Free some disk space or check the permissions.") from None
        finally:
            with suppress(OSError):
                part.unlink()
        return count

    def _fields(self, connection: duckdb.DuckDBPyConnection) -> list[Field]:
        """The columns of the table, with the schema. Raises duckdb.CatalogException where there is none."""
        found = connection.execute("SELECT schema FROM definition").fetchone()
        columns = Schema.model_validate_json(found[0]).columns if found else []
        return [Field(*present, column) for present, column in zip(self._present_columns(connection), columns, strict=True)]


def _selected(connection: duckdb.DuckDBPyConnection, fields: Sequence[Field], spelled: bool, for_spreadsheets: bool) -> str:
    """The select list of an export. Formats are written by functions that it registers."""
    selected = []
    for place, field in enumerate(fields):
        value, name = quoted(field.name), escape_formula(field.name) if for_spreadsheets else field.name
        if spelled and isinstance(field.column, Formatted) and field.column.is_spelled:
            connection.create_function(f"spelled_{place}", _speller(field.column), [field.kind], "VARCHAR")
            value = f"spelled_{place}({value})"
        elif for_spreadsheets and field.kind == "VARCHAR":
            value = _escaped(value)
        selected.append(f"{value} AS {quoted(name)}")
    return ", ".join(selected)


def _speller(column: Formatted) -> Callable[[Any], str]:
    def spell(value: Any) -> str:
        return column.written(dt.datetime.combine(_DAY, value) if isinstance(value, dt.time) else value)

    return spell


# The first characters of formulas, after OWASP's "CSV injection".
_FORMULA = r"^[=+\-@\t\r]"
_NUMBER = r"^[+-]?[0-9]+([.,][0-9]+)?$"


def escape_formula(text: str) -> str:
    """`text`, with an apostrophe before it where a spreadsheet would evaluate it as a formula."""
    return f"'{text}" if re.match(_FORMULA, text) and not re.match(_NUMBER, text) else text


def _escaped(value: str) -> str:
    """An SQL text `value` with its formula escaped."""
    harmless = f"NOT regexp_matches({value}, '{_FORMULA}') OR regexp_matches({value}, '{_NUMBER}')"
    return f"CASE WHEN {harmless} THEN {value} ELSE '''' || {value} END"


def _float_for_decimal(value: Any) -> Any:
    return float(value) if isinstance(value, decimal.Decimal) else value


def _stored(value: Value, kind: str) -> Any:
    return value.time() if kind == "TIME" and isinstance(value, dt.datetime) else value


def _as_recorded(value: Any) -> Any:
    return dt.datetime.combine(_DAY, value) if isinstance(value, dt.time) else _float_for_decimal(value)
