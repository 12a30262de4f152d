"""A constraint means what an SQL CHECK means: DuckDB judges, row by row. Feasible values are never left out."""

import datetime as dt
import itertools

import duckdb
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from localsynth.config import parse_config
from localsynth.errors import ConfigError
from localsynth.schema.columns import (
    Boolean,
    Category,
    Column,
    Date,
    DateTime,
    Identifier,
    Integer,
    Number,
    Schema,
    Text,
    conform,
)
from localsynth.schema.feasible import FeasibleSet, check_constraints
from localsynth.schema.where import parse_where

COLUMNS: list[Column] = [
    Category(name="sex", values=["F", "M"], other="other"),
    Boolean(name="pregnant"),
    Integer(name="low", min=0, max=3, nullable=False),
    Integer(name="high", min=1, max=4),
    Number(name="price", min=0, max=2, decimals=1),
    Date(name="admission", min=dt.date(2020, 2, 28), max=dt.date(2020, 3, 1)),
    DateTime(name="seen", min=dt.datetime(2020, 2, 28, 23, 59, 58), max=dt.datetime(2020, 2, 29, 0, 0, 1), nullable=False),
]
VALUES = {
    "sex": ["F", "M", "other", None],
    "pregnant": [True, False, None],
    "low": [0, 1, 2, 3],
    "high": [1, 2, 3, 4, None],
    "price": [None, *(round(i / 10, 1) for i in range(21))],
    "admission": [dt.date(2020, 2, 28) + dt.timedelta(days=i) for i in range(3)] + [None],
    "seen": [dt.datetime(2020, 2, 28, 23, 59, 58) + dt.timedelta(seconds=i) for i in range(4)],
}
TYPES = {
    "sex": "VARCHAR",
    "pregnant": "BOOLEAN",
    "low": "BIGINT",
    "high": "BIGINT",
    "price": "DOUBLE",
    "admission": "DATE",
    "seen": "TIMESTAMP",
}
# `seen` and `admission` are compared by days, which SQL has to be told.
ATOMS = {
    "sex = 'F'": None,
    "sex <> 'M'": None,
    "'other' = sex": None,
    "sex IN ('F', 'M')": None,
    "sex IS NULL": None,
    "pregnant": None,
    "pregnant = false": None,
    "low <= high": None,
    "high > low": None,
    "low = high": None,
    "price < low": None,
    "price <> high": None,
    "price >= 0.7": None,
    "low BETWEEN 1 AND high": None,
    "admission > '2020-02-28'": None,
    "high IS NOT NULL": None,
    "seen < '2020-02-29 00:00:00'": None,
    "admission <= seen": "admission <= CAST(seen AS DATE)",
    "seen > admission": "CAST(seen AS DATE) > admission",
    "seen = admission": "CAST(seen AS DATE) = admission",
    "admission <> seen": "admission <> CAST(seen AS DATE)",
}


@st.composite
def written(draw, depth=2):
    """(a constraint, the same in SQL)."""
    if depth == 0 or draw(st.booleans()):
        atom = draw(st.sampled_from(sorted(ATOMS)))
        return atom, ATOMS[atom] or atom
    left, right = draw(written(depth=depth - 1)), draw(written(depth=depth - 1))
    form = draw(st.sampled_from(["({}) AND ({})", "({}) OR ({})", "NOT ({})"]))
    return form.format(left[0], right[0]), form.format(left[1], right[1])


@st.composite
def constraint(draw):
    left, right = draw(written()), draw(written())
    if draw(st.booleans()):
        return left
    return f"{left[0]} => {right[0]}", f"NOT ({left[1]}) OR ({right[1]})"


rows = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in VALUES.items()})


def accepted_by_check(sql: str, row: dict) -> bool:
    """Whether DuckDB lets the row into a table with that CHECK."""
    connection = duckdb.connect()
    columns = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
    connection.execute(f"CREATE TABLE t ({columns}, CHECK ({sql}))")
    try:
        connection.execute(f"INSERT INTO t VALUES ({', '.join('?' * len(TYPES))})", [row[name] for name in TYPES])
    except duckdb.ConstraintException:
        return False
    return True


def schema_of(*constraints: str, columns: list[Column] | None = None) -> Schema:
    return Schema(columns=columns or COLUMNS, constraints=list(constraints))


@settings(max_examples=100, deadline=None)
@given(constraint(), rows)
def test_row_violates_a_constraint_where_sql_says_so(constraint, row):
    text, sql = constraint
    assert (conform(schema_of(text), row) is None) != accepted_by_check(sql, row)


@settings(max_examples=100, deadline=None)
@given(st.lists(constraint().map(lambda c: c[0]), min_size=1, max_size=3), rows, st.data())
def test_feasible_values_include_those_of_every_valid_row(constraints, row, data):
    feasible = FeasibleSet(schema_of(*constraints))
    assume(feasible.satisfied(row))
    known = data.draw(st.sets(st.sampled_from(sorted(VALUES))))
    for name in set(VALUES) - known:
        assert row[name] in feasible.of_column(name, {other: row[other] for other in known}, {})


@settings(max_examples=100, deadline=None)
@given(constraint().map(lambda c: c[0]), rows, st.sampled_from(sorted(VALUES)))
def test_feasible_values_are_exact_when_the_rest_is_known(text, row, name):
    feasible = FeasibleSet(schema_of(text))
    assume(name in feasible.names)
    rest = {other: value for other, value in row.items() if other != name}
    allowed = feasible.of_column(name, rest, {})
    for value in VALUES[name]:  # type: ignore[attr-defined]
        assert (value in allowed) == feasible.satisfied({**rest, name: value})


