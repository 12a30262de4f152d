"""Tables in Arrow, Excel, SPSS, Stata and DuckDB files: synthetic rows are written, and read back to be verified.

Values are typed, as in Parquet. SPSS and Stata name variables by their own rules: where a column cannot be called so, its
variable has another name. The label of a variable is the name of its column.
"""

import datetime as dt
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import duckdb

from localsynth.errors import ConfigError
from localsynth.schema.columns import Boolean, Category, Column, written
from localsynth.schema.sql_conditions import literal
from localsynth.store.bulk import OFFLINE, insert_rows, quoted
from localsynth.system.extras import need_format_part

ARROW, EXCEL, SPSS, STATA, DUCKDB = b"ARROW1", b"PK\x03\x04", b"$FL2", b"<stata_dta>", b"DUCK"
"""How files begin; those of DuckDB at the ninth byte."""
_BATCH = 50_000
_TABLE = "synthetic"
_EXACT_DIGITS = 15
"""Of a decimal number in a double."""
_EXCEL_ROWS, _EXCEL_CHARACTERS = 2**20, 32_767
_EXCEL_FIRST = dt.date(1900, 3, 1)
"""Before that, Excel's days are off by one, or missing."""
_MOMENTS = {"DATE": "yyyy-mm-dd", "TIMESTAMP": "yyyy-mm-dd hh:mm:ss", "TIME": "hh:mm:ss"}
"""SQL types of days and times, and how a sheet shows them."""
_LONGEST_VARIABLE, _LONGEST_LABEL = 32, 80
_LONGEST_DESCRIPTION = 120
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,8}")
_RESERVED = re.compile("all|and|by|eq|g[et]|l[et]|ne|not|or|to|with|byte|double|float|if|in|int|long|str[l0-9]+|using")


@dataclass(frozen=True)
class Field:
    """A column of the table: its name, the SQL type of its values, and what the schema says of it."""

    name: str
    kind: str
    column: Column


Lines: TypeAlias = Iterator[list[Any]]
"""The names of the columns, then the rows."""


# --- Arrow ------------------------------------------------------------------------------------------------------------


def write_arrow(rows: duckdb.DuckDBPyConnection, fields: Sequence[Field], path: Path) -> None:
    """Write the rows that `rows` has selected as a file in Arrow's IPC format."""
    need_format_part("pyarrow", path)
    from pyarrow import ipc

    reader = rows.to_arrow_reader(_BATCH)
    with ipc.new_file(str(path), reader.schema) as out:
        for batch in reader:
            out.write_batch(batch)


def read_arrow(path: Path) -> Lines:
    """The table of an Arrow file. Raises ValueError or OSError where it is none."""
    need_format_part("pyarrow", path)
    import pyarrow
    from pyarrow import ipc

    with pyarrow.memory_map(str(path)) as file, duckdb.connect(config=OFFLINE) as connection:
        whole = ipc.open_file(file)
        batches = (whole.get_batch(number) for number in range(whole.num_record_batches))
        connection.register("batches", pyarrow.RecordBatchReader.from_batches(whole.schema, batches))
        yield from read_relation(connection, "batches")


# --- DuckDB -----------------------------------------------------------------------------------------------------------


def write_duckdb(rows: duckdb.DuckDBPyConnection, fields: Sequence[Field], path: Path) -> None:
    """Write the selected rows as the table `synthetic` of a DuckDB file."""
    with duckdb.connect(str(path), config=OFFLINE) as out:
        out.execute(f"CREATE TABLE {_TABLE} ({', '.join(f'{quoted(field.name)} {field.kind}' for field in fields)})")
        while batch := rows.fetchmany(_BATCH):
            insert_rows(out, _TABLE, [field.kind for field in fields], batch)


def read_duckdb(path: Path) -> Lines:
    """The table `synthetic` of a DuckDB file. Raises duckdb.Error where there is none."""
    with duckdb.connect(config=OFFLINE) as connection:
        connection.execute(f"ATTACH {literal(str(path))} AS source (TYPE duckdb, READ_ONLY)")
        # A view of a stranger's file reads no other files.
        connection.execute("SET enable_external_access = false")
        yield from read_relation(connection, f"source.{_TABLE}")


