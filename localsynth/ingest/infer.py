"""A first schema for `init`, inferred from the first rows and corrected by further ones, for the user to check.

Only kinds, decimals and formats are inferred. One row can decide them. Exact bounds or category lists would be a leak. They
stay open and are measured under differential privacy later, unless the user declares
them. The values decide, and the name of a column only supports: what identifies a person is not learned.
"""

import datetime as dt
import itertools
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable

from pydantic import ValidationError

from localsynth.errors import DataError
from localsynth.ingest.parse import UnreadableValueError, parse_value, parser_for
from localsynth.ingest.personal_columns import fake_kind, key_kind
from localsynth.ingest.prose import is_prose
from localsynth.ingest.sources.base import Row, Source
from localsynth.ingest.spellings import (
    MIN_SHARING,
    NumberSpelling,
    find_checked_format,
    find_duration_format,
    find_key_format,
    find_moment_format,
    find_number_format,
)
from localsynth.ingest.value_patterns import UUID
from localsynth.schema.columns import (
    Boolean,
    Category,
    Column,
    Date,
    DateTime,
    Formatted,
    Identifier,
    Integer,
    Number,
    Schema,
    Surrogate,
    Text,
    Time,
    Value,
)
from localsynth.schema.formats import MomentFormat

_ROWS = 20_000
_CELLS = 3_000_000
"""Values after the first rows that are only checked against the inferred kinds: some seconds at most."""
_MAX_CORRECTIONS = 1000
_MAX_NAMED = 10
REPEATED = "Several rows have the same value"
"""Begins what is said of a key that may be the privacy unit."""
_TEXT_TOKENS = 128
_RARE = 0.05
"""Of the rows: values of fewer are rare, and a column in which more have rare values may lose them."""
_MAX_DECIMALS = 6

_LEADING_ZERO = re.compile(r"[+-]?0[0-9]+")
_CODE = re.compile(r"(?=.*[0-9])(?!.*[a-z]{3})[\w./:-]+(?: [\w./:-]+){0,2}", re.ASCII)
_LONG_NUMBER = re.compile(r"[0-9]{8,19}")

_KEY_WORDS = {"id", "uuid", "guid", "key", "rowid"}
_UNIQUE_KEY_WORDS = {"index", "idx"}
"""A key only where each value is there once: a body mass index is none."""
_NUMBER_WORDS = {"number", "nbr", "nr", "no", "num", "nummer"}
"""A key at the end of a name (`customer_no`), a count at its beginning (`num_visits`)."""
_PERSONS = {
    *("customer", "client", "patient", "account", "user", "person", "member", "employee", "subject", "participant", "student"),
    *("kunden", "patienten", "konto", "paziente", "cliente"),
}
_OWNERS = _PERSONS | {"policy", "contract", "claim", "order", "invoice", "ticket", "case", "visit", "encounter"}
"""Owners of a key, where the name is one word (`customerid`)."""
_QUANTITIES = {"per", "total", "cost", "price", "amount", "count", "mean", "avg", "rate", "number", "num", "sum", "days"}
"""Beside an owner: the cost per visit."""
_KEY_IN_ONE_WORD = re.compile(f"({'|'.join(sorted(_OWNERS))})({'|'.join(sorted(_NUMBER_WORDS | {'id', 'key'}))})")
_CODE_WORDS = {"id", "code", "type", "class", "category", "zip", "zipcode", "postcode", "plz"}
_MISSING_MARKERS = {"?", "-", "--", ".", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "unknown", "missing"}
_BOOLEAN_PAIRS = (
    *(("true", "false"), ("t", "f"), ("yes", "no"), ("y", "n"), ("1", "0"), ("1.0", "0.0")),
    *(("ja", "nein"), ("j", "n"), ("oui", "non"), ("si", "no"), ("sí", "no"), ("sì", "no"), ("sim", "não")),
)


