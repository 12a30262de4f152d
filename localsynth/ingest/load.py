"""From the source file to the private store: parse rows, number units, assign splits, limit the rows of a unit.

Splits are assigned by independent Bernoulli sampling with secret randomness: which units
are kept and which are held out. With a fixed count, one unit could displace another. Rows
are stored typed but not clamped, since bounds may only be measured afterwards.
"""

import datetime as dt
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localsynth.config import Config
from localsynth.errors import ConfigError, DataError
from localsynth.events import Emit, private_note
from localsynth.ingest.parse import UnreadableValueError, parser_for
from localsynth.ingest.sources.base import Row, Source
from localsynth.ingest.sources.open import open_source
from localsynth.privacy.noise import RandomSource
from localsynth.schema.columns import Column, Derived, Identifier, Number, Schema, Value
from localsynth.store.private import PrivateWriter
from localsynth.workspace.paths import Workspace

_BATCH = 1_000_000
"""Random numbers generated at once."""
_CELLS_AT_ONCE = 1 << 20
_CACHE_SIZE = 1 << 16
"""Different texts of a column whose values are kept in memory."""
_MAX_BAD_ROWS = 1000
"""After that many the others are not looked for: it is the kind of a column that is wrong."""
_UNREADABLE = "Correct the row, change the column's kind, or add the string to data.missing if it means 'no value'."
_SECONDS_BETWEEN_EVENTS = 0.5


@dataclass(frozen=True)
class LoadedTable:
    """The counts of the kept rows and units, train and holdout together. Private: only for the private store."""

    rows: int
    units: int


def _check_columns(schema: Schema, source: Source, unit: str) -> None:
    declared = [column.name for column in schema.columns]
    calculated = {column.name for column in schema.columns if isinstance(column, Derived)}
    absent = [name for name in declared if name not in source.columns and name not in calculated]
    extra = [name for name in source.columns if name not in declared]
    if absent:
        raise DataError(
            f"{source.path} lacks columns of the schema: {', '.join(map(repr, absent))}.",
            "Correct the schema in localsynth.toml, or name the right file.",
        )
    if extra:
        what = f"columns that the schema does not have: {', '.join(map(repr, extra))}"
        if source.first_lines is not None:
            # Names of such a source stand in its rows, and may be data: only those that the schema lists are public.
            line, keys = min(source.first_lines[name] for name in extra), "key" if len(extra) == 1 else "keys"
            what = f"{len(extra)} {keys} that the schema does not have, the first in line {line}"
        raise DataError(
            f"{source.path} has {what}.",
            "Add them to the schema in localsynth.toml (kind identifier: not learned), or name those to use in data.columns.",
        )
    if unit != "row" and unit not in source.columns:
        raise ConfigError(f"privacy.unit: there is no column {unit!r}.", 'Name a column of the schema, or "row".')


class _Known(dict[str | None, Any]):
    """Text of a column → the element of its value, or the UnreadableValueError. Columns repeat their values."""

    def __init__(self, parse: Callable[[str | None], Value], element: Callable[[Value], Any]) -> None:
        self._parse, self._element = parse, element
        self.may_be_unreadable = False

    def __missing__(self, text: str | None) -> Any:
        try:
            found = self._element(self._parse(text))
        except UnreadableValueError as error:
            found = error
            self.may_be_unreadable = True
        if len(self) < _CACHE_SIZE:
            self[text] = found
        return found


@dataclass(frozen=True)
class _Parsed:
    """Rows by their columns, as `PrivateWriter.add_columns` takes them."""

    rows: int
    columns: list[list[Any]]
    units: list[str | None] | None
    places: list[str | None] | None


