"""Poisson batches include every unit by its own coin, and micro-batches keep a unit whole and every token in its place."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from localsynth.codec import Encoded
from localsynth.privacy.noise import SecureRandom
from localsynth.train.batches import IGNORE, micro_batches, poisson_batch


def test_units_take_part_at_the_rate_and_independently():
    random, units, rate, draws = SecureRandom(), 40, 0.2, 8000
    taken = np.zeros((draws, units))
    for i in range(draws):
        taken[i, poisson_batch(random, units, rate)] = 1
    # Seven standard deviations of a binomial share, which none of the 40 reaches by chance in 1e10 runs; sizes vary as a
    # binomial's do (a fixed-size sampler has variance 0).
    assert np.abs(taken.mean(axis=0) - rate).max() < 7 * np.sqrt(rate * (1 - rate) / draws)
    sizes = taken.sum(axis=1)
    assert abs(sizes.var() / (units * rate * (1 - rate)) - 1) < 0.15
    correlation = np.corrcoef(taken.T) - np.eye(units)
    assert np.abs(correlation).max() < 7 / np.sqrt(draws)


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
    rows = []
    for micro in cut:
        assert micro.tokens.numel() <= 64 or micro.units == 1
        assert sorted(set(micro.unit.tolist())) == list(range(micro.units))
        groups = {}
        for row, unit in zip(micro.tokens.tolist(), micro.unit.tolist(), strict=True):
            groups.setdefault(unit, []).append(row)
        rows += [len(group) for group in groups.values()]
    assert sorted(rows) == sorted(len(unit) for unit in units)


def test_targets_are_the_next_learned_tokens():
    micro = micro_batches([[encoded(5, 6, 7, 8, learned=[False, False, True, True])], [encoded(9, 4)]], 100)[0]
    assert micro.tokens.tolist() == [[5, 6, 7, 8] + [0] * 12, [9, 4] + [0] * 14]
    assert micro.targets.tolist() == [[IGNORE, 7, 8] + [IGNORE] * 13, [4] + [IGNORE] * 15]


@given(st.lists(st.lists(st.integers(2, 300), min_size=1, max_size=3), max_size=20), st.lists(st.integers(2, 300), min_size=1))
def test_a_unit_is_padded_by_its_own_length_whoever_else_is_there(lengths, extra):
    def widths(batch):
        units = [[encoded(*range(number * 1000 + 1, number * 1000 + 1 + n)) for n in rows] for number, rows in enumerate(batch)]
        found = {}
        for micro in micro_batches(units, 1024):
            width, longest = micro.tokens.shape[1], int((micro.tokens != 0).sum(1).max())
            assert width <= max(16, longest + 7, longest * 1.125), "little is padding"
            for row in micro.tokens.tolist():
                found[max(row) // 1000, sum(token != 0 for token in row)] = len(row)
        return found

    without, whole = widths(lengths), widths([*lengths, extra])
    assert without.items() <= whole.items()


def test_units_without_rows_left_take_no_part():
    assert micro_batches([[], []], 10) == []
