"""Distances and associations against figures worked out by hand."""

import datetime as dt
import math

import numpy as np
import pytest

from localsynth.evaluate.arrays import halves, shuffled_columns
from localsynth.evaluate.columns import compare_columns, histogram, ks_distance, total_variation, wasserstein
from localsynth.evaluate.pairs import compare_pairs, correlation_ratio, cramers_v, mutual_information, spearman
from localsynth.evaluate.sdmetrics_scores import sdmetrics_scores
from localsynth.evaluate.writing import compare_writing, describe_writing, distinct, frontier_integral, mauve
from localsynth.schema.columns import Boolean, Category, Date, Integer, Number, Schema, Text


def numbers(*values):
    return np.array(values, dtype=float)


def test_column_distances_against_counts_by_hand():
    assert total_variation(["a", "a", "b", None], ["a", "b", "b", "c"]) == pytest.approx((0.25 + 0.25 + 0.25 + 0.25) / 2)
    assert ks_distance(numbers(1, 2, 3, 4), numbers(3, 4, 5, math.nan)) == pytest.approx(0.5)
    assert wasserstein(numbers(0, 10), numbers(5, 15), 50) == pytest.approx(0.1)
    assert math.isnan(total_variation([], ["a"])) and math.isnan(ks_distance(numbers(), numbers(1)))


def test_associations_against_counts_by_hand():
    assert spearman(numbers(1, 2, 3, math.nan), numbers(1, 4, 9, 2)) == pytest.approx(1)
    assert spearman(numbers(1, 2, 3), numbers(5, 5, 5)) == 0
    same, other = np.array([0, 1] * 50), np.array([0, 0, 1, 1] * 25)
    assert cramers_v(same, same) == pytest.approx(1, abs=0.01) and cramers_v(same, other) == 0
    assert mutual_information(same, same) == pytest.approx(1) and mutual_information(same, other) == pytest.approx(0, abs=1e-12)
    # Squares of 1 around 2 in four cells: phi 2/8, less 1/7 for chance; of at most (2 - 1/7) - 1 = 6/7.
    rows, columns = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 0, 1, 0, 1, 1, 1])
    assert cramers_v(rows, columns) == pytest.approx(math.sqrt((1 / 4 - 1 / 7) / (6 / 7)))
    # Groups 1,3 and 5,7 around 4: 16 of 20 of the squares lie between them.
    assert correlation_ratio(np.array([0, 0, 1, 1]), numbers(1, 3, 5, 7)) == pytest.approx(math.sqrt(16 / 20))


def test_histogram_bars_come_from_schema_and_hold_every_row():
    rows = [{"n": 3, "c": "b", "d": dt.date(2025, 1, 3), "t": True} for _ in range(4)]
    few = histogram(Integer(name="n", min=1, max=4), {"original": rows})
    assert few == {"bars": ["1", "2", "3", "4"], "ends": ["1", "4"], "original": [0, 0, 1, 0]}
    many = histogram(Integer(name="n", min=0, max=99), {"original": rows})
    assert many["bars"][:2] == ["0", "5"] and many["original"][0] == 1 and sum(many["original"]) == 1
    labels = histogram(Category(name="c", values=["a", "b"], other="?"), {"original": rows, "synthetic": rows[:1]})
    assert labels == {"bars": ["b", "a", "?"], "original": [1, 0, 0], "synthetic": [1, 0, 0]}
    long = histogram(Category(name="c", values=[*"bcdefghijklmnop"]), {"original": rows})
    assert len(long["bars"]) == 12 and long["bars"][-1] == "4 others" and long["original"][0] == 1
    date = histogram(Date(name="d", min=dt.date(2025, 1, 1), max=dt.date(2025, 12, 31)), {"original": rows})
    assert date["bars"][0] == "2025-01-01" and date["original"][0] == 1
    assert histogram(Boolean(name="t"), {"original": rows})["original"] == [1, 0]


def test_lost_values_are_counted_not_named():
    schema = Schema(columns=[Category(name="c", values=["common", "secretly rare", "seldom"]), Number(name="x", min=0, max=1000)])
    train = [{"c": "common", "x": float(i)} for i in range(296)]
    train += [{"c": "secretly rare", "x": 500.0}] * 2 + [{"c": "seldom", "x": 500.0}] * 2
    synthetic = [{"c": "common", "x": 100.0}] * 50 + [{"c": "seldom", "x": 900.0}] * 50
    labels, outliers = (column["lost"] for column in compare_columns(train, synthetic, schema, seed=0))
    assert labels == {"values": 3, "values_lost": 1, "rare_values": 2, "rare_values_lost": 1, "rows_with_lost_values": 2}
    assert (outliers["outliers_synthetic"], outliers["outliers_expected"]) == (50, round(outliers["outliers"] / 3, 1))
    assert "secretly" not in str(labels)


def test_rare_is_below_one_percent():
    schema = Schema(columns=[Category(name="c", values=["a", "b", "c"])])
    train = [{"c": name} for name, count in (("a", 980), ("b", 11), ("c", 9)) for _ in range(count)]
    (column,) = compare_columns(train, train[:1], schema, seed=0)
    assert column["lost"] == {"values": 3, "values_lost": 2, "rare_values": 1, "rare_values_lost": 1, "rows_with_lost_values": 20}


