"""What the user requests of the rows, beside how many: conditions, a column in given shares, or rows to complete from a file.

Each gives the conditions of the i-th row of a sampling job. Reads the effective schema
and what the user wrote: no private data.
"""

import csv
import hashlib
import hmac
import itertools
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localsynth.errors import ConfigError, DataError
from localsynth.schema.columns import Column, Formatted, Schema
from localsynth.schema.conditions import Allowed, Conditions
from localsynth.schema.feasible import FeasibleSet
from localsynth.schema.where import exactly, parse_where, values_of
from localsynth.system.memory_file import DESCRIPTORS, MemoryPath

_CONSTRAINED = "Change the request; the constraints are schema.constraints in localsynth.toml."


@dataclass(frozen=True)
class RowRequests:
    """`conditions(i)` are those of a job's i-th row; `facts` say what was requested, for the provenance of the rows."""

    conditions: Callable[[int], Conditions]
    facts: dict[str, Any]
    rows: int | None = None
    """How many rows are requested, where the request says so: one for each line of a file."""


def read_row_requests(
    schema: Schema, where: str | None, balance: str | None, seeds: str | None, missing: list[str], secret: bytes = b""
) -> RowRequests:
    """`where`: an SQL condition; `balance`: "column" or "column=value:share,value:share"; `seeds`: a CSV file with a header.

    `missing` are the strings that mean "no value" in the file. A job knows its file by the HMAC-SHA-256 under `secret`, so that a
    guess of the file cannot be checked by whoever has the rows. Raises ConfigError, DataError.
    """
    conditions = parse_where(where, schema) if where is not None else {}
    feasible = FeasibleSet(schema)
    if feasible and feasible.witness(conditions) is None:
        raise ConfigError("No row was found that meets --where and satisfies the schema's constraints.", _CONSTRAINED)
    facts: dict[str, Any] = {"where": where} if where is not None else {}
    if balance is not None and seeds is not None:
        raise ConfigError("--balance and --seeds exclude each other.", "The file's rows fix how often each value occurs.")
    if balance is not None:
        shares = _read_shares(schema, balance, conditions)
        for value in shares.values if feasible else ():
            if feasible.witness({**conditions, shares.column: value}) is None:
                raise ConfigError(
                    f"No row was found that has a value of --balance {shares.column}, meets --where and satisfies the "
                    "schema's constraints.",
                    _CONSTRAINED,
                )
        return RowRequests(lambda i: {**conditions, **shares.conditions(i)}, {**facts, "balance": balance})
    if seeds is not None:
        path = MemoryPath.of(seeds, Path("<like>")) if seeds.startswith(DESCRIPTORS) else Path(seeds)
        rows, data = _read_seeds(schema, path, missing, conditions)
        for number, row in enumerate(rows if feasible else (), start=1):
            if feasible.witness({**conditions, **row}) is None:
                raise DataError(
                    f"{path}: row {number} cannot be completed so that it satisfies the schema's constraints.", _CONSTRAINED
                )
        facts["seeds"] = hmac.new(secret, data, hashlib.sha256).hexdigest()
        return RowRequests(lambda i: {**conditions, **rows[i % len(rows)]}, facts, len(rows))
    return RowRequests(lambda _: conditions, facts)


# --- shares ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shares:
    column: str
    values: list[Allowed]
    cumulative: list[float]
    """For each value, the share of rows that have it or one before."""

    def conditions(self, i: int) -> Conditions:
        """The value of the i-th row."""
        # Row i gets the value whose part of the unit interval holds the i-th point of the golden-ratio sequence. So any run of
        # rows has nearly the requested shares, and an interrupted job needs no counts to resume.
        index = bisect_right(self.cumulative, ((i + 0.5) * 0.6180339887498949) % 1.0)
        return {self.column: self.values[min(index, len(self.values) - 1)]}


def _read_shares(schema: Schema, text: str, conditions: Conditions) -> _Shares:
    name, _, rest = text.partition("=")
    column = next((c for c in schema.learned() if c.name.casefold() == name.strip().casefold()), None)
    if column is None:
        raise ConfigError(
            f"There is no learned column {name.strip()!r} to balance.", f"Columns: {', '.join(c.name for c in schema.learned())}."
        )
    if column.name in conditions:
        raise ConfigError(f"Column {column.name!r} is in --where and in --balance.", "Use one of the two.")
    pairs = [part.rpartition(":") for part in next(csv.reader([rest], skipinitialspace=True))] if rest else []
    if rest:
        try:
            weights = [(value.strip(), float(share)) for value, _, share in pairs]
        except ValueError:
            weights = []
        if not weights or any(not share > 0 for _, share in weights):
            raise ConfigError(
                f"--balance {text!r} is not of the form column=value:share,value:share.",
                "Example: --balance label=ham:0.5,spam:0.5",
            )
    else:
        weights = [(value, 1.0) for value in values_of(column)]
    total = sum(share for _, share in weights)
    cumulative = list(itertools.accumulate(share / total for _, share in weights))
    return _Shares(column.name, [exactly(column, value) for value, _ in weights], cumulative)


# --- rows to complete ------------------------------------------------------------------------------------------------


def _missing(column: Column, missing: list[str]) -> list[str]:
    return missing if column.missing is None else column.missing


def _plain(column: Column, text: str) -> str:
    """A value in the format of its column, or as Python writes it, as the latter."""
    return (column.plain(text) if isinstance(column, Formatted) else None) or text


def _read_seeds(schema: Schema, path: Path, missing: list[str], conditions: Conditions) -> tuple[list[Conditions], bytes]:
    try:
        data = path.read_bytes()
        lines = list(csv.reader(data.decode("utf-8-sig").splitlines(keepends=True), strict=True))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "Check the file's name.") from None
    except (UnicodeDecodeError, csv.Error):
        raise DataError(
            f"{path} is not a CSV file in UTF-8.", "Write a header with column names, then a row for each line."
        ) from None
    lines = [line for line in lines if line]
    if len(lines) < 2:
        raise DataError(f"{path} holds no rows.", "Write a header with column names, then a row for each line.")
    learned = {column.name: column for column in schema.learned()}
    header = lines[0]
    for name in header:
        if name not in learned:
            raise DataError(f"{path} has a column {name!r}, which is not a learned column.", f"Columns: {', '.join(learned)}.")
        if name in conditions:
            raise ConfigError(f"Column {name!r} is in --where and in {path}.", "Use one of the two.")
    rows: list[Conditions] = []
    for number, line in enumerate(lines[1:], start=1):
        if len(line) != len(header):
            raise DataError(f"{path}: row {number} has {len(line)} fields, and the header {len(header)}.", "Correct the row.")
        row: dict[str, Allowed] = {}
        for name, text in zip(header, line, strict=True):
            try:
                row[name] = exactly(
                    learned[name], None if text in _missing(learned[name], missing) else _plain(learned[name], text)
                )
            except ConfigError as error:
                raise DataError(f"{path}: row {number}: {error.message}", error.hint) from None
        rows.append(row)
    return rows, data
