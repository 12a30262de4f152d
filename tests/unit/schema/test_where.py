"""A condition means what SQL says it means: DuckDB judges, value by value."""

import datetime as dt

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localsynth.errors import ConfigError
from localsynth.llm.row_text import allowed_pattern, format_value
from localsynth.schema.columns import Boolean, Category, Date, DateTime, Identifier, Integer, Number, Schema, Text
from localsynth.schema.where import exactly, parse_where, values_of

SCHEMA = Schema(
    columns=[
        Identifier(name="id"),
        Category(name="Kind of", values=["ham", "spam", "it's"], other="other"),
        Integer(name="n", min=-5, max=12),
        Number(name="price", min=-1.5, max=3.25, decimals=2),
        Boolean(name="flag"),
        Date(name="day", min=dt.date(2020, 2, 25), max=dt.date(2020, 3, 5)),
        DateTime(name="moment", min=dt.datetime(2020, 1, 1), max=dt.datetime(2020, 1, 1, 0, 0, 20)),
        Integer(name="sure", min=1, max=3, nullable=False),
        Text(name="note", max_tokens=20),
    ]
)
VALUES = {
    "Kind of": ["ham", "spam", "it's", "other"],
    "n": list(range(-5, 13)),
    "price": [round(i / 100, 2) for i in range(-150, 326)],
    "flag": [True, False],
    "day": [dt.date(2020, 2, 25) + dt.timedelta(days=i) for i in range(10)],
    "moment": [dt.datetime(2020, 1, 1, 0, 0, i) for i in range(21)],
    "sure": [1, 2, 3],
}
TYPES = {"Kind of": "VARCHAR", "flag": "BOOLEAN", "day": "DATE", "moment": "TIMESTAMP", "price": "DECIMAL(9,2)"}

LITERALS = {
    "Kind of": ["'ham'", "'it''s'", "'other'"],
    "n": ["3", "-5", "2.5", "100"],
    "price": ["1.25", "-0.5", "0.005", "99"],
    "flag": ["true", "FALSE"],
    "day": ["'2020-02-29'", "DATE '2020-03-01'", "'2021-01-01'"],
    "moment": ["'2020-01-01 00:00:07'", "TIMESTAMP '2020-01-01 00:00:00'"],
    "sure": ["2", "3"],
}


def meets_in_sql(condition: str, name: str, value: object) -> bool:
    kind = TYPES.get(name, "BIGINT")
    quoted = '"' + name + '"'
    found = duckdb.execute(f"SELECT count(*) FROM (SELECT ?::{kind} AS {quoted}) WHERE {condition}", [value]).fetchone()
    return found == (1,)


@st.composite
def conditions(draw, depth=2):
    name = draw(st.sampled_from(sorted(VALUES)))
    return name, draw(one_column(name, depth))


def one_column(name: str, depth: int):
    column, literal = '"' + name + '"', st.sampled_from(LITERALS[name])
    signs = ["=", "<>"] + ([] if name in ("Kind of", "flag") else ["<", "<=", ">", ">="])
    atoms = [
        st.tuples(st.sampled_from(signs), literal).map(lambda p: f"{column} {p[0]} {p[1]}"),
        st.lists(literal, min_size=1, max_size=3).map(lambda parts: f"{column} IN ({', '.join(parts)})"),
        st.lists(literal, min_size=1, max_size=2).map(lambda parts: f"{column} NOT IN ({', '.join(parts)})"),
        st.sampled_from([f"{column} IS NULL", f"{column} IS NOT NULL"]),
    ]
    if len(signs) > 2:
        atoms.append(st.tuples(literal, literal).map(lambda p: f"{column} BETWEEN {p[0]} AND {p[1]}"))
        atoms.append(st.tuples(literal, st.sampled_from(signs)).map(lambda p: f"{p[0]} {p[1]} {column}"))
    if name == "flag":
        atoms += [st.just(column), st.just(f"{column} IS TRUE")]
    atom = st.one_of(atoms)
    if depth == 0:
        return atom
    inner = one_column(name, depth - 1)
    return st.one_of(
        atom,
        inner.map(lambda c: f"NOT ({c})"),
        st.tuples(inner, inner).map(lambda p: f"({p[0]}) AND ({p[1]})"),
        st.tuples(inner, inner).map(lambda p: f"({p[0]}) OR ({p[1]})"),
    )


