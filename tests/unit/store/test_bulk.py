import datetime as dt

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from localsynth.store.bulk import insert_rows, quoted

TYPES = ["BIGINT", "DOUBLE", "VARCHAR", "BOOLEAN", "DATE", "TIMESTAMP"]
ROW = st.tuples(
    st.none() | st.integers(-(2**62), 2**62),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    st.none() | st.booleans(),
    st.none() | st.dates(),
    st.none() | st.datetimes().map(lambda moment: moment.replace(microsecond=0)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, max_size=8))
def test_insert_rows_is_lossless(rows: list[tuple[object, ...]]) -> None:
    with duckdb.connect(":memory:") as connection:
        columns = ", ".join(f"c{i} {kind}" for i, kind in enumerate(TYPES))
        connection.execute(f"CREATE TABLE t ({columns})")
        insert_rows(connection, "t", TYPES, rows)  # type: ignore[arg-type]
        assert connection.execute("SELECT * FROM t").fetchall() == rows


def test_decimal_column_stores_the_float_exactly() -> None:
    with duckdb.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (c DECIMAL(18,2))")
        insert_rows(
            connection, "t", ["DECIMAL(18,2)"], [(0.1,), (-2.35,), (123456789012345.67,), (5,), (None,), (1e-2,), (1e15,)]
        )
        found = [None if value is None else str(value) for (value,) in connection.execute("SELECT c FROM t").fetchall()]
    assert found == ["0.10", "-2.35", "123456789012345.67", "5.00", None, "0.01", "1000000000000000.00"]


def test_quoted_names() -> None:
    with duckdb.connect(":memory:") as connection:
        name = 'a "b"; drop table x --'
        found = connection.execute(f"SELECT {dt.date.today().year} AS {quoted(name)}")
        assert found.description[0][0] == name