class _Parser:
    """Rows of the source → the elements of the learned columns, and the text of each row's unit."""

    def __init__(self, config: Config, source: Source, elements: Sequence[Callable[[Value], Any]]) -> None:
        schema = config.schema_
        self._source = source
        self._absent = frozenset(config.data.missing)
        unit, order = config.privacy.unit, config.data.sequence_by
        self._unit = None if unit == "row" else self._reader(schema.column(unit))
        # Stored values of a learned column order rows; of an identifier none are stored.
        by_identifier = order is not None and isinstance(schema.column(order), Identifier)
        self._order = self._reader(schema.column(order)) if order is not None and by_identifier else None
        parsers = {column.name: parser_for(column, config.data.missing) for column in schema.learned()}
        self._known = [
            (source.columns.index(name), name, _Known(parse, element))
            for (name, parse), element in zip(parsers.items(), elements, strict=True)
        ]
        self._derived = [
            _Comparison(source, schema, column, parsers, self._absent)
            for column in schema.columns
            if isinstance(column, Derived) and column.name in source.columns
        ]
        self.rows = 0
        self.saw_row_without_unit = False

    @property
    def not_as_derived(self) -> dict[str, int]:
        """Column → the number of rows whose value is not its formula's."""
        return {comparison.name: comparison.different for comparison in self._derived}

    def _reader(self, column: Column) -> Callable[[Row], str | None]:
        """The function from a row to its text in `column`, or None where that means "no value" in this column."""
        index = self._source.columns.index(column.name)
        absent = {"", *(self._absent if column.missing is None else column.missing)}

        def read(row: Row) -> str | None:
            text = (row[index] or "").strip()
            return None if text in absent else text

        return read

    def __call__(self, batch: list[Row]) -> _Parsed:
        """A row with a value that is not of its column's kind is left out, and is among the bad rows of the source."""
        texts = list(zip(*batch, strict=True))
        columns = [[known[text] for text in texts[index]] for index, _, known in self._known]
        if bad := self._bad_rows(columns):
            batch = [row for place, row in enumerate(batch) if place not in bad]
            columns = [[element for place, element in enumerate(column) if place not in bad] for column in columns]
        self.rows += len(texts[0])
        for comparison in self._derived:
            comparison.compare(batch)
        units = None if self._unit is None else [self._unit(row) for row in batch]
        self.saw_row_without_unit |= units is not None and None in units
        places = None if self._order is None else [sort_key(text) if (text := self._order(row)) else None for row in batch]
        return _Parsed(len(batch), columns, units, places)

    def _bad_rows(self, columns: list[list[Any]]) -> set[int]:
        """The places of the rows that hold an error in place of an element. Reports each of them with its first."""
        found: dict[int, tuple[str, UnreadableValueError]] = {}
        for (_, name, known), elements in zip(self._known, columns, strict=True):
            if known.may_be_unreadable:
                for place, element in enumerate(elements):
                    if isinstance(element, UnreadableValueError):
                        found.setdefault(place, (name, element))
        for place, (name, error) in sorted(found.items()):
            self._source.bad.add(f"row {self.rows + place + 1}, column {name!r}", str(error), _UNREADABLE)
            if self._source.bad.count >= _MAX_BAD_ROWS:
                self._source.refuse_bad_rows()
        return set(found)


class _Comparison:
    """Counts the rows whose value of a derived column is not its formula's."""

    def __init__(
        self,
        source: Source,
        schema: Schema,
        column: Derived,
        parsers: Mapping[str, Callable[[str | None], Value]],
        missing: Collection[str],
    ) -> None:
        self.name, self.different = column.name, 0
        self._formula, self._decimals = schema.formula(column), column.decimals
        number = Number(name=column.name, kind="number", decimals=column.decimals, format=column.format, missing=column.missing)
        self._written = source.columns.index(column.name), parser_for(number, missing)
        self._needed = [(name, source.columns.index(name), parsers[name]) for name in sorted(self._formula.names)]

    def compare(self, rows: Sequence[Row]) -> None:
        """Compare further rows."""
        index, parse = self._written
        for row in rows:
            try:
                written = parse(row[index])
            except UnreadableValueError:
                written = None
            values = {name: parse_needed(row[place]) for name, place, parse_needed in self._needed}
            self.different += written != self._formula.value(values, self._decimals)


