"""Gower's distance worked out by hand."""

import pytest

from localsynth.evaluate.distance import Distances
from localsynth.schema.columns import Category, Integer, Schema, Text

SCHEMA = Schema(columns=[Category(name="town", values=["a", "b"]), Integer(name="age", min=0, max=100), Text(name="note")])


def row(town, age, note):
    return {"town": town, "age": age, "note": note}


@pytest.mark.parametrize(
    ("target", "distance"),
    [
        (row("a", 50, "red green"), 0),
        (row("b", 50, "red green"), 1 / 3),
        (row("a", 20, "red green"), 0.3 / 3),
        (row("a", None, "red green"), 1 / 3),
        (row(None, 50, "red green"), 1 / 3),
        (row("b", None, "blue"), 1),
        (row("a", 50, None), 1 / 3),
    ],
)
def test_each_column_contributes_equally(target, distance):
    measured = Distances(SCHEMA.columns, [target], [row("a", 50, "red green")], seed=0)
    assert measured.to_nearest()[0] == pytest.approx(distance, abs=1e-6)


def test_distance_between_nulls_is_zero():
    assert Distances(SCHEMA.columns, [row(None, None, None)], [row(None, None, "")], seed=0).to_nearest()[0] == 0


def test_left_out_column_has_no_influence():
    candidates = [row("a", 50, "red"), row("b", 10, "red")]
    nearest = Distances(SCHEMA.columns, [row("a", 10, "red")], candidates, seed=0).nearest_without(["town", "age"])
    assert (nearest["town"][0], nearest["age"][0]) == (1, 0)


def test_projection_keeps_equal_texts_at_zero_and_others_far(visits, schema):
    train, _, independent = visits
    notes = [schema.column("note")]
    assert Distances(notes, train[:50], train, seed=0).to_nearest().max() == 0
    assert Distances(notes, train[:50], independent, seed=0).to_nearest().min() > 0.3
