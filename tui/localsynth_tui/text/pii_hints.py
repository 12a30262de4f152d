"""What each column of the original looks like, by its name and its first rows, and what becomes of it, in words.

Careful rather than exact: a flag that is not needed costs a glance, one that is missing costs a person's data. What is found is
said in words of our own; no value goes into it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from localsynth.schema.columns import Boolean, Category, Column, Identifier, Surrogate, Text
from localsynth_tui.text.formatting import plain

__all__ = ["Look", "fate", "flag", "look_at_columns"]

Sort = Literal["direct", "whose", "tells", "inside"]

_OF_PERSONS = {"name": "a person's name", "email": "an e-mail address", "phone": "a telephone number", "address": "an address"}
_NUMBERS = {
    "iban": "a bank account",
    "ssn": "a national identity number",
    "passport": "a passport number",
    "insurance": "an insurance number",
    "taxid": "a tax number",
    "licence": "a licence number",
    "license": "a licence number",
    "plate": "a number plate",
    "ip": "an internet address",
    "vin": "a vehicle's number",
}
_KEY_WORDS = {"id", "uuid", "guid", "nbr", "nr", "no", "num", "number", "key", "account", "customer", "patient", "client"}
_TELLING = {
    "birth": "a birth date",
    "birthday": "a birth date",
    "birthdate": "a birth date",
    "dob": "a birth date",
    "born": "a birth date",
    "geburtsdatum": "a birth date",
    "zip": "a postal code",
    "zipcode": "a postal code",
    "postcode": "a postal code",
    "postal": "a postal code",
    "plz": "a postal code",
    "street": "a place",
    "city": "a place",
    "town": "a place",
    "latitude": "a place",
    "longitude": "a place",
    "religion": "a religion",
    "ethnicity": "an origin",
    "race": "an origin",
    "nationality": "an origin",
    "employer": "an employer",
    "salary": "an income",
    "income": "an income",
}
_FEWEST = 2
"""Rows in which a text holds something personal before that is said."""


@dataclass(frozen=True)
class Look:
    """`direct`: it names a person. `whose`: it may say whose row it is. `tells`: it helps to recognise one. `inside`: its texts
    hold such things. `what`: in words."""

    sort: Sort
    what: str


def look_at_columns(guess: Sequence[Column], rows: Sequence[Sequence[str | None]]) -> dict[str, Look]:
    """What stands out in the first rows of the columns that were guessed to be so."""
    found = {}
    for place, column in enumerate(guess):
        look = _look(column, [value for row in rows if (value := row[place])])
        if look is not None:
            found[column.name] = look
    return found


def _look(column: Column, values: list[str]) -> Look | None:
    if isinstance(column, Surrogate):
        return Look("direct", _OF_PERSONS[column.of])
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column.name).lower())
    named = next((_NUMBERS[word] for word in words if word in _NUMBERS), None)
    if named is not None and not isinstance(column, Boolean):
        return Look("direct", named)
    inside = _kinds_inside(values)
    if isinstance(column, Identifier):
        return Look("direct", "a key")
    whole = {kind for kind in inside if kind not in ("telephone number", "name of a person")}
    if whole and not isinstance(column, Text):
        return Look("direct", f"{_article(sorted(whole)[0])}")
    told = next((_TELLING[word] for word in words if word in _TELLING), None)
    if told is not None:
        return Look("tells", told)
    if isinstance(column, Text):
        return Look("inside", _and([_plural(kind) for kind in inside])) if inside else None
    if words and words[-1] in _KEY_WORDS and len(set(values)) > len(values) // 2:
        return Look("whose", "whose row it is")
    return None


def _kinds_inside(values: Sequence[str]) -> list[str]:
    from localsynth.evaluate.personal import KINDS, find_personal

    counts: dict[str, int] = {}
    for value in values:
        for kind in {kind for kind, _ in find_personal(value)}:
            counts[kind] = counts.get(kind, 0) + 1
    return [kind.name for kind in KINDS if counts.get(kind.name, 0) >= _FEWEST]


def _plural(kind: str) -> str:
    if kind == "name of a person":
        return "names of persons"
    return f"{kind}{'es' if kind.endswith('s') else 's'}"


def _article(kind: str) -> str:
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _learned(column: Column) -> bool:
    return not isinstance(column, Identifier | Surrogate)


def flag(column: Column, look: Look | None) -> str:
    """A few words for the table of columns, where a person should look twice; "" else."""
    if look is None or not _learned(column):
        return ""
    return {
        "direct": f"! looks like {look.what}",
        "whose": f"! {look.what}?",
        "tells": f"! {look.what}",
        "inside": f"! holds {look.what}",
    }[look.sort]


def fate(column: Column, look: Look | None, unit: str, synthesizer: str, note: str = "") -> str:
    """What will happen to a column, and what to do where that may not be wanted. `note`: why it was guessed to be what it is."""
    warning = _warning(column, look, unit)
    # Lines are few: why it was guessed matters less than what to look at.
    parts = [warning, _becomes(column, unit, synthesizer), f"Guessed: {plain(note)}" if note and not warning else ""]
    return " ".join(part for part in parts if part)


def _warning(column: Column, look: Look | None, unit: str) -> str:
    if look is None or not _learned(column):
        return ""
    if look.sort == "direct":
        return f"! Looks like {look.what}, and would be LEARNED: make it kind surrogate or identifier, or leave it out (L)."
    if look.sort == "whose":
        return "" if column.name == unit else "! May say whose row it is: then choose it under Who is protected (W)."
    if look.sort == "tells":
        return f"! {look.what[0].upper()}{look.what[1:]} helps to recognise a person. If nobody needs it, leave it out (L)."
    return (
        f"! Its first texts hold {look.what}. The noise hides whoever is protected, not third persons whom several rows name: "
        "take such strings out of the file, or leave the column out (L)."
    )


def _becomes(column: Column, unit: str, synthesizer: str) -> str:
    if isinstance(column, Identifier):
        return "Not learned: each synthetic " + ("unit gets a new one" if column.name == unit else "row is numbered anew") + "."
    if isinstance(column, Surrogate):
        return f"Not learned: {_OF_PERSONS[column.of]} is invented for each synthetic row."
    if isinstance(column, Text):
        beside = " to go with the other columns" if synthesizer == "hybrid" else ""
        return f"Learned with noise, up to {column.max_tokens} tokens of each: the language model writes new texts{beside}."
    by = "by noisy counts" if synthesizer in ("hybrid", "marginals") else "by the language model"
    if isinstance(column, Category):
        how = (
            "which values there are is measured, and rare ones become 'other'"
            if column.unmeasured()
            else _OUTSIDE[column.outside]
        )
    elif isinstance(column, Boolean):
        how = ""
    else:
        how = "its range is measured" if column.unmeasured() else _OUTSIDE[column.outside]
    return f"Learned with noise, {by}" + (f"; {how}." if how else ".")


_OUTSIDE: Mapping[Any, str] = {
    "other": "values that are not in the list become one",
    "clamp": "values beyond the range become its bounds",
    "null": "values beyond are left empty",
    "drop": "rows with a value beyond are left out",
}