def sort_key(text: str) -> str:
    """A sort key that compares runs of digits as numbers: "visit 9" before "visit 10".

    Depends on one value alone, so that the order within one unit cannot depend on another.
    """
    return re.sub("[0-9]+", lambda run: f"{len(run[0].lstrip('0')):06d}{run[0].lstrip('0')}", text)


def _assign_splits(writer: PrivateWriter, units: int, random: RandomSource, keep: float, holdout: float) -> None:
    for first in range(0, units, _BATCH):
        count = min(_BATCH, units - first)
        writer.assign_splits(first, random.bernoulli(keep, count), random.bernoulli(holdout, count))


def _add_priorities(writer: PrivateWriter, random: RandomSource) -> None:
    # Two of a unit's rows practically never get the same of 2^62 numbers, so the lowest m are a uniform choice.
    for first in range(1, writer.rows + 1, _BATCH):
        writer.add_priorities(first, random.integers(2**62, min(_BATCH, writer.rows + 1 - first)))


def load_table(
    workspace: Workspace,
    config: Config,
    random: RandomSource,
    keep: Callable[[int], float],
    emit: Emit,
    ingest_id: str,
    source: Source | None = None,
) -> LoadedTable:
    """Fill the workspace's private store from `source` (None: the one in the configuration).

    `ingest_id` is random and written into the store, to tell its rows from those of any other load.

    `keep(units)` returns the probability that a unit is kept; it must charge for what it releases of the number of units.
    A kept unit is held out with probability `privacy.holdout`. At most `privacy.max_rows_per_unit` rows of a unit are kept,
    chosen at random. With `data.sequence_by` they are consecutive, from a random start, and rows without a value there are
    left out. Atomic: after an error or a kill the store is as before. The row counter in the progress events is marked
    private, as the size of the table is.

    Raises DataError, naming row and column, for a table that does not fit the schema; ConfigError; ResourceError.
    """
    source = source or open_source(config.data)
    privacy = config.privacy
    _check_columns(config.schema_, source, privacy.unit)
    last_event = 0.0
    with PrivateWriter(workspace, config.schema_, config.data.sequence_by) as writer:
        parser = _Parser(config, source, writer.elements)
        for batch in source.batches(max(1, _CELLS_AT_ONCE // len(source.columns))):
            parsed = parser(batch)
            writer.add_columns(parsed.rows, parsed.columns, parsed.units, parsed.places)
            if time.monotonic() - last_event >= _SECONDS_BETWEEN_EVENTS:
                last_event = time.monotonic()
                emit({"kind": "progress", "stage": "ingest", "unit": "rows", "private": {"rows": writer.rows}})
        source.refuse_bad_rows()
        if source.bad.count:
            emit(private_note(f"{source.bad.count:,} rows of the file cannot be read and were left out."))
        if parser.saw_row_without_unit:
            text = f"Some rows have no {privacy.unit!r}: each of them counts as a unit of its own."
            emit(private_note(text))
        for name, rows in parser.not_as_derived.items():
            if rows:
                emit(private_note(f"{name!r}: in {rows:,} of {parser.rows:,} rows its formula gives another value."))
        units = writer.number_units()
        keep_probability = keep(units)
        _assign_splits(writer, units, random, keep_probability, privacy.holdout)
        if privacy.unit != "row":
            _add_priorities(writer, random)
        rows, units = writer.finish(
            privacy.max_rows_per_unit,
            {
                "ingest": ingest_id,
                "source": str(source.path),
                "source_sha256": source.sha256(),
                "unit": privacy.unit,
                "sequence_by": config.data.sequence_by or "",
                "max_rows_per_unit": str(privacy.max_rows_per_unit),
                "holdout": str(privacy.holdout),
                "keep_probability": str(keep_probability),
                "ingested": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            },
        )
    if privacy.unit != "row" and rows < parser.rows:
        text = f"{rows:,} of {parser.rows:,} rows are used: at most {privacy.max_rows_per_unit} of each unit"
        emit(private_note(f"{text}, and as many units as the settings ask for." if keep_probability < 1 else f"{text}."))
    return LoadedTable(rows=rows, units=units)
