"""Poisson batches include each unit independently, and micro-batches keep a unit whole and every token in its place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localsynth.llm.row_text import Encoded
from localsynth.privacy.noise import SecureRandom
from localsynth.train.batches import IGNORE, WIDTH_STEPS, Group, micro_batches, poisson_batch


def test_units_take_part_at_the_rate_and_independently():
    random, units, rate, batches = SecureRandom(), 40, 0.2, 8000
    taken = np.zeros((batches, units))
    for i in range(batches):
        taken[i, poisson_batch(random, units, rate)] = 1
    # Seven standard deviations of a binomial share, which none of the 40 reaches by chance in 1e10 runs; sizes vary as a
    # binomial's do (a fixed-size sampler has variance 0).
    assert np.abs(taken.mean(axis=0) - rate).max() < 7 * np.sqrt(rate * (1 - rate) / batches)
    sizes = taken.sum(axis=1)
    assert abs(sizes.var() / (units * rate * (1 - rate)) - 1) < 0.15
    correlation = np.corrcoef(taken.T) - np.eye(units)
    assert np.abs(correlation).max() < 7 / np.sqrt(batches)


def test_a_batch_may_be_empty():
    random = SecureRandom()
    assert any(len(poisson_batch(random, 3, 0.05)) == 0 for _ in range(50))
    assert micro_batches([], 100) == []


def encoded(*tokens, learned=None):
    return Encoded(list(tokens), learned or [False] + [True] * (len(tokens) - 1))


def test_micro_batches_hold_every_unit_once_and_whole():
    rng = np.random.default_rng(0)
    units = [[encoded(*range(i, i + int(n))) for n in rng.integers(2, 30, size=1 + i % 3)] for i in range(57)]
    cut = micro_batches(units, 64)
    assert sum(micro.units for micro in cut) == len(units)
    seen = []
    for micro in cut:
        assert len(micro.tokens) == 64 or (micro.units == 1 and len(micro.tokens) > 64)
        assert sorted(set(micro.unit.tolist())) == list(range(micro.units))
        owned = {}
        for row, unit in zip(examples(micro), micro.unit.tolist(), strict=True):
            owned.setdefault(unit, []).append([token for token, _, _ in row])
        seen += owned.values()
    wanted = [[[token for token in example.tokens if token] for example in unit] for unit in units]
    assert sorted([[t for t in row if t] for row in unit] for unit in seen) == sorted(wanted)


def examples(micro):
    """Each example's (token, position, target)."""
    whole = list(zip(micro.tokens.tolist(), micro.positions.tolist(), micro.targets.tolist(), strict=True))
    return [whole[g.start + g.width * row :][: g.width] for g in micro.groups for row in range(g.rows)]


def test_targets_are_next_tokens_and_positions_start_at_zero():
    (micro,) = micro_batches([[encoded(5, 6, 7, 8, learned=[False, False, True, True])], [encoded(9, 4)]], 20)
    assert micro.groups == (Group(0, 2, 8),)
    assert micro.tokens.tolist() == [5, 6, 7, 8, 0, 0, 0, 0, 9, 4] + [0] * 10
    assert micro.targets.tolist() == [IGNORE, 7, 8] + [IGNORE] * 5 + [4] + [IGNORE] * 11
    assert micro.positions.tolist() == [*range(8), *range(8), 0, 0, 0, 0]


@pytest.mark.parametrize("step", sorted(WIDTH_STEPS.values()))
@given(st.lists(st.lists(st.integers(2, 300), min_size=1, max_size=3), max_size=20), st.lists(st.integers(2, 300), min_size=1))
def test_padding_of_a_unit_depends_on_its_own_length_alone(step, lengths, extra):
    def widths(batch):
        units = [[encoded(*range(number * 1000 + 1, number * 1000 + 1 + n)) for n in rows] for number, rows in enumerate(batch)]
        found = {}
        for micro in micro_batches(units, 1024, step=step):
            assert len(micro.tokens) == 1024 or micro.units == 1, "all are computed by the same kernels"
            rows = [[token for token, _, _ in row] for row in examples(micro)]
            for unit in range(micro.units):
                longest = max(sum(t != 0 for t in row) for row, of in zip(rows, micro.unit, strict=True) if of == unit)
                for row in (row for row, of in zip(rows, micro.unit, strict=True) if of == unit):
                    assert len(row) <= max(8, longest + step - 1, longest * 1.0625 + 1), "little is padding"
                    assert len(row) % step == 0
                    found[max(row) // 1000, sum(token != 0 for token in row)] = len(row)
        return found

    without, whole = widths(lengths), widths([*lengths, extra])
    assert without.items() <= whole.items()


def test_units_without_rows_left_take_no_part():
    assert micro_batches([[], []], 10) == []
