"""Attacks on small tables with outcomes worked out by hand, and on tables whose leak is known."""

import numpy as np
import pytest

from localsynth.evaluate.attacks.attributes import attribute_inference
from localsynth.evaluate.attacks.copies import exact_copies, near_copies, shared_passages
from localsynth.evaluate.attacks.linkage import guess_quasi_identifiers, linkage
from localsynth.evaluate.attacks.membership import distance_to_closest_record, membership
from localsynth.evaluate.attacks.outcome import judge
from localsynth.evaluate.attacks.singling_out import Condition, _condition_on, _Rows, singling_out
from localsynth.evaluate.distance import Nearness, measure_nearness
from localsynth.evaluate.stats import Rate
from localsynth.schema.columns import Boolean, Category, Integer, Schema, Text


def run_all(train, holdout, synthetic, schema):
    near = measure_nearness(train, holdout, synthetic, schema, seed=1)
    found = [
        exact_copies(train, holdout, synthetic, schema, seed=1),
        near_copies(near, train, synthetic, schema, seed=1),
        shared_passages(train, holdout, synthetic, schema),
        *singling_out(train, holdout, synthetic, schema, seed=1),
        linkage(train, holdout, synthetic, schema, ["age", "day"], seed=1),
        attribute_inference(train, holdout, synthetic, schema, seed=1),
        *membership(near, seed=1),
    ]
    return {attack.name: attack for attack in found}


def test_copy_of_the_original_fails_every_attack(visits, schema):
    train, holdout, _ = visits
    outcomes = {name: attack.status for name, attack in run_all(train, holdout, train, schema).items()}
    one_column = outcomes.pop("singling out, one column")  # the words are few: hardly one occurs once
    assert one_column in ("failed", "too few rows to say")
    assert set(outcomes.values()) == {"failed"}, outcomes


def test_independent_sample_fails_no_attack(visits, schema):
    train, holdout, independent = visits
    attacks = run_all(train, holdout, independent, schema)
    assert "failed" not in {attack.status for attack in attacks.values()}
    assert sum(attack.status == "passed" for attack in attacks.values()) >= 6


def test_one_copied_row_in_ten_is_detected(visits, schema):
    train, holdout, independent = visits
    attacks = run_all(train, holdout, [*train[:60], *independent[60:]], schema)
    for name in ("exact copies", "near copies", "shared passages", "membership, surest cases"):
        assert attacks[name].status == "failed", name
    assert attacks["exact copies"].risk.hits == 60 and attacks["exact copies"].baseline.hits == 0


@pytest.mark.parametrize(
    ("risk", "control", "status"),
    [
        (Rate(30, 100), Rate(10, 100), "failed"),  # 0.219 is above 0.174
        (Rate(18, 100), Rate(10, 100), "too few rows to say"),  # they meet, but a difference of 0.178 is possible
        (Rate(110, 1000), Rate(100, 1000), "passed"),
        (Rate(10, 100), Rate(30, 100), "passed"),
        (Rate(0, 0), Rate(0, 10), "too few rows to say"),
        (Rate(3, 3), Rate(0, 0), "too few rows to say"),
    ],
)
def test_judge(risk, control, status):
    assert judge(risk, control) == status


SMALL = Schema(columns=[Category(name="town", values=["a", "b", "c"]), Integer(name="age", min=0, max=100), Text(name="note")])


def row(town, age, note="x"):
    return {"town": town, "age": age, "note": note}


def test_exact_copies_against_counts_by_hand():
    train = [row("a", 1, "One two"), row("a", 2), row("b", 3)]
    attack = exact_copies(train, [row("a", 2), row("c", 9)], [row("a", 1, "one  TWO"), row("a", 2), row("b", 4)], SMALL, seed=0)
    assert (attack.risk.hits, attack.risk.n, attack.control.hits, attack.control.n) == (2, 3, 1, 2)


def test_shared_passages_against_counts_by_hand():
    words = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
    train = [row("a", 1, " ".join(words)), row("a", 1, " ".join(reversed(words))), row("a", 1, "too short")]
    attack = shared_passages(
        train, [row("a", 1, " ".join([*words[:7], "z"]))], [row("b", 2, "so " + " ".join(words[1:9]))], SMALL
    )
    assert (attack.risk.hits, attack.risk.n, attack.control.hits, attack.control.n) == (1, 2, 0, 1)
    assert shared_passages([row("a", 1)], [], [], SMALL) is None


