"""What is given to the model, and what it learns, where marginals draw the structured columns."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localsynth.errors import ConfigError
from localsynth.llm.row_text import Codec
from localsynth.schema.column_split import ColumnSplit
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
SPLIT = ColumnSplit(SCHEMA, hybrid=True)


def bytewise(text: str) -> list[int]:
    return list(text.encode())


def learned_text(record: Record) -> str:
    codec = Codec(SPLIT.schema, bytewise, [], given=SPLIT.given)
    encoded = codec.encode(SPLIT.with_lengths(record))
    return bytes(token for token, learns in zip(encoded.tokens, encoded.learned, strict=True) if learns).decode()


def test_texts_come_last_and_nothing_else_is_learned() -> None:
    names = [column.name for column in SPLIT.schema.columns]
    assert names == ["kind", "n", "length of note", "length of reply", "note", "reply"]
    assert {"kind", "n", "length of note", "length of reply"} == SPLIT.given
    record: Record = {"note": "hello", "kind": "b", "reply": "yes", "n": 4}
    assert learned_text(record) == " hello\n yes\n"


def test_columns_with_descriptions_stand_next_to_the_texts() -> None:
    mood = Category(name="mood", values=["1", "2"], descriptions={"1": "cross", "2": "glad"})
    split = ColumnSplit(SCHEMA.model_copy(update={"columns": [mood, *SCHEMA.columns]}), hybrid=True)
    names = [column.name for column in split.schema.columns]
    assert names == ["kind", "n", "length of note", "length of reply", "mood", "note", "reply"] and "mood" in split.given


def test_whether_a_text_is_missing_is_not_learned_either() -> None:
    assert learned_text({"note": None, "kind": None, "reply": "yes", "n": 4}) == " yes\n"


@given(text=st.none() | st.text(max_size=400))
def test_lengths_are_inside_their_column_and_grow_with_the_text(text: str | None) -> None:
    record = SPLIT.with_lengths({"note": text, "kind": "a", "reply": "ok", "n": 1})
    assert conform(SPLIT.schema, record) == record
    length = record["length of note"]
    assert (length is None) == (text is None)
    if text is not None:
        longer = SPLIT.with_lengths({**record, "note": text + "x" * 500})["length of note"]
        assert isinstance(length, int) and isinstance(longer, int) and length <= longer
        assert (length == 0) == (text == "")


def test_marginals_get_requested_conditions_and_text_lengths() -> None:
    asked = parse_where("kind = 'b' AND note = 'hello'", SCHEMA)
    conditions = SPLIT.for_marginals(asked)
    assert set(conditions) == {"kind", "length of note"}
    size = SPLIT.with_lengths({"note": "hello", "kind": "a", "reply": "ok", "n": 1})["length of note"]
    assert size in conditions["length of note"] and None not in conditions["length of note"]
    assert conditions["length of note"].single is not None


def test_model_gets_structured_row_and_missing_text() -> None:
    row: Record = {"kind": None, "n": 3, "length of note": None, "length of reply": 1}
    conditions = SPLIT.for_model(row, {})
    assert set(conditions) == {"kind", "n", "length of note", "length of reply", "note"}
    assert {name: allowed.single.value for name, allowed in conditions.items() if allowed.single} == {**row, "note": None}


def test_requested_text_is_given_where_the_row_has_one() -> None:
    asked = parse_where("note = 'hello' OR note IS NULL", SCHEMA)
    with_text = SPLIT.for_model({"kind": "a", "n": 3, "length of note": 1, "length of reply": 1}, asked)
    assert with_text["note"].values == {"hello"} and not with_text["note"].null
    without = SPLIT.for_model({"kind": "a", "n": 3, "length of note": None, "length of reply": 1}, asked)
    assert without["note"].single is not None and without["note"].single.value is None


def test_a_name_that_is_taken_is_refused() -> None:
    taken = Schema(columns=[Text(name="note"), Integer(name="Length of note", min=0, max=9)])
    with pytest.raises(ConfigError, match="length of note"):
        ColumnSplit(taken, hybrid=True)


def test_contrast_row_differs_in_described_columns() -> None:
    mood = Category(name="mood", values=["1", "2", "3"], descriptions={"1": "cross", "2": "glad"}, nullable=False)
    split = ColumnSplit(SCHEMA.model_copy(update={"columns": [mood, *SCHEMA.columns]}), hybrid=True)
    record: Record = {"mood": "2", "note": "hello", "kind": "a", "reply": "ok", "n": 1}
    row = split.for_model(split.with_lengths(record), {})
    random = np.random.default_rng(0)
    assert split.contrast_row(row, {**record, "mood": "3"}, random) == {"mood": "3"}
    drawn = Counter(str(split.contrast_row(row, record, random)["mood"]) for _ in range(400))
    assert set(drawn) == {"1", "3"} and min(drawn.values()) > 150


def test_contrast_row_differs_in_all_columns_without_descriptions() -> None:
    yes = Boolean(name="yes", nullable=False)
    only_one = Category(name="only", values=["x"], nullable=False)
    split = ColumnSplit(SCHEMA.model_copy(update={"columns": [yes, only_one, *SCHEMA.columns]}), hybrid=True)
    record: Record = {"yes": True, "only": "x", "note": "hello", "kind": None, "reply": "ok", "n": 1}
    row = split.for_model(split.with_lengths(record), {})
    random = np.random.default_rng(0)
    # Numbers may be alike by chance: among many values they seldom are.
    assert split.contrast_row(row, {**record, "kind": "b"}, random) == {"yes": False, "only": "x", "kind": "b", "n": 1}
    assert {split.contrast_row(row, record, random)["kind"] for _ in range(50)} == {"a", "b"}
    given = split.for_model(split.with_lengths({**record, "kind": "a"}), {})
    assert {split.contrast_row(given, {**record, "kind": "a"}, random)["kind"] for _ in range(50)} == {"b", None}


def test_without_marginals_nothing_is_split() -> None:
    split = ColumnSplit(SCHEMA, hybrid=False)
    record: Record = {"note": "hello", "kind": "b", "reply": "yes", "n": 4}
    requested = parse_where("kind = 'b' AND note = 'hello'", SCHEMA)
    assert split.schema is SCHEMA and not split.given and not split.conditioning
    assert split.with_lengths(record) == record
    assert split.for_model({}, requested) == requested and split.for_marginals(requested) == {}
    assert split.contrast_row({}, record, np.random.default_rng(0)) == {}
