"""Training on synthetic rows, on tables of which it is known what can be learned."""

import random

import pytest

from localsynth.evaluate.arrays import shuffled_columns
from localsynth.evaluate.utility import _Task, compare_utility, guess_target
from localsynth.schema.columns import Category, Integer, Schema, Text


def test_ideal_table_scores_like_the_original(visits, schema):
    train, holdout, independent = visits
    figures = compare_utility(train, holdout, independent, schema, target="ill", seed=0)
    arms = figures["arms"]
    assert figures["metric"] == "AUC" and arms["real"]["value"] > 0.8
    assert figures["ratio"] > 0.9
    assert arms["marginals_only"]["value"] < 0.65
    assert (arms["real"]["n"], arms["synthetic"]["n"], figures["n_test"]) == (600, 600, 400)
    assert arms["real"]["low"] < arms["real"]["value"] < arms["real"]["high"]


def test_shuffled_table_scores_like_guessing(visits, schema):
    train, holdout, independent = visits
    figures = compare_utility(train, holdout, shuffled_columns(independent, schema, 1)[:200], schema, target=None, seed=0)
    assert (figures["target"], figures["target_chosen"]) == ("ill", "guessed")
    assert figures["ratio"] < 0.4 and figures["arms"]["real_same_size"]["n"] == 200


def test_matching_texts_score_higher_than_shuffled_ones(schema):
    """Only the text holds the label; the other columns are independent of it."""
    chance = random.Random(3)

    def row():
        ill = chance.choice(["yes", "no"])
        filling = {"age": chance.randint(0, 90), "sex": chance.choice("FM"), "ward": None, "triage": None, "day": None}
        return {**filling, "ill": ill, "note": "fever and chills" if ill == "yes" else "a sprained ankle"}

    tables = [[row() for _ in range(200)] for _ in range(3)]
    arms = compare_utility(*tables, schema, target="ill", seed=0)["arms"]
    assert arms["synthetic"]["value"] > 0.95 and arms["texts_shuffled"]["value"] < 0.65
    assert arms["texts_shuffled"]["n"] == 200
    few = Schema(columns=[column for column in schema.columns if column.name in ("ill", "note")])
    assert "texts_shuffled" not in compare_utility(*tables, few, target="ill", seed=0)["arms"]


def test_shuffled_texts_keep_other_associations():
    """The label follows the number; the text says nothing."""
    schema = Schema(columns=[Integer(name="n", min=0, max=99), Category(name="ill", values=["no", "yes"]), Text(name="note")])
    rows = [{"n": n, "ill": "yes" if n > 49 else "no", "note": f"a {'bcd'[n % 3]}"} for n in range(100)]
    arms = compare_utility(rows, rows, rows, schema, target="ill", seed=0)["arms"]
    assert all(arm["high"] <= 1 for arm in arms.values())
    assert arms["texts_shuffled"]["value"] > 0.95 > 0.7 > arms["marginals_only"]["value"]


def test_no_ratio_where_the_original_hardly_predicts():
    chance = random.Random(1)
    schema = Schema(columns=[Integer(name="n", min=0, max=99), Integer(name="m", min=0, max=99)])
    tables = [[{"n": chance.randint(0, 99), "m": chance.randint(0, 99)} for _ in range(100)] for _ in range(3)]
    figures = compare_utility(*tables, schema, target="m", seed=0)
    assert figures["ratio"] is None and figures["sentence"].endswith("this does not judge the synthetic rows.")


def test_every_repetition_resamples_rows(visits, schema, monkeypatch):
    sizes = []

    def predict(task, records, questions, seed):
        sizes.append((len(records), len({id(row) for row in records})))
        return original(task, records[:30], questions, seed)

    original = _Task.predict
    monkeypatch.setattr(_Task, "predict", predict)
    compare_utility(*(table[:200] for table in visits), schema, target="ill", seed=0)
    assert all(rows == 200 and 100 < different < 150 for rows, different in sizes), sizes  # 1 - 1/e of 200 is 126


@pytest.mark.parametrize(("target", "metric"), [("age", "R2"), ("ward", "macro-F1")])
def test_metric_for_numbers_and_many_labels(visits, schema, target, metric):
    train, holdout, independent = visits
    figures = compare_utility(train[:200], holdout[:200], independent[:200], schema, target=target, seed=0)
    assert figures["metric"] == metric
    if target == "ward":  # chosen at random
        assert figures["arms"]["real"]["value"] < 0.4


def test_table_with_one_label_is_scored(visits, schema):
    train, holdout, independent = visits
    same = [{**row, "ill": "no"} for row in independent[:100]]
    figures = compare_utility(train[:150], holdout[:150], same, schema, target="ill", seed=0)
    assert figures["arms"]["synthetic"]["value"] == 0.5 and figures["ratio"] == 0


def test_target_is_guessed_by_name_or_position():
    rows = [{"outcome": value, "town": value, "n": 1, "note": "x"} for value in "ab" * 20]
    outcome, town = (Category(name=name, values=["a", "b", "c"]) for name in ("outcome", "town"))
    number, note = Integer(name="n", min=0, max=9), Text(name="note")
    assert guess_target(Schema(columns=[outcome, town, number, note]), rows) == "outcome"
    assert guess_target(Schema(columns=[town, number, note]), rows) == "town"
    assert guess_target(Schema(columns=[town, number, note]), rows[:1]) == "n"
    assert guess_target(Schema(columns=[note]), rows) is None


def test_unpredictable_target_is_not_run(visits, schema):
    train, holdout, independent = visits
    for arguments in ((train, holdout, independent[:10], schema, "ill"), (train, holdout, independent, schema, "note")):
        *tables, target = arguments
        assert compare_utility(*tables, target=target, seed=0)["status"] == "not run"
