"""Personal strings in synthetic texts: how many there are, and how many of them occur in the original.

Only counts leave this module, never the strings. A match does not prove that a person is meant (random numbers can have valid
check digits, too), so every count comes with that of the holdout.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stdnum import iban, luhn

from localsynth.evaluate.arrays import Rows, sample, text_columns, texts
from localsynth.schema.columns import Schema


@dataclass(frozen=True)
class Kind:
    """A kind of personal string."""

    name: str
    pattern: re.Pattern[str]
    holds: Callable[[str], bool] = bool
    """Whether a match is one; by default each is."""


def _is_phone(text: str) -> bool:
    return 8 <= sum(character.isdigit() for character in text) <= 15


KINDS = (
    Kind("e-mail address", re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}")),
    Kind("IBAN", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"), iban.is_valid),
    Kind(
        "card number",
        re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])"),
        lambda text: bool(luhn.is_valid(re.sub(r"[ -]", "", text))),
    ),
    Kind(
        "national identity number",
        # US social security (123-45-6789), UK national insurance (AB 12 34 56 C), French NIR (2 84 05 88 ...).
        re.compile(
            r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])|\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b"
            r"|\b[12] ?\d{2} ?(?:0[1-9]|1[0-2]) ?\d[\dAB] ?\d{3} ?\d{3}(?: ?\d{2})?\b"
        ),
    ),
    Kind(
        "telephone number",
        re.compile(r"(?<![\w.-])(?<!\d )(?!\d{4}-\d\d-\d\d)(?:\+|00)?\(?\d(?:[ ()/.-]{0,2}\d){7,14}(?![\w-])(?! ?\d)"),
        _is_phone,
    ),
    Kind(
        "name of a person",
        re.compile(
            r"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof|Herr|Frau|Mme|M)\.? [A-Z][\w'-]+(?: [A-Z][\w'-]+)?"
            r"|(?<=[a-z,;] )(?<!The )[A-Z][a-zà-ÿ'-]+ [A-Z][a-zà-ÿ'-]+\b"
        ),
    ),
)
"""In order of precedence: a string matched by one kind is hidden from the next (a card number is no telephone number)."""


def find_personal(text: str) -> list[tuple[str, str]]:
    """(kind, string) for every personal string in `text`, without case, spaces and dashes."""
    found = []
    for kind in KINDS:
        for match in kind.pattern.finditer(text):
            if kind.holds(match.group()):
                found.append((kind.name, re.sub(r"[\s()/.-]", "", match.group()).casefold()))
                # Blanked out at the same length, so that the next kind does not match it.
                text = f"{text[: match.start()]}{' ' * len(match.group())}{text[match.end() :]}"
    return found


def gather_personal(records: Rows, schema: Schema) -> dict[str, set[str]]:
    """The distinct personal strings in the texts, by kind."""
    gathered: dict[str, set[str]] = {kind.name: set() for kind in KINDS}
    for column in text_columns(schema):
        for text in texts(column, records):
            for kind, string in find_personal(text):
                gathered[kind].add(string)
    return gathered


def count_personal(train: Rows, holdout: Rows, synthetic: Rows, schema: Schema, *, seed: int) -> dict[str, Any] | None:
    """Per kind, the number of distinct strings in the synthetic texts, and how many of them occur in original and holdout.

    `in_original_same_rows` counts a random part of the original of the holdout's size, for a fair comparison. None without
    a text column.
    """
    if not text_columns(schema):
        return None
    made, original, others = (gather_personal(rows, schema) for rows in (synthetic, train, holdout))
    part = gather_personal(sample(train, len(holdout), seed), schema)
    return {
        "rows": {"original": len(train), "holdout": len(holdout), "synthetic": len(synthetic)},
        "kinds": [
            {
                "kind": kind.name,
                "synthetic": len(made[kind.name]),
                "in_original": len(made[kind.name] & original[kind.name]),
                "in_original_same_rows": len(made[kind.name] & part[kind.name]),
                "in_holdout": len(made[kind.name] & others[kind.name]),
            }
            for kind in KINDS
        ],
    }
