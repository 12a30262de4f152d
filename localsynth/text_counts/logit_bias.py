"""A logit bias from noisy token counts, so that the model generates tokens as often as the original texts hold them.

A model trained under strong noise writes of the right things in other words. So the tokens of what it generates are counted as
the original's were. A token whose noisy count differs by more than chance gets a bias, the logarithm of the ratio. It is added
to the token's logit in rows of that group; a positive one ends once a text of the row holds the token. A second round corrects
the biases by what the model generates with them, because a bias moves other tokens, too. All of this reads what was released
with noise and what the model generated, so it costs no privacy.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from localsynth.errors import IntegrityError
from localsynth.schema.columns import Record
from localsynth.text_counts.grouping_columns import GroupingColumn
from localsynth.text_counts.token_counts import NoisyCounts, Row, TokenCounts, each_table

ROUNDS = 2
"""How often rows are generated to compare the original with."""
_MIN_ROWS, _MAX_ROWS = 100, 1_000
_FALSE_DISCOVERY_RATE = 0.1
_STRATA = (1e-9, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Tokens of about the same expected count are shrunk together: of rare ones, which are many, more stand out by chance."""
_MAX_Z = 4.0
"""Standard deviations: what is farther off counts as this far where a stratum's spread is estimated."""
_PRIOR = 0.3
"""In standard deviations of the noise, added to both counts of a ratio."""
_MAX_TOKENS = 5_000
"""With a bias; a table of text messages has some thousand."""
_MIN_BIAS = 0.1
_MAX_STEP = 3.0
"""Of a bias in one round."""
_MAX_BIAS = 3.5