def read_relation(connection: duckdb.DuckDBPyConnection, relation: str) -> Lines:
    """The table of an SQL relation, with its values as text."""
    found = connection.execute(f"SELECT COLUMNS(*)::VARCHAR FROM {relation}")
    yield [column[0] for column in found.description or []]
    while batch := found.fetchmany(_BATCH):
        yield from (list(row) for row in batch)


# --- Excel ------------------------------------------------------------------------------------------------------------


def write_excel(rows: duckdb.DuckDBPyConnection, fields: Sequence[Field], path: Path) -> None:
    """Write the selected rows as a sheet. Raises ConfigError where a sheet cannot hold them.

    Texts are never formulas. Numbers of more than 15 digits, and days before March 1900, are texts.
    """
    need_format_part("xlsxwriter", path)
    import xlsxwriter

    book = xlsxwriter.Workbook(str(path), {"constant_memory": True})
    sheet = book.add_worksheet(_TABLE)
    forms = [book.add_format({"num_format": _excel_form(field.kind)}) for field in fields]
    sheet.write_row(0, 0, [field.name for field in fields])
    line = 0
    while row := rows.fetchone():
        line += 1
        if line >= _EXCEL_ROWS:
            raise ConfigError(f"A sheet holds at most {_EXCEL_ROWS - 1:,} rows.", "Choose another format.")
        for place, (value, form) in enumerate(zip(row, forms, strict=True)):
            _write_cell(sheet, line, place, value, form)
        if not any(value is not None for value in row):
            # A sheet ends with its last cell.
            sheet.write_string(line, 0, "", forms[0])
    book.close()


def _excel_form(kind: str) -> str:
    if kind.startswith(("BIGINT", "DECIMAL")):
        return f"0.{'0' * _decimals(kind)}".rstrip(".")
    return _MOMENTS.get(kind, "General")


