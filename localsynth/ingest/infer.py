"""A first schema for `init`, inferred from the first rows, for the user to check.

Only kinds and decimals are inferred. Exact bounds or category lists would be a leak. They
stay open and are measured under differential privacy later, unless the user declares
them. A direct identifier is recognised by the name of its column or the pattern of its
values, and is not learned.
"""

import itertools
import re
from typing import Literal, TypeAlias

from localsynth.errors import DataError
from localsynth.ingest.parse import FALSE_WORDS, TRUE_WORDS, UnreadableValueError, parse_value
from localsynth.ingest.sources.base import Row, Source
from localsynth.ingest.value_patterns import DATE, EMAIL, PHONE, UUID
from localsynth.schema.columns import (
    Boolean,
    Category,
    Column,
    Date,
    DateTime,
    Identifier,
    Integer,
    Number,
    Schema,
    Surrogate,
    Text,
)

__all__ = ["infer_schema"]

Person: TypeAlias = Literal["name", "email", "phone", "address"]

_ROWS = 20_000
_MAX_NAMED = 10
_TEXT_TOKENS = 128
_MAX_DECIMALS = 6
_MIN_MATCHING = 0.9

_LEADING_ZERO = re.compile(r"[+-]?0[0-9]+")

_KEY_WORDS = {"id", "uuid", "guid", "key", "index", "idx", "rowid"}
_NUMBER_WORDS = {"number", "nbr", "nr", "no", "num", "nummer"}
"""A key at the end of a name (`customer_no`), a count at its beginning (`num_visits`)."""
_OWNERS = {
    "customer",
    "client",
    "patient",
    "account",
    "user",
    "person",
    "member",
    "employee",
    "policy",
    "contract",
    "claim",
    "order",
    "invoice",
    "ticket",
    "case",
    "visit",
    "encounter",
    "kunden",
    "patienten",
    "konto",
}
"""Owners of a key, where the name is one word (`customerid`)."""
_KEY_IN_ONE_WORD = re.compile(f"({'|'.join(sorted(_OWNERS))})({'|'.join(sorted(_NUMBER_WORDS | {'id', 'key'}))})")
_CODE_WORDS = {"id", "code", "type", "class", "category", "zip", "zipcode", "postcode", "plz"}
_PERSON_NAMES = {
    "name",
    "fullname",
    "firstname",
    "lastname",
    "middlename",
    "forename",
    "givenname",
    "familyname",
    "surname",
    "personname",
    "patientname",
    "customername",
    "clientname",
    "employeename",
    "username",
    "vorname",
    "nachname",
}
_ADDRESSES = {
    "address",
    "street",
    "streetaddress",
    "homeaddress",
    "postaladdress",
    "mailingaddress",
    "addressline1",
    "addressline2",
}
_PHONES = {"phone", "telephone", "mobile", "cellphone", "fax", "phonenumber", "mobilenumber", "telephonenumber", "homephone"}
_EMAILS = {"email", "emailaddress", "mail", "mailaddress"}
_MISSING_MARKERS = {"?", "-", "--", ".", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "unknown", "missing"}
_BOOLEAN_PAIRS = ({"true", "false"}, {"t", "f"}, {"yes", "no"}, {"y", "n"}, {"1", "0"}, {"1.0", "0.0"})


