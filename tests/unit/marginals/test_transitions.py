"""Links of a chain by hand, and that a unit moves their counts by no more than its rows."""

import datetime as dt

import numpy as np
import pytest

from localsynth.errors import ConfigError, IntegrityError
from localsynth.marginals.transitions import EARLIER, LAST, Layout, as_before, before, since
from localsynth.schema.columns import Boolean, Category, Date, Identifier, Integer, Record, Schema

SCHEMA = Schema(
    columns=[
        Identifier(name="visit"),
        Category(name="ward", values=["a", "b"], nullable=True),
        Integer(name="dose", min=0, max=40, nullable=False),
        Date(name="day", min=dt.date(2024, 1, 1), max=dt.date(2024, 12, 31)),
    ]
)


def row(ward: str | None, dose: int, day: int | None) -> Record:
    return {"ward": ward, "dose": dose, "day": None if day is None else dt.date(2024, 1, 1) + dt.timedelta(days=day)}


UNITS = [[row("a", 7, 3), row(None, 7, 3), row("b", 8, 40)], [row("b", 8, 40)], [row("b", 8, 40), row("a", 9, 365)]]


def test_transitions_by_hand() -> None:
    layout = Layout.of_schema(SCHEMA, "day", 4)
    assert (layout.order, layout.described, layout.repeated) == ("day", ["ward", "dose"], [as_before("dose")])
    codes = {name: found.tolist() for name, found in layout.encode(UNITS).items()}
    assert codes["ward"] == [0, 2, 1, 1, 1, 0]
    # Bin 2 is a row before without a ward, bin 3 no row before.
    assert codes[before("ward")] == [3, 0, 2, 3, 3, 1]
    assert codes["dose"] == [7, 7, 8, 8, 8, 9] and codes[before("dose")] == [41, 7, 7, 41, 41, 8]
    assert codes[as_before("dose")] == [0, 1, 0, 0, 0, 0]
    gap = next(a for a in layout.own if a.name == since("day"))
    assert codes[since("day")] == [gap.missing, 0, 37, gap.missing, gap.missing, gap.encode(325)]
    assert codes[EARLIER] == [3, 0, 1, 3, 3, 0] and codes[LAST] == [0, 0, 1, 1, 0, 1]
    assert set(codes) == {a.name for a in layout.variables.attributes} | set(layout.repeated)
    sizes = {a.name: a.size for a in layout.variables.attributes}
    assert all(min(codes[name]) >= 0 and max(codes[name]) < size for name, size in sizes.items())


def test_order_by_identifier_has_no_gap() -> None:
    layout = Layout.of_schema(SCHEMA, "visit", 3)
    assert layout.order is None and layout.described == ["ward", "dose", "day"]
    assert not any("since" in a.name for a in layout.variables.attributes)


def test_row_without_order_value_is_skipped() -> None:
    layout = Layout.of_schema(SCHEMA, "day", 4)
    with_gap = layout.encode([[row("a", 7, None), row("a", 7, 3), row("b", 8, None), row("b", 9, 5)]])
    without = layout.encode([[row("a", 7, 3), row("b", 9, 5)]])
    assert all(np.array_equal(with_gap[name], without[name]) for name in without)


def test_gaps_have_bins_over_the_whole_range() -> None:
    layout = Layout.of_schema(SCHEMA, "day", 2)
    gap = next(a for a in layout.own if a.name == since("day"))
    assert gap.starts[0] == 0 and gap.starts[-1] == 366
    assert gap.starts[:129] == tuple(range(129)) and list(gap.starts) == sorted(set(gap.starts))


def test_sensitivity_of_transitions_is_rows_per_unit() -> None:
    """Also where it stands between two others: no link reaches into another unit."""
    most = 4
    layout = Layout.of_schema(SCHEMA, "day", most)
    draw = np.random.default_rng(0)

    def unit(rows: int) -> list[Record]:
        days = sorted(draw.integers(0, 366, rows).tolist())
        return [row(["a", "b", None][int(draw.integers(3))], int(draw.integers(41)), day) for day in days]

    for _ in range(20):
        units = [unit(int(draw.integers(1, most + 1))) for _ in range(6)]
        place = int(draw.integers(7))
        more = [*units[:place], unit(most), *units[place:]]
        fewer, greater = layout.encode(units), layout.encode(more)
        for first in fewer:
            for second in fewer:
                one, two = (list(zip(codes[first].tolist(), codes[second].tolist(), strict=True)) for codes in (fewer, greater))
                added = {pair: two.count(pair) - one.count(pair) for pair in {*one, *two}}
                assert all(count >= 0 for count in added.values()) and sum(added.values()) == most


def test_too_many_rows_of_a_unit_are_refused() -> None:
    layout = Layout.of_schema(SCHEMA, "visit", 2)
    with pytest.raises(IntegrityError, match="max_rows_per_unit"):
        layout.encode([UNITS[0]])


def test_invalid_sequences_are_refused() -> None:
    with pytest.raises(ConfigError, match="more than one row"):
        Layout.of_schema(SCHEMA, "day", 1)
    odd = Schema(columns=[*SCHEMA.columns, Boolean(name="ward (row before)")])
    with pytest.raises(ConfigError, match="name of a variable"):
        Layout.of_schema(odd, "day", 2)
