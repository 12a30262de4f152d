"""What looks personal is found, by published test numbers, and only counted."""

import json

import pytest

from localsynth.evaluate.personal import count_personal, find_personal
from localsynth.schema.columns import Category, Schema, Text


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to Ann.Lee+x@mail.example.org today", "e-mail address"),
        ("card 4111 1111 1111 1111 expired", "card number"),
        ("pay to GB82 WEST 1234 5698 7654 32 please", "IBAN"),
        ("to DE89370400440532013000.", "IBAN"),
        ("FR14 2004 1010 0505 0001 3M02 606", "IBAN"),
        ("his number is 078-05-1120", "national identity number"),
        ("NI QQ123456C, or AB 12 34 56 C", "national identity number"),
        ("call +44 20 7946 0958 now", "telephone number"),
        ("call (555) 123-4567", "telephone number"),
        ("seen by Dr. Ada Byron", "name of a person"),
        ("she met Carmen Clark there", "name of a person"),
    ],
)
def test_personal_strings_are_found(text, kind):
    assert {found for found, _ in find_personal(text)} == {kind}


@pytest.mark.parametrize(
    "text",
    [
        "card 4111 1111 1111 1112",
        "FR15 2004 1010 0505 0001 3M02 606",
        "GB83 WEST XYZA BCDE FGHJ 32",
        "The Red Lion",
        "on 2025-01-02",
        "at 12:30 costs 1000",
        "a@b",
    ],
)
def test_other_strings_are_not_found(text):
    assert find_personal(text) == []


def test_original_is_compared_with_holdout_at_equal_size():
    schema = Schema(columns=[Text(name="text")])

    def rows(*names):
        return [{"text": f"{name}@example.org"} for name in names]

    train, holdout = rows(*"abcdefgh"), rows("x", "y")
    (mail, *_) = count_personal(train, holdout, rows(*"abcdefgh", "x", "z"), schema, seed=0)["kinds"]
    assert mail["kind"] == "e-mail address" and mail["synthetic"] == 10
    # All eight of the original, two of a part of it as large as the holdout, and one of the holdout.
    assert (mail["in_original"], mail["in_original_same_rows"], mail["in_holdout"]) == (8, 2, 1)


def test_only_counts_of_distinct_strings_are_returned():
    schema = Schema(columns=[Category(name="type", values=["x"]), Text(name="text")])

    def rows(*texts):
        return [{"type": "x", "text": text} for text in texts]

    figures = count_personal(
        rows("ring 020 7946 0958", "or ann@example.org"),
        rows("bob@example.org"),
        rows("ann@example.org and ANN@example.org", "bob@example.org", "eve@example.org", "02079460958"),
        schema,
        seed=0,
    )
    by_kind = {kind["kind"]: kind for kind in figures["kinds"]}
    mail = by_kind["e-mail address"]
    assert (mail["synthetic"], mail["in_original"], mail["in_holdout"]) == (3, 1, 1)
    assert by_kind["telephone number"]["in_original"] == 1
    assert "example" not in json.dumps(figures)
    assert count_personal([], [], [], Schema(columns=[Category(name="type", values=["x"])]), seed=0) is None
