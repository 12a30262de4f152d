"""Round trips of the codec over any Unicode text, nulls, numbers and dates; what is learned and what is forced."""

import datetime as dt
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localsynth.llm.row_text import Codec, allowed_pattern, format_value, parse_value, value_pattern
from localsynth.schema.columns import Boolean, Category, Date, DateTime, Integer, Number, Schema, Text, conform
from localsynth.schema.conditions import only


def bytewise(text):
    """A tokenizer with a token for each byte."""
    return list(text.encode("utf-8"))


unicode = st.text(st.characters(exclude_categories=["Cs"]))
# What ingest lets through: no control characters but line breaks and tabs.
clean = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t\r"))

CASES = [
    (Text(name="t", max_tokens=4096), clean),
    (
        Category(name="c", values=["a", "b\nc", "\\N", "x|y", "[z]*", "\\", "ä😀"], other="rest"),
        st.sampled_from(["a", "b\nc", "\\N", "x|y", "[z]*", "\\", "ä😀", "rest"]),
    ),
    (
        Category(
            name="k", values=["J45", "K\n", "\\N"], descriptions={"J45": "asthma", "K\n": 'a "|" (b)*', "\\N": "x"}, other="J45 "
        ),
        st.sampled_from(["J45", "K\n", "\\N", "J45 "]),
    ),
    (Integer(name="i", min=-500, max=100_000), st.integers(-500, 100_000)),
    (Number(name="n", min=-9.5, max=1234.25, decimals=2), st.integers(-950, 123_425).map(lambda x: x / 100)),
    (Boolean(name="b"), st.booleans()),
    (Date(name="d", min=dt.date(1900, 1, 1), max=dt.date(2100, 6, 3)), st.dates(dt.date(1900, 1, 1), dt.date(2100, 6, 3))),
    (
        DateTime(name="m", min=dt.datetime(2000, 1, 1, 3), max=dt.datetime(2030, 1, 1)),
        st.datetimes(dt.datetime(2000, 1, 1, 3), dt.datetime(2030, 1, 1)).map(lambda m: m.replace(microsecond=0)),
    ),
]
SCHEMA = Schema(columns=[column for column, _ in CASES])
RECORDS = st.fixed_dictionaries({column.name: st.none() | values for column, values in CASES})


@given(RECORDS)
def test_every_record_survives_the_round_trip(record):
    codec = Codec(SCHEMA, bytewise, [])
    encoded = codec.encode(record)
    values, current = [], []
    for token, learned in zip(encoded.tokens, encoded.learned, strict=True):
        if learned:
            current.append(token)
            if token == ord("\n"):
                values.append(bytes(current))
                current = []
    decoded = codec.decode(values)
    assert decoded == record
    assert conform(SCHEMA, decoded) == record
    for field, value in zip(codec.fields, values, strict=True):
        assert re.fullmatch(field.pattern, value.decode()), (field.pattern, value)
        assert len(value) <= field.budget or field.column.kind == "text"


@given(unicode)
def test_any_text_at_all_survives(text):
    column = Text(name="t")
    written = format_value(column, text)
    assert parse_value(column, written) == text
    assert "\n" not in written and written != "\\N"


@given(clean, st.integers(4, 40))
def test_a_long_text_is_cut_between_characters_and_still_ends(text, budget):
    schema = Schema(columns=[Text(name="t", max_tokens=budget)])
    codec = Codec(schema, bytewise, [])
    tokens = codec.encode_value(codec.fields[0], text)
    assert len(tokens) <= budget
    assert tokens[-1] == ord("\n")
    kept = codec.decode([bytes(tokens)])["t"]
    assert isinstance(kept, str) and text.startswith(kept)
    if len(bytewise(" " + format_value(schema.columns[0], text))) < budget:
        assert kept == text


def test_names_are_forced_and_values_are_learned():
    schema = Schema(columns=[Category(name="type", values=["ham", "spam"]), Text(name="text")])
    codec = Codec(schema, bytewise, [7], description="Messages")
    encoded = codec.encode({"type": "ham", "text": "hi"})
    forced = bytes(t for t, learned in zip(encoded.tokens, encoded.learned, strict=True) if not learned)
    learned = bytes(t for t, learned in zip(encoded.tokens, encoded.learned, strict=True) if learned)
    assert forced == b"\x07Messages\ntype:text:"
    assert learned == b" ham\n hi\n"


def test_a_value_description_follows_its_value():
    column = Category(name="diagnosis", values=["J45", "I10"], descriptions={"J45": "asthma"}, nullable=False)
    codec = Codec(Schema(columns=[column, Text(name="note")]), bytewise, [], given={"diagnosis"})
    read = [bytes(codec.encode({"diagnosis": value, "note": "x"}).tokens) for value in ("J45", "I10")]
    assert read == [b"diagnosis: J45 (asthma)\nnote: x\n", b"diagnosis: I10\nnote: x\n"]
    # A row asked for by value is written as a row that was trained on.
    assert re.fullmatch(allowed_pattern(only(column, "J45")), " J45 (asthma)\n")
    assert not re.fullmatch(allowed_pattern(only(column, "J45")), " J45\n")
    with pytest.raises(ValueError, match="diagnosis"):
        parse_value(column, "J45")


def test_the_null_mark_is_not_a_value():
    for column, _ in CASES:
        assert re.fullmatch(value_pattern(column), "\\N")
        assert not re.fullmatch(value_pattern(column.model_copy(update={"nullable": False})), "\\N")


def test_negative_zero_is_written_as_zero():
    assert format_value(Number(name="n", min=-1, max=1, decimals=2), -0.001) == "0.00"
