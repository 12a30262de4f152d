"""Token counts that cost more than their certificate's ledger paid for, or count something else, are found out."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from localsynth.marginals.domain import Attribute
from localsynth.privacy.gaussian import gaussian_of_rho
from localsynth.schema.columns import Category, Schema, Text
from localsynth.text_counts.grouping_columns import GroupingColumn
from localsynth.text_counts.logit_bias import first_bias
from localsynth.text_counts.token_counts import TokenCounts, count_tokens
from localsynth.verification.text_counts import what_is_wrong
from tests.helpers.seeded_random import InsecureRandom

RHO, MOST, END, VOCABULARY = 0.5, 2, 0, 20
SORT = Category(name="sort", values=["ham", "spam"], nullable=False)
COIN = Category(name="coin", values=["heads", "tails"], nullable=False)
SCHEMA = Schema(columns=[SORT, COIN, Text(name="text", max_tokens=20, nullable=False)])
Tree = dict[str, Any]
DOCUMENT: Tree = {
    "schema": SCHEMA.model_dump(mode="json"),
    "guarantee": {"max_rows_per_unit": MOST, "noise": InsecureRandom(0).label},
    "ledger": {
        "events": [
            {"kind": "budget", "budget": "r", "run": "r", "stage": "r"},
            {"kind": "spend", "budget": "r", "run": "r", "stage": "count_texts", "mechanism": gaussian_of_rho(RHO)},
        ]
    },
}


@pytest.fixture
def honest() -> Tree:
    columns = [GroupingColumn(Attribute(column, (0, 1, 2)), (0, 1)) for column in (SORT, COIN)]
    rows = [({"sort": "ham", "coin": "heads"}, np.array([END, 1 + i % 9])) for i in range(400)]
    noisy = count_tokens(columns, rows, VOCABULARY, RHO, MOST, InsecureRandom(1))
    return first_bias(noisy, [rows[:100]] * 2, END).to_json()


def test_an_honest_count_holds(honest: Tree) -> None:
    assert what_is_wrong(TokenCounts.from_json(honest), DOCUMENT) == ""


def _less_noise(tree: Tree) -> None:
    tree["sigma"] /= 2
    for spend in tree["spends"]:
        spend["parameter"] /= 2


def _one_row_a_unit(tree: Tree) -> None:
    tree["sigma"] /= MOST


def _one_unpaid(tree: Tree) -> None:
    for key in ("grouping_columns", "target", "biases"):
        tree[key].append(copy.deepcopy(tree[key][1]))


def _one_not_spent(tree: Tree) -> None:
    del tree["spends"][1]


def _other_table(tree: Tree) -> None:
    tree["spends"][0]["columns"][1] = "coin"


def _other_column(tree: Tree) -> None:
    tree["grouping_columns"][0]["attribute"]["column"]["values"] = ["ham", "SPAM"]


def _more_rho(tree: Tree) -> None:
    tree["rho"] *= 2


def _exponential(tree: Tree) -> None:
    tree["spends"][0].update(kind="exponential", parameter=1e-3)


def _other_noise(tree: Tree) -> None:
    tree["noise"] = "none"


@pytest.mark.parametrize(
    "tampered",
    [
        _less_noise,
        _one_row_a_unit,
        _one_unpaid,
        _one_not_spent,
        _other_table,
        _other_column,
        _more_rho,
        _exponential,
        _other_noise,
    ],
)
def test_each_lie_is_found(honest: Tree, tampered: Callable[[Tree], None]) -> None:
    tampered(honest)
    assert what_is_wrong(TokenCounts.from_json(honest), DOCUMENT)


@pytest.mark.parametrize(
    "change",
    [
        {"guarantee": {**DOCUMENT["guarantee"], "max_rows_per_unit": 1}},
        {"ledger": {"events": []}},
        {"ledger": {"events": [*DOCUMENT["ledger"]["events"], DOCUMENT["ledger"]["events"][1]]}},
        {"schema": {}},
    ],
)
def test_a_certificate_that_does_not_pay_for_it_is_found(honest: Tree, change: Tree) -> None:
    assert what_is_wrong(TokenCounts.from_json(honest), {**DOCUMENT, **change})