def test_linkage_against_counts_by_hand():
    synthetic = [row("a", 10), row("a", 50), row("b", 20), row("c", 30)]
    train = [
        row("b", 24),  # one row with b, age within 5: a right link
        row("b", 26),  # off by 6: wrong
        row("a", 10),  # two rows with a: no link tried
        row("c", 30),  # right
    ]
    attack = linkage(train, [row("c", 90)], synthetic, SMALL, ["town"], seed=0)
    # Of two other columns both must agree: three quarters of two is more than one.
    assert attack.risk.hits == 2 and attack.detail["links_tried"] == {"original": 3, "holdout": 1} and attack.control.hits == 0
    unique = attack.detail["uniqueness"]["original"]
    assert (unique["unique"]["hits"], unique["unique_and_in_synthetic"]["hits"]) == (2, 2)
    assert linkage(train, [], synthetic, SMALL, [], seed=0) is None


def test_few_links_do_not_pass():
    """300 people whom 3 columns cannot tell apart, and two of a town of their own: 0 of 300 is no evidence about these two."""
    train = [row("a", age % 90) for age in range(298)] + [row("b", 50)] * 2
    synthetic = [row("a", 10), row("a", 20), row("b", 90)]
    attack = linkage(train, train, synthetic, SMALL, ["town"], seed=0)
    assert attack.detail["links_tried"] == {"original": 2, "holdout": 2} and attack.risk.hits == 0
    assert judge(attack.risk, attack.control) == "passed" and attack.status == "too few rows to say"
    nobody = linkage(train[:298], train[:298], synthetic, SMALL, ["town"], seed=0)
    assert nobody.detail["links_tried"]["original"] == 0 and nobody.status == "too few rows to say"


def test_linkage_is_judged_on_tried_links_and_on_all_rows():
    def aged(ages, shift=0):
        return [{"age": age, "secret": (age + shift) % 2 == 0, "town": "a"} for age in ages]

    schema = Schema(columns=[Integer(name="age", min=0, max=10_000), Boolean(name="secret"), Category(name="town", values=["a"])])
    synthetic = aged(range(400))

    def outcome(train, holdout):
        return linkage(train, holdout, synthetic, schema, ["age"], seed=0)

    assert outcome(aged(range(400), 1), aged(range(400), 1)).status == "passed"  # 400 tried on either side, all wrong
    assert outcome(aged(range(400)), aged(range(5000, 5400))).status == "failed"  # none could be tried on the holdout
    # Six of 5,000 are too few to show among all, but all of them are right, where the holdout's are all wrong.
    rare = outcome(aged([*range(6), *range(5000, 9994)]), aged([*range(6), *range(5000, 9994)], 1))
    assert judge(rare.risk, rare.control) == "passed" and rare.status == "failed"


def test_quasi_identifiers_are_recognised_by_name():
    names = ["date_of_birth", "ZIP code", "sex", "language", "message", "postcode", "percentage", "Age"]
    columns = [Category(name=name, values=["x", "y"]) for name in names]
    assert guess_quasi_identifiers(Schema(columns=columns)) == ["date_of_birth", "ZIP code", "sex", "postcode", "Age"]


def test_attribute_guess_comes_from_the_nearest_row():
    schema = Schema(columns=[Integer(name="x", min=0, max=100), Category(name="secret", values=["p", "q"])])
    synthetic = [{"x": 0, "secret": "p"}, {"x": 100, "secret": "q"}, {"x": 90, "secret": "q"}]
    members = [{"x": 10, "secret": "p"}, {"x": 80, "secret": "q"}, {"x": 70, "secret": "p"}]
    attack = attribute_inference(members, [{"x": 20, "secret": "q"}], synthetic, schema, seed=0)
    secret = next(column for column in attack.detail["columns"] if column["column"] == "secret")
    assert (secret["risk"]["hits"], secret["control"]["hits"]) == (2, 0)
    assert secret["baseline"]["hits"] == 1  # "q" for everybody
    assert secret["risk"]["confidence"] == 0.975


def test_singling_out_against_counts_by_hand():
    schema = Schema(columns=[Category(name="town", values=["a", "b", "c"]), Integer(name="age", min=0, max=100)])
    synthetic = [{"town": town, "age": age} for town, age in [("a", 30), ("a", 40), ("b", 50), ("c", 60)]]
    # From it: town is b; town is c; age at most 30; age at least 60; age equals 30, 40, 50, 60.
    train = [{"town": town, "age": age} for town, age in [("b", 20), ("a", 30), ("c", 70), ("c", 80)]]
    holdout = [{"town": "b", "age": 45} for _ in range(4)]
    one, _ = singling_out(train, holdout, synthetic, schema, seed=0)
    # "town is b" and "age equals 30": two are c, two at most 30, two at least 60, and nobody is 40, 50 or 60.
    assert (one.risk.hits, one.risk.n) == (2, 8)
    assert one.control.hits == 0


