"""Bulk insert into a DuckDB table, column by column: as NumPy arrays, which it reads where they are."""

import datetime as dt
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from localsynth.schema.columns import Value
from localsynth.schema.sql_conditions import literal

if TYPE_CHECKING:
    import duckdb


OFFLINE: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    "pandas_analyze_sample": 0,
}
"""Settings of a connection that fetches nothing, whose SQL reads no variable of Python, and which guesses no column's type."""


def quoted(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def as_text(value: str, kind: str) -> str:
    """The text of an SQL value of this type; a duration is hours, minutes and seconds, "26:30:05"."""
    if kind != "INTERVAL":
        return f"CAST({value} AS VARCHAR)"
    parts = "abs(epoch_us({0})) // 3600000000, abs(epoch_us({0})) // 60000000 % 60, abs(epoch_us({0})) // 1000000 % 60"
    part = (
        "CASE WHEN epoch_us({0}) % 1000000 = 0 THEN '' ELSE '.' || rtrim(printf('%06d', abs(epoch_us({0})) % 1000000), '0') END"
    )
    text = f"CASE WHEN epoch_us({{0}}) < 0 THEN '-' ELSE '' END || printf('%02d:%02d:%02d', {parts}) || {part}"
    return f"CASE WHEN {value} IS NOT NULL THEN {text.format(value)} END"


def parquet(*paths: Path) -> str:
    """Parquet files as an SQL relation: these very files, since DuckDB takes some characters of a path for patterns.

    A directory a=1 is no column either.
    """
    exact = ", ".join(literal(re.sub(r"[\[*?]", lambda found: f"[{found[0]}]", str(path))) for path in paths)
    return f"read_parquet([{exact}], hive_partitioning = false)"


@dataclass(frozen=True)
class ArrayType:
    """How values of an SQL type are passed in a NumPy array."""

    dtype: Any
    null: Any
    """In place of no value."""
    encode: Callable[[Any], Any]
    """A value as an element of the array; never called for no value."""
    sql: str
    """The value from the element, as SQL with {} in place of the element."""

    def element(self, value: Value) -> Any:
        """The element for a value, or for none."""
        return self.null if value is None else self.encode(value)


_NULL = -(2**63)
_DAY, _SECOND = dt.date(1970, 1, 1).toordinal(), dt.timedelta(seconds=1)
_ARRAY_TYPES = {
    "BIGINT": ArrayType(np.int64, _NULL, int, f"nullif({{}}, {_NULL})"),
    "BOOLEAN": ArrayType(np.int8, -1, int, "nullif({}, -1) = 1"),
    "DOUBLE": ArrayType(np.float64, float("nan"), float, "CASE WHEN NOT isnan({}) THEN {} END"),
    "DATE": ArrayType(
        np.int64, _NULL, lambda day: day.toordinal() - _DAY, f"DATE '1970-01-01' + CAST(nullif({{}}, {_NULL}) AS INTEGER)"
    ),
    "TIMESTAMP": ArrayType(
        np.int64,
        _NULL,
        lambda moment: (moment - dt.datetime(1970, 1, 1)) // _SECOND,
        f"make_timestamp(nullif({{}}, {_NULL}) * 1000000)",
    ),
}


def array_type(kind: str) -> ArrayType:
    """How values of the SQL type `kind` are passed; those without a type of NumPy's as text."""
    return _ARRAY_TYPES.get(kind) or ArrayType(object, None, str, f"CAST({{}} AS {kind})")


def insert_columns(
    connection: "duckdb.DuckDBPyConnection", table: str, types: Sequence[str], columns: Sequence[Sequence[Any] | NDArray[Any]]
) -> None:
    """Insert into `table`, an SQL name, columns of elements (`ArrayType.element`) of these SQL types, in its order.

    Raises duckdb.Error where a value does not fit its type. The caller must not show its text, which may quote the value.
    """
    forms = [array_type(kind) for kind in types]
    arrays = {f"v{i}": np.array(c, dtype=form.dtype) for i, (form, c) in enumerate(zip(forms, columns, strict=True))}
    values = ", ".join(form.sql.replace("{}", f"v{i}") for i, form in enumerate(forms))
    connection.register("inserted", arrays)
    connection.execute(f"INSERT INTO {table} SELECT {values} FROM inserted")
    connection.unregister("inserted")


def insert_rows(
    connection: "duckdb.DuckDBPyConnection", table: str, types: Sequence[str], rows: Sequence[Sequence[Value]]
) -> None:
    """Insert `rows` (each with one value per type, in the table's column order); see `insert_columns`."""
    if rows:
        elements = [array_type(kind).element for kind in types]
        columns = [list(map(element, column)) for element, column in zip(elements, zip(*rows, strict=True), strict=True)]
        insert_columns(connection, table, types, columns)