def infer_schema(
    source: Source, missing: list[str], progress: Callable[[int, int], None] | None = None
) -> tuple[Schema, list[str]]:
    """A schema (unconfirmed, without bounds) for `source`, and notes for the user on what was inferred and why.

    `missing`: the strings that mean "no value". The notes name columns and hold no values but common markers of
    missing ones. `progress(done, of)` is called after each column. Raises DataError where no column could be learned.
    """
    batches = source.batches(_ROWS)
    rows: list[Row] = next(batches, [])
    notes: list[str] = _rare_columns_note(source.rare)

    def guess(position: int, more: Iterable[str | None] = ()) -> tuple[Column, list[str]]:
        name = source.columns[position]
        found = _ColumnGuess(name, position, [*(row[position] for row in rows), *more], frozenset(missing))
        # As text, durations below a day could be times of day.
        column = (found.duration() if name in source.durations else None) or found.column()
        return column, [f"{name!r}: {note}" for note in found.notes]

    guesses = []
    for position in range(len(source.columns)):
        guesses.append(guess(position))
        if progress is not None:
            progress(position + 1, len(source.columns))
    for position, unreadable in _unreadable([column for column, _ in guesses], batches, missing).items():
        guesses[position] = guess(position, unreadable)
    source.refuse_bad_rows()
    columns = [_described(column, source) for column, _ in guesses]
    notes += [f"{name!r} in the file: {text}" for name, text in source.labels.items() if name in source.columns]
    # Some programs make labels of the values themselves.
    notes += [
        f"{column.name!r}: the descriptions of its values come from the file, and are published with the schema. Remove what is "
        "not public."
        for column in columns
        if isinstance(column, Category) and column.descriptions
    ]
    notes += itertools.chain.from_iterable(about for _, about in guesses)
    if all(isinstance(column, Identifier | Surrogate) for column in columns):
        raise DataError(
            f"{source.path}: every column looks like an identifier, so there is nothing to learn.", "Add a column with content."
        )
    return Schema(columns=columns), notes


def _described(column: Column, source: Source) -> Column:
    """The column with what its file says its values stand for: a category, whatever the codes look like."""
    told = source.descriptions.get(column.name)
    if not told or not isinstance(column, Category | Integer | Boolean):
        return column
    fields = {"name": column.name, "nullable": column.nullable, "missing": column.missing, "descriptions": told}
    try:
        return Category.model_validate(fields)
    except ValidationError:  # A label of several lines, or a long one.
        return column


def _unreadable(columns: list[Column], batches: Iterable[list[Row]], missing: list[str]) -> dict[int, set[str | None]]:
    """Values of further rows that are not of the inferred kinds, by the position of the column."""
    parsers: list[tuple[int, Callable[[str | None], Value]]] = [
        (position, parser_for(column, missing)) for position, column in enumerate(columns) if isinstance(column, Formatted)
    ]
    found: dict[int, set[str | None]] = {}
    cells = 0
    for batch in batches if parsers else ():
        for position, parse in parsers:
            for row in batch:
                try:
                    parse(row[position])
                except UnreadableValueError:
                    values = found.setdefault(position, set())
                    if len(values) < _MAX_CORRECTIONS:
                        values.add(row[position])
        cells += len(batch) * len(parsers)
        if cells > _CELLS:
            break
    return found


def _rare_columns_note(names: tuple[str, ...]) -> list[str]:
    if not names:
        return []
    listed = ", ".join(map(repr, names[:_MAX_NAMED])) + (f" and {len(names) - _MAX_NAMED} more" if names[_MAX_NAMED:] else "")
    return [
        f"fewer than 1 in 100 of the first {_ROWS:,} records have {listed}. Names of columns are published: if these reveal "
        "something about a person, name the columns to use in data.columns (init: --columns)."
    ]