def test_split_half_baseline_compares_two_halves():
    schema = Schema(columns=[Category(name="c", values=["a", "b"]), Number(name="x", min=0, max=100)])
    train = [{"c": "ab"[i % 3 == 0], "x": float(i * i % 89)} for i in range(40)]
    one, other = halves(train, 0)
    labels, values = compare_columns(train, train, schema, seed=0)
    assert labels["ceiling"] == total_variation([row["c"] for row in one], [row["c"] for row in other]) > 0 == labels["distance"]
    assert values["ceiling"] == ks_distance(*(numbers(*(row["x"] for row in half)) for half in (one, other))) > 0
    (pair,) = compare_pairs(train, train, schema, seed=0)["pairs"]
    associations = [
        correlation_ratio(np.array([row["c"] == "b" for row in half]), numbers(*(row["x"] for row in half)))
        for half in (one, other)
    ]
    assert pair["ceiling"] == pytest.approx(abs(associations[0] - associations[1])) and pair["difference"] == 0


def test_correlation_ratio_does_not_depend_on_column_order():
    label, number = Category(name="c", values=["a", "b"]), Number(name="x", min=0, max=10)
    # Groups 1,3 and 5,7, as above.
    rows = [{"c": name, "x": value} for name, value in (("a", 1.0), ("a", 3.0), ("b", 5.0), ("b", 7.0))]
    for columns in ([label, number], [number, label]):
        (pair,) = compare_pairs(rows, rows, Schema(columns=columns), seed=0)["pairs"]
        assert pair["measure"] == "correlation ratio" and pair["original"] == pytest.approx(math.sqrt(16 / 20))


def test_words_known_counts_synthetic_words():
    schema = Schema(columns=[Text(name="note")])
    train, made = [{"note": "one two three"}] * 2, [{"note": "One four four four"}] * 2
    assert compare_writing(train, made, schema, seed=0)[0]["words_known"] == 1 / 4


def test_ideal_table_reaches_split_half_baseline(visits, schema):
    train, _, independent = visits
    shuffled = shuffled_columns(independent, schema, 0)
    for rows in (independent, shuffled):
        for column in compare_columns(train, rows, schema, seed=0):
            assert column["distance"] < column["ceiling"] + 0.09, column["column"]
    ideal, broken = (compare_pairs(train, rows, schema, seed=0) for rows in (independent, shuffled))
    assert ideal["mean_difference"] < 1.5 * ideal["ceiling"] < broken["mean_difference"]
    (link,) = (pair for pair in broken["pairs"] if pair["columns"] == ["age", "triage"])
    assert link["original"] > 0.8 > 0.2 > abs(link["synthetic"])
    assert link["mutual_information"]["original"] > 0.3 > 0.1 > link["mutual_information"]["synthetic"]


def test_sdmetrics_ranks_the_tables_alike(visits, schema):
    train, _, independent = visits
    ideal = sdmetrics_scores(train, independent, schema, seed=0)
    broken = sdmetrics_scores(train, shuffled_columns(independent, schema, 0), schema, seed=0)
    assert ideal["column_shapes"] == pytest.approx(broken["column_shapes"]) and ideal["column_shapes"] > 0.9
    assert ideal["pair_trends"] > broken["pair_trends"] + 0.1
    assert sdmetrics_scores(train, [], schema, seed=0) is None


def test_text_statistics_against_counts_by_hand():
    assert distinct([["a", "b", "a"], ["a", "b"]], 2) == 2 / 3
    figures = describe_writing(["One two", "one  TWO", "three", ""])
    assert (figures["vocabulary"], figures["repeated"], figures["empty"]) == (3, 2 / 3, 0.25)
    assert describe_writing([])["repeated"] is None


def test_frontier_integral_of_equal_and_disjoint_histograms():
    half = numbers(0.5, 0.5)
    assert frontier_integral(half, half) == pytest.approx(1)
    # Nothing in common: KL(P|R) = -log(weight), so the curve is (1 - w)^5, w^5: its area is 5·B(5, 6) = 1/252.
    assert frontier_integral(numbers(1, 0), numbers(0, 1)) == pytest.approx(1 / 252, rel=0.02)


def test_mauve_falls_with_distance():
    random = np.random.default_rng(0)
    here, there = (random.normal(size=(200, 8)).astype(np.float32) for _ in range(2))
    far = here + np.float32(4)
    assert mauve(here, there, seed=0) > 0.7 > 0.1 > mauve(here, far, seed=0)
    assert math.isnan(mauve(here[:10], there, seed=0))


def test_texts_are_compared_at_equal_counts(visits, schema):
    train, _, independent = visits

    def embed(lines):
        return np.array([[len(line), line.count("a"), line.count("e")] for line in lines], dtype=np.float32)

    made = [{**row, "note": "always the same"} for row in independent[:300]]
    heard = []
    (entry,) = compare_writing(train, made, schema, seed=0, embed=embed, report=heard.append)
    assert entry["n"] == entry["original"]["n"] == entry["synthetic"]["n"] == 300
    assert entry["synthetic"]["repeated"] == 1 and entry["length_distance"] > 0.9 > entry["ceiling"]["length_distance"]
    assert [half["n"] for half in entry["ceiling"]["halves"]] == [300, 300]
    assert all(half["vocabulary"] > 10 * entry["synthetic"]["vocabulary"] for half in entry["ceiling"]["halves"])
    assert entry["mauve"]["n"] == 300 and heard[0] == 0 and len(heard) > 20 and heard == sorted(heard) and heard[-1] < 1
    assert entry["mauve"]["value"] < 0.1 < 0.5 < entry["mauve"]["ceiling"]
    assert compare_writing(train, independent, Schema(columns=[Text(name="note")]), seed=0)[0]["mauve"] is None
