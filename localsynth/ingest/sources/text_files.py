"""CSV, TSV and JSON lines, plain or gzipped, in any text encoding Python knows.

Python's own readers are used rather than DuckDB's. They give the exact line of a fault
without quoting it, decode every encoding that office programs write (cp1252 among them),
and guess nothing from a sample.
"""

import codecs
import csv
import gzip
import io
import itertools
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from localsynth.errors import ConfigError, DataError
from localsynth.ingest.sources.base import BATCH, BadRows, Row, Source
from localsynth.ingest.sources.header import check_header

_MAX_VALUE_LENGTH = 16 * 2**20
_ROWS_BESIDE_HEADER = 2000
_MIN_JOINED = 3
"""Lines of a field that all read like rows: fewer may do so by chance, in a text with commas."""
_MAX_KEYS = 1000
_ROWS_FOR_KEYS = 20_000
_RARE = 0.01
_GZIP, _ZSTANDARD, _ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
_DELIMITERS = ",;\t|"
_QUOTES = 'Check the quotes of that row; where quotes are no more than characters, set data.quote = "" (init: --quote "").'
_FIELDS = "Check such lines for a missing or unquoted delimiter; if tabs separate the fields, set data.format to tsv."
_SEP = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_HALF_PAIR = re.compile(r"[\ud800-\udfff]")


def _checked_encoding(name: str) -> str:
    try:
        found = codecs.lookup(name).name
        "".encode(found)
    except (LookupError, TypeError):
        raise ConfigError(
            f"data.encoding: {name!r} is not a known text encoding.", "Usual ones: utf-8, cp1252, latin-1, utf-16."
        ) from None
    # A byte order mark at the start is no part of the first column's name.
    return "utf-8-sig" if found == "utf-8" else found


@contextmanager
def _unpacked(path: Path) -> Iterator[gzip.GzipFile | io.BufferedReader]:
    """The file's bytes, decompressed; faults of the file become a DataError."""
    try:
        with _open_bytes(path) as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"{path} is a damaged or cut-off gzip file.", "Export or fetch the file again.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "Check the disk and the permissions.") from None


def _open_bytes(path: Path) -> gzip.GzipFile | io.BufferedReader:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == _ZSTANDARD:
        raise DataError(
            f"{path} is compressed with Zstandard, but its name does not say so.", "Give it a name that ends in .zst."
        )
    if magic == _ZIP:
        raise DataError(f"{path} is a zip archive or an office document, not text.", "Name it .zip, or save the sheet as CSV.")
    if magic[:2] == _GZIP:
        return gzip.open(path, "rb")
    if path.suffix == ".gz":
        raise DataError(f"{path} is named .gz but is not compressed with gzip.", "Export or fetch the file again, or rename it.")
    return path.open("rb")


def _undecodable(path: Path, encoding: str) -> DataError:
    """The error for bytes that are not text in this encoding. Reads the file again to find their line."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line, consumed = 1, 0
    hint = "Set data.encoding to the file's encoding, for example cp1252, latin-1 or utf-16."
    with _unpacked(path) as file:
        while chunk := file.read(2**16):
            try:
                line += decoder.decode(chunk).count("\n")
            except UnicodeDecodeError as error:
                consumed += len(chunk) - len(error.object) + error.start
                line += error.object[: error.start].decode(encoding, errors="ignore").count("\n")
                return DataError(
                    f"{path}, line {line}, byte {consumed + 1} of the file: not {encoding.removesuffix('-sig')} text.", hint
                )
            consumed += len(chunk)
    return DataError(f"{path}, line {line}: the file ends inside a character.", hint)


@contextmanager
def _opened(path: Path, encoding: str) -> Iterator[IO[str]]:
    """The file as text, with its line ends as they are."""
    try:
        with _unpacked(path) as binary, io.TextIOWrapper(binary, encoding=encoding, newline="") as text:
            yield text
    except UnicodeDecodeError:
        raise _undecodable(path, encoding) from None
    except UnicodeError:
        raise DataError(f"{path} is not {encoding} text.", "Set data.encoding to the file's encoding.") from None


def _batched(source: Source, rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while batch := list(itertools.islice(rows, size)):
        yield batch
    source.refuse_bad_rows()


@dataclass(frozen=True)
class Dialect:
    """How the lines of a delimited file are read; `delimiter` None: the one that the first line uses most."""

    delimiter: str | None = None
    quote: str = '"'
    """The sign around fields; "": none."""
    comment: str | None = None
    """What lines that are skipped begin with."""
    skip_lines: int = 0
    """Lines before the names of the columns."""

    def reader(self, lines: Iterator[str]) -> Any:
        """Python's reader with these settings."""
        delimiter = self.delimiter or ","
        if not self.quote:
            return csv.reader(lines, delimiter=delimiter, quotechar=None, quoting=csv.QUOTE_NONE, strict=True)
        return csv.reader(lines, delimiter=delimiter, quotechar=self.quote, strict=True)