class _ColumnGuess:
    """The kind of one column, by the first rule that fits."""

    def __init__(self, name: str, position: int, texts: list[str | None], missing: frozenset[str]) -> None:
        self.notes: list[str] = []
        self._name = name
        self._missing = missing
        self._unnamed_first = position == 0 and name == "column_1"
        stripped = [text.strip() for text in texts if text is not None]
        self._values = [text for text in stripped if text and text not in missing]
        self._complete = len(self._values) == len(texts)
        self._distinct = set(self._values)
        self._words = re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())

    def column(self) -> Column:
        if not self._values:
            self.notes.append(f"no values in the first {_ROWS} rows; taken as a category.")
            return Category(name=self._name, kind="category")
        markers = sorted(value for value in self._distinct if value.lower() in _MISSING_MARKERS)
        column = self._without(markers) or self._kind(markers)
        if isinstance(column, Category) and self._has_rare_values():
            self.notes.append("has rare values: those of few rows become 'other' (`plan` says of how many).")
        return column

    def _kind(self, markers: list[str]) -> Column:
        if markers:
            self.notes.append(f"holds {_listed(markers)}; if that means 'no value', add it to data.missing.")
        boolean = self._boolean()
        return boolean or self._dated() or self._personal() or self._key() or self._coded() or self._numeric() or self._worded()

    def _without(self, markers: list[str]) -> Column | None:
        """The column of numbers or dates that it is but for the markers; None where it is none, or is one with them."""
        others = [value for value in self._values if value not in markers]
        if not markers or not others or self._all(Number(name=self._name)):
            return None
        rest = _ColumnGuess(self._name, 1, [*others], self._missing)
        column = rest._kind([])
        if not isinstance(column, Integer | Number | Date | DateTime):
            return None
        self.notes = [f"{_listed(markers)} means 'no value' here: see missing.", *rest.notes]
        return column.model_copy(update={"missing": sorted(self._missing.union(markers))})

    def _all(self, column: Column) -> bool:
        try:
            for value in self._distinct:
                parse_value(column, value, self._missing)
        except UnreadableValueError:
            return False
        return True

    # --- not learned -------------------------------------------------------------------------------------------------

    def _personal(self) -> Column | None:
        person = fake_kind(self._words, self._distinct)
        if person is not None:
            what = "an IP address" if person in ("ip", "ipv6") else f"a person's {person}"
            self.notes.append(f"looks like {what}: not learned, replaced by fake ones.")
            return Surrogate(name=self._name, kind="surrogate", of=person)
        numbers = key_kind(self._words, self._distinct)
        if numbers is not None:
            return self._identifier(f"looks like {numbers}: not learned, replaced by new ones of the same form")
        return None

    def _identifier(self, note: str) -> Identifier:
        checked = find_checked_format(self._distinct)
        form = find_key_format(self._distinct)
        if self._repeated():
            note += f". {REPEATED}: if it says whose rows they are, set privacy.unit to {self._name!r}."
        else:
            note += ". If it identifies the unit, set privacy.unit to this column."
        self.notes.append(note)
        if checked is not None:
            return Identifier(name=self._name, kind="identifier", format=checked[0], check=checked[1])
        return Identifier(name=self._name, kind="identifier", format=None if form is None else form.form)

    def _repeated(self) -> bool:
        return len(self._values) >= 1.1 * len(self._distinct)

    def _key(self) -> Column | None:
        if not self._is_key():
            return None
        return self._identifier("looks like a key: not learned, replaced by new values of the same form")

    def _is_key(self) -> bool:
        if all(UUID.fullmatch(value) for value in self._distinct):
            return True
        if self._nearly_unique() and find_checked_format(self._distinct) is not None:
            return True
        distinct, rows = len(self._distinct), len(self._values)
        whole = self._all(Integer(name=self._name))
        unique = self._complete and distinct == rows and rows > 1
        if whole and unique and (self._unnamed_first or self._counts_up()):
            return True
        # A key is a whole number or a code. No value of it is in most rows.
        code = whole or all(_CODE.fullmatch(value) and len(value) <= 40 for value in self._distinct)
        if not code or not (whole or find_number_format(self._distinct) is None) or self._top_share() > 0.2:
            return False
        owner = bool(_PERSONS & set(self._words)) or any(_KEY_IN_ONE_WORD.fullmatch(word) for word in self._words)
        last = self._words[-1] if self._words else ""
        if unique and _UNIQUE_KEY_WORDS & set(self._words):
            return True
        if not (
            _KEY_WORDS & set(self._words) or (last in _NUMBER_WORDS and len(self._words) > 1) or _KEY_IN_ONE_WORD.fullmatch(last)
        ):
            # `account` alone: its number, if it is a code, or has as many digits everywhere.
            same_length = len({len(value) for value in self._distinct}) == 1 and all(len(value) >= 5 for value in self._distinct)
            if last not in _OWNERS or _QUANTITIES & set(self._words) or (whole and not same_length):
                return False
        # Not only unique ones: a patient's number is in each row of the patient, an account's in each of its transactions.
        several = distinct > 20 and owner
        return unique or several or (distinct > 20 and distinct > 0.5 * rows) or (distinct > 100 and distinct > 0.1 * rows)

    def _top_share(self) -> float:
        return Counter(self._values).most_common(1)[0][1] / len(self._values) if len(self._values) > 20 else 0.0

    def _has_rare_values(self) -> bool:
        rows = len(self._values)
        return sum(count for count in Counter(self._values).values() if count < _RARE * rows) > _RARE * rows

    def _counts_up(self) -> bool:
        """Whether the values are n, n+1, n+2, ... in the order of the rows, where some rows may have been left out."""
        numbers = [int(value) for value in self._values if re.fullmatch(r"[0-9]{1,18}", value)]
        if not 10 < len(numbers) == len(self._values):
            return False
        gaps = numbers[-1] - numbers[0] + 1 - len(numbers)
        rises = all(before < after for before, after in itertools.pairwise(numbers))
        return rises and (gaps == 0 or (len(numbers) > 100 and gaps < len(numbers)))

    def _nearly_unique(self) -> bool:
        return len(self._values) >= 20 and len(self._distinct) >= 0.9 * len(self._values)

    # --- learned -----------------------------------------------------------------------------------------------------

    def _boolean(self) -> Column | None:
        words = {value.lower() for value in self._distinct}
        pair = next((pair for pair in _BOOLEAN_PAIRS if words == set(pair)), None)
        if pair is None:
            return None
        # The most frequent spelling of each, where there are several.
        spelled = Counter(self._values)
        true, false = (max((v for v in spelled if v.lower() == word), key=lambda v: spelled[v]) for word in pair)
        return Boolean(name=self._name, kind="boolean", format=_unless(f"{true}/{false}", "true/false"))

    def _coded(self) -> Column | None:
        """Numbers that are codes: few of them, in a column called a code; or with leading zeros, which numbers lose."""
        if not self._all(Integer(name=self._name)):
            return None
        if any(_LEADING_ZERO.fullmatch(value) for value in self._distinct):
            if self._nearly_unique():
                return self._identifier("its numbers have leading zeros and are nearly all different: taken as a key")
            self.notes.append("its numbers have leading zeros, so they are taken as codes, not as quantities.")
            return Category(name=self._name, kind="category")
        long = all(_LONG_NUMBER.fullmatch(value) for value in self._distinct) and len(set(map(len, self._distinct))) == 1
        if self._repeats(100) and (_CODE_WORDS.intersection(self._words) or (long and len(self._values) >= 200)):
            self.notes.append("its few numbers are taken as codes; make it kind integer if they are quantities.")
            return Category(name=self._name, kind="category")
        return None

    def duration(self) -> Column | None:
        """The column as one of durations; None where its values are none."""
        found = find_duration_format(self._distinct)
        if found is None:
            return None
        hours, decimals = found
        return self._number(decimals, hours) if decimals else Integer(name=self._name, kind="integer", format=hours)

    def _numeric(self) -> Column | None:
        if (duration := self.duration()) is not None:
            return duration
        spelling = find_number_format(self._distinct)
        if spelling is None:
            if self._all(Integer(name=self._name)):
                return Integer(name=self._name, kind="integer")
            if not self._all(Number(name=self._name)):
                return None
            return self._number(max(_decimals(value) for value in self._distinct), None)
        if spelling.is_ambiguous:
            self.notes.append(
                'its comma is taken as a thousands sign; for a decimal comma set format = "1234,5" and kind number.'
            )
        limits = self._limits(spelling) if spelling.has_limits else {}
        if limits:
            text = ", ".join(f"{field} = {limit:g}" for field, limit in limits.items())
            self.notes.append(f"some values are only limits: kept by {text}, which the file says; check it.")
        elif spelling.has_limits:
            self.notes.append(
                "some values are limits, such as <5: taken as that number; declare the limit (below, above) to keep the sign."
            )
        form = _unless(spelling.format.text(whole=spelling.is_whole), "1234.5", "1234")
        if not spelling.is_whole:
            return self._number(spelling.decimals, form).model_copy(update=limits)
        column = Integer(name=self._name, kind="integer", format=form).model_copy(update=limits)
        return column if self._all(column) else None

    def _limits(self, spelling: NumberSpelling) -> dict[str, float]:
        """The limits (below, above) that many values share, and that no other value is beyond."""
        found: dict[str, float] = {}
        numbers = [float(number) for value in self._distinct if (number := spelling.format.read(value)) is not None]
        for field, sign, beyond in (("below", "<", operator.lt), ("above", ">", operator.gt)):
            counts = Counter(value for value in self._values if value.startswith(sign))
            read = spelling.format.read(next(iter(counts), sign)[1:])
            if read is None or len(counts) > 1 or counts.total() < MIN_SHARING:
                continue
            limit = float(read)
            if not any(beyond(number, limit) for number in numbers):
                found[field] = limit
        return found

    def _number(self, decimals: int, form: str | None) -> Column:
        if decimals > _MAX_DECIMALS:
            self.notes.append(f"has many digits after the point; rounded to {_MAX_DECIMALS}.")
        return Number(name=self._name, kind="number", decimals=min(decimals, _MAX_DECIMALS), format=form)

    def _dated(self) -> Column | None:
        spelling = find_moment_format(self._distinct)
        if spelling is None:
            if not self._all(DateTime(name=self._name)):
                return None
            if all(re.fullmatch(r".{10}([T ]00:00(:00(\.0*)?)?)?", value) for value in self._distinct):
                return Date(name=self._name, kind="date")
            self.notes.append("its dates and times are of several forms: written as YYYY-MM-DD HH:MM:SS, in UTC.")
            return DateTime(name=self._name, kind="datetime")
        if spelling.is_ambiguous:
            self.notes.append(f"day and month could be the other way round; read as {spelling.format.codes}: see format.")
        if spelling.has_fractions:
            if not spelling.format.has_date and find_duration_format(self._distinct):
                return None
            self.notes.append("fractions of a second are left out, and written as zeros.")
        form = spelling.format
        if not form.has_date:
            return Time(name=self._name, kind="time", format=_unless(form.codes, "%H:%M:%S"))
        if not form.has_time:
            return Date(name=self._name, kind="date", format=_unless(form.codes, "%Y-%m-%d"))
        if all((moment := form.read(value)) is not None and moment.time() == dt.time() for value in self._distinct):
            place = re.search("%-?[HI]", form.codes)
            assert place is not None
            midnight = MomentFormat(form.codes[place.start() :]).write(dt.date(1970, 1, 1))
            return Date(name=self._name, kind="date", format=form.codes[: place.start()] + midnight)
        return DateTime(name=self._name, kind="datetime", format=_unless(form.codes, "%Y-%m-%d %H:%M:%S"))

    def _worded(self) -> Column:
        """A text where values have words and vary; a key where they are short codes, nearly all different; else a category."""
        if self._nearly_unique() and all(_CODE.fullmatch(value) and len(value) <= 24 for value in self._distinct):
            return self._identifier(
                "short codes, nearly all different: taken as a key, not learned, replaced by new ones of the same form"
            )
        mean_length = sum(map(len, self._values)) / len(self._values)
        if not self._repeats(100 if mean_length > 12 else 1000) and is_prose(self._values):
            self.notes.append(
                f"free text; more than {_TEXT_TOKENS} tokens of a value are cut off (max_tokens). Texts train a language model, "
                "for hours on a laptop: leave the column out (data.columns), or make it a category, where that is too long."
            )
            return Text(name=self._name, kind="text", max_tokens=_TEXT_TOKENS)
        return Category(name=self._name, kind="category")

    def _repeats(self, max_distinct: int) -> bool:
        """Whether at most `max_distinct` values occur, each ten times on average."""
        return len(self._distinct) <= max_distinct and len(self._values) >= 10 * len(self._distinct)


def _listed(texts: list[str]) -> str:
    return ", ".join(map(repr, texts))


def _unless(form: str, *usual: str) -> str | None:
    """The format, where it is not the usual one."""
    return None if form in usual else form


def _decimals(text: str) -> int:
    """The number of digits after the point: 2 for "1.25", 3 for "5e-3"."""
    mantissa, _, exponent = text.lower().partition("e")
    written = len(mantissa.partition(".")[2].rstrip("0"))
    return max(0, written - int(exponent or 0))
