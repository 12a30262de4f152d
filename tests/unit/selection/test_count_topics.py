"""One noisy count: what leaves it is noisy, costs what was set aside, and a unit moves it by no more than its rows."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from localsynth.errors import IntegrityError
from localsynth.marginals.accounting import total_rho
from localsynth.marginals.domain import Attribute, Domain
from localsynth.marginals.measure import measure_marginals
from localsynth.privacy.noise import InsecureRandom, RandomSource
from localsynth.schema import Category
from localsynth.selection.count import TOPIC, Aspect, Selection, aspects_of, count_topics
from localsynth.selection.topics import Topics


class _Silent(InsecureRandom):
    """No noise: what is counted, bare."""

    def gaussian(self, n: int) -> Any:
        return np.zeros(n)


def count(
    messages: Callable[..., Any], aspects: list[Aspect], original: list[Any], random: RandomSource, **changed: Any
) -> Selection:
    written = messages(300, 9, linked=False)
    topics = Topics.of_texts([text for _, text in written], 6)
    return count_topics(topics, aspects, original, written, **{"rho": 0.5, "rows_per_unit": 1, "random": random, **changed})


def test_the_cost_is_the_budget_divided_evenly(messages: Callable[..., Any], aspects: list[Aspect]) -> None:
    for chosen in ([], aspects):
        selection = count(messages, chosen, messages(500, 1), InsecureRandom(1))
        assert total_rho(selection.spends) == pytest.approx(0.5, rel=1e-6) and total_rho(selection.spends) <= 0.5
        assert len(selection.spends) == max(1, len(chosen)) == len(selection.original)
        assert {spend.parameter for spend in selection.spends} == {selection.deviation}
        assert selection.deviation == pytest.approx(math.sqrt(max(1, len(chosen))), rel=1e-6)


@pytest.mark.parametrize("rows_per_unit", [1, 3])
def test_every_cell_has_noise_of_the_deviation_that_is_said(
    messages: Callable[..., Any], aspects: list[Aspect], rows_per_unit: int
) -> None:
    original = messages(500, 1)
    bare = count(messages, aspects, original, _Silent(0))
    noise = []
    for seed in range(60):
        noisy = count(messages, aspects, original, InsecureRandom(seed), rho=0.01, rows_per_unit=rows_per_unit)
        noise += [(a - b).ravel() for a, b in zip(noisy.original, bare.original, strict=True)]
    drawn = np.concatenate(noise)
    assert np.all(drawn == np.rint(drawn))
    assert drawn.std() == pytest.approx(rows_per_unit * math.sqrt(2 / (2 * 0.01)), rel=0.05) and abs(drawn.mean()) < 0.5


def test_a_unit_moves_each_table_by_its_rows_and_the_synthetic_side_not_at_all(
    messages: Callable[..., Any], aspects: list[Aspect]
) -> None:
    original, more = messages(500, 1), messages(3, 2)
    without, with_it = (count(messages, aspects, rows, _Silent(0), rows_per_unit=3) for rows in (original, original + more))
    for a, b in zip(without.original, with_it.original, strict=True):
        assert np.abs(b - a).sum() == 3
    assert all(np.array_equal(a, b) for a, b in zip(without.written, with_it.written, strict=True))
    assert without.topics.words == with_it.topics.words and without.deviation == with_it.deviation


def test_a_file_keeps_everything(messages: Callable[..., Any], aspects: list[Aspect]) -> None:
    selection = count(messages, aspects, messages(500, 1), InsecureRandom(1))
    tree = selection.to_json()
    assert Selection.from_json(json.loads(json.dumps(tree))).to_json() == tree
    for spoiled in (
        {"original": tree["original"][:1]},
        {"deviation": 0.0},
        {"rho": float("inf")},
        {"written": [[["x"]]]},
        {"aspects": [{"attribute": tree["aspects"][0]["attribute"], "groups": [0, 2]}] * 2},
        {"spends": None},
    ):
        with pytest.raises(IntegrityError):
            Selection.from_json({**tree, **spoiled})


def test_a_column_named_like_the_topics_is_not_counted_with_them() -> None:
    column = Category(name=TOPIC, values=["a", "b"], nullable=False)
    domain = Domain((Attribute(column, (0, 1, 2)),))
    bins = {TOPIC: np.array([0, 1] * 400)}
    model = measure_marginals(domain, bins, 10.0, InsecureRandom(0))
    assert aspects_of(model, frozenset()) == []
