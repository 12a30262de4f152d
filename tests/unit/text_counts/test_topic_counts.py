"""One noisy count: what leaves it is noisy, costs what was set aside, and a unit moves it by no more than its rows."""

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from localsynth.errors import IntegrityError
from localsynth.marginals.accounting import total_rho
from localsynth.marginals.domain import Attribute, Domain
from localsynth.marginals.measure import measure_marginals
from localsynth.privacy.noise import RandomSource
from localsynth.schema.columns import Category, Schema, Text
from localsynth.text_counts.grouping_columns import TOPIC, Aspect, aspects_of
from localsynth.text_counts.resampling import Chooser
from localsynth.text_counts.topic_counts import Selection, count_topics
from localsynth.text_counts.topics import Topics
from tests.helpers.seeded_random import InsecureRandom


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


def leaves(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document where something stands, as (container, key); of a list the first and the last."""
    keys = list(tree) if isinstance(tree, dict) else [0, -1] if isinstance(tree, list) and tree else []
    for key in keys:
        yield tree, key
        yield from leaves(tree[key])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # absurd weights of words overflow, and harm nothing
@pytest.mark.parametrize("value", [None, "x", [], -1, 1e300, 1e-300, 10**12, 10**399], ids=lambda value: str(value)[:9])
def test_a_damaged_file_is_refused_or_chooses(messages: Callable[..., Any], aspects: list[Aspect], value: Any) -> None:
    """Whatever stands in whichever place: no other error, no work without end, no weights that are none."""
    honest = count(messages, aspects, messages(500, 1), InsecureRandom(1)).to_json()
    rows = messages(5, 2)
    text = Text(name="text", max_tokens=20)
    schema = Schema(columns=[*(aspect.attribute.column for aspect in aspects), text])
    assert Selection.from_json(honest).fits(schema)
    refused = 0
    for container, key in list(leaves(honest)):
        before, container[key] = container[key], value
        try:
            selection = Selection.from_json(honest)
        except IntegrityError:
            refused += 1
            continue
        finally:
            container[key] = before
        if selection.fits(schema):
            weights = Chooser(selection).weigh(rows[0][0], [text for _, text in rows])
            assert weights.shape == (5,) and np.isfinite(weights).all()
    assert refused > 5


def test_more_than_is_ever_counted_is_refused(messages: Callable[..., Any], aspects: list[Aspect]) -> None:
    tree = count(messages, aspects, messages(500, 1), InsecureRandom(1)).to_json()
    topics = len(tree["topics"]["centres"])
    wide = {"kind": "integer", "name": "n", "min": 0, "max": 99_999, "nullable": False}
    huge = {"attribute": {"column": wide, "starts": list(range(100_001))}, "groups": list(range(100_000))}
    table = [[0.0] * 100_000] * topics
    for spoiled in (
        {"original": [[[1e19] * 2] * topics] * 2},
        {"written": [[[1e19] * 2] * topics] * 2},
        {"aspects": [huge], "original": [table], "written": [table]},
        {"deviation": 1e200},
        {"deviation": 1e-200},
    ):
        with pytest.raises(IntegrityError):
            Selection.from_json({**tree, **spoiled})


def test_a_column_named_like_the_topics_is_not_counted_with_them() -> None:
    column = Category(name=TOPIC, values=["a", "b"], nullable=False)
    domain = Domain((Attribute(column, (0, 1, 2)),))
    bins = {TOPIC: np.array([0, 1] * 400)}
    model = measure_marginals(domain, bins, 10.0, InsecureRandom(0))
    assert aspects_of(model, frozenset({TOPIC}), most_aspects=8, most_groups=8) == []
