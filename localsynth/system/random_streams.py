"""The random streams that rows are generated with. No two of them overlap.

All are parts of one Philox generator (Salmon et al. 2011, "Parallel random numbers: as
easy as 1, 2, 3"). Its key is (seed, purpose). The lowest word of its counter is the
position in a stream, and the three words above identify one stream of a purpose. So the
numbers of any row are reached at once, and a resumed job generates the same rows.

Seeds are integers with 0 <= seed < 2**64. A row number beyond the ranges below raises
OverflowError. Nothing here is secret: noise comes from `privacy.noise`.
"""

from enum import IntEnum, unique

import numpy as np

NUMBERS_PER_BLOCK = 4
"""Numbers that Philox computes for each value of its counter."""

MAX_ROWS = 1 << 40
"""Rows of each range of row numbers: the table's rows, which begin at 0, and the two that follow."""
COMPARISON_ROWS = MAX_ROWS
"""Number of the first row that the original texts are compared with."""
REFINEMENT_ROWS = 2 * MAX_ROWS
"""Number of the first row that the logit bias is refined with."""


@unique
class _Purpose(IntEnum):
    MARGINAL_ROWS = 0
    CONTRAST_ROWS = 1
    ROW_REPAIR = 2
    SEQUENCE_ROWS = 3
    CONTRAST_VALUES = 4
    TOKENS = 5
    CANDIDATE_CHOICE = 6


def _stream(seed: int, purpose: _Purpose, *identity: int, position: int = 0) -> np.random.Generator:
    key = np.array([seed, purpose], dtype=np.uint64)
    counter = np.zeros(4, dtype=np.uint64)
    counter[: 1 + len(identity)] = [np.uint64(word) for word in (position, *identity)]
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def marginal_rows(seed: int, row: int, blocks: int, attempt: int = 0, *, contrast: bool = False) -> np.random.Generator:
    """The structured values of row `row` and of those after it, `blocks` blocks of numbers each.

    `contrast`: of the rows that guidance contrasts these with.
    """
    purpose = _Purpose.CONTRAST_ROWS if contrast else _Purpose.MARGINAL_ROWS
    return _stream(seed, purpose, attempt, position=row * blocks)


def row_repair(seed: int, row: int, *, contrast: bool = False) -> np.random.Generator:
    """The repair of a row whose last attempt violates a constraint; `contrast` as for `marginal_rows`."""
    return _stream(seed, _Purpose.ROW_REPAIR, row, contrast)


def sequence_rows(seed: int, unit: int, blocks: int, attempt: int = 0, place: int = 0) -> np.random.Generator:
    """The sequences of unit `unit` and of those after it, `blocks` blocks of numbers each.

    A later attempt is one at the row at index `place` of each sequence.
    """
    return _stream(seed, _Purpose.SEQUENCE_ROWS, attempt, place, position=unit * blocks)


def contrast_values(seed: int, row: int) -> np.random.Generator:
    """The choice of the values that guidance contrasts a row's own values with."""
    return _stream(seed, _Purpose.CONTRAST_VALUES, row)


def tokens(seed: int, row: int, attempt: int, candidate: int) -> np.random.Generator:
    """The tokens of one candidate for a row."""
    return _stream(seed, _Purpose.TOKENS, row, attempt, candidate)


def candidate_choice(seed: int, row: int, attempt: int) -> np.random.Generator:
    """The choice of one of a row's candidates."""
    return _stream(seed, _Purpose.CANDIDATE_CHOICE, row, attempt)
