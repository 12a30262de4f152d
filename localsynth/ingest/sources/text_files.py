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
from pathlib import Path
from typing import IO, Any

from localsynth.errors import ConfigError, DataError
from localsynth.ingest.sources.base import BATCH, Row, Source
from localsynth.ingest.sources.header import check_header

__all__ = ["DelimitedSource", "JsonLinesSource"]

_MAX_VALUE_LENGTH = 16 * 2**20
_ROWS_BESIDE_HEADER = 2000
_MAX_KEYS = 1000
_ROWS_FOR_KEYS = 20_000
_RARE = 0.01
_GZIP, _ZSTANDARD, _ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
_DELIMITERS = ",;\t|"
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
            f"{path} is compressed with Zstandard, which is read for Parquet only.", f"Decompress it first: zstd -d {path}"
        )
    if magic == _ZIP:
        raise DataError(f"{path} is a zip archive or an office document, not text.", "Unpack it, or save the sheet as CSV.")
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


def _batched(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while batch := list(itertools.islice(rows, size)):
        yield batch


class DelimitedSource(Source):
    """A CSV or TSV file. Values are unchanged; an empty field is the empty string."""

    def __init__(self, path: Path, encoding: str, delimiter: str | None = None, header: bool | None = None) -> None:
        """Raises DataError where the first line cannot name the columns.

        `delimiter` None: the one of comma, semicolon, tab and bar that the first line uses most.
        `header` None: the first line names the columns and is refused if it looks like data; True: it does, whatever it looks
        like; False: it is a row like the others, and the columns are called column_1, column_2, ...
        """
        self._encoding = _checked_encoding(encoding)
        self._delimiter = delimiter or self._guess_delimiter(path)
        self._lines_before_rows = 0 if header is False else 1
        records = (row for _, row in self._records(path))
        first = next(records, [])
        if header is None:
            check_header(path, first, itertools.islice(records, _ROWS_BESIDE_HEADER))
        super().__init__(path, [""] * len(first) if header is False else first)

    def _guess_delimiter(self, path: Path) -> str:
        with _opened(path, self._encoding) as file:
            line = file.readline(_MAX_VALUE_LENGTH)
        outside_quotes = "".join(line.split('"')[::2])
        return max(_DELIMITERS, key=outside_quotes.count)

    def _records(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        """(number of its first line, fields) of every record that is not a blank line, the header included."""
        # An unclosed quote includes all that follows; the limit ends that with a message before memory runs out.
        csv.field_size_limit(_MAX_VALUE_LENGTH)
        with _opened(path, self._encoding) as file:
            reader = csv.reader(file, delimiter=self._delimiter, strict=True)
            while True:
                line = reader.line_num + 1
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    # The module's messages name characters of the format only, never a field.
                    raise DataError(f"{path}, line {line}: {error}.", "Check the quotes of the row that starts there.") from None
                if row:
                    yield line, row

    def batches(self, size: int = BATCH) -> Iterator[list[Row]]:
        return _batched(self._rows(), size)

    def _rows(self) -> Iterator[Row]:
        width = len(self.columns)
        for line, row in itertools.islice(self._records(self.path), self._lines_before_rows, None):
            if len(row) != width:
                raise DataError(
                    f"{self.path}, line {line}: {len(row)} fields where the first line has {width}.",
                    "Check that line for a missing or unquoted delimiter; if tabs separate the fields, set data.format to tsv.",
                )
            yield tuple(row)


class JsonLinesSource(Source):
    """One JSON object a line. The columns are all keys, in the order of their first appearance; an absent key is a null."""

    def __init__(self, path: Path, encoding: str) -> None:
        self._encoding = _checked_encoding(encoding)
        lines: dict[str, int] = {}
        counts: Counter[str] = Counter()
        records = 0
        for line, record in self._records(path):
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
        super().__init__(path, list(lines))
        self._keys = list(lines)
        self.first_lines = dict(zip(self.columns, lines.values(), strict=True))
        self.rare = tuple(name for name, key in zip(self.columns, lines, strict=True) if counts[key] < _RARE * records)

    def _records(self, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        with _opened(path, self._encoding) as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    # Numbers stay text: no digit is lost or added.
                    record = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
                except (ValueError, RecursionError):
                    raise DataError(f"{path}, line {number}: not valid JSON.", "Each line must be one JSON object.") from None
                if not isinstance(record, dict):
                    raise DataError(
                        f"{path}, line {number}: not a JSON object.", 'Each line must be one object like {"column": "value"}.'
                    )
                yield number, record

    def batches(self, size: int = BATCH) -> Iterator[list[Row]]:
        return _batched(self._rows(), size)

    def _rows(self) -> Iterator[Row]:
        for number, record in self._records(self.path):
            yield tuple(self._text(record, key, number) for key in self._keys)

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
            "Flatten the values of that key or leave it out of the file.",
        )
