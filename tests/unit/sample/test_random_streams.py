"""No two random streams overlap, and rows are generated with nothing else."""

from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest

import localsynth
from localsynth.marginals import sample_sequences, sequence_model
from localsynth.sample import sampler, structured_rows
from localsynth.system.random_streams import (
    COMPARISON_ROWS,
    MAX_ROWS,
    REFINEMENT_ROWS,
    candidate_choice,
    contrast_values,
    marginal_rows,
    row_repair,
    sequence_rows,
    tokens,
)

SEED = (1 << 64) - 1
ROWS = [first + row for first in (0, COMPARISON_ROWS, REFINEMENT_ROWS) for row in (0, 1, MAX_ROWS - 2, MAX_ROWS - 1)]
OPEN_ENDED = 1 << 63
"""Blocks of a stream that has no fixed length: more than any row takes."""
MAX_CANDIDATES = 256


def streams(row_blocks: int, unit_rows: int) -> dict[tuple[object, ...], tuple[np.random.Generator, int]]:
    """Every stream of the first and last rows, attempts and candidates, with its length in blocks."""
    found: dict[tuple[object, ...], tuple[np.random.Generator, int]] = {}
    for row, contrast in product(ROWS, (False, True)):
        for attempt in (0, 1, structured_rows.MAX_ATTEMPTS - 1):
            rows = marginal_rows(SEED, row, row_blocks, attempt, contrast=contrast)
            found["marginals", row, contrast, attempt] = (rows, row_blocks)
        found["repair", row, contrast] = (row_repair(SEED, row, contrast=contrast), OPEN_ENDED)
    for unit in ROWS[:4]:
        found["sequences", unit] = (sequence_rows(SEED, unit, row_blocks * unit_rows), row_blocks * unit_rows)
        for attempt, place in product((1, 2, sample_sequences.MAX_ATTEMPTS), (0, 1, unit_rows - 1)):
            rows = sequence_rows(SEED, unit, row_blocks, attempt, place)
            found["sequences", unit, attempt, place] = (rows, row_blocks)
    for row in ROWS:
        found["contrast", row] = (contrast_values(SEED, row), OPEN_ENDED)
        for attempt in (0, 1, sampler.MAX_ATTEMPTS - 1):
            found["choice", row, attempt] = (candidate_choice(SEED, row, attempt), OPEN_ENDED)
            for candidate in (0, 1, MAX_CANDIDATES - 1):
                found["tokens", row, attempt, candidate] = (tokens(SEED, row, attempt, candidate), OPEN_ENDED)
    return found


def start(generator: np.random.Generator) -> int:
    """Key and counter as one number: the first block that the generator computes, less one."""
    state = generator.bit_generator.state["state"]
    words = [*state["counter"].tolist(), *state["key"].tolist()]
    return sum(word << (64 * index) for index, word in enumerate(words))


def test_row_ranges_are_disjoint():
    firsts = sorted([0, COMPARISON_ROWS, REFINEMENT_ROWS])
    assert all(two - one >= MAX_ROWS for one, two in pairwise(firsts))


@pytest.mark.parametrize(("row_blocks", "unit_rows"), [(1, 2), (3, 1000), (10_000, sequence_model.MAX_ROWS)])
def test_random_streams_are_disjoint(row_blocks, unit_rows):
    ranges = sorted((start(random), length, name) for name, (random, length) in streams(row_blocks, unit_rows).items())
    for (one, length, name), (other, _, other_name) in pairwise(ranges):
        assert one + length <= other, f"{name} and {other_name} overlap"


def test_rows_of_a_range_are_parts_of_one_stream():
    whole = marginal_rows(3, 5, blocks=2).random((4, 8))
    assert [marginal_rows(3, row, blocks=2).random(8).tolist() for row in range(5, 9)] == whole.tolist()


@pytest.mark.parametrize("generate", [lambda: tokens(1 << 64, 0, 0, 0), lambda: marginal_rows(0, 1 << 63, blocks=2)])
def test_numbers_outside_the_ranges_are_refused(generate):
    with pytest.raises(OverflowError):
        generate()


def test_no_other_module_makes_a_philox_generator():
    root = Path(localsynth.__file__).parent
    assert [path.name for path in root.rglob("*.py") if "Philox(" in path.read_text(encoding="utf-8")] == ["random_streams.py"]