def infer_schema(source: Source, missing: list[str]) -> tuple[Schema, list[str]]:
    """A schema (unconfirmed, without bounds) for `source`, and notes for the user on what was inferred and why.

    `missing`: the strings that mean "no value". The notes name columns and hold no values but common markers of
    missing ones. Raises DataError where no column could be learned.
    """
    rows: list[Row] = list(itertools.chain.from_iterable(itertools.islice(source.batches(_ROWS), 1)))
    columns: list[Column] = []
    notes: list[str] = _rare_columns_note(source.rare)
    for position, name in enumerate(source.columns):
        guess = _ColumnGuess(name, position, [row[position] for row in rows], frozenset(missing))
        columns.append(guess.column())
        notes.extend(f"{name!r}: {note}" for note in guess.notes)
    if all(isinstance(column, Identifier | Surrogate) for column in columns):
        raise DataError(
            f"{source.path}: every column looks like an identifier, so there is nothing to learn.", "Add a column with content."
        )
    return Schema(columns=columns), notes


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
        self._words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())

    def column(self) -> Column:
        if not self._values:
            self.notes.append(f"no values in the first {_ROWS} rows; taken as a category.")
            return Category(name=self._name, kind="category")
        self._note_missing_markers()
        person = self._person()
        if person is not None:
            self.notes.append(f"looks like a person's {person}: not learned, replaced by fake ones.")
            return Surrogate(name=self._name, kind="surrogate", of=person)
        if self._is_key():
            self.notes.append(
                "looks like a key: not learned, replaced by 1, 2, ... If it identifies the unit, set privacy.unit to this column."
            )
            return Identifier(name=self._name, kind="identifier")
        return self._boolean() or self._coded() or self._numeric() or self._dated() or self._category_or_text()

    def _note_missing_markers(self) -> None:
        markers = sorted(value for value in self._distinct if value.lower() in _MISSING_MARKERS)
        if markers:
            self.notes.append(f"holds {', '.join(map(repr, markers))}; if that means 'no value', add it to data.missing.")

    def _share(self, pattern: re.Pattern[str]) -> float:
        return sum(pattern.fullmatch(value) is not None for value in self._distinct) / len(self._distinct)

    def _all(self, column: Column) -> bool:
        try:
            for value in self._distinct:
                parse_value(column, value, self._missing)
        except UnreadableValueError:
            return False
        return True

    # --- not learned -------------------------------------------------------------------------------------------------

    def _person(self) -> Person | None:
        name = "".join(self._words)
        has_letters = any(character.isalpha() for value in itertools.islice(self._distinct, 100) for character in value)
        rules: list[tuple[Person, bool]] = [
            ("email", self._share(EMAIL) >= _MIN_MATCHING or (name in _EMAILS and has_letters)),
            ("phone", self._share(PHONE) >= _MIN_MATCHING or (name in _PHONES and len(self._distinct) > 2)),
            ("name", name in _PERSON_NAMES and has_letters),
            ("address", name in _ADDRESSES and has_letters),
        ]
        return next((kind for kind, fits in rules if fits), None)

    def _is_key(self) -> bool:
        if self._share(UUID) == 1:
            return True
        whole = self._all(Integer(name=self._name))
        unique = self._complete and len(self._distinct) == len(self._values) and len(self._values) > 1
        if whole and unique and (self._unnamed_first or self._counts_up()):
            return True
        if not self._named_like_a_key():
            return False
        compact = whole or all(len(value) <= 40 and " " not in value for value in self._distinct)
        # Not only unique ones: a patient's number is in each row of the patient, an account's in each of its transactions.
        distinct, rows = len(self._distinct), len(self._values)
        return compact and (unique or (distinct > 20 and distinct > 0.5 * rows) or (distinct > 100 and distinct > 0.1 * rows))

    def _named_like_a_key(self) -> bool:
        last = self._words[-1] if self._words else ""
        if _KEY_WORDS.intersection(self._words) or last in _NUMBER_WORDS or _KEY_IN_ONE_WORD.fullmatch(last):
            return True
        # `account` alone: its number, if the values have digits.
        return last in _OWNERS and all(any(map(str.isdigit, value)) for value in self._distinct)

    def _counts_up(self) -> bool:
        """Whether the values are n, n+1, n+2, ... in the order of the rows."""
        numbers = [int(value) for value in self._values if re.fullmatch(r"[0-9]{1,18}", value)]
        return len(numbers) > 10 and numbers == list(range(numbers[0], numbers[0] + len(self._values)))

    # --- learned -----------------------------------------------------------------------------------------------------

    def _boolean(self) -> Column | None:
        words = {value.lower() for value in self._distinct}
        if words in _BOOLEAN_PAIRS and words <= TRUE_WORDS | FALSE_WORDS:
            return Boolean(name=self._name, kind="boolean")
        return None

    def _coded(self) -> Column | None:
        """Numbers that are codes: few of them, in a column called a code; or with leading zeros, which numbers lose."""
        if not self._all(Integer(name=self._name)):
            return None
        if any(_LEADING_ZERO.fullmatch(value) for value in self._distinct):
            self.notes.append("its numbers have leading zeros, so they are taken as codes, not as quantities.")
            return self._category_or_text()
        if _CODE_WORDS.intersection(self._words) and self._repeats(100):
            self.notes.append("its few numbers are taken as codes; make it kind integer if they are quantities.")
            return Category(name=self._name, kind="category")
        return None

    def _numeric(self) -> Column | None:
        if self._all(Integer(name=self._name)):
            return Integer(name=self._name, kind="integer")
        if not self._all(Number(name=self._name)):
            return None
        decimals = max(_decimals(value) for value in self._distinct)
        if decimals > _MAX_DECIMALS:
            self.notes.append(f"has many digits after the point; rounded to {_MAX_DECIMALS}.")
        return Number(name=self._name, kind="number", decimals=min(decimals, _MAX_DECIMALS))

    def _dated(self) -> Column | None:
        if self._all(DateTime(name=self._name)):
            midnight = all(re.fullmatch(r".{10}([T ]00:00(:00(\.0*)?)?)?", value) for value in self._distinct)
            if midnight:
                return Date(name=self._name, kind="date")
            return DateTime(name=self._name, kind="datetime")
        if self._share(DATE) >= _MIN_MATCHING:
            self.notes.append("looks like dates, but not as YYYY-MM-DD; rewrite them to have them learned as dates.")
        return None

    def _category_or_text(self) -> Column:
        mean_length = sum(map(len, self._values)) / len(self._values)
        # Longer lists are fine for short codes (a diagnosis); rare ones become `other` when the list is measured.
        if (mean_length <= 60 and self._repeats(100)) or (mean_length <= 12 and self._repeats(1000)):
            return Category(name=self._name, kind="category")
        self.notes.append(f"free text; more than {_TEXT_TOKENS} tokens of a value are cut off (max_tokens).")
        return Text(name=self._name, kind="text", max_tokens=_TEXT_TOKENS)

    def _repeats(self, max_distinct: int) -> bool:
        """Whether at most `max_distinct` values occur, each ten times on average."""
        return len(self._distinct) <= max_distinct and len(self._values) >= 10 * len(self._distinct)


def _decimals(text: str) -> int:
    """The number of digits after the point: 2 for "1.25", 3 for "5e-3"."""
    mantissa, _, exponent = text.lower().partition("e")
    written = len(mantissa.partition(".")[2].rstrip("0"))
    return max(0, written - int(exponent or 0))
