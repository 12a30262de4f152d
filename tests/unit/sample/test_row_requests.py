"""Conditions, shares and files of rows: what is asked of each row of a job."""

import hashlib
from collections import Counter

import pytest

from localsynth.errors import ConfigError, DataError
from localsynth.sample.row_requests import read_row_requests
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
    return read_row_requests(SCHEMA, where, balance, str(seeds) if seeds else None, ["", "?"])


def single(given):
    return {name: allowed.single.value for name, allowed in given.items()}


def test_no_request_gives_no_conditions():
    assert asked().conditions(0) == {} and asked().facts == {} and asked().rows is None


def test_where_applies_to_every_row():
    found = asked(where="n = 3")
    assert single(found.conditions(0)) == single(found.conditions(99)) == {"n": 3}
    assert found.facts == {"where": "n = 3"}


@pytest.mark.parametrize("first", [0, 7, 1000])
def test_shares_are_kept_in_any_run_of_rows(first):
    found = asked(balance="label=ham:0.5,spam:0.25,a:b:0.25", where="n < 5")
    counts = Counter(found.conditions(i)["label"].single.value for i in range(first, first + 400))
    assert abs(counts["ham"] - 200) <= 3 and abs(counts["spam"] - 100) <= 3 and abs(counts["a:b"] - 100) <= 3
    assert found.conditions(first)["n"].intervals == ((0, 4),)


def test_balance_without_shares_is_uniform():
    counts = Counter(asked(balance="Label").conditions(i)["label"].single.value for i in range(300))
    assert all(abs(count - 100) <= 2 for count in counts.values()) and len(counts) == 3


@pytest.mark.parametrize("text", ["label=ham", "label=ham:x", "label=ham:0", "label=eggs:1", "nope", "note", "n=99:1"])
def test_invalid_shares_are_refused(text):
    with pytest.raises(ConfigError):
        asked(balance=text)


def test_column_in_two_requests_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--where and in --balance"):
        asked(where="label = 'ham'", balance="label")
    path = tmp_path / "rows.csv"
    path.write_text("n\n3\n")
    with pytest.raises(ConfigError, match="is in --where"):
        asked(where="n = 3", seeds=path)
    with pytest.raises(ConfigError, match="exclude"):
        asked(balance="label", seeds=path)


def test_seeds_give_conditions_per_row(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('﻿note,n\n"two\nlines, ""so""",3\nplain,?\n', encoding="utf-8")
    found = asked(seeds=path)
    assert found.rows == 2
    assert single(found.conditions(0)) == {"note": 'two\nlines, "so"', "n": 3}
    assert single(found.conditions(1)) == {"note": "plain", "n": None}
    known, other = (read_row_requests(SCHEMA, None, None, str(path), ["?"], secret).facts["seeds"] for secret in (b"one", b"two"))
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
def test_invalid_seeds_name_the_row_not_the_value(tmp_path, text, message):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        asked(seeds=path)
    assert "77" not in error.value.message
    with pytest.raises(DataError):
        asked(seeds=tmp_path / "none.csv")
