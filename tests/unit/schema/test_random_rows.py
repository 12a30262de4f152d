"""Made-up rows have the form of the table: every kind, its bounds, its units; and nothing else."""

import datetime as dt
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localsynth.schema.columns import (
    Boolean,
    Category,
    Column,
    Date,
    DateTime,
    Identifier,
    Integer,
    Number,
    Record,
    Schema,
    Surrogate,
    Text,
    conform,
)
from localsynth.schema.random_rows import random_rows

COLUMNS: list[Column] = [
    Identifier(name="who"),
    Surrogate(name="name", of="name"),
    Category(name="kind", values=["a", "b"], other="else"),
    Category(name="list", values=["x"], nullable=False),
    Integer(name="n", min=-3, max=4),
    Number(name="price", min=-0.05, max=0.15, decimals=2),
    Boolean(name="flag", nullable=False),
    Date(name="day", min=dt.date(2024, 2, 27), max=dt.date(2024, 3, 2)),
    DateTime(name="moment", min=dt.datetime(2024, 12, 31, 23, 59, 58), max=dt.datetime(2025, 1, 1, 0, 0, 3)),
    Text(name="note", max_tokens=40),
]
ALL = Schema(columns=COLUMNS)

nullable = st.booleans()
numbers = st.integers(0, 9).flatmap(
    lambda d: st.tuples(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9)).map(
        lambda ends: {"min": min(ends) / 10**d, "max": max(ends) / 10**d, "decimals": d}
    )
)


def ordered(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(values, values).map(lambda ends: {"min": min(ends), "max": max(ends)})


def column(kind: Any, fields: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Column]:
    return st.builds(lambda null, rest: kind(name="?", nullable=null, **rest), nullable, fields)


words = st.text(min_size=1, max_size=5)
columns = st.one_of(
    column(
        Category,
        st.fixed_dictionaries({"values": st.lists(words, min_size=1, max_size=4, unique=True), "other": st.none() | words}),
    ),
    column(Integer, ordered(st.integers(-(2**62), 2**62))),
    column(Number, numbers),
    column(Boolean, st.just({})),
    column(Date, ordered(st.dates())),
    column(DateTime, ordered(st.datetimes().map(lambda moment: moment.replace(microsecond=0)))),
    column(Text, st.fixed_dictionaries({"max_tokens": st.integers(4, 60)})),
    st.just(Identifier(name="?")),
    st.just(Surrogate(name="?", of="email")),
)
schemas = st.lists(columns, max_size=6).map(
    lambda found: Schema(
        columns=[
            Text(name="always learned"),
            *(column.model_copy(update={"name": f"column {i}"}) for i, column in enumerate(found)),
        ]
    )
)


def learned(schema: Schema, row: Record) -> Record:
    return {column.name: row[column.name] for column in schema.learned()}


def check_rows(schema: Schema, rows: list[Record]) -> None:
    for row in rows:
        assert list(row) == [column.name for column in schema.columns]
        assert conform(schema, learned(schema, row)) == learned(schema, row)
        for column in schema.columns:
            value = row[column.name]
            assert column.nullable or value is not None
            if isinstance(column, Text) and value is not None:
                assert 1 <= len(str(value).split()) <= max(1, column.max_tokens)
            if isinstance(column, Boolean) and value is not None:
                assert type(value) is bool
            if isinstance(column, Date | DateTime | Integer | Number) and value is not None:
                assert type(value) is type(column.min)


@settings(max_examples=200, deadline=None)
@given(schema=schemas, seed=st.integers(0, 10**6))
def test_every_row_conforms_to_any_schema(schema: Schema, seed: int) -> None:
    rows = list(random_rows(schema, 15, "row", 3, seed))
    assert len(rows) == 15
    check_rows(schema, rows)


def test_every_kind_covers_its_allowed_values() -> None:
    rows = list(random_rows(ALL, 3000, "row", 1))
    check_rows(ALL, rows)
    seen = {name: {row[name] for row in rows} for name in rows[0]}
    assert seen["kind"] == {"a", "b", "else", None} and seen["list"] == {"x"}
    assert seen["n"] == {*range(-3, 5), None}
    assert seen["price"] == {round(cents / 100, 2) for cents in range(-5, 16)} | {None}
    assert seen["flag"] == {True, False}
    assert seen["day"] == {dt.date(2024, 2, 27) + dt.timedelta(days=d) for d in range(5)} | {None}
    assert seen["moment"] == {dt.datetime(2024, 12, 31, 23, 59, 58) + dt.timedelta(seconds=s) for s in range(6)} | {None}
    assert len(seen["who"]) == len(seen["name"]) == 3000
    nulls = sum(row["n"] is None for row in rows)
    assert 80 < nulls < 240, "about one in twenty, so that nulls are rehearsed, too"


@pytest.mark.parametrize("most", [1, 2, 7])
def test_unit_has_one_name_and_up_to_max_rows(most: int) -> None:
    rows = list(random_rows(ALL, 400, "who", most))
    check_rows(ALL, rows)
    counts = Counter(row["who"] for row in rows)
    assert len(counts) == 400 and None not in counts
    assert set(counts.values()) == set(range(1, most + 1))
    order = [row["who"] for row in rows]
    assert order == sorted(order, key=lambda who: int(str(who))), "the rows of a unit stand together"
    if most == 7:
        first = [row for row in rows if row["who"] == next(who for who, count in counts.items() if count == 7)]
        assert len({str(row["note"]) for row in first}) > 1, "its rows are not copies"


@pytest.mark.parametrize("unit", [column.name for column in COLUMNS])
def test_any_column_can_be_the_unit_and_is_never_missing(unit: str) -> None:
    rows = list(random_rows(ALL, 60, unit, 4))
    check_rows(ALL, rows)
    assert 60 <= len(rows) <= 240
    assert all(row[unit] is not None for row in rows)


def test_by_row_each_unit_is_one_row() -> None:
    assert len(list(random_rows(ALL, 123, "row", 50))) == 123


def test_the_same_seed_gives_the_same_rows() -> None:
    one, same, other = (list(random_rows(ALL, 30, "who", 3, seed)) for seed in (5, 5, 6))
    assert one == same != other
    assert list(random_rows(ALL, 30, "who", 3)) == list(random_rows(ALL, 30, "who", 3))


CONSTRAINTS = [
    "flag => kind = 'a' AND kind IS NOT NULL",
    "n < 0 => price IS NULL",
    "moment >= day",
    "kind = 'b' => NOT flag AND n > 1",
    "day > '2024-02-27'",
]


@pytest.mark.parametrize("unit", ["row", "who", "kind"])
def test_random_rows_satisfy_constraints(unit: str) -> None:
    schema = ALL.model_copy(update={"constraints": CONSTRAINTS})
    rows = list(random_rows(schema, 500, unit, 3))
    check_rows(schema, rows)
    assert {row["flag"] for row in rows} == {True, False} and len({row["n"] for row in rows}) == 9
    free = list(random_rows(ALL, 500, unit, 3))
    assert sum(conform(schema, learned(schema, row)) is None for row in free) > 100, "the constraints are broken without care"
