"""Public grids of buckets, from which the range of a column is measured. They depend on the kind of a column, never on its data.

Everything is in whole steps: integers by 1, decimals by their last digit, dates by the day, date-times by the second. So a bucket
has a first and a last value, and neighbouring buckets share none.
"""

import datetime as dt
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Grid", "date_grid", "datetime_grid", "integer_grid", "number_grid"]

_MAX_VALUE = 10**12
_DIGITS = (1, 2, 3, 5)
_EPOCH = dt.datetime(1970, 1, 1)


@dataclass(frozen=True)
class Grid:
    """Buckets `starts[i]` .. `starts[i+1] - 1`, in steps; values beyond the ends belong to the first and the last bucket."""

    starts: NDArray[np.int64]
    """Shape (buckets + 1,), ascending; the last one ends the last bucket."""
    decimals: int = 0
    """A step is 10**-decimals."""

    def steps(self, values: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.int64]:
        """`values` as steps inside the grid, same shape."""
        with np.errstate(over="ignore"):  # to infinity, which the ends of the grid then hold
            scaled = values if self.decimals == 0 and values.dtype.kind in "iu" else np.rint(values * 10.0**self.decimals)
        return np.clip(scaled, self.starts[0], self.starts[-1] - 1).astype(np.int64)

    def value(self, step: int) -> int | float:
        """A step as a value: an int, or a float with `decimals` digits."""
        return step if self.decimals == 0 else round(step / 10**self.decimals, self.decimals)


def _round_numbers(one: int) -> NDArray[np.int64]:
    """Buckets that end at round numbers away from zero: ..., -1, 0, 1, 2, 3, 4..5, ..., 51..100, 101..200, ...

    Below `one` they end at powers of ten only: every bucket between the data and zero costs a signed column noise.
    """
    ends = {digit * 10**power for power in range(13) for digit in _DIGITS}
    upper = sorted(end for end in ends if one <= end <= _MAX_VALUE or (end < one and str(end).startswith("1")))
    return np.array([*(-end for end in reversed(upper)), 0, 1, *(end + 1 for end in upper)], dtype=np.int64)


def integer_grid() -> Grid:
    """Whole numbers to ±10**12."""
    return Grid(_round_numbers(1))


def number_grid(decimals: int) -> Grid:
    """Numbers with `decimals` digits after the point, to ±10**12 steps."""
    return Grid(_round_numbers(10**decimals), decimals)


def _half_years() -> list[dt.date]:
    return [*(dt.date(year, month, 1) for year in range(1900, 2101) for month in (1, 7)), dt.date(2101, 1, 1)]


def date_grid() -> Grid:
    """Days as `date.toordinal()`, in half-years from 1900 to 2100."""
    return Grid(np.array([day.toordinal() for day in _half_years()], dtype=np.int64))


def datetime_grid() -> Grid:
    """Date-times as seconds since 1970-01-01 00:00 without time zone, in half-years from 1900 to 2100."""
    moments = [dt.datetime(day.year, day.month, day.day) for day in _half_years()]
    return Grid(np.array([int((moment - _EPOCH).total_seconds()) for moment in moments], dtype=np.int64))