def _write_cell(sheet: Any, row: int, place: int, value: Any, form: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        sheet.write_boolean(row, place, value)
    elif isinstance(value, dt.time) or (isinstance(value, dt.date) and dt.date(*value.timetuple()[:3]) >= _EXCEL_FIRST):
        sheet.write_datetime(row, place, value, form)
    elif isinstance(value, str | dt.date) or _digits(value) > _EXACT_DIGITS:
        if len(str(value)) > _EXCEL_CHARACTERS:
            raise ConfigError(f"A cell holds at most {_EXCEL_CHARACTERS:,} characters.", "Choose another format.")
        sheet.write_string(row, place, str(value))
    else:
        sheet.write_number(row, place, float(value), form)


def read_excel(path: Path) -> Lines:
    """The table of the first sheet of a workbook. Raises ValueError where it is none."""
    need_format_part("python_calamine", path)
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        rows = CalamineWorkbook.from_path(path).get_sheet_by_index(0).to_python(skip_empty_area=False)
    except CalamineError as error:
        raise ValueError(str(error)) from None
    yield from ([None if value == "" else value for value in row] for row in rows)


# --- SPSS and Stata ---------------------------------------------------------------------------------------------------


def write_statistics(kind: Literal["sav", "dta"], rows: duckdb.DuckDBPyConnection, fields: Sequence[Field], path: Path) -> None:
    """Write the selected rows as a file of SPSS ("sav") or Stata, with labels of variables and of values.

    In Stata only values that are numbers have labels. Raises ConfigError where the format cannot hold the rows.
    """
    need_format_part("pyreadstat", path)
    import pandas as pd
    import pyreadstat

    names = variable_names([field.name for field in fields])
    columns: dict[str, Any] = {}
    labels, forms = {}, {}
    table = rows.fetchall()
    for place, (name, field) in enumerate(zip(names, fields, strict=True)):
        values = [row[place] for row in table]
        numbers = _numbers(field, values)
        if numbers is None and field.kind not in _MOMENTS:
            # As text, where an empty one is no value.
            values = ["" if value is None else str(value) for value in values]
        columns[name] = pd.Series(values if numbers is None else numbers, dtype=object if numbers is None else float)
        if numbers is not None:
            decimals = _decimals(field.kind)
            forms[name] = f"F16.{decimals}" if kind == "sav" else f"%16.{decimals}f"
        if (numbers is not None or kind == "sav") and (described := _value_labels(field.column, numbers is not None)):
            labels[name] = described
    write = pyreadstat.write_sav if kind == "sav" else pyreadstat.write_dta
    try:
        write(
            pd.DataFrame(columns),
            str(path),
            column_labels=[field.name[:_LONGEST_LABEL] for field in fields],
            variable_value_labels=labels,
            variable_format=forms,
        )
    except (pyreadstat.PyreadstatError, pyreadstat.ReadstatError) as error:
        raise ConfigError(f"The rows cannot be written in this format: {error}.", "Choose another format.") from None


def _numbers(field: Field, values: Sequence[Any]) -> list[float] | None:
    """The values of a column as numbers, NaN for none; None where it has no numbers, or some that a double does not hold."""
    if isinstance(field.column, Category):
        if not all(_WHOLE.fullmatch(value) for value in field.column.allowed()):
            return None
    elif not field.kind.startswith(("BIGINT", "BOOLEAN", "DECIMAL")) or any(_digits(value) > _EXACT_DIGITS for value in values):
        return None
    return [math.nan if value is None else float(value) for value in values]


def _digits(value: Any) -> int:
    """How many digits a number has."""
    return len(re.sub(r"[^0-9]", "", str(value)).lstrip("0"))


def _decimals(kind: str) -> int:
    """How many decimals numbers of this SQL type have."""
    found = re.fullmatch(r"DECIMAL\(\d+,(\d+)\)", kind)
    return int(found[1]) if found else 0


def _value_labels(column: Column, is_numeric: bool) -> dict[Any, str]:
    """What the values of a column stand for, by the values as they are in the file."""
    if isinstance(column, Boolean):
        return {float(value): str(written(column, value)) for value in (False, True)}
    described = column.descriptions if isinstance(column, Category) else {}
    # Cut at a whole character.
    cut = {value: text.encode()[:_LONGEST_DESCRIPTION].decode(errors="ignore") for value, text in described.items()}
    return {float(value) if is_numeric else value: text for value, text in cut.items()}


def variable_names(columns: Sequence[str]) -> list[str]:
    """Names that SPSS and Stata allow, all different, in place of those of the columns."""
    names: list[str] = []
    for column in columns:
        name = re.sub(r"\W+", "_", column)
        if not name[0].isalpha() or _RESERVED.fullmatch(name.casefold()):
            name = f"v_{name}"
        name, number = _shortened(name, ""), 1
        while name.casefold() in map(str.casefold, names):
            number += 1
            name = _shortened(name.removesuffix(f"_{number - 1}"), f"_{number}")
        names.append(name)
    return names


def _shortened(name: str, end: str) -> str:
    """A name with another end, as long as both programs allow: one counts characters, the other bytes."""
    start = name[: _LONGEST_VARIABLE - len(end)].encode()[: 2 * _LONGEST_VARIABLE - len(end)]
    return start.decode(errors="ignore") + end


def read_statistics(path: Path, names: Sequence[str]) -> Lines:
    """The table of a file of SPSS or Stata, with the `names` of the columns where its variables are called as they must be.

    Raises ValueError where it is none.
    """
    need_format_part("pyreadstat", path)
    from pyreadstat import PyreadstatError, ReadstatError, read_dta, read_sav

    with path.open("rb") as file:
        read = read_sav if file.read(len(SPSS)) == SPSS else read_dta
    try:
        columns, about = read(str(path), output_format="dict")
    except (PyreadstatError, ReadstatError) as error:
        raise ValueError(str(error)) from None
    found = list(about.column_names)
    yield list(names) if found == variable_names(names) else found
    for row in zip(*columns.values(), strict=True):
        yield [_without_point(value) for value in row]


def _without_point(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return value


Writer: TypeAlias = Callable[[duckdb.DuckDBPyConnection, Sequence[Field], Path], None]
WRITERS: dict[str, Writer] = {
    "arrow": write_arrow,
    "duckdb": write_duckdb,
    "excel": write_excel,
    "spss": partial(write_statistics, "sav"),
    "stata": partial(write_statistics, "dta"),
}
"""By the name of the format: writes the rows that a connection has selected."""
