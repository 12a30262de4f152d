"""What the schema cut is counted, and said where it is much."""

import math
from typing import Any

from localsynth.evaluate.schema_losses import SchemaLosses
from localsynth.evaluate.weaknesses import Weakness, find_weaknesses
from localsynth.schema.columns import Category, Integer, Number, Record, Schema, conform

SCHEMA = Schema(
    columns=[
        Category(name="kind", values=["a"], other="other"),
        Integer(name="n", min=0, max=9),
        Number(name="x", min=0, max=1, decimals=1, outside="drop"),
    ]
)


def counted(rows: list[Record]) -> dict[str, Any]:
    losses = SchemaLosses(SCHEMA)
    for row in rows:
        losses.count(row, conform(SCHEMA, row))
    return losses.figures()


def weaknesses(losses: dict[str, Any] | None) -> list[Weakness]:
    nothing = {"attacks": [], "audit": None, "personal": None, "columns": [], "sequences": None, "writing": []}
    useful = {"utility": {"status": "done", "ratio": 1.0, "sentence": ""}, "pairs": {"mean_difference": None}}
    return find_weaknesses({**nothing, **useful, "rows": {}, "schema_losses": losses})


def test_losses_against_counts_by_hand() -> None:
    rows: list[Record] = [
        {"kind": "a", "n": 3, "x": 0.1},
        {"kind": "b", "n": 12, "x": 0.5},
        {"kind": None, "n": -1, "x": 0.14},  # rounding is no change, and a missing value stays one
        {"kind": "a", "n": None, "x": 1.5},
    ]
    assert counted(rows) == {
        "rows": 4,
        "dropped": 1,
        "columns": [{"column": "n", "changed": 2}, {"column": "kind", "changed": 1}],
        "constraints": [],
    }


def test_rows_to_compare_with_are_as_they_were() -> None:
    losses = SchemaLosses(SCHEMA)
    rows: list[Record] = [
        {"kind": "b", "n": 12, "x": 0.14},
        {"kind": "a", "n": 3, "x": 1.5},
        {"kind": "a", "n": 3, "x": math.nan},
    ]
    compared = [losses.count(row, conform(SCHEMA, row)) for row in rows]
    assert compared == [{"kind": "b", "n": 12, "x": 0.1}, None, {"kind": "a", "n": 3, "x": None}]


def test_constraints_are_checked_after_clamping() -> None:
    schema = SCHEMA.model_copy(update={"constraints": ["n > 3", "kind = 'a' => n = 9", "n < 9 OR x IS NOT NULL"]})
    losses = SchemaLosses(schema)
    rows: list[Record] = [
        {"kind": "a", "n": 12, "x": 0.1},  # 9, once it is inside
        {"kind": "a", "n": 2, "x": 0.1},
        {"kind": "a", "n": 5, "x": 0.1},
        {"kind": "b", "n": 5, "x": None},
        {"kind": "a", "n": 2, "x": 1.5},  # dropped for its x
    ]
    for row in rows:
        losses.count(row, conform(schema, row))
    figures = losses.figures()
    assert (figures["rows"], figures["dropped"]) == (5, 3)
    assert [entry["broken"] for entry in figures["constraints"]] == [1, 2, 0]
    (weakness,) = [found for found in weaknesses(figures) if "dropped" in found.title]
    assert "violated constraints: n > 3 (1); kind = 'a' => n = 9 (2)." in weakness.text


def test_only_large_losses_are_weaknesses() -> None:
    fits: Record = {"kind": "a", "n": 3, "x": 0.1}
    few = counted([*[fits] * 96, *[{**fits, "n": 20}] * 4])
    assert weaknesses(few) == [] and weaknesses(None) == []
    many = counted([*[fits] * 80, *[{**fits, "n": 20, "kind": "b"}] * 12, *[{**fits, "x": 2.0}] * 8])
    cut, dropped = weaknesses(many)
    assert "8 of 100" in dropped.text and dropped.severity == 0.08
    assert cut.severity == 0.12 and "kind (12\u00a0%)" in cut.text and "n (12\u00a0%)" in cut.text and "and others" in cut.title
