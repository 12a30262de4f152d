"""DuckDB makes of ordinals the very values, and finds the very violations, that Python does row by row."""

import datetime as dt

import duckdb
import numpy as np
import pytest

from localsynth.schema.columns import Boolean, Category, Date, DateTime, Identifier, Integer, Number, Schema, Time
from localsynth.schema.ordinals import MISSING, from_ordinal, value_count
from localsynth.store.bulk import OFFLINE
from localsynth.store.column_batch import ColumnBatch, ConstraintCheck
from localsynth.store.synthetic import Origin, SyntheticStore

ROWS = 400
COLUMNS = [
    Category(name="category", values=["it's", 'a "b"', "[]", "", "NULL"], other="other"),
    Boolean(name="boolean", format="Y/N"),
    Integer(name="integer", min=-(2**62), max=2**62),
    Integer(name="limited", min=-5, max=120, below=0.0, above=100.0),
    Integer(name="stepped", min=3, max=100, step=5),
    Number(name="quarters", min=-1.0, max=9.0, decimals=2, step=0.25),
    DateTime(name="half hours", min=dt.datetime(2024, 1, 1), max=dt.datetime(2024, 3, 1), step=1800),
    Number(name="number", min=-1.5, max=2.25, decimals=3),
    Number(name="whole", min=0.0, max=9.0, decimals=0),
    Number(name="wide", min=-1e15, max=1e15, decimals=2),
    Number(name="censored", min=0.0, max=9.0, decimals=1, below=0.5),
    Date(name="date", min=dt.date(1, 1, 1), max=dt.date(9999, 12, 31)),
    Date(name="month", min=dt.date(2020, 1, 15), max=dt.date(2021, 6, 30), format="%m/%Y"),
    DateTime(name="moment", min=dt.datetime(1, 1, 1), max=dt.datetime(9999, 12, 31, 23, 59, 59)),
    DateTime(name="minute", min=dt.datetime(2024, 1, 1), max=dt.datetime(2024, 3, 1), format="%d.%m.%Y %H:%M"),
    Time(name="time"),
    Time(name="hour", format="%I %p"),
]


def batch_of(columns, constraints=()):
    random = np.random.default_rng(7)
    ordinals = {}
    for column in columns:
        last = value_count(column) - 1
        picked = [0, last, MISSING, *(int(u * last) for u in random.random(ROWS - 3))]
        ordinals[column.name] = np.array(picked, dtype=np.int64 if last < 2**62 else object)
    return ColumnBatch(Schema(columns=columns, constraints=list(constraints)), ordinals)


def expected(column, ordinals):
    return [None if ordinal == MISSING else from_ordinal(column, ordinal) for ordinal in ordinals.tolist()]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_values_from_ordinals(column, tmp_path):
    batch = batch_of([column])
    store = SyntheticStore(tmp_path / "synthetic.duckdb")
    store.create_table(batch.schema)
    job = store.open_job(Origin("run", "", 1, 1.0, 0.0, {}, {}), total=ROWS)
    assert store.append(job.number, 0, batch)
    rounded = [
        value if value is None or isinstance(column, Category) else column.rounded(value)
        for value in expected(column, batch.ordinals[column.name])
    ]
    assert [row[column.name] for row in store.records()] == rounded
    assert not store.append(job.number, 0, batch)


CONSTRAINTS = [
    "date >= month",
    "moment > date",
    "minute >= '2024-02-01' => limited > 10.5",
    "NOT (number <= 0.001 OR integer IS NULL)",
    "category = 'it''s' => boolean = true",
    "whole IN (1, 2, 3) AND censored BETWEEN 0.3 AND 7.5",
    "whole < limited",
    "time <> '08:00'",
    "number <> 0.0000001",
    "category <> 'other' OR number IS NOT NULL",
]


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_violations_of_constraints(constraint):
    batch = batch_of(COLUMNS, [constraint])
    columns = {column.name: expected(column, batch.ordinals[column.name]) for column in COLUMNS}
    (read,) = batch.schema.read_constraints()
    violated = [read.violated({name: values[row] for name, values in columns.items()}) for row in range(ROWS)]
    assert ConstraintCheck(batch.schema).violating(batch.ordinals).tolist() == violated


def test_other_columns_are_passed_as_they_are():
    schema = Schema(columns=[Identifier(name="key"), Integer(name="n", min=0, max=9), Identifier(name="code", format="A-##")])
    batch = ColumnBatch(schema, {"n": np.array([3, MISSING])}, {"key": [1, 2], "code": ["A-01", None]})
    with duckdb.connect(":memory:", config=OFFLINE) as connection:
        batch.register(connection, "batch")
        assert connection.execute(f"SELECT {', '.join(batch.written().values())} FROM batch").fetchall() == [
            ("1", 3, "A-01"),
            ("2", None, None),
        ]


def test_rows_keep_their_order_on_several_threads(tmp_path):
    rows = 250_000
    numbers = np.random.default_rng(1).permutation(rows)
    schema = Schema(columns=[Integer(name="n", min=0, max=rows)], constraints=["n >= 1000"])
    batch = ColumnBatch(schema, {"n": numbers})
    store = SyntheticStore(tmp_path / "synthetic.duckdb")
    store.create_table(schema)
    job = store.open_job(Origin("run", "", 1, 1.0, 0.0, {}, {}), total=rows)
    store.append(job.number, 0, batch)
    assert [row[0] for row in store.query("SELECT n FROM synthetic")[1]] == numbers.tolist()
    assert (ConstraintCheck(schema).violating({"n": numbers}) == (numbers < 1000)).all()
