"""A table that was handed on, as a CSV, JSON-lines or Parquet file: its rows in one spelling, whatever the file's format.

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
from localsynth.store.bulk import OFFLINE, parquet
from localsynth.system.canonical_json import canonical_json

_LONGEST_FIELD = 2**24
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
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
        return text.lower()
    if isinstance(column, Time):
        return text.removeprefix("1970-01-01 ")
    return text.replace("T", " ") if isinstance(column, DateTime) else text


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
        with path.open("rb") as file:
            start = file.read(4)
        spelled = start != b"PAR1"
        lines = _parquet(path) if not spelled else _json_lines(path) if start[:1] == b"{" else _csv(path)
        names = next(lines, [])
        if len(names) != len(schema.columns):
            raise IntegrityError(f"{path} has {len(names)} columns, and the schema {len(schema.columns)}.", "Get the file again.")
        yield [str(name) for name in names]
        for row in lines:
            if len(row) != len(names):
                raise IntegrityError(f"{path} has rows of different lengths.", "Get the file again.")
            yield canonical_row(row, schema, spelled=spelled)
    except (OSError, UnicodeDecodeError, ValueError, RecursionError, csv.Error, duckdb.Error, AttributeError):
        raise IntegrityError(f"{path} cannot be read as CSV, JSON lines or Parquet.", "Get the file again.") from None


def _csv(path: Path) -> Iterator[list[Any]]:
    csv.field_size_limit(_LONGEST_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        delimiter = max(",;\t", key=header.count)
        file.seek(0)
        # A line without any field is an empty value in a table of one column.
        yield from (row or [""] for row in csv.reader(file, delimiter=delimiter, strict=True))


def _json_lines(path: Path) -> Iterator[list[Any]]:
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


def _parquet(path: Path) -> Iterator[list[Any]]:
    with duckdb.connect(config=OFFLINE) as connection:
        found = connection.execute(f"SELECT COLUMNS(*)::VARCHAR FROM {parquet(path)}")
        yield [column[0] for column in found.description or []]
        while batch := found.fetchmany(2000):
            yield from (list(row) for row in batch)
