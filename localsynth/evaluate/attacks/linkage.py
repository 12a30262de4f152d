"""Linkage: an attacker who knows a person's quasi-identifiers looks for that person's row.

Quasi-identifiers (Sweeney 2000) are named by the user or recognised by their names.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from localsynth.evaluate.arrays import Rows, is_ordered, key_of, sample, span, to_float
from localsynth.evaluate.attacks.attributes import TOLERANCE
from localsynth.evaluate.attacks.outcome import Attack
from localsynth.evaluate.stats import Rate
from localsynth.schema.columns import Column, Record, Schema, Text

AGREEING = 0.75
"""Fraction of the other columns that must agree for a link to be correct."""

_MAX_TARGETS = 5_000
_QUASI_IDENTIFIERS = re.compile(
    r"birth|dob|\bage\b|^age|zip|postal|postcode|post_code|plz|\bsex\b|gender|geburt|geschlecht|naissance|sexe|race|ethnic|nationality",
    re.IGNORECASE,
)


def guess_quasi_identifiers(schema: Schema) -> list[str]:
    """The learned columns whose names suggest birth, age, postal code, sex or origin, in the schema's order."""
    named = ((column, column.name.replace("-", "_").replace("_", " ")) for column in schema.learned())
    return [column.name for column, name in named if not isinstance(column, Text) and _QUASI_IDENTIFIERS.search(name)]


def _agree(column: Column, first: Record, second: Record) -> bool:
    ours, theirs = first[column.name], second[column.name]
    if is_ordered(column) and ours is not None and theirs is not None:
        low, high = span(column)
        return abs(to_float(ours) - to_float(theirs)) <= TOLERANCE * max(high - low, 1e-12)
    return key_of(first, [column]) == key_of(second, [column])


def _is_correct(target: Record, row: Record, others: Sequence[Column]) -> bool:
    return sum(_agree(column, target, row) for column in others) >= AGREEING * len(others)


def _uniqueness(train: Rows, holdout: Rows, synthetic: Rows, known: Sequence[Column]) -> dict[str, Any]:
    """How many rows are unique in their quasi-identifiers, and how many of these combinations occur in the synthetic table."""
    present = {key_of(row, known) for row in synthetic}
    figures = {}
    for name, rows in (("original", train), ("holdout", holdout)):
        counts = Counter(key_of(row, known) for row in rows)
        alone = [key for key, count in counts.items() if count == 1]
        figures[name] = {
            "unique": Rate(len(alone), len(rows)).to_json(),
            "unique_and_in_synthetic": Rate(sum(key in present for key in alone), len(alone)).to_json(),
        }
    return figures


def linkage(
    train: Rows, holdout: Rows, synthetic: Rows, schema: Schema, quasi_identifiers: Sequence[str], *, seed: int
) -> Attack | None:
    """The attacker takes the only synthetic row with a person's quasi-identifiers for that person's.

    The link is correct if three quarters of the other columns agree. On at most 5,000 rows a side; None when no
    quasi-identifier is given or no column remains to be learned. The baseline takes any synthetic row instead, for the same
    rows that were linked. It passes only if enough links could be tried: that most rows are not unique says nothing
    about those that are.
    Raises KeyError for a name that the schema does not have.
    """
    known = [schema.column(name) for name in quasi_identifiers]
    others = [column for column in schema.learned() if column.name not in quasi_identifiers]
    if not known or not others:
        return None
    matches: dict[tuple[object, ...], list[int]] = {}
    for i, row in enumerate(synthetic):
        matches.setdefault(key_of(row, known), []).append(i)
    random = np.random.default_rng(seed)

    def attack(rows: Rows) -> tuple[int, int, int]:
        """The numbers of links that were tried, that were correct, and that were at random."""
        tried = correct = lucky = 0
        for target in rows:
            found = matches.get(key_of(target, known), [])
            if len(found) == 1:
                tried += 1
                correct += _is_correct(target, synthetic[found[0]], others)
                lucky += _is_correct(target, synthetic[int(random.integers(len(synthetic)))], others)
        return tried, correct, lucky

    members, strangers = sample(train, _MAX_TARGETS, seed), sample(holdout, _MAX_TARGETS, seed + 1)
    (tried, correct, lucky), (tried_strangers, correct_strangers, _) = attack(members), attack(strangers)
    among = Rate(correct, tried), Rate(correct_strangers, tried_strangers)
    names = ", ".join(quasi_identifiers)
    return Attack(
        "linkage",
        f"Can somebody who knows {names} of a person find that person's row and read the rest?",
        Rate(correct, len(members)),
        Rate(correct_strangers, len(strangers)),
        Rate(lucky, len(members)),
        f"A link is tried where exactly one of {len(synthetic):,} synthetic rows has the same {names}; it is correct if "
        f"at least {100 * AGREEING:.0f} % of the other {len(others)} columns agree (numbers: within "
        f"{100 * TOLERANCE:.0f} % of the range). Baseline: any synthetic row for the same targets.",
        {
            "quasi_identifiers": list(quasi_identifiers),
            "links_tried": {"original": tried, "holdout": tried_strangers},
            "right_of_tried": {"original": among[0].to_json(), "holdout": among[1].to_json()},
            "uniqueness": _uniqueness(train, holdout, synthetic, known),
        },
        among=among,
    )
