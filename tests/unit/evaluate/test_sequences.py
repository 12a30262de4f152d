"""How rows follow each other, on tables small enough to count by hand."""

import datetime as dt
import random

import pytest

from localsynth.evaluate.sequences import compare_sequences
from localsynth.evaluate.tables import evaluate_tables
from localsynth.evaluate.weaknesses import find_weaknesses
from localsynth.schema.columns import Category, Date, Schema

START = dt.date(2024, 1, 1)
SCHEMA = Schema(columns=[Category(name="x", values=["a", "b"]), Date(name="day", min=START, max=dt.date(2024, 12, 31))])


def unit(values, first=0):
    return [{"x": value, "day": START + dt.timedelta(days=first + i)} for i, value in enumerate(values)]


def test_transitions_against_counts_by_hand():
    train = [unit("ab"), unit("ab"), unit("ba"), unit("a")]
    made = [unit("aa"), unit("aa"), unit("ab"), unit("ba")]
    figures = compare_sequences(train, [unit("ab")], made, SCHEMA)
    assert figures["units"] == {"original": 4, "holdout": 1, "synthetic": 4}
    assert figures["pairs"] == {"original": 3, "holdout": 1, "synthetic": 4}
    lengths = figures["rows_per_unit"]
    assert lengths["histogram"]["original"] == [0.25, 0.75] and lengths["histogram"]["synthetic"] == [0, 1]
    assert (lengths["distance"], lengths["ceiling"]) == (0.25, 0.25)
    x = figures["columns"][0]
    # Original ab 2/3, ba 1/3; synthetic aa 1/2, ab 1/4, ba 1/4; holdout ab 1.
    assert x["distance"] == pytest.approx(1 / 2) and x["ceiling"] == pytest.approx(1 / 3)
    # Without order: aa 2/9, ab 4/9, ba 1/9, bb 2/9.
    assert x["independent"] == pytest.approx((2 / 9 + 2 / 9 + 2 / 9 + 2 / 9) / 2)
    assert x["same"] == {"original": 0.0, "synthetic": 0.5}


def test_lost_order_of_sequences_is_a_weakness():
    draw = random.Random(0)
    tables = [[unit(draw.choice(["abab", "baba"]), draw.randint(0, 300)) for _ in range(60)] for _ in range(2)]
    lost = [unit([draw.choice("ab") for _ in range(4)], draw.randint(0, 300)) for _ in range(60)]
    rows = [[row for one in table for row in one] for table in (*tables, lost)]
    figures = evaluate_tables(*rows, SCHEMA, units=(*tables, lost))
    assert figures["sequences"]["columns"][0]["distance"] > 0.3
    (weakness,) = [found for found in find_weaknesses(figures) if found.section == "sequences"]
    assert "Transitions" in weakness.title
    figures["sequences"] = compare_sequences(*tables, tables[1], SCHEMA)  # type: ignore[call-arg]
    assert not [found for found in find_weaknesses(figures) if found.section == "sequences"]
