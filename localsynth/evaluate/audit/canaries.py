"""The canaries: random units of the schema, each unlike all others, and how many of them an audit needs.

Knows nothing of models or of the original table.
"""

import random
import string
from collections.abc import Sequence

from localsynth.evaluate.audit.bound import CONFIDENCE, curve_p_value
from localsynth.schema.columns import Record, Schema, Text
from localsynth.schema.random_rows import random_rows

CANARIES = (200, 400, 800, 1600)
"""Numbers of canaries of an audit: the first that could refute its claim, by `enough_canaries`."""

_MARGIN = 0.5
"""Of the significance level: all-right guesses must be below it, so that some guesses may be wrong."""
_SURE = 0.6
"""Of the canaries expected in some batch: the fraction that is guessed to be in, the likeliest."""
_MAX_ROWS = 4
"""Rows of a canary unit, where units have several: enough to see them added up before clipping."""
_PREFIX_WORDS = 3
_ENDING = 10
_SHORT = 24
"""A text of fewer tokens has room for an ending alone."""


def guesses_of(canaries: int, sample_rate: float, steps: int) -> int:
    """How many canaries an audit guesses to be in; fixed by public figures before anything is trained.

    It never guesses "out": a canary that is in is in no batch at all with probability (1 - rate)^steps, and looks the same.
    """
    in_a_batch = 1 - (1 - sample_rate) ** steps
    return max(1, int(_SURE * canaries * in_a_batch / 2))


def enough_canaries(sample_rate: float, steps: int, curve: Sequence[tuple[float, float]]) -> int:
    """The smallest number in CANARIES whose guesses, if all are right, refute `curve` with a margin; else the largest."""
    for canaries in CANARIES:
        guesses = guesses_of(canaries, sample_rate, steps)
        if curve_p_value(canaries, guesses, guesses, curve) < _MARGIN * (1 - CONFIDENCE):
            return canaries
    return CANARIES[-1]


def has_room_for_endings(schema: Schema) -> bool:
    """Whether some text is long enough for a prefix and a whole ending."""
    return any(isinstance(column, Text) and column.max_tokens >= _SHORT for column in schema.learned())


def canary_units(schema: Schema, count: int, rows_per_unit: int, seed: int) -> tuple[list[list[Record]], list[str]]:
    """The rows of `count` canary units, and the improbable ending of each one's texts ("" where there is no text).

    Every text begins as an ordinary random one and ends in random letters and digits, as in Carlini et al. 2019, "The Secret
    Sharer", arXiv:1802.08232. The ending makes the canary unlike all others, and can be searched for. A unit has
    `rows_per_unit` rows, but at most 4. The same seed gives the same canaries; no bound or list of the schema may be open.
    """
    rng = random.Random(seed)
    rows = min(rows_per_unit, _MAX_ROWS)
    records = random_rows(schema, count * rows, "row", 1, seed)
    units, endings = [], []
    texts = [column for column in schema.learned() if isinstance(column, Text)]
    for _ in range(count):
        ending = "".join(rng.choices(string.ascii_lowercase + string.digits, k=_ENDING)) if texts else ""
        unit = []
        for _ in range(rows):
            record = next(records)
            for column in texts:
                prefix = str(record[column.name] or "").split()[:_PREFIX_WORDS] if column.max_tokens >= _SHORT else []
                record[column.name] = " ".join([*prefix, ending])
            unit.append({column.name: record[column.name] for column in schema.learned()})
        units.append(unit)
        endings.append(ending)
    return units, endings
