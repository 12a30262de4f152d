"""A count of topics that cost more than its certificate's ledger paid for, or counted something else, is found out."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from localsynth.schema.columns import Category, Schema, Text
from localsynth.text_counts.grouping_columns import Aspect
from localsynth.text_counts.topic_counts import Selection, count_topics
from localsynth.text_counts.topics import Topics
from localsynth.verify.text_counts import what_is_wrong
from tests.helpers.seeded_random import InsecureRandom

RHO, MOST = 0.5, 2
SCHEMA = Schema(
    columns=[
        Category(name="sort", values=["ham", "spam"], nullable=False),
        Category(name="coin", values=["heads", "tails"], nullable=False),
        Text(name="text", max_tokens=20, nullable=False),
    ]
)
Tree = dict[str, Any]
DOCUMENT: Tree = {
    "schema": SCHEMA.model_dump(mode="json"),
    "settings": {"train": {"selection_share": 0.2, "selection": "topics"}},
    "hashes": {"model": "m"},
    "guarantee": {"max_rows_per_unit": MOST, "noise": InsecureRandom(0).label},
    "ledger": {
        "events": [
            {"kind": "budget", "budget": "selection", "run": "r"},
            {"kind": "spend", "budget": "selection", "run": "r", "mechanism": {"type": "zcdp", "rho": RHO}},
        ]
    },
}


@pytest.fixture
def honest(messages: Callable[..., Any], aspects: list[Aspect]) -> Tree:
    written = messages(300, 9, linked=False)
    topics = Topics.of_texts([text for _, text in written], 6)
    return count_topics(topics, aspects, messages(400, 1), written, RHO, MOST, InsecureRandom(1)).to_json()


def test_an_honest_count_holds(honest: Tree) -> None:
    assert what_is_wrong(Selection.from_json(honest), DOCUMENT) == ""


def _less_noise(tree: Tree) -> None:
    tree["deviation"] /= 2
    for spend in tree["spends"]:
        spend["parameter"] /= 2


def _one_row_a_unit(tree: Tree) -> None:
    tree["deviation"] /= MOST


def _one_unpaid(tree: Tree) -> None:
    for key in ("aspects", "original", "written"):
        tree[key].append(copy.deepcopy(tree[key][1]))


def _other_column(tree: Tree) -> None:
    tree["aspects"][0]["attribute"]["column"]["values"] = ["ham", "SPAM"]


def _more_rho(tree: Tree) -> None:
    tree["rho"] *= 2


def _exponential(tree: Tree) -> None:
    tree["spends"][0].update(kind="exponential", parameter=1e-3)


def _other_noise(tree: Tree) -> None:
    tree["noise"] = "none"


@pytest.mark.parametrize(
    "tampered", [_less_noise, _one_row_a_unit, _one_unpaid, _other_column, _more_rho, _exponential, _other_noise]
)
def test_each_lie_is_found(honest: Tree, tampered: Callable[[Tree], None]) -> None:
    tampered(honest)
    assert what_is_wrong(Selection.from_json(honest), DOCUMENT)


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"train": {"selection_share": 0.0}}},
        {"hashes": {"model": ""}},
        {"ledger": {"events": []}},
        {"ledger": {"events": [*DOCUMENT["ledger"]["events"], DOCUMENT["ledger"]["events"][1]]}},
        {"schema": {}},
    ],
)
def test_a_certificate_that_does_not_pay_for_it_is_found(honest: Tree, change: Tree) -> None:
    assert what_is_wrong(Selection.from_json(honest), {**DOCUMENT, **change})