class DelimitedSource(Source):
    """A CSV or TSV file. Values are unchanged; an empty field is the empty string."""

    def __init__(self, path: Path, encoding: str, dialect: Dialect | None = None, header: bool | None = None) -> None:
        """Raises DataError where the first line cannot name the columns.

        `header` None: the first line names the columns and is refused if it looks like data; True: it does, whatever it looks
        like; False: it is a row like the others, and the columns are called column_1, column_2, ...

        A line "sep=;" before it names the delimiter, as spreadsheets write it. A delimiter at the end of all lines is no column.
        With `header` True, a line break in a name becomes a blank.
        """
        self.path, self.bad = path, BadRows()
        self._encoding = _checked_encoding(encoding)
        self._dialect = self._completed(path, dialect or Dialect())
        self._lines_before_rows = 0 if header is False else 1
        records = (row for _, _, row in self._records())
        first = next(records, [])
        if not first:
            self.refuse_bad_rows()
        following = list(itertools.islice(records, _ROWS_BESIDE_HEADER))
        # Where every line ends with a delimiter, the last field has neither name nor value.
        end = len(first) - 1
        unnamed = header is not False and end > 0 and not first[end].strip()
        self._width = end if unnamed and not any("".join(row[end:]) for row in following) else len(first)
        first = first[: self._width]
        if header is None:
            check_header(path, first, following)
        if header:
            # Not where it is only inferred that these are names: a line break is more likely in the text of a row.
            first = [re.sub(r"\s*[\r\n]+\s*", " ", name.strip("\r\n")) for name in first]
        names = [""] * len(first) if header is False else first
        super().__init__(path, names)
        self._whole = list(self.columns)

    def _completed(self, path: Path, dialect: Dialect) -> Dialect:
        """With the delimiter, and without the line that names it."""
        with _opened(path, self._encoding) as file:
            for _ in range(dialect.skip_lines):
                file.readline(_MAX_VALUE_LENGTH)
            line = file.readline(_MAX_VALUE_LENGTH)
            while dialect.comment is not None and line.startswith(dialect.comment):
                line = file.readline(_MAX_VALUE_LENGTH)
        if named := _SEP.fullmatch(line.strip()):
            return replace(dialect, delimiter=named[1], skip_lines=dialect.skip_lines + 1)
        if dialect.delimiter is not None:
            return dialect
        outside_quotes = "".join(line.split(dialect.quote)[::2]) if dialect.quote else line
        return replace(dialect, delimiter=max(_DELIMITERS, key=outside_quotes.count))

    def _records(self) -> Iterator[tuple[int, int, list[str]]]:
        """(number of its first line, number of lines, fields) of every record that is not a blank line, the header included."""
        # An unclosed quote includes all that follows; the limit ends that with a message before memory runs out.
        csv.field_size_limit(_MAX_VALUE_LENGTH)
        self.bad = BadRows()
        skipped, comment = self._dialect.skip_lines, self._dialect.comment
        with _opened(self.path, self._encoding) as file:
            for _ in range(skipped):
                file.readline()
            lines = file if comment is None else _Uncommented(file, comment)
            reader = self._dialect.reader(lines)
            while True:
                line = skipped + reader.line_num + 1
                if isinstance(lines, _Uncommented):
                    lines.inside = False
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    # The module's messages name characters of the format only, never a field.
                    self.bad.add(f"line {line}", str(error), _QUOTES, joins_rows=skipped + reader.line_num > line)
                    continue
                if row:
                    yield line, skipped + reader.line_num - line + 1, row

    def batches(self, size: int = BATCH) -> Iterator[list[Row]]:
        return _batched(self, self._rows(), size)

    def _rows(self) -> Iterator[Row]:
        indices = None if self.columns == self._whole else [self._whole.index(name) for name in self.columns]
        for line, lines, row in itertools.islice(self._records(), self._lines_before_rows, None):
            if len(row) == self._width + 1 and not row[-1]:
                row.pop()
            if len(row) != self._width:
                text = f"{len(row)} fields where the first line has {self._width}"
                self.bad.add(f"line {line}", text, _QUOTES if lines > 1 else _FIELDS, joins_rows=lines > 1)
            elif lines > _MIN_JOINED and any(self._holds_rows(field) for field in row):
                self.bad.add(f"line {line}", "a quoted field that holds whole rows", _QUOTES, joins_rows=True)
            else:
                yield tuple(row) if indices is None else tuple(row[index] for index in indices)

    def _holds_rows(self, field: str) -> bool:
        """Whether all whole lines inside of a field, and several, read like rows: then a quote was not meant as one."""
        inside = re.split(r"\r\n|\n|\r", field)[1:-1]
        if len(inside) < _MIN_JOINED or self._width == 1:
            return False
        return all(len(row) == self._width for row in csv.reader(inside, delimiter=self._dialect.delimiter or ","))


