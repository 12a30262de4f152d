"""The estimate of the time left."""

import pytest

from localsynth.sample.job import _seconds_left


def test_no_estimate_until_half_a_batch_is_done() -> None:
    # Batch size 64, 10 s a row: from the first finished row alone, the estimate would be hours.
    assert _seconds_left(10.0, 1, 1000, 64) is None
    assert _seconds_left(10.0, 1, 40, 64) is None


def test_a_steady_rate_gives_the_time_left() -> None:
    # 6.4 rows/s, each begun 10 s before it is finished: 1000 rows take 161 s in all.
    for drawn in (64, 200, 600):
        seconds = 5 + drawn / 6.4
        assert _seconds_left(seconds, drawn, 1000, 64) == pytest.approx(1000 / 6.4 + 5 - seconds, rel=0.1)


def test_no_time_is_left_at_the_end() -> None:
    assert _seconds_left(100.0, 1000, 1000, 64) == 0
    assert _seconds_left(5.0, 1, 1, 64) == 0