def comparison_rows(units: int) -> int:
    """How many rows are generated in a round, for a table of so many units (a public or noisy figure)."""
    return max(_MIN_ROWS, min(_MAX_ROWS, units // 4))


class LogitBias:
    """What is added to the logits of a row's texts. Made once for a sampling job."""

    def __init__(self, counts: TokenCounts) -> None:
        self.tokens = counts.tokens
        """(kept,): the tokens that have a bias."""
        self._columns, self._biases = counts.grouping_columns, counts.biases

    def of(self, row: Record) -> NDArray[np.float32]:
        """(kept,): the mean over the grouping columns of the biases for a row's value."""
        if not self._columns:
            return np.array(self._biases[0][0], dtype=np.float32)
        mean = np.mean([table[column.of(row)] for column, table in zip(self._columns, self._biases, strict=True)], axis=0)
        return np.asarray(mean, dtype=np.float32)


def first_bias(noisy: NoisyCounts, generated: Sequence[Sequence[Row]], end: int) -> TokenCounts:
    """From noisy counts and, for each of their tables, rows that the model generated, its groups in any proportion.

    `end` is the token that ends every text: its count says how many rows a table's group has.
    """
    targets, biases = [], []
    for column, table, rows in zip(each_table(noisy.grouping_columns), noisy.tables, generated, strict=True):
        expected, error = _expected(table[:, end], column, rows, np.arange(table.shape[1]), end)
        likely = np.maximum(expected + _shrunk(table - expected, np.hypot(noisy.sigma, error), expected), 0.0)
        likely[:, end] = np.maximum(table[:, end], 0.0)
        bias = _log_ratios(likely, expected, noisy.sigma)
        bias[np.abs(bias) < _MIN_BIAS] = 0.0
        bias[:, end] = 0.0
        targets.append(likely)
        biases.append(bias)
    largest = np.abs(np.vstack(biases)).max(axis=0)
    most = np.argsort(-largest, kind="stable")[:_MAX_TOKENS]
    kept = np.union1d(most[largest[most] > 0], end)
    targets, biases = ([table[:, kept] for table in tables] for tables in (targets, biases))
    columns, sigma, rho = noisy.grouping_columns, noisy.sigma, noisy.rho
    return TokenCounts(kept, columns, targets, biases, False, sigma, rho, noisy.spends, noisy.noise)


def refined_bias(counts: TokenCounts, generated: Sequence[Sequence[Row]], end: int) -> TokenCounts:
    """The biases corrected by rows that the model generated with them. Raises IntegrityError where `end` was not counted."""
    if end not in counts.tokens:
        raise IntegrityError("The token counts lack the token that ends texts.", "Restore it from a backup, or train again.")
    ended, biases = int(np.searchsorted(counts.tokens, end)), []
    tables = zip(each_table(counts.grouping_columns), counts.target, counts.biases, generated, strict=True)
    for column, target, before, rows in tables:
        expected, error = _expected(target[:, ended], column, rows, counts.tokens, end)
        difference = target - expected
        # Without what may be chance, because few rows were generated.
        sure = 1 - 1 / np.maximum(np.divide(difference, error, out=np.zeros_like(error), where=error > 0) ** 2, 1.0)
        step = _log_ratios(np.maximum(expected + sure * difference, 0.0), expected, counts.sigma)
        biases.append(np.where(before != 0, np.clip(before + step, -_MAX_BIAS, _MAX_BIAS), 0.0))
    return dataclasses.replace(counts, biases=biases, refined=True)


def _expected(
    ends: NDArray[np.float64], column: GroupingColumn | None, rows: Sequence[Row], kept: NDArray[np.int64], end: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The counts of the tokens in `kept` in generated rows, and their standard errors, both (groups, kept).

    Scaled to as many rows as the original's groups have, by `ends`, the counts of the token that ends texts.
    """
    counts, squares = np.zeros((len(ends), len(kept))), np.zeros((len(ends), len(kept)))
    for row, tokens in rows:
        if len(tokens):
            group = column.of(row) if column is not None else 0
            places = np.searchsorted(kept, tokens).clip(max=len(kept) - 1)
            places = places[kept[places] == tokens]
            counts[group, places] += len(tokens) ** -0.5
            squares[group, places] += 1 / len(tokens)
    ended = counts[:, np.searchsorted(kept, end)]
    scale = np.where(ended > 0, np.maximum(ends, 0.0) / np.maximum(ended, 1e-9), 0.0)[:, None]
    # One text more or less holds any token, also one that none of them holds.
    one = float(np.mean([1 / len(tokens) for _, tokens in rows if len(tokens)] or [1.0]))
    return scale * counts, scale * np.sqrt(squares + one)


def _log_ratios(target: NDArray[np.float64], expected: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """The change of the logits, (groups, tokens); none in groups without generated rows."""
    prior = _PRIOR * sigma
    logs: NDArray[np.float64] = np.log((target + prior) / (expected + prior)).clip(-_MAX_STEP, _MAX_STEP)
    logs[~(expected > 0).any(axis=1)] = 0.0
    return logs


def _shrunk(difference: NDArray[np.float64], sigma: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of the differences between noisy and expected counts, (groups, tokens), that is more than chance.

    In each stratum of a group the spread of the differences beyond `sigma` is estimated. Each difference is shrunk by the
    fraction that chance has of it (empirical Bayes, Efron & Morris 1973). Few tokens that are far off among many right ones
    would be shrunk with these. So a token that stands out by itself is shrunk by its own chance only, at a false discovery
    rate of a tenth (Benjamini & Hochberg 1995).
    """
    from scipy.special import erfc
    from scipy.stats import false_discovery_control

    fractions = np.zeros(difference.shape)
    strata = np.digitize(expected, _STRATA)
    for group in range(len(difference)):
        for stratum in range(len(_STRATA) + 1):
            places = np.flatnonzero(strata[group] == stratum)
            if not len(places):
                continue
            variance = sigma[group, places] ** 2
            squared = difference[group, places] ** 2 / variance
            spread = max(0.0, float(np.mean((np.minimum(squared, _MAX_Z**2) - 1) * variance)))
            stands_out = false_discovery_control(erfc(np.sqrt(squared / 2))) <= _FALSE_DISCOVERY_RATE
            alone = np.where(stands_out, 1 - 1 / np.maximum(squared, 1.0), 0.0)
            fractions[group, places] = np.maximum(spread / (spread + variance), alone)
    return fractions * difference
