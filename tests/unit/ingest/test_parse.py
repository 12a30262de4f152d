import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localsynth.ingest.parse import UnreadableValueError, parse_value, parser_for
from localsynth.schema.columns import Boolean, Category, Column, Date, DateTime, Integer, Number, Text, Value

INTEGER, BOOLEAN, DATE, DATETIME = Integer(name="c"), Boolean(name="c"), Date(name="c"), DateTime(name="c")
NUMBER, CATEGORY, TEXT = Number(name="c", decimals=2), Category(name="c"), Text(name="c")


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        (INTEGER, "3", 3),
        (INTEGER, " -3.0 ", -3),
        (INTEGER, "+07", 7),
        (INTEGER, "1e+05", 100_000),
        (INTEGER, str(2**62), 2**62),
        (INTEGER, "NaN", None),
        (INTEGER, "", None),
        (NUMBER, "1.005", 1.0),
        (NUMBER, "2.675e1", 26.75),
        (NUMBER, ".5", 0.5),
        (NUMBER, "-inf", None),
        (NUMBER, "1e999", None),
        (BOOLEAN, "Yes", True),
        (BOOLEAN, "F", False),
        (BOOLEAN, "1", True),
        (BOOLEAN, "0.0", False),
        (DATE, "2020-02-29", dt.date(2020, 2, 29)),
        (DATE, "2020-02-29 00:00:00", dt.date(2020, 2, 29)),
        (DATETIME, "2020-02-29", dt.datetime(2020, 2, 29)),
        (DATETIME, "2020-02-29T10:11:12.999", dt.datetime(2020, 2, 29, 10, 11, 12)),
        (DATETIME, "2020-01-01 00:30:00+02:00", dt.datetime(2019, 12, 31, 22, 30)),
        (DATETIME, "2020-01-01 08:00:00+00", dt.datetime(2020, 1, 1, 8)),
        (DATETIME, "2020-01-01T08:00:00Z", dt.datetime(2020, 1, 1, 8)),
        (CATEGORY, "  State-gov\t", "State-gov"),
        (CATEGORY, "a \n b", "a b"),
        (CATEGORY, " \x00 ", None),
        (TEXT, " a\r\nb\rc\td\x00\x1b ", " a\nb\nc\td "),
        (TEXT, None, None),
        (TEXT, "?", None),
        (TEXT, " ? ", None),
    ],
)
def test_values(column: Column, text: str | None, value: Value) -> None:
    found = parse_value(column, text, ["", "?"])
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (INTEGER, "3.5"),
        (INTEGER, "1,000"),
        (INTEGER, "1_000"),
        (INTEGER, "٣"),
        (INTEGER, str(2**62 + 1)),
        (INTEGER, "9" * 10_000),
        (INTEGER, "1e9999"),
        (INTEGER, "x"),
        (NUMBER, "3,5"),
        (NUMBER, "1_0.0"),
        (NUMBER, "0x10"),
        (BOOLEAN, "2"),
        (BOOLEAN, "maybe"),
        (DATE, "29.02.2020"),
        (DATE, "2021-02-29"),
        (DATE, "20200229"),
        (DATE, "2020-W01-1"),
        (DATETIME, "2020-01-01 25:00"),
        (DATETIME, "0001-01-01 00:00:00+02:00"),
        (DATETIME, "yesterday"),
    ],
)
def test_refusals_never_quote_the_value(column: Column, text: str) -> None:
    with pytest.raises(UnreadableValueError) as caught:
        parse_value(column, text, [""])
    assert text not in str(caught.value) or len(text) == 1
    assert caught.value.__cause__ is None


def test_empty_text_is_kept_unless_it_means_missing() -> None:
    assert parse_value(TEXT, "", ["?"]) == ""
    assert parse_value(TEXT, "", [""]) is None
    assert parse_value(INTEGER, "", ["?"]) is None


def test_minus_zero_is_zero() -> None:
    assert str(parse_value(NUMBER, "-0.001", [])) == "0.0"


@given(st.sampled_from([INTEGER, NUMBER, BOOLEAN, DATE, DATETIME, CATEGORY, TEXT]), st.text())
def test_any_string_is_parsed_or_refused(column: Column, text: str) -> None:
    try:
        value = parse_value(column, text, [""])
    except UnreadableValueError:
        return
    if isinstance(value, str):
        assert not any(ord(c) < 32 and c not in "\n\t" for c in value)


@given(st.lists(st.integers(-(2**62), 2**62)))
def test_cached_values_are_correct(numbers: list[int]) -> None:
    parse = parser_for(INTEGER, [""])
    assert [parse(str(number)) for number in [*numbers, *numbers]] == [*numbers, *numbers]


def test_missing_values_of_one_column() -> None:
    """NA is Namibia in one column, and no value in another."""
    country, weight = Category(name="country", missing=[""]), Number(name="weight")
    assert parse_value(country, "NA", ["", "NA"]) == "NA" and parse_value(weight, "NA", ["", "NA"]) is None
    assert parse_value(Integer(name="n", missing=["-999"]), "-999", [""]) is None
    assert parse_value(Text(name="note", missing=["none"]), "none", [""]) is None
