"""Conditions, shares and files of rows: what is asked of each row of a job."""

import hashlib
from collections import Counter

import pytest

from localsynth.errors import ConfigError, DataError
from localsynth.sample.row_requests import read_asked
from localsynth.schema.columns import Boolean, Category, Integer, Schema, Text

SCHEMA = Schema(
    columns=[
        Category(name="label", values=["ham", "spam", "a:b"], nullable=False),
        Integer(name="n", min=0, max=9),
        Boolean(name="flag"),
        Text(name="note"),
    ]
)


def asked(where=None, balance=None, seeds=None):
    return read_asked(SCHEMA, where, balance, str(seeds) if seeds else None, ["", "?"])


def single(given):
    return {name: allowed.single.value for name, allowed in given.items()}


def test_nothing_asked():
    assert asked().given(0) == {} and asked().facts == {} and asked().rows is None


def test_a_condition_holds_for_every_row():
    found = asked(where="n = 3")
    assert single(found.given(0)) == single(found.given(99)) == {"n": 3}
    assert found.facts == {"where": "n = 3"}


@pytest.mark.parametrize("first", [0, 7, 1000])
def test_shares_hold_over_any_stretch_of_rows(first):
    found = asked(balance="label=ham:0.5,spam:0.25,a:b:0.25", where="n < 5")
    counts = Counter(found.given(i)["label"].single.value for i in range(first, first + 400))
    assert abs(counts["ham"] - 200) <= 3 and abs(counts["spam"] - 100) <= 3 and abs(counts["a:b"] - 100) <= 3
    assert found.given(first)["n"].intervals == ((0, 4),)


def test_a_column_alone_means_equal_shares():
    counts = Counter(asked(balance="Label").given(i)["label"].single.value for i in range(300))
    assert all(abs(count - 100) <= 2 for count in counts.values()) and len(counts) == 3


@pytest.mark.parametrize("text", ["label=ham", "label=ham:x", "label=ham:0", "label=eggs:1", "nope", "note", "n=99:1"])
def test_shares_that_make_no_sense_are_refused(text):
    with pytest.raises(ConfigError):
        asked(balance=text)


def test_a_column_is_asked_about_once(tmp_path):
    with pytest.raises(ConfigError, match="--where and in --balance"):
        asked(where="label = 'ham'", balance="label")
    path = tmp_path / "rows.csv"
    path.write_text("n\n3\n")
    with pytest.raises(ConfigError, match="stands in --where"):
        asked(where="n = 3", seeds=path)
    with pytest.raises(ConfigError, match="exclude"):
        asked(balance="label", seeds=path)


def test_rows_of_a_file(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('﻿note,n\n"two\nlines, ""so""",3\nplain,?\n', encoding="utf-8")
    found = asked(seeds=path)
    assert found.rows == 2
    assert single(found.given(0)) == {"note": 'two\nlines, "so"', "n": 3}
    assert single(found.given(1)) == {"note": "plain", "n": None}
    known, other = (read_asked(SCHEMA, None, None, str(path), ["?"], secret).facts["seeds"] for secret in (b"one", b"two"))
    # Without the secret, a guess of the file cannot be checked by what is published.
    assert len(known) == 64 and hashlib.sha256(path.read_bytes()).hexdigest() not in (known, other) and known != other


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n\n", "no rows"),
        ("nope\n3\n", "'nope'"),
        ("n\n3,4\n", "row 1 has 2 fields"),
        ("n\n3\n77\n", "row 2"),
        ('n\n"3\n', "not a CSV"),
    ],
)
def test_a_file_that_cannot_be_used_is_said_by_row_and_not_by_value(tmp_path, text, message):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        asked(seeds=path)
    assert "77" not in error.value.message
    with pytest.raises(DataError):
        asked(seeds=tmp_path / "none.csv")
