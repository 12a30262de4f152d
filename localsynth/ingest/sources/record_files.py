"""Sources whose libraries give Python values: Excel sheets, SPSS, SAS and Stata files, and SQLite tables."""

import contextlib
import datetime as dt
import itertools
import math
import sqlite3
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from localsynth.errors import ConfigError, DataError
from localsynth.ingest.sources.base import BATCH, BadRows, Row, Source
from localsynth.store.bulk import quoted
from localsynth.system.extras import need_format_part

_Reader = Callable[..., tuple[Any, Any]]
_CHUNK = 50_000
"""Rows that are read at a time from a file of a statistics program."""


class RecordSource(Source):
    """A table whose rows come as Python values."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        super().__init__(path, columns)
        self._all = list(self.columns)

    @abstractmethod
    def _records(self) -> Iterator[Sequence[Any]]:
        """All rows, with a value for each column of the file."""

    def batches(self, size: int = BATCH) -> Iterator[list[Row]]:
        positions = [self._all.index(name) for name in self.columns]
        rows = (tuple(self._text(record[position]) for position in positions) for record in self._records())
        self.bad = BadRows()
        while batch := list(itertools.islice(rows, size)):
            yield batch

    def _text(self, value: Any) -> str | None:
        if isinstance(value, bytes):
            raise DataError(f"{self.path}: a column holds binary data.", "Name the columns to use in data.columns.")
        return as_text(value)


def as_text(value: Any) -> str | None:
    """A value as a CSV file would hold it: whole floats without a point, dates in ISO form, a NaN as no value."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < 2**62 else repr(value)
    if isinstance(value, dt.timedelta):
        seconds, part = divmod(abs(value), dt.timedelta(seconds=1))
        sign, fraction = "-" if value < dt.timedelta() else "", f".{part.microseconds:06}".rstrip("0") if part else ""
        return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction}"
    if isinstance(value, dt.datetime):
        return value.isoformat(" ", "auto" if value.microsecond else "seconds")
    return str(value)


class ExcelSource(RecordSource):
    """A sheet of an Excel or OpenDocument workbook: the one named `table`, or the only one. Its first line names the columns."""

    def __init__(self, path: Path, table: str | None, skip_lines: int) -> None:
        need_format_part("python_calamine", path)
        from python_calamine import CalamineError, CalamineWorkbook

        try:
            book = CalamineWorkbook.from_path(path)
            name = _chosen(path, "sheet", book.sheet_names, table)
            sheet = book.get_sheet_by_name(name)
            # With the empty lines and columns before the table, so that merged cells are where they are said to be.
            rows = sheet.to_python(skip_empty_area=False)
        except CalamineError:
            raise DataError(
                f"{path} cannot be read: it is damaged, protected by a password or of another format.", "Save it again."
            ) from None
        for (first, _), (last, _) in sheet.merged_cell_ranges or ():
            if first <= skip_lines <= last:
                raise DataError(
                    f"{path}: cells are merged in the line of the columns' names.",
                    "Give each column a name of its own, in one line; data.skip_lines leaves out lines above it.",
                )
        if len(rows) <= skip_lines:
            raise DataError(f"{path}: the sheet {name!r} is empty.", "Set data.table (init: --table) to another sheet.")
        self._rows = [row for row in rows[skip_lines + 1 :] if any(cell != "" for cell in row)]
        super().__init__(path, [as_text(cell) or "" for cell in rows[skip_lines]])

    def _records(self) -> Iterator[Sequence[Any]]:
        return iter(self._rows)


class StatisticsSource(RecordSource):
    """A file of SPSS, SAS or Stata. Missing codes that it declares are no values; labels of values become descriptions."""

    def __init__(self, path: Path, file_format: str, encoding: str | None) -> None:
        need_format_part("pyreadstat", path)
        import pyreadstat

        by_name: dict[str, _Reader] = {".por": pyreadstat.read_por, ".xpt": pyreadstat.read_xport}
        by_format: dict[str, _Reader] = {
            "spss": pyreadstat.read_sav,
            "sas": pyreadstat.read_sas7bdat,
            "stata": pyreadstat.read_dta,
        }
        self._read, self._encoding = by_name.get(path.suffix.lower(), by_format[file_format]), encoding
        # Only so it says which values of SPSS are no values.
        with_codes = {"user_missing": True} if self._read is pyreadstat.read_sav else {}
        _, about = self._chunk(path, metadataonly=True, **with_codes)
        super().__init__(path, list(about.column_names))
        self.descriptions = {
            name: {
                str(as_text(value)): " ".join(str(label).split())
                for value, label in labels.items()
                if not any(each["lo"] <= value <= each["hi"] for each in about.missing_ranges.get(name, ()))
            }
            for name, labels in about.variable_value_labels.items()
        }
        self.labels = {name: " ".join(label.split()) for name, label in about.column_names_to_labels.items() if label}

    def _chunk(self, path: Path, **which: Any) -> tuple[Any, Any]:
        from pyreadstat import PyreadstatError, ReadstatError

        try:
            return self._read(str(path), output_format="dict", encoding=self._encoding, **which)
        except (PyreadstatError, ReadstatError, UnicodeError):
            raise DataError(
                f"{path} cannot be read: it is damaged or of another encoding.", "Set data.encoding, or export it again."
            ) from None

    def _records(self) -> Iterator[Sequence[Any]]:
        for start in itertools.count(0, _CHUNK):
            columns, _ = self._chunk(self.path, row_offset=start, row_limit=_CHUNK)
            rows: Iterable[Sequence[Any]] = zip(*columns.values(), strict=True)
            done = 0
            for row in rows:
                yield row
                done += 1
            if done < _CHUNK:
                return


class SqliteSource(RecordSource):
    """A table or view of an SQLite database: the one named `table`, or the only one."""

    def __init__(self, path: Path, table: str | None) -> None:
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            # The hash of the file would not be that of its rows.
            raise DataError(
                f"{path} is open in another program, or was not closed.", "Close that program, then start the command again."
            )
        # Nothing is written beside it.
        self._uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        with self._connected(path) as connection:
            kinds = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
            names = [str(name) for (name,) in connection.execute(kinds + " ORDER BY name")]
            self._table = _chosen(path, "table or view", names, table)
            described = connection.execute(f"SELECT * FROM {quoted(self._table)} LIMIT 0").description
        super().__init__(path, [str(column[0]) for column in described])

    @contextlib.contextmanager
    def _connected(self, path: Path) -> Iterator[sqlite3.Connection]:
        connection = None
        try:
            connection = sqlite3.connect(self._uri, uri=True)
            yield connection
        except (sqlite3.Error, UnicodeError):
            raise DataError(f"{path} cannot be read: it is damaged, encrypted or in use.", "Export the table again.") from None
        finally:
            if connection is not None:
                connection.close()

    def _records(self) -> Iterator[Sequence[Any]]:
        with self._connected(self.path) as connection:
            yield from connection.execute(f"SELECT * FROM {quoted(self._table)}")


def _chosen(path: Path, what: str, names: list[str], table: str | None) -> str:
    """The name of the table to read. Raises DataError or ConfigError."""
    if not names:
        raise DataError(f"{path} has no {what}.", "Name a file that holds the table.")
    if table is None and len(names) == 1:
        return names[0]
    if table in names:
        return str(table)
    wrong = f"has no {what} {table!r}" if table is not None else f"has more than one {what}"
    raise ConfigError(f"{path} {wrong}.", f"Set data.table (init: --table) to one of: {', '.join(names)}.")
