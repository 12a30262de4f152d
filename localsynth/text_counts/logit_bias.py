"""Which tokens a model is to write more often, and which more seldom, by the noisy count of those of the original texts.

A model trained under strong noise writes of the right things in other words. What it writes is counted as the original was, and a
token whose noisy count differs by more than chance gets a bias: the logarithm of the ratio, added to its logit in rows of that
group, where it is positive until the text has the token. Once more with what it writes then, since a bias moves others, too.
Reads what was released with noise and what the model wrote, and nothing else, so it costs no privacy.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from localsynth.errors import IntegrityError
from localsynth.marginals.accounting import Spend
from localsynth.schema.columns import Record
from localsynth.text_counts.grouping_columns import GroupingColumn
from localsynth.text_counts.token_counts import Row, TokenCounts, each_table

__all__ = ["ROUNDS", "LogitBias", "first_bias", "refined_bias", "texts_for"]

ROUNDS = 2
"""How often texts are written to compare the original's with."""
_MAX_TEXTS, _MIN_TEXTS = 1_000, 100

_FALSE_SHARE = 0.1
"""Of what is taken to stand out: how much may be chance."""
_STRATA = (1e-9, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Tokens that are written about equally often are looked at together: of rare ones, which are many, more stand out by chance."""
_FARTHEST = 4.0
"""Standard deviations: what lies farther counts as this far where a stratum's spread is measured."""
_PRIOR = 0.3
"""Of the noise's deviation, added to both counts of a ratio."""
_MAX_TOKENS = 5_000
"""With a bias; a table of text messages has some thousand."""
_MIN_BIAS, _MAX_BIAS_A_ROUND, _MAX_BIAS = 0.1, 3.0, 3.5


def texts_for(units: int) -> int:
    """How many texts are written each time, for a table of so many units (a public or noisy figure)."""
    return max(_MIN_TEXTS, min(_MAX_TEXTS, units // 4))


class LogitBias:
    """What is added to the logits of a row's texts. Made once for a sampling job."""

    def __init__(self, count: TokenCounts) -> None:
        self.tokens = count.tokens
        """(kept,): the tokens that have a bias."""
        self._columns, self._biases = count.grouping_columns, count.biases

    def of(self, row: Record) -> NDArray[np.float32]:
        """(kept,): the mean over columns of what a row's value of each says."""
        if not self._columns:
            return np.array(self._biases[0][0], dtype=np.float32)
        mean = np.mean([table[column.of(row)] for column, table in zip(self._columns, self._biases, strict=True)], axis=0)
        return np.asarray(mean, dtype=np.float32)


def first_bias(
    grouping_columns: Sequence[GroupingColumn],
    noisy: Sequence[NDArray[np.float64]],
    written: Sequence[Sequence[Row]],
    end: int,
    deviation: float,
    rho: float,
    spends: list[Spend],
    noise: str,
) -> TokenCounts:
    """From the noisy tables of `count_tokens` and, for each, rows that the model wrote, its groups in any proportion.

    `end` is the token that ends every text: how often it was counted says how many rows a table's group has.
    """
    targets, biases = [], []
    for column, table, rows in zip(each_table(grouping_columns), noisy, written, strict=True):
        expected, error = _expected(table[:, end], column, rows, np.arange(table.shape[1]), end)
        likely = np.maximum(expected + _believed(table - expected, np.hypot(deviation, error), expected), 0.0)
        likely[:, end] = np.maximum(table[:, end], 0.0)
        bias = _logs(likely, expected, deviation)
        bias[np.abs(bias) < _MIN_BIAS] = 0.0
        bias[:, end] = 0.0
        targets.append(likely)
        biases.append(bias)
    largest = np.abs(np.vstack(biases)).max(axis=0)
    most = np.argsort(-largest, kind="stable")[:_MAX_TOKENS]
    kept = np.union1d(most[largest[most] > 0], end)
    targets, biases = ([table[:, kept] for table in tables] for tables in (targets, biases))
    return TokenCounts(kept, list(grouping_columns), targets, biases, False, deviation, rho, spends, noise)


def refined_bias(count: TokenCounts, written: Sequence[Sequence[Row]], end: int) -> TokenCounts:
    """The biases corrected by rows that the model wrote with them. Raises IntegrityError where `end` was not counted."""
    if end not in count.tokens:
        raise IntegrityError("The token counts lack the token that ends texts.", "Restore it from a backup, or train again.")
    ended, biases = int(np.searchsorted(count.tokens, end)), []
    for column, target, before, rows in zip(each_table(count.grouping_columns), count.target, count.biases, written, strict=True):
        expected, error = _expected(target[:, ended], column, rows, count.tokens, end)
        difference = target - expected
        # What of it is chance of the few rows written is left out.
        sure = 1 - 1 / np.maximum(np.divide(difference, error, out=np.zeros_like(error), where=error > 0) ** 2, 1.0)
        more = _logs(np.maximum(expected + sure * difference, 0.0), expected, count.deviation)
        biases.append(np.where(before != 0, np.clip(before + more, -_MAX_BIAS, _MAX_BIAS), 0.0))
    return dataclasses.replace(count, biases=biases, refined=True)


def _expected(
    ends: NDArray[np.float64], column: GroupingColumn | None, rows: Sequence[Row], kept: NDArray[np.int64], end: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the written `rows` count of the tokens in `kept`, and its standard error, both (groups, kept): scaled so that the
    token that ends texts is counted as often as in the original's groups, `ends`: in as many rows."""
    counts, squares = np.zeros((len(ends), len(kept))), np.zeros((len(ends), len(kept)))
    for row, tokens in rows:
        if len(tokens):
            group = column.of(row) if column is not None else 0
            places = np.searchsorted(kept, tokens).clip(max=len(kept) - 1)
            places = places[kept[places] == tokens]
            counts[group, places] += len(tokens) ** -0.5
            squares[group, places] += 1 / len(tokens)
    written = counts[:, np.searchsorted(kept, end)]
    scale = np.where(written > 0, np.maximum(ends, 0.0) / np.maximum(written, 1e-9), 0.0)[:, None]
    # One text more or less holds any token, also one that none of them holds.
    one = float(np.mean([1 / len(tokens) for _, tokens in rows if len(tokens)] or [1.0]))
    return scale * counts, scale * np.sqrt(squares + one)


def _logs(target: NDArray[np.float64], expected: NDArray[np.float64], deviation: float) -> NDArray[np.float64]:
    """By how much the logits are to move, (groups, tokens); nothing in groups of which nothing was written."""
    little = _PRIOR * deviation
    logs: NDArray[np.float64] = np.log((target + little) / (expected + little)).clip(-_MAX_BIAS_A_ROUND, _MAX_BIAS_A_ROUND)
    logs[~(expected > 0).any(axis=1)] = 0.0
    return logs


def _believed(
    difference: NDArray[np.float64], deviation: NDArray[np.float64], expected: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What of the differences between noisy and expected counts, (groups, tokens), is more than chance.

    In each stratum of a group the differences' spread beyond `deviation` is measured, and each shrunk by the share that chance
    has of it (empirical Bayes, Efron & Morris 1973). Few tokens far off among many right ones would be shrunk with these: one
    that stands out by itself, at a false discovery rate of a tenth (Benjamini & Hochberg 1995), is shrunk by its own chance.
    """
    from scipy.special import erfc

    shares = np.zeros(difference.shape)
    strata = np.digitize(expected, _STRATA)
    for group in range(len(difference)):
        for stratum in range(len(_STRATA) + 1):
            places = np.flatnonzero(strata[group] == stratum)
            if not len(places):
                continue
            variance = deviation[group, places] ** 2
            squared = difference[group, places] ** 2 / variance
            spread = max(0.0, float(np.mean((np.minimum(squared, _FARTHEST**2) - 1) * variance)))
            chances = erfc(np.sqrt(squared / 2))
            order = np.argsort(chances)
            below = np.flatnonzero(chances[order] <= _FALSE_SHARE * np.arange(1, len(order) + 1) / len(order))
            alone = np.zeros(len(places))
            far = order[: below[-1] + 1 if len(below) else 0]
            alone[far] = 1 - 1 / np.maximum(squared[far], 1.0)
            shares[group, places] = np.maximum(spread / (spread + variance), alone)
    return shares * difference
