"""A table that was handed on, in any format that `export-data` writes: its rows in one spelling, whatever the format.

The file may come from anyone, and from another program: numbers may have other zeros, moments a T, an empty text is no value.
"""

import csv
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from localsynth.errors import IntegrityError
from localsynth.schema.columns import Boolean, Column, DateTime, Derived, Formatted, Identifier, Integer, Number, Schema, Time
from localsynth.store import typed_files
from localsynth.store.bulk import OFFLINE, parquet
from localsynth.store.typed_files import Lines
from localsynth.system.canonical_json import canonical_json

_LONGEST_FIELD = 2**24
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DAY = re.compile(r"\d+-\d\d-\d\d")
_LARGEST_EXPONENT = 60
"""Of a number; the schema's have at most 38 digits."""

Row = list[str | None]


@dataclass(frozen=True)
class TableHash:
    """The number of rows and the SHA-256 of their content and order, with the names of the columns."""

    rows: int
    sha256: str


def hash_table(path: Path, schema: Schema) -> TableHash:
    """The hash of the table in a file with the columns of `schema`, in their order. Raises IntegrityError."""
    rows, digest = -1, hashlib.sha256()
    for row in _read(path, schema):
        rows += 1
        digest.update(canonical_json(row) + b"\n")
    return TableHash(rows, digest.hexdigest())


def read_rows(path: Path, schema: Schema) -> Iterator[Row]:
    """The rows in their canonical spelling. Raises IntegrityError."""
    lines = _read(path, schema)
    next(lines)
    yield from lines


def canonical_row(values: list[Any], schema: Schema, *, spelled: bool = False) -> Row:
    """One spelling of a row's values (Python objects, or as text), in the order of the columns.

    `spelled`: the values are texts in the formats of the columns.
    """
    return [
        None if value is None else _canonical(str(value), column, spelled)
        for value, column in zip(values, schema.columns, strict=True)
    ]


def _canonical(text: str, column: Column, spelled: bool) -> str | None:
    if text == "":
        return None
    if spelled and isinstance(column, Formatted):
        text = column.plain(text) or text
    if isinstance(column, Integer | Number | Derived) or (isinstance(column, Identifier) and column.format is None):
        return _canonical_number(text)
    if isinstance(column, Boolean):
        return {"1": "true", "0": "false"}.get(text, text.lower())
    if isinstance(column, Time):
        return text.removeprefix("1970-01-01 ")
    if isinstance(column, DateTime):
        # A sheet shows midnight as a day alone.
        return text.replace("T", " ") + (" 00:00:00" if _DAY.fullmatch(text) else "")
    return text


def _canonical_number(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        return text
    number = Decimal(text)
    if not number.is_finite() or abs(number.adjusted()) > _LARGEST_EXPONENT:
        return text
    plain = format(number, "f") if number else "0"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _read(path: Path, schema: Schema) -> Iterator[Row]:
    """The names of the columns, then the rows."""
    try:
        spelled, lines = _opened(path, [column.name for column in schema.columns])
        names = next(lines, [])
        if len(names) != len(schema.columns):
            raise IntegrityError(f"{path} has {len(names)} columns, and the schema {len(schema.columns)}.", "Get the file again.")
        yield [str(name) for name in names]
        for row in lines:
            if len(row) != len(names):
                raise IntegrityError(f"{path} has rows of different lengths.", "Get the file again.")
            yield canonical_row(row, schema, spelled=spelled)
    except (OSError, UnicodeDecodeError, ValueError, RecursionError, csv.Error, duckdb.Error, AttributeError):
        raise IntegrityError(
            f"{path} cannot be read as a table that export-data writes (CSV, JSON lines, Parquet, Arrow, Excel, SPSS, Stata, "
            "DuckDB).",
            "Get the file again.",
        ) from None


def _opened(path: Path, names: list[str]) -> tuple[bool, Lines]:
    """Whether values are spelled in the formats of their columns, and the lines of the table, by how the file begins."""
    with path.open("rb") as file:
        start = file.read(12)
    if start[8:] == typed_files.DUCKDB:
        return False, typed_files.read_duckdb(path)
    if start.startswith((typed_files.SPSS, typed_files.STATA)):
        return False, typed_files.read_statistics(path, names)
    typed = {b"PAR1": _parquet, typed_files.ARROW: typed_files.read_arrow, typed_files.EXCEL: typed_files.read_excel}
    for magic, read in typed.items():
        if start.startswith(magic):
            return False, read(path)
    return True, _json_lines(path) if start[:1] == b"{" else _csv(path)


def _csv(path: Path) -> Lines:
    csv.field_size_limit(_LONGEST_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        delimiter = max(",;\t", key=header.count)
        file.seek(0)
        # A line without any field is an empty value in a table of one column.
        yield from (row or [""] for row in csv.reader(file, delimiter=delimiter, strict=True))


def _json_lines(path: Path) -> Lines:
    names: list[str] | None = None
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line, parse_float=str, parse_int=str, object_pairs_hook=_once)
            if names is None:
                names = list(row)
                yield names
            yield list(row.values()) if list(row) == names else []


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object each of whose keys stands once. Raises ValueError."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _parquet(path: Path) -> Lines:
    with duckdb.connect(config=OFFLINE) as connection:
        yield from typed_files.read_relation(connection, parquet(path))
