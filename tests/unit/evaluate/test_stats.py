"""The formulas against figures worked out elsewhere or by hand."""

import math

import numpy as np
import pytest

from localsynth.evaluate.stats import Rate, auc, bootstrap_interval, difference_interval, mean_interval


def test_wilson_against_newcombes_table():
    # Newcombe 1998, Stat. Med. 17:857, table I, method 3.
    for hits, n, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        rate = Rate(hits, n)
        assert (round(rate.low, 4), round(rate.high, 4)) == (low, high)


def test_rate_without_tries():
    rate = Rate(0, 0)
    assert math.isnan(rate.value) and (rate.low, rate.high) == (0.0, 1.0)
    assert rate.to_json()["value"] is None


def test_more_confidence_gives_wider_interval():
    assert Rate(5, 50, 0.99).low < Rate(5, 50).low < Rate(5, 50).high < Rate(5, 50, 0.99).high


def test_difference_interval_against_newcombes_table():
    # Newcombe 1998, Stat. Med. 17:873, table II, method 10.
    for first, second, low, high in [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090)]:
        interval = difference_interval(Rate(*first), Rate(*second))
        assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


def test_mean_interval_is_students_t():
    # Student's t with 2 degrees of freedom: 4.3027 · 1 / sqrt(3).
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval.value == 2 and interval.high == pytest.approx(2 + 4.30265 / math.sqrt(3), abs=1e-4)
    assert mean_interval([1.0]).to_json() == {"value": 1.0, "low": None, "high": None, "n": 1}


def test_auc_counts_pairs():
    # Pairs (3,1) (3,2) (2,1) won, (2,2) tied: 3.5 of 4.
    assert auc(np.array([3.0, 2.0]), np.array([1.0, 2.0])) == 3.5 / 4
    interval = bootstrap_interval([np.arange(50.0), np.arange(50.0)], auc, seed=1)
    assert interval.value == 0.5 and interval.low < 0.5 < interval.high


def test_bootstrap_of_mean_is_near_normal_interval():
    values = np.random.default_rng(0).normal(size=400)
    interval = bootstrap_interval([values], np.mean, seed=3)
    half = 1.96 * values.std() / 20
    assert interval.low == pytest.approx(values.mean() - half, abs=0.015) and interval.high == pytest.approx(
        values.mean() + half, abs=0.015
    )
    assert interval == bootstrap_interval([values], np.mean, seed=3)


def test_bootstrap_of_fewer_than_two_values_has_no_ends():
    assert bootstrap_interval([np.array([2.0])], np.median, seed=1).to_json() == {"value": 2.0, "low": None, "high": None, "n": 1}
    one_side_empty = bootstrap_interval([np.array([1.0, 2.0]), np.array([])], auc, seed=1)
    assert one_side_empty.to_json() == {"value": None, "low": None, "high": None, "n": 0}
