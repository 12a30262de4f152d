"""Attribute inference: guess one value of a person from the synthetic table, knowing all others.

After Giomi et al. 2022, section 4.3: the guess is the value of the nearest synthetic row. What can be
guessed equally well of the holdout is knowledge about the population.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from localsynth.evaluate.arrays import Rows, codes, is_ordered, ordered, sample, span
from localsynth.evaluate.attacks.outcome import Attack, judge, rates_json
from localsynth.evaluate.distance import Distances
from localsynth.evaluate.stats import CONFIDENCE, Rate
from localsynth.schema.columns import Column, Record, Schema, Text

TOLERANCE = 0.05
"""A number is correct if it is off by at most this fraction of the schema's range."""

_MAX_TARGETS = 1_000
_MAX_CANDIDATES = 5_000


def _correct(column: Column, targets: Rows, guesses: Rows) -> NDArray[np.bool_]:
    """Whether each guess is correct, shape (targets,); null matches null."""
    if is_ordered(column):
        low, high = span(column)
        ours, theirs = ordered(column, targets), ordered(column, guesses)
        close = np.abs(ours - theirs) <= TOLERANCE * max(high - low, 1e-12)
        return np.asarray(close | (np.isnan(ours) & np.isnan(theirs)))
    first, second = codes(column, targets, guesses)
    return np.asarray(first == second)


def _most_common(column: Column, rows: Rows) -> Record:
    """The naive guess, as a row: the most frequent label, or the row with the median number."""
    if is_ordered(column):
        numbers = ordered(column, rows)
        if np.isnan(numbers).all():
            return rows[0]
        return rows[int(np.nanargmin(np.abs(numbers - np.nanmedian(numbers))))]
    (code,) = codes(column, rows)
    return rows[int(np.flatnonzero(code == Counter(code.tolist()).most_common(1)[0][0])[0])]


def attribute_inference(train: Rows, holdout: Rows, synthetic: Rows, schema: Schema, *, seed: int) -> Attack | None:
    """The attack on every column except texts, which are only used as known values.

    Reports the column whose risk exceeds its control most. Since it is the worst of several, all intervals are simultaneous
    at 95 % (Bonferroni). On at most 1,000 rows a side and 5,000 synthetic ones. None with a single
    column or without synthetic rows.
    """
    columns = schema.learned()
    secrets = [column for column in columns if not isinstance(column, Text)]
    if len(columns) < 2 or not secrets or not synthetic:
        return None
    members, others = sample(train, _MAX_TARGETS, seed), sample(holdout, _MAX_TARGETS, seed + 1)
    candidates = sample(synthetic, _MAX_CANDIDATES, seed + 2)
    targets = [*members, *others]
    nearest = Distances(columns, targets, candidates, seed=seed).nearest_without([column.name for column in secrets])
    confidence = 1 - (1 - CONFIDENCE) / len(secrets)
    tried: dict[str, tuple[Rate, Rate, Rate]] = {}
    for column in secrets:
        right = _correct(column, targets, [candidates[i] for i in nearest[column.name]])
        naive = _correct(column, members, [_most_common(column, candidates)] * len(members))
        tried[column.name] = (
            Rate(int(right[: len(members)].sum()), len(members), confidence),
            Rate(int(right[len(members) :].sum()), len(others), confidence),
            Rate(int(naive.sum()), len(members), confidence),
        )
    worst = max(tried, key=lambda name: tried[name][0].low - tried[name][1].high)
    return Attack(
        "attribute inference",
        f"Can somebody who knows the rest of a person's row guess {worst}?",
        *tried[worst],
        f"The worst of {len(secrets)} columns, {worst}: guessed from the nearest of {len(candidates):,} synthetic rows on the "
        f"other columns; numbers are correct within {100 * TOLERANCE:.0f} % of their range. Baseline: the most common value.",
        {
            "columns": [
                {"column": name, "status": judge(rates[0], rates[1]), **rates_json(*rates)} for name, rates in tried.items()
            ]
        },
    )
