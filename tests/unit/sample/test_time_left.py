"""The time that is left is told when it means something."""

import pytest

from localsynth.sample.job import _seconds_left


def test_nothing_is_said_while_the_first_rows_are_written() -> None:
    # 64 rows side by side, 10 s each: the first one finished says 10 s, and one by one they would take hours.
    assert _seconds_left(10.0, 1, 1000, 64) is None
    assert _seconds_left(10.0, 1, 40, 64) is None


def test_rows_that_come_steadily_give_the_time_they_take() -> None:
    # 6.4 rows a second, begun 10 s before they are finished, half of them so far: 1000 rows take 161 s in all.
    for drawn in (64, 200, 600):
        seconds = 5 + drawn / 6.4
        assert _seconds_left(seconds, drawn, 1000, 64) == pytest.approx(1000 / 6.4 + 5 - seconds, rel=0.1)


def test_at_the_end_none_is_left() -> None:
    assert _seconds_left(100.0, 1000, 1000, 64) == 0
    assert _seconds_left(5.0, 1, 1, 64) == 0
