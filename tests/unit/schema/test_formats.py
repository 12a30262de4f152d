"""What a format writes is read back, and what has another form is refused."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from localsynth.schema.columns import Boolean, Date, DateTime, Identifier, Integer, Number, Schema, Time
from localsynth.schema.formats import BooleanFormat, KeyFormat, MomentFormat, NumberFormat

NUMBERS = ["1234.5", "1234,5", "1.234,5", "1,234.5", "1 234,5", "1'234.5", "$1,234.5", "1.234,5 €", "1234.5 %", "USD 1234.5"]
MOMENTS = [
    *("%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%-m/%-d/%Y %-I:%M:%S %p", "%Y-%m-%dT%H:%M:%SZ", "%Y%m%d%H%M%S"),
    *("%d %b %Y, %H.%M.%S", "%B %d, %Y %H:%M:%S", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S%:z"),
]


@given(st.sampled_from(NUMBERS), st.integers(-(10**9), 10**9), st.integers(0, 4))
def test_a_number_is_read_as_it_was_written(template: str, number: int, decimals: int) -> None:
    written = NumberFormat.of(template)
    value = number / 10**decimals
    text = written.write(value, decimals)
    read = written.read(text)
    assert read is not None and float(read) == value
    assert text.count("-") == (value < 0)


@pytest.mark.parametrize(
    ("template", "value", "decimals", "text"),
    [
        ("1234,5", 2.6, 1, "2,6"),
        ("1.234,5 €", -1234567.891, 2, "-1.234.567,89 €"),
        ("$1,234.5", 4.99, 2, "$4.99"),
        ("1,234", 1000, 0, "1,000"),
        ("1,234+", 1000, 0, "1,000+"),
        ("1234 %", 12, 0, "12 %"),
        ("1234.0", 4, 0, "4.0"),
        ("1234.5", -0.001, 2, "0.00"),
    ],
)
def test_numbers_as_people_write_them(template: str, value: float, decimals: int, text: str) -> None:
    assert NumberFormat.of(template).write(value, decimals) == text


@pytest.mark.parametrize(
    ("template", "text", "plain"),
    [
        ("1234,5", "2,6", "2.6"),
        ("1234,5", "12.345", None),  # a thousands sign that the format does not have: 12345, not 12.345
        ("1.234,5", "12.345", "12345"),
        ("1.234,5", "12.34", None),
        ("$1,234.5", "-$1,204.50", "-1204.50"),
        ("$1,234.5", "$-3", "-3"),
        ("$1,234.5", "3.5", "3.5"),
        ("1234 %", "\u22127%", "-7"),
        ("1234.0", "4.0", "4"),
        ("1234.5", "word", None),
        ("1234.5", "", None),
    ],
)
def test_numbers_are_read_strictly(template: str, text: str, plain: str | None) -> None:
    assert NumberFormat.of(template).read(text) == plain


@given(st.sampled_from(MOMENTS), st.datetimes(dt.datetime(1000, 1, 1), dt.datetime(9999, 12, 30)))
def test_a_moment_is_read_as_it_was_written(codes: str, moment: dt.datetime) -> None:
    moment = moment.replace(microsecond=0)
    assert MomentFormat.of(codes).read(MomentFormat.of(codes).write(moment)) == moment


@pytest.mark.parametrize(
    ("codes", "text", "moment"),
    [
        ("%d.%m.%Y", "17.08.2021", dt.datetime(2021, 8, 17)),
        ("%m/%d/%y", "08/17/21", dt.datetime(2021, 8, 17)),
        ("%m/%d/%y", "08/17/69", dt.datetime(1969, 8, 17)),
        ("%d %b %Y", "17 Aug 2021", dt.datetime(2021, 8, 17)),
        ("%Y-%m", "2021-08", dt.datetime(2021, 8, 1)),
        ("%H:%M", "07:57", dt.datetime(1970, 1, 1, 7, 57)),
        ("%H.%M.%S", "18.00.00", dt.datetime(1970, 1, 1, 18)),
        ("%I:%M %p", "12:05 am", dt.datetime(1970, 1, 1, 0, 5)),
        ("%Y-%m-%dT%H:%M:%S%z", "2021-08-17T10:00:00.123+02:00", dt.datetime(2021, 8, 17, 8)),
        ("%d.%m.%Y", "31.02.2021", None),
        ("%d.%m.%Y", "2021-08-17", None),
        ("%I:%M %p", "13:05 am", None),
    ],
)
def test_dates_as_people_write_them(codes: str, text: str, moment: dt.datetime | None) -> None:
    assert MomentFormat.of(codes).read(text) == moment


def test_booleans_and_keys() -> None:
    assert BooleanFormat.of("Y/N").read("y") is True and BooleanFormat.of("Y/N").write(False) == "N"
    assert BooleanFormat.of("1/0").read("2") is None
    assert [KeyFormat.of("INV-2024-#####").write(n) for n in (1, 99_999, 100_000)] == [
        *("INV-2024-00001", "INV-2024-99999", "INV-2024-100000"),
    ]
    assert [KeyFormat.of("C#").write(n) for n in (1, 12)] == ["C1", "C12"]


@given(st.sampled_from(["C#", "??-#", "###-##", "?"]))
def test_keys_are_unique(form: str) -> None:
    assert len({KeyFormat.of(form).write(number) for number in range(1, 3000)}) == 2999


@pytest.mark.parametrize(
    "column",
    [
        {"kind": "number", "format": "12,5"},
        {"kind": "number", "format": "1,234,5"},
        {"kind": "date", "format": "%H:%M"},
        {"kind": "date", "format": "%d.%m"},
        {"kind": "date", "format": "%d.%q.%Y"},
        {"kind": "datetime", "format": "%Y-%m-%d %I:%M"},
        {"kind": "time", "format": "%Y"},
        {"kind": "boolean", "format": "Y"},
        {"kind": "boolean", "format": "y/Y"},
        {"kind": "identifier", "format": "INV"},
        {"kind": "integer", "format": "1234\n"},
    ],
)
def test_a_format_that_could_not_be_read_is_refused(column: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Schema.model_validate({"columns": [{"name": "x", **column}, {"name": "y", "kind": "boolean"}]})


def test_what_the_file_cannot_write_is_rounded() -> None:
    assert Date(name="m", format="%Y-%m").rounded(dt.date(2021, 8, 17)) == dt.date(2021, 8, 1)
    assert DateTime(name="t", format="%d.%m.%Y %H:%M").rounded(dt.datetime(2021, 8, 17, 1, 2, 3)) == dt.datetime(
        2021, 8, 17, 1, 2
    )
    assert Time(name="t", format="%H:%M").written(dt.datetime(1970, 1, 1, 7, 57, 9)) == "07:57"
    crp = Number(name="crp", decimals=1, below=0.5, format="1234,5")
    assert [crp.written(value) for value in (0.4, 0.5, 12.0)] == ["<0,5", "0,5", "12,0"]
    assert crp.rounded(0.1) == 0.4 and crp.plain("<0,5") == crp.plain("< 0,2") == "0.4"
    assert Number(name="crp", decimals=1).plain("<0.5") == "0.5"
    assert Integer(name="n", above=100).written(150) == ">100" and Integer(name="n", above=100).rounded(150) == 101


def test_defaults_stay_out_of_documents() -> None:
    """Certificates of tables without formats look as if there were none."""
    for column in (Number(name="x"), Boolean(name="x"), Date(name="x"), Identifier(name="x")):
        assert not {"format", "below", "above", "missing"} & set(column.model_dump())
