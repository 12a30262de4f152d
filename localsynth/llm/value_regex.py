"""Regular expressions that match exactly the values a column may take: number ranges and calendar ranges.

Not left to llguidance, whose number ranges admit `20` beside `20.00` and refuse some negatives.
The patterns use only literals, classes, groups, alternation and `{n}`, so Python's `re` and llguidance read them alike.
"""

import calendar
import datetime as dt
from collections.abc import Callable


def _any_of(patterns: list[str]) -> str:
    kept = [pattern for pattern in patterns if pattern]
    return kept[0] if len(kept) == 1 else "(?:" + "|".join(kept) + ")"


def _digit(low: int, high: int) -> str:
    return str(low) if low == high else f"[{low}-{high}]"


def _fixed_width(low: str, high: str) -> str:
    """Digit strings of one length between `low` and `high`, both included."""
    if not low:
        return ""
    first, last = int(low[0]), int(high[0])
    rest = len(low) - 1
    if first == last:
        return low[0] + _fixed_width(low[1:], high[1:])
    options = []
    if low[1:] != "0" * rest:
        options.append(low[0] + _fixed_width(low[1:], "9" * rest))
        first += 1
    end = []
    if high[1:] != "9" * rest:
        end.append(high[0] + _fixed_width("0" * rest, high[1:]))
        last -= 1
    if first <= last:
        options.append(_digit(first, last) + (f"[0-9]{{{rest}}}" if rest else ""))
    return _any_of(options + end)


def _natural_range(low: int, high: int, min_digits: int = 1) -> list[str]:
    """Patterns, one for each length, of the numbers low..high (0 <= low), zero-padded to `min_digits`."""
    patterns = []
    for width in range(max(len(str(low)), min_digits), max(len(str(high)), min_digits) + 1):
        smallest = 0 if width == min_digits else 10 ** (width - 1)
        bottom, top = max(low, smallest), min(high, 10**width - 1)
        if bottom <= top:
            patterns.append(_fixed_width(str(bottom).zfill(width), str(top).zfill(width)))
    return patterns


def _signed_range(low: int, high: int, natural: Callable[[int, int], list[str]]) -> str:
    """Numbers low..high, where `natural` gives patterns of those that are not negative."""
    negative = ["-" + pattern for pattern in natural(max(1, -high), -low)] if low < 0 else []
    return _any_of(negative + (natural(max(0, low), high) if high >= 0 else []))


def integer_range(low: int, high: int) -> str:
    """Whole numbers low..high as `str(int)` writes them."""
    return _signed_range(low, high, _natural_range)


def decimal_range(low: float, high: float, decimals: int) -> str:
    """Numbers low..high with exactly `decimals` digits after the point, as `f"{x:.{decimals}f}"` writes them; no -0.00."""
    if decimals == 0:
        return integer_range(int(f"{low:.0f}"), int(f"{high:.0f}"))
    unit = 10**decimals
    bottom, top = (int(f"{x:.{decimals}f}".replace(".", "")) for x in (low, high))

    def positive(a: int, b: int) -> list[str]:
        """Scaled values a..b, 0 <= a <= b: equal whole parts first, then the whole range between them."""
        (whole_a, part_a), (whole_b, part_b) = divmod(a, unit), divmod(b, unit)
        last = str(unit - 1)
        zero = "0" * decimals
        a_digits, b_digits = str(part_a).zfill(decimals), str(part_b).zfill(decimals)
        if whole_a == whole_b:
            return [f"{whole_a}\\.{_fixed_width(a_digits, b_digits)}"]
        patterns = []
        if part_a:
            patterns.append(f"{whole_a}\\.{_fixed_width(a_digits, last)}")
            whole_a += 1
        if b_digits != last:
            patterns.append(f"{whole_b}\\.{_fixed_width(zero, b_digits)}")
            whole_b -= 1
        if whole_a <= whole_b:
            patterns.append(f"{_any_of(_natural_range(whole_a, whole_b))}\\.[0-9]{{{decimals}}}")
        return patterns

    return _signed_range(bottom, top, positive)


def _two(low: int, high: int) -> str:
    return _fixed_width(f"{low:02d}", f"{high:02d}")


_COMMON_YEAR = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)


def _within_year(low: dt.date, high: dt.date) -> str:
    """Days of one year, `MM-DD`."""
    patterns = []
    for month in range(low.month, high.month + 1):
        first = low.day if month == low.month else 1
        last = high.day if month == high.month else calendar.monthrange(low.year, month)[1]
        patterns.append(f"{month:02d}-{_two(first, last)}")
    return _any_of(patterns)


def date_range(low: dt.date, high: dt.date) -> str:
    """Existing calendar days low..high, `YYYY-MM-DD`."""
    patterns, common, leap = [], [], []
    for year in range(low.year, high.year + 1):
        first = max(low, dt.date(year, 1, 1))
        last = min(high, dt.date(year, 12, 31))
        if (first.month, first.day, last.month, last.day) != (1, 1, 12, 31):
            patterns.append(f"{year:04d}-{_within_year(first, last)}")
            continue
        common.append(year)
        if calendar.isleap(year):
            leap.append(year)
    if common:
        patterns.append(f"{_fixed_width(f'{common[0]:04d}', f'{common[-1]:04d}')}-{_COMMON_YEAR}")
    if leap:
        patterns.append(f"{_any_of([f'{year:04d}' for year in leap])}-02-29")
    return _any_of(patterns)


def _time_range(low: dt.time, high: dt.time) -> str:
    """Times low..high within a day, `HH:MM:SS`."""
    any_sixty = "[0-5][0-9]"
    seconds_low, seconds_high = (t.hour * 3600 + t.minute * 60 + t.second for t in (low, high))
    patterns = []
    for hour in range(low.hour, high.hour + 1):
        first, last = max(seconds_low, hour * 3600), min(seconds_high, hour * 3600 + 3599)
        if last - first == 3599:
            patterns.append(f"{hour:02d}:{any_sixty}:{any_sixty}")
            continue
        (m1, s1), (m2, s2) = divmod(first - hour * 3600, 60), divmod(last - hour * 3600, 60)
        if m1 == m2:
            patterns.append(f"{hour:02d}:{m1:02d}:{_two(s1, s2)}")
            continue
        patterns.append(f"{hour:02d}:{m1:02d}:{_two(s1, 59)}")
        patterns.append(f"{hour:02d}:{m2:02d}:{_two(0, s2)}")
        if m1 + 1 <= m2 - 1:
            patterns.append(f"{hour:02d}:{_two(m1 + 1, m2 - 1)}:{any_sixty}")
    return _any_of(patterns)


def datetime_range(low: dt.datetime, high: dt.datetime) -> str:
    """Date-times low..high, `YYYY-MM-DD HH:MM:SS`."""
    day = dt.timedelta(days=1)
    midnight, last_second = dt.time(0, 0, 0), dt.time(23, 59, 59)
    if low.date() == high.date():
        return f"{low.date().isoformat()} {_time_range(low.time(), high.time())}"
    patterns = [
        f"{low.date().isoformat()} {_time_range(low.time(), last_second)}",
        f"{high.date().isoformat()} {_time_range(midnight, high.time())}",
    ]
    if low.date() + day <= high.date() - day:
        patterns.append(f"{date_range(low.date() + day, high.date() - day)} {_time_range(midnight, last_second)}")
    return _any_of(patterns)