@settings(max_examples=150, deadline=None)
@given(conditions())
def test_condition_allows_the_values_sql_allows(pair):
    name, condition = pair
    column = SCHEMA.column(name)
    values = VALUES[name] + ([None] if column.nullable else [])
    wanted = [value for value in values if meets_in_sql(condition, name, value)]
    if not wanted:
        with pytest.raises(ConfigError, match="leaves no value"):
            parse_where(condition, SCHEMA)
        return
    (found,) = parse_where(condition, SCHEMA).values()
    assert [value for value in values if value in found] == wanted
    assert (found.single.value if found.single else ...) == (wanted[0] if len(wanted) == 1 else ...)
    # The grammar of the condition spells the same values, and no others.
    import re

    pattern = re.compile(allowed_pattern(found))
    assert [value for value in values if pattern.fullmatch(f" {format_value(column, value)}\n")] == wanted


def test_conditions_on_several_columns_ignore_case():
    found = parse_where("N >= 3 and \"kind of\" = 'ham' AND flag AND NOT n > 9", SCHEMA)
    assert sorted(found) == ["Kind of", "flag", "n"]
    assert found["n"].intervals == ((3, 9),)


def test_text_takes_equality_and_is_null_only():
    assert parse_where("note = 'Hello, it''s me'", SCHEMA)["note"].values == {"Hello, it's me"}
    assert parse_where("note IS NULL", SCHEMA)["note"].single.value is None
    for wrong in ("note <> 'x'", "note > 'x'", "note LIKE 'x%'"):
        with pytest.raises(ConfigError):
            parse_where(wrong, SCHEMA)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("n >", "not valid SQL"),
        ("nn = 3", "no column 'nn'"),
        ("id = 3", "'id' is a column of kind identifier"),
        ("n = 3 OR flag", "same column"),
        ("NOT (n = 3 AND flag)", "same column"),
        ("n = 3 => flag", "same column"),
        ("n = price", "compares two columns"),
        ("n = 'many'", "not of its kind"),
        ("n = 1e999999999", "not of its kind"),
        ("n = 1e300", "not of its kind"),
        ("n = 1e17", "leaves no value"),
        ("n = 'NaN'", "not of its kind"),
        ("day = '2020-02-31'", "not of its kind"),
        ("\"Kind of\" = 'eggs'", "leaves no value"),
        ("sure IS NULL", "leaves no value"),
        ("\"Kind of\" > 'ham'", "no order"),
        ("length(note) > 3", "no column"),
        ("length(note) = n", "neither a column nor a value"),
        ("1 = 1", "no column"),
        ("n IN (SELECT 3)", "cannot use"),
        ("n = 3; DROP TABLE synthetic", "cannot use"),
        ("", "not valid SQL"),
    ],
)
def test_refused_conditions_say_why(condition, message):
    with pytest.raises(ConfigError, match=message) as error:
        parse_where(condition, SCHEMA)
    assert error.value.hint


def test_hint_about_quotes_for_a_name_with_hyphens():
    with pytest.raises(ConfigError) as error:
        parse_where("hours-per-week >= 50", SCHEMA)
    assert "double quotes" in error.value.hint


def test_exactly_gives_one_allowed_value():
    assert exactly(SCHEMA.column("price"), "1.50").single.value == 1.5
    assert exactly(SCHEMA.column("n"), None).single.value is None
    with pytest.raises(ConfigError, match="'price'"):
        exactly(SCHEMA.column("price"), "1.505")
    with pytest.raises(ConfigError, match="'sure'"):
        exactly(SCHEMA.column("sure"), None)


def test_values_of_a_column_with_few_values():
    assert values_of(SCHEMA.column("sure")) == ["1", "2", "3"]
    assert values_of(SCHEMA.column("flag")) == ["true", "false"]
    with pytest.raises(ConfigError):
        values_of(SCHEMA.column("price"))