def test_singling_out_uses_numbers_that_occur_once():
    schema = Schema(columns=[Integer(name="weight", min=0, max=100_000), Integer(name="empty", min=0, max=9)])

    def weighing(*weights):
        return [{"weight": weight, "empty": None} for weight in weights]

    # Asked: equals 10, 50525, 90000; at most 10, at least 90000. 700 occurs twice, and nothing is not a number.
    synthetic = weighing(10, 50525, 700, 700, 90000, None)
    train = weighing(50525, 700, 5, 6, 90000, 90000)  # one is 50525; two are 90000 (at least, and equal); two below 10
    holdout = weighing(50524, 700, 10, 20, 30, 90001)  # one is 10 and at most 10; one at least 90000
    one, _ = singling_out(train, holdout, synthetic, schema, seed=0)
    assert (one.risk.hits, one.risk.n) == (1, 5)
    assert (one.control.hits, one.control.n) == (3, 5)


def test_singling_out_cuts_both_sides_to_one_size():
    schema = Schema(columns=[Integer(name="n", min=0, max=1000)])
    train = [{"n": n} for n in range(100)]
    one, _ = singling_out(train, [{"n": 500}] * 4, train, schema, seed=0)
    # 100 numbers and two ends are asked for; of the 100 rows of the original only four are there to be hit.
    assert one.risk.n == 102 and 4 <= one.risk.hits <= 6 and "tried on 4 rows" in one.method


def test_descriptions_of_several_synthetic_rows_are_dropped():
    columns = [Category(name="town", values=["a", "b"]), Integer(name="age", min=0, max=100)]
    duplicates = [{"town": town, "age": age} for town, age in (("a", 1), ("b", 90)) for _ in range(2)]
    one, several = singling_out(duplicates, duplicates, duplicates, Schema(columns=columns), seed=0)
    assert one.risk.n == several.risk.n == 0 and several.status == "too few rows to say"


def test_numeric_condition_is_on_its_side_of_the_median():
    column = Integer(name="age", min=0, max=100)
    rows = _Rows([{"age": 10}, {"age": 50}, {"age": 90}], [column])
    found = [_condition_on(rows, column, row, np.random.default_rng(0)) for row in (0, 2)]
    assert found == [Condition("age", "at most", 10.0), Condition("age", "at least", 90.0)]
    assert [rows.fits((condition,)) for condition in found] == [1, 1]


def test_surest_cases_have_five_percent_false_positives():
    random = np.random.default_rng(0)
    others = random.uniform(0.2, 1, 2000)
    members = np.concatenate([np.zeros(300), random.uniform(0.2, 1, 700)])
    every, surest = membership(Nearness(members, others, 5), seed=0)
    assert surest.risk.value == pytest.approx(0.3 + 0.7 * 0.05, abs=0.02) and surest.control.value == pytest.approx(
        0.05, abs=0.02
    )
    assert every.risk.value == pytest.approx(0.3 + 0.7 * 0.5, abs=0.04) and surest.status == every.status == "failed"
    assert every.detail["auc"]["value"] == pytest.approx(0.3 + 0.7 * 0.5, abs=0.03)


def test_ties_keep_the_false_positive_rate():
    every, surest = membership(Nearness(np.zeros(500), np.zeros(1000), 5), seed=0)
    assert "failed" not in (every.status, surest.status) and every.risk.value == pytest.approx(0.5, abs=0.08)


def test_threshold_and_control_use_different_halves():
    every, _ = membership(Nearness(np.zeros(4), np.arange(1.0, 6.0), 5), seed=0)
    assert every.control.n == 3 and "of 2 other holdout rows" in every.method


def test_distance_to_closest_record_is_the_median():
    figures = distance_to_closest_record(Nearness(np.array([0.0, 0.1, 0.9]), np.array([0.5, np.inf]), 5), seed=0)
    assert (figures["original"]["value"], figures["holdout"]["value"], figures["holdout"]["n"]) == (0.1, 0.5, 1)


def test_nearness_without_synthetic_rows_is_inconclusive(visits, schema):
    train, holdout, _ = visits
    figures = distance_to_closest_record(measure_nearness(train[:5], holdout[:5], [], schema, seed=0), seed=0)
    assert figures["original"]["value"] is None
