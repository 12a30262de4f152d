"""Public grids of buckets, from which the range of a column is measured. They depend on the kind of a column, never on its data.

Everything is in whole steps: integers by 1, decimals by their last digit, dates by the day, date-times by the second. So a bucket
has a first and a last value, and neighbouring buckets share none.
"""

import datetime as dt
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localsynth.schema.columns import Date, DateTime, Integer, Number

_MAX_STEPS = 2**62
"""The largest number of steps that a column may hold."""
_MAX_NUMBER = 10**15
"""The largest decimal number that a column may hold."""
_DIGITS = (1, 2, 3, 5)
_YEARS = range(1900, 2101, 10)
"""Whole numbers among which many columns hold years: buckets of ten."""
_MULTIPLES = (5, 10, 50, 100, 500, 1000, 10_000, 100_000)
_EPOCH = dt.datetime(1970, 1, 1)


@dataclass(frozen=True)
class Grid:
    """Buckets `starts[i]` .. `starts[i+1] - 1`, in steps; values beyond the ends belong to the first and the last bucket."""

    starts: NDArray[np.int64]
    """Shape (buckets + 1,), ascending; the last one ends the last bucket."""
    decimals: int = 0
    """A step is 10**-decimals."""
    multiples: tuple[int, ...] = ()
    """Larger steps that values often are multiples of; each divides the next."""

    def steps(self, values: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.int64]:
        """`values` as steps inside the grid, same shape."""
        with np.errstate(over="ignore"):  # to infinity, which the ends of the grid then hold
            scaled = values if self.decimals == 0 and values.dtype.kind in "iu" else np.rint(values * 10.0**self.decimals)
        return np.clip(scaled, self.starts[0], self.starts[-1] - 1).astype(np.int64)

    def value(self, step: int) -> int | float:
        """A step as a value: an int, or a float with `decimals` digits."""
        return step if self.decimals == 0 else round(step / 10**self.decimals, self.decimals)


def _round_numbers(one: int, largest: int, others: range = range(0)) -> NDArray[np.int64]:
    """Buckets that end at round numbers away from zero: ..., -1, 0, 1, 2, 3, 4..5, ..., 51..100, 101..200, ...

    Below `one` they end at powers of ten only: every bucket between the data and zero costs a signed column noise. `others`
    begin buckets, too.
    """
    ends = {digit * 10**power for power in range(19) for digit in _DIGITS}
    upper = sorted(end for end in ends if one <= end < largest or (end < one and str(end).startswith("1")))
    negative = (-end for end in reversed([*upper, largest]))
    positive = sorted({0, 1, *(end + 1 for end in [*upper, largest]), *others})
    return np.array([*negative, *positive], dtype=np.int64)


def integer_grid() -> Grid:
    """Whole numbers to ±2**62, with decades from 1900 to 2100."""
    return Grid(_round_numbers(1, _MAX_STEPS, _YEARS), multiples=_MULTIPLES)


def number_grid(decimals: int) -> Grid:
    """Numbers with `decimals` digits after the point, to ±10**15, or to ±2**62 steps where that is less."""
    return Grid(_round_numbers(10**decimals, min(_MAX_STEPS, _MAX_NUMBER * 10**decimals)), decimals, _MULTIPLES)


def _calendar() -> list[dt.date]:
    """The first days of buckets of years 1 to 9999: half-years from 1900 to 2100, and decades or centuries beyond."""
    before = [1, *range(1000, 1800, 100), *range(1800, 1900, 10)]
    after = [*range(2101, 2201, 10), *range(2201, 9901, 100), 9901, 9999]
    half_years = [dt.date(year, month, 1) for year in range(1900, 2101) for month in (1, 7)]
    return [*(dt.date(year, 1, 1) for year in before), *half_years, *(dt.date(year, 1, 1) for year in after)]


def date_grid() -> Grid:
    """Days as `date.toordinal()`, from year 1 to 9999."""
    return Grid(np.array([*(day.toordinal() for day in _calendar()), dt.date.max.toordinal() + 1], dtype=np.int64))


def datetime_grid() -> Grid:
    """Date-times as seconds since 1970-01-01 00:00 without time zone, from year 1 to 9999."""
    days = date_grid().starts - _EPOCH.toordinal()
    return Grid(days * 86_400, multiples=(60, 900, 3600, 86_400))


def grid_of(column: Integer | Number | Date | DateTime) -> Grid:
    """The grid of a column's kind, in the units of `schema.ordinals.to_int`."""
    if isinstance(column, Integer):
        return integer_grid()
    if isinstance(column, Number):
        return number_grid(column.decimals)
    return datetime_grid() if isinstance(column, DateTime) else date_grid()
