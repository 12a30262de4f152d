"""Hints of personal data in the original's columns, by name and first rows, and how each column is treated.

Prefers false alarms to misses: an unneeded flag costs a glance, a missing one a person's
data. Hints are fixed phrases; no value goes into them.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from localsynth.schema.columns import Boolean, Category, Column, Derived, Identifier, Surrogate, Text
from localsynth_tui.text.formatting import plain

HintKind = Literal["direct", "unit", "indirect", "contains"]

_SURROGATES = {
    **{"name": "name", "email": "e-mail address", "phone": "telephone number", "address": "address"},
    **{"ip": "IP address", "ipv6": "IPv6 address"},
}
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
    "vin": "a vehicle number",
}
_KEY_WORDS = {"id", "uuid", "guid", "nbr", "nr", "no", "num", "number", "key", "account", "customer", "patient", "client"}
_INDIRECT_WORDS = {
    "a birth date": ("birth", "birthday", "birthdate", "dob", "born", "geburtsdatum"),
    "a postal code": ("zip", "zipcode", "postcode", "postal", "plz"),
    "a place": ("street", "city", "town", "latitude", "longitude"),
    "a religion": ("religion",),
    "an origin": ("ethnicity", "race", "nationality"),
    "an employer": ("employer",),
    "an income": ("salary", "income"),
}
_INDIRECT = {word: description for description, words in _INDIRECT_WORDS.items() for word in words}
_MIN_ROWS = 2
"""Rows whose texts must contain a kind of personal data before it is reported."""


@dataclass(frozen=True)
class PiiHint:
    """A sign of personal data in a column.

    `direct`: it identifies a person. `unit`: it may identify the privacy unit. `indirect`:
    it can help to identify a person. `contains`: its texts contain personal data.
    """

    kind: HintKind
    description: str


def find_pii_hints(columns: Sequence[Column], rows: Sequence[Sequence[str | None]]) -> dict[str, PiiHint]:
    """The hints of columns by name, from their inferred kinds and their first rows."""
    hints = {}
    for place, column in enumerate(columns):
        hint = _hint(column, [value for row in rows if (value := row[place])])
        if hint is not None:
            hints[column.name] = hint
    return hints


def _hint(column: Column, values: list[str]) -> PiiHint | None:
    if isinstance(column, Surrogate):
        return PiiHint("direct", _article(_SURROGATES[column.of]))
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column.name).lower())
    number = next((_NUMBERS[word] for word in words if word in _NUMBERS), None)
    if number is not None and not isinstance(column, Boolean):
        return PiiHint("direct", number)
    contained = _kinds_contained(values)
    if isinstance(column, Identifier):
        return PiiHint("direct", "a key")
    whole = {kind for kind in contained if kind not in ("telephone number", "name of a person")}
    if whole and not isinstance(column, Text):
        return PiiHint("direct", _article(sorted(whole)[0]))
    indirect = next((_INDIRECT[word] for word in words if word in _INDIRECT), None)
    if indirect is not None:
        return PiiHint("indirect", indirect)
    if isinstance(column, Text):
        return PiiHint("contains", _and([_plural(kind) for kind in contained])) if contained else None
    if words and words[-1] in _KEY_WORDS and len(set(values)) > len(values) // 2:
        return PiiHint("unit", "privacy unit")
    return None


def _kinds_contained(values: Sequence[str]) -> list[str]:
    from localsynth.evaluate.personal import KINDS, find_personal

    counts = Counter(kind for value in values for kind in {kind for kind, _ in find_personal(value)})
    return [kind.name for kind in KINDS if counts[kind.name] >= _MIN_ROWS]


def _plural(kind: str) -> str:
    if kind == "name of a person":
        return "names of persons"
    return f"{kind}{'es' if kind.endswith('s') else 's'}"


def _article(kind: str) -> str:
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _learned(column: Column) -> bool:
    return not isinstance(column, Identifier | Surrogate | Derived)


def flag(column: Column, hint: PiiHint | None, unit: str) -> str:
    """A few words for the table of columns where the user should check; "" otherwise. `unit`: the privacy unit."""
    if hint is None or not _to_check(column, hint, unit):
        return ""
    return {
        "direct": f"! looks like {hint.description}",
        "unit": f"! {hint.description}?",
        "indirect": f"! {hint.description}",
        "contains": f"! contains {hint.description}",
    }[hint.kind]


def _to_check(column: Column, hint: PiiHint, unit: str) -> bool:
    return column.name != unit if hint.kind == "unit" else _learned(column)


def treatment(column: Column, hint: PiiHint | None, unit: str, synthesizer: str, note: str = "", measured: str = "") -> str:
    """How a column is treated, and what to do where that is not wanted.

    `note`: the reason for its inferred kind. `measured`: how well its list or range can be measured, where that is too little.
    """
    warning = _warning(column, hint, unit)
    about = f"! It {plain(measured)}" if measured and column.unmeasured() else ""
    # Space is short: the reason for the kind matters less than a warning.
    parts = [warning, _treatment(column, unit, synthesizer), about, f"Inferred: {plain(note)}" if note and not warning else ""]
    return " ".join(part for part in parts if part)


def _warning(column: Column, hint: PiiHint | None, unit: str) -> str:
    if hint is None or not _to_check(column, hint, unit):
        return ""
    description = hint.description
    if hint.kind == "direct":
        return f"! Looks like {description}, and would be LEARNED: change its kind to surrogate or identifier, or exclude it (L)."
    if hint.kind == "unit":
        return "! May say whose rows these are: if so, choose it as the privacy unit (W)."
    if hint.kind == "indirect":
        return f"! {description[0].upper()}{description[1:]} can help to identify a person. If not needed, exclude it (L)."
    return (
        f"! The first texts contain {description}. The noise protects the privacy unit, not other people whom several rows "
        "mention: remove such strings from the file, or exclude the column (L)."
    )


def _treatment(column: Column, unit: str, synthesizer: str) -> str:
    if isinstance(column, Identifier):
        return f"Not learned: each synthetic {'unit' if column.name == unit else 'row'} gets a new number."
    if isinstance(column, Surrogate):
        return f"Not learned: each synthetic row gets a fake {_SURROGATES[column.of]}."
    if isinstance(column, Derived):
        return "Not learned: each synthetic row's value is calculated from its other columns."
    if isinstance(column, Text):
        condition = ", conditioned on the other columns" if synthesizer == "hybrid" else ""
        return f"Learned with noise, up to {column.max_tokens} tokens a value: the language model generates new texts{condition}."
    by = "as DP marginals" if synthesizer in ("hybrid", "marginals") else "by the language model"
    if isinstance(column, Boolean):
        return f"Learned with noise, {by}."
    is_list = isinstance(column, Category)
    measured = "its values are measured, and rare ones become 'other'" if is_list else "its range is measured"
    return f"Learned with noise, {by}; {measured if column.unmeasured() else _OUTSIDE[column.outside]}."


_OUTSIDE: Mapping[Any, str] = {
    "other": "values outside the list become one value",
    "clamp": "values outside the range become the nearest bound",
    "null": "values outside become empty",
    "drop": "rows with a value outside are dropped",
}