class _Uncommented:
    """The lines of a file, with an empty one in place of each comment, so that the numbers of lines stay right."""

    def __init__(self, file: IO[str], comment: str) -> None:
        self._file, self._comment = file, comment
        self.inside = False
        """Whether the next line continues a record: then it is no comment, whatever it begins with."""

    def __iter__(self) -> "_Uncommented":
        return self

    def __next__(self) -> str:
        line = next(self._file)
        if not self.inside and line.startswith(self._comment):
            return "\n"
        self.inside = True
        return line


class JsonLinesSource(Source):
    """One JSON object a line. The columns are all keys, in the order of their first appearance; an absent key is a null."""

    def __init__(self, path: Path, encoding: str) -> None:
        self.path, self.bad = path, BadRows()
        self._encoding = _checked_encoding(encoding)
        lines: dict[str, int] = {}
        counts: Counter[str] = Counter()
        records = 0
        for line, record in self._records():
            for key in record:
                lines.setdefault(key, line)
            if len(lines) > _MAX_KEYS:
                raise DataError(
                    f"{path}, line {line}: more than {_MAX_KEYS:,} different keys so far, so they seem to be data, not names.",
                    'Write what varies as a value: {"id": "A17", "amount": 3} instead of {"A17": 3}.',
                )
            if records < _ROWS_FOR_KEYS:
                records += 1
                counts.update(record.keys())
        if not lines:
            self.refuse_bad_rows()
        super().__init__(path, list(lines))
        self._keys = dict(zip(self.columns, lines, strict=True))
        self.first_lines = dict(zip(self.columns, lines.values(), strict=True))
        self.rare = tuple(name for name, key in zip(self.columns, lines, strict=True) if counts[key] < _RARE * records)

    def _records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        self.bad = BadRows()
        with _opened(self.path, self._encoding) as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    # Numbers stay text: no digit is lost or added.
                    record = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
                except (ValueError, RecursionError):
                    self.bad.add(f"line {number}", "not valid JSON", "Each line must be one JSON object.")
                    continue
                if not isinstance(record, dict):
                    self.bad.add(f"line {number}", "not a JSON object", 'Each line must be one object like {"column": "value"}.')
                    continue
                yield number, record

    def batches(self, size: int = BATCH) -> Iterator[list[Row]]:
        return _batched(self, self._rows(), size)

    def _rows(self) -> Iterator[Row]:
        for number, record in self._records():
            yield tuple(self._text(record, self._keys[name], number) for name in self.columns)

    def _text(self, record: dict[str, Any], key: str, line: int) -> str | None:
        value = record.get(key)
        if isinstance(value, str):
            # JSON can spell half a surrogate pair, which is no character and could not be stored.
            return _HALF_PAIR.sub("\ufffd", value)
        if value is None:
            return None
        if isinstance(value, bool):
            return "true" if value else "false"
        # By its position: the key's name may be data.
        raise DataError(
            f"{self.path}, line {line}, key {list(record).index(key) + 1}: a list or an object, not a single value.",
            "Name the columns to use in data.columns (init: --columns), or flatten the values of that key.",
        )
