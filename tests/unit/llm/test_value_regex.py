"""The patterns admit every value in range and nothing else, for Python's `re` and for llguidance alike."""

import datetime as dt
import re

from hypothesis import example, given
from hypothesis import strategies as st

from localsynth.llm.value_regex import date_range, datetime_range, decimal_range, integer_range

whole = st.integers(-(10**6), 10**6)


def ordered(strategy):
    return st.tuples(strategy, strategy).map(sorted)


@given(ordered(whole), st.lists(whole))
@example([-5, -5], [5, -5, 0])
@example([0, 0], [0, 1])
@example([-1, 1], [-2, -1, 0, 1, 2])
def test_integers(bounds, probes):
    low, high = bounds
    pattern = re.compile(integer_range(low, high))
    for value in [*probes, low, high, low - 1, high + 1, 0, 9, 10, 99, 100]:
        assert bool(pattern.fullmatch(str(value))) == (low <= value <= high), value
    assert not pattern.fullmatch("-0") and not pattern.fullmatch("007") and not pattern.fullmatch("")


def test_integers_exhaustively():
    for low in range(-25, 26):
        for high in range(low, 130, 7):
            pattern = re.compile(integer_range(low, high))
            assert [v for v in range(-140, 140) if pattern.fullmatch(str(v))] == list(range(low, high + 1))


@given(ordered(st.integers(-(10**5), 10**5)), st.integers(1, 4), st.lists(st.integers(-(10**5), 10**5)))
@example([-250, 1999], 2, [0, -1, 1, 2000, -251, 1998])
def test_decimals(bounds, decimals, probes):
    unit = 10**decimals
    low, high = bounds[0] / unit, bounds[1] / unit
    pattern = re.compile(decimal_range(low, high, decimals))
    for scaled in [*probes, *bounds, bounds[0] - 1, bounds[1] + 1, 0]:
        text = f"{scaled / unit:.{decimals}f}"
        assert bool(pattern.fullmatch(text)) == (bounds[0] <= scaled <= bounds[1]), text
    assert not pattern.fullmatch("20") and not pattern.fullmatch("-0." + "0" * decimals)


days = st.dates(dt.date(1850, 1, 1), dt.date(2150, 12, 31))


@given(ordered(days), st.lists(days))
def test_dates(bounds, probes):
    low, high = bounds
    pattern = re.compile(date_range(low, high))
    one = dt.timedelta(days=1)
    for day in [*probes, low, high, low - one, high + one, dt.date(2000, 2, 29)]:
        assert bool(pattern.fullmatch(day.isoformat())) == (low <= day <= high), day
    for impossible in ("2001-02-29", "1900-02-29", "2000-04-31", "2000-13-01", "2000-00-10", "2000-01-00"):
        assert not pattern.fullmatch(impossible)


moments = st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2030, 1, 1)).map(lambda m: m.replace(microsecond=0))


@given(ordered(moments), st.lists(moments))
@example([dt.datetime(2020, 1, 1, 10, 20, 30), dt.datetime(2020, 1, 1, 12, 20, 10)], [dt.datetime(2020, 1, 1, 11)])
def test_datetimes(bounds, probes):
    low, high = bounds
    pattern = re.compile(datetime_range(low, high))
    one = dt.timedelta(seconds=1)
    for moment in [*probes, low, high, low - one, high + one, low + (high - low) / 2]:
        moment = moment.replace(microsecond=0)
        assert bool(pattern.fullmatch(moment.strftime("%Y-%m-%d %H:%M:%S"))) == (low <= moment <= high), moment