@settings(max_examples=100, deadline=None)
@given(st.lists(constraint().map(lambda c: c[0]), min_size=1, max_size=3))
def test_witness_is_found_where_there_is_one(constraints):
    feasible = FeasibleSet(schema_of(*constraints))
    names = feasible.names
    assume(len(names) <= 5)
    found = feasible.witness({})
    rest = {name: values[0] for name, values in VALUES.items()}
    if found is not None:
        assert set(found) == set(names) and feasible.satisfied({**rest, **found})
    else:
        everything = itertools.product(*(VALUES[name] for name in names))
        assert not any(feasible.satisfied({**rest, **dict(zip(names, values, strict=True))}) for values in everything)


def test_witness_satisfies_the_requested_conditions():
    feasible = FeasibleSet(schema_of("low <= high", "pregnant => sex = 'F'"))
    found = feasible.witness(parse_where("low = 3 AND pregnant", schema_of()))
    assert found is not None and found["low"] == 3 and found["sex"] in ("F", None) and found["high"] in (3, 4, None)
    assert feasible.witness(parse_where("low = 3 AND high = 2", schema_of())) is None


def test_date_equals_a_datetime_of_the_same_day():
    schema = schema_of("admission >= seen")
    row = dict.fromkeys(VALUES) | {"low": 0, "seen": dt.datetime(2020, 2, 29, 0, 0, 1)}
    assert conform(schema, {**row, "admission": dt.date(2020, 2, 29)})
    assert conform(schema, {**row, "admission": dt.date(2020, 2, 28)}) is None


def test_values_are_clamped_before_constraints_are_checked():
    schema = schema_of("low < high")
    row = dict.fromkeys(VALUES) | {"seen": VALUES["seen"][0]}
    assert conform(schema, {**row, "low": 9, "high": 11}) == {**row, "low": 3, "high": 4}
    assert conform(schema, {**row, "low": 9, "high": 2}) is None
    assert conform(schema, {**row, "low": 9, "high": None})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hight > low", "Did you mean 'high'?"),
        ("low >", "is not valid SQL"),
        ("(low > 1", "is not valid SQL"),
        ("low > 1; DROP TABLE x", "cannot use"),
        ("low + 1 > high", "low + 1 is neither a column nor a value"),
        ("low > high + 1", "high + 1 is neither a column nor a value"),
        ("price = NULL", "IS NULL"),
        ("low = low", "'low' is compared with itself"),
        ("low > sex", "cannot be compared"),
        ("sex > 'F'", "has no order"),
        ("pregnant < true", "has no order"),
        ("low = 'many'", "A value compared with 'low' is not of its kind (integer)"),
        ("price = 'nan'", "A value compared with 'price' is not of its kind (number)"),
        ("admission > '2020-13-01'", "A value compared with 'admission' is not of its kind (date)"),
        ("pregnant => sex = 'W'", "'W' is not in the list of 'sex'"),
        ("low = 1 => high = 2 => pregnant", "more than one =>"),
        ("note IS NULL", "a column of kind text"),
        ("key = 3", "a column of kind identifier"),
        ("1 = 1", "1 is compared, which is no column"),
        ("low", "cannot use low"),
        ("low IN (SELECT 1)", "cannot use"),
        ("(" * 900 + "pregnant" + ")" * 90, "is not valid SQL"),
        ("pregnant OR " * 100 + "pregnant", "more than 1000 characters"),
    ],
)
def test_invalid_constraints_are_refused_with_a_reason(text, says):
    columns = [*COLUMNS, Text(name="note"), Identifier(name="key")]
    with pytest.raises(ValueError, match="constraint") as refused:
        schema_of(text, columns=columns)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("constraints", "says"),
    [
        (["low > 3"], "can satisfy the constraint 'low > 3'"),
        (["admission > '2020-03-01'", "admission IS NOT NULL"], "satisfies all of"),
        (["low > high", "high > price", "price > low", "high IS NOT NULL", "price IS NOT NULL"], "No row was found"),
        (["sex = 'F'", "sex <> 'F'", "sex IS NOT NULL"], "No row was found"),
    ],
)
def test_infeasible_constraints_are_refused(constraints, says):
    with pytest.raises(ConfigError, match=says):
        check_constraints(schema_of(*constraints))


def test_open_bounds_and_lists_make_constraints_feasible():
    columns: list[Column] = [
        Integer(name="a"),
        Integer(name="b"),
        Category(name="c"),
        Category(name="d"),
        Date(name="e"),
        DateTime(name="f"),
    ]
    check_constraints(schema_of("a > b", "a > 1000000", "c = 'anything'", "d = c", "e > f", "c <> 'x'", columns=columns))
    with pytest.raises(ConfigError, match="No row was found"):
        check_constraints(schema_of("a > b", "b > a", "a IS NOT NULL", "b IS NOT NULL", columns=columns))


def test_config_with_infeasible_constraints_is_refused():
    text = """
[data]
source = "x.csv"
[schema]
constraints = ["n > m", "m > n"]
columns = [{name = "n", kind = "integer", nullable = false}, {name = "m", kind = "integer", nullable = false}]
"""
    with pytest.raises(ConfigError, match="satisfies all of"):
        parse_config(text, "localsynth.toml")
    with pytest.raises(ConfigError, match="constraint 'n > q': There is no column 'q'"):
        parse_config(text.replace("m > n", "n > q"), "localsynth.toml")
    assert parse_config(text.replace("m > n", "m >= 3"), "localsynth.toml").schema_.constraints == ["n > m", "m >= 3"]


def test_schema_without_constraints_omits_the_key():
    assert "constraints" not in schema_of().model_dump(mode="json")
    assert schema_of("low <= high").model_dump(mode="json")["constraints"] == ["low <= high"]
    assert Schema.model_validate(schema_of("low <= high").model_dump(mode="json")) == schema_of("low <= high")
