"""What is given to the model, and what it learns, where marginals draw the structured columns."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localsynth.errors import ConfigError
from localsynth.llm.row_text import Codec
from localsynth.schema.column_split import Writing
from localsynth.schema.columns import Boolean, Category, Identifier, Integer, Record, Schema, Text, conform
from localsynth.schema.where import parse_where

SCHEMA = Schema(
    columns=[
        Identifier(name="id"),
        Text(name="note", max_tokens=30),
        Category(name="kind", values=["a", "b"]),
        Text(name="reply", max_tokens=10, nullable=False),
        Integer(name="n", min=0, max=9, nullable=False),
    ]
)
WRITING = Writing(SCHEMA)


def bytewise(text: str) -> list[int]:
    return list(text.encode())


def learned_text(record: Record) -> str:
    codec = Codec(WRITING.schema, bytewise, [], given=WRITING.given)
    encoded = codec.encode(WRITING.with_lengths(record))
    return bytes(token for token, learns in zip(encoded.tokens, encoded.learned, strict=True) if learns).decode()


def test_texts_come_last_and_nothing_else_is_learned() -> None:
    names = [column.name for column in WRITING.schema.columns]
    assert names == ["kind", "n", "length of note", "length of reply", "note", "reply"]
    assert {"kind", "n", "length of note", "length of reply"} == WRITING.given
    record: Record = {"note": "hello", "kind": "b", "reply": "yes", "n": 4}
    assert learned_text(record) == " hello\n yes\n"


def test_columns_with_descriptions_stand_next_to_the_texts() -> None:
    mood = Category(name="mood", values=["1", "2"], descriptions={"1": "cross", "2": "glad"})
    writing = Writing(SCHEMA.model_copy(update={"columns": [mood, *SCHEMA.columns]}))
    names = [column.name for column in writing.schema.columns]
    assert names == ["kind", "n", "length of note", "length of reply", "mood", "note", "reply"] and "mood" in writing.given


def test_whether_a_text_is_missing_is_not_learned_either() -> None:
    assert learned_text({"note": None, "kind": None, "reply": "yes", "n": 4}) == " yes\n"


@given(text=st.none() | st.text(max_size=400))
def test_lengths_are_inside_their_column_and_grow_with_the_text(text: str | None) -> None:
    record = WRITING.with_lengths({"note": text, "kind": "a", "reply": "ok", "n": 1})
    assert conform(WRITING.schema, record) == record
    length = record["length of note"]
    assert (length is None) == (text is None)
    if text is not None:
        longer = WRITING.with_lengths({**record, "note": text + "x" * 500})["length of note"]
        assert isinstance(length, int) and isinstance(longer, int) and length <= longer
        assert (length == 0) == (text == "")


def test_the_marginals_keep_to_what_is_asked_and_to_the_length_of_a_text_that_is_given() -> None:
    asked = parse_where("kind = 'b' AND note = 'hello'", SCHEMA)
    conditions = WRITING.for_marginals(asked)
    assert set(conditions) == {"kind", "length of note"}
    size = WRITING.with_lengths({"note": "hello", "kind": "a", "reply": "ok", "n": 1})["length of note"]
    assert size in conditions["length of note"] and None not in conditions["length of note"]
    assert conditions["length of note"].single is not None


def test_the_model_is_given_the_row_of_the_marginals_and_a_missing_text() -> None:
    row: Record = {"kind": None, "n": 3, "length of note": None, "length of reply": 1}
    conditions = WRITING.for_model(row, {})
    assert set(conditions) == {"kind", "n", "length of note", "length of reply", "note"}
    assert {name: allowed.single.value for name, allowed in conditions.items() if allowed.single} == {**row, "note": None}


def test_a_text_that_is_asked_for_is_given_where_the_row_has_one() -> None:
    asked = parse_where("note = 'hello' OR note IS NULL", SCHEMA)
    with_text = WRITING.for_model({"kind": "a", "n": 3, "length of note": 1, "length of reply": 1}, asked)
    assert with_text["note"].values == {"hello"} and not with_text["note"].null
    without = WRITING.for_model({"kind": "a", "n": 3, "length of note": None, "length of reply": 1}, asked)
    assert without["note"].single is not None and without["note"].single.value is None


def test_a_name_that_is_taken_is_refused() -> None:
    taken = Schema(columns=[Text(name="note"), Integer(name="Length of note", min=0, max=9)])
    with pytest.raises(ConfigError, match="length of note"):
        Writing(taken)


def test_texts_are_told_apart_from_other_values_of_the_columns_with_descriptions() -> None:
    mood = Category(name="mood", values=["1", "2", "3"], descriptions={"1": "cross", "2": "glad"}, nullable=False)
    writing = Writing(SCHEMA.model_copy(update={"columns": [mood, *SCHEMA.columns]}))
    record: Record = {"mood": "2", "note": "hello", "kind": "a", "reply": "ok", "n": 1}
    row = writing.for_model(writing.with_lengths(record), {})
    random = np.random.default_rng(0)
    assert writing.told_apart(row, {**record, "mood": "3"}, random) == {"mood": "3"}
    drawn = Counter(str(writing.told_apart(row, record, random)["mood"]) for _ in range(400))
    assert set(drawn) == {"1", "3"} and min(drawn.values()) > 150


def test_without_descriptions_texts_are_told_apart_from_other_values_of_all_columns_but_lengths() -> None:
    yes = Boolean(name="yes", nullable=False)
    only_one = Category(name="only", values=["x"], nullable=False)
    writing = Writing(SCHEMA.model_copy(update={"columns": [yes, only_one, *SCHEMA.columns]}))
    record: Record = {"yes": True, "only": "x", "note": "hello", "kind": None, "reply": "ok", "n": 1}
    row = writing.for_model(writing.with_lengths(record), {})
    random = np.random.default_rng(0)
    # Numbers may be alike by chance: among many values they seldom are.
    assert writing.told_apart(row, {**record, "kind": "b"}, random) == {"yes": False, "only": "x", "kind": "b", "n": 1}
    assert {writing.told_apart(row, record, random)["kind"] for _ in range(50)} == {"a", "b"}
    given = writing.for_model(writing.with_lengths({**record, "kind": "a"}), {})
    assert {writing.told_apart(given, {**record, "kind": "a"}, random)["kind"] for _ in range(50)} == {"b", None}
