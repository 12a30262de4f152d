"""Token counts: every cell has noise, a unit moves a table by at most its rows, and the cost is the budget."""

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from localsynth.errors import IntegrityError
from localsynth.marginals.accounting import total_rho
from localsynth.marginals.domain import Attribute, Domain
from localsynth.marginals.measure import measure_marginals
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.columns import Category, Schema, Text
from localsynth.text_counts.grouping_columns import GroupingColumn, choose_grouping_columns
from localsynth.text_counts.logit_bias import LogitBias, first_bias, refined_bias
from localsynth.text_counts.token_counts import Row, TokenCounts, count_tokens, histogram
from tests.helpers.seeded_random import InsecureRandom

VOCABULARY, END = 300, 7
SORT, SIDE = (Category(name=name, values=["x", "y"], nullable=False) for name in ("sort", "side"))
COLUMNS = [GroupingColumn(Attribute(column, (0, 1, 2)), (0, 1)) for column in (SORT, SIDE)]
SCHEMA = Schema(columns=[SORT, SIDE, Text(name="text", max_tokens=20, nullable=False)])


class _Silent(InsecureRandom):
    """No noise: what is counted, bare."""

    def gaussian(self, n: int) -> Any:
        return np.zeros(n)


def rows(count: int, seed: int, likely: dict[str, int] | None = None) -> list[Row]:
    """Rows whose texts hold 1 to 40 tokens, frequent ones more often; `likely`: one that most texts of a sort hold."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(8, VOCABULARY)
    made: list[Row] = []
    for _ in range(count):
        row = {"sort": str(rng.choice(["x", "y"], p=[0.8, 0.2])), "side": str(rng.choice(["x", "y"]))}
        held = set(rng.choice(np.arange(8, VOCABULARY), rng.integers(1, 40), p=shares / shares.sum()).tolist()) | {END}
        if likely and rng.random() < 0.6:
            held.add(likely[row["sort"]])
        made.append((row, np.array(sorted(held))))
    return made


@pytest.mark.parametrize("columns", [[], COLUMNS[:1], COLUMNS], ids=len)
def test_the_cost_is_the_budget_divided_evenly(columns: list[GroupingColumn]) -> None:
    noisy = count_tokens(columns, rows(50, 1), VOCABULARY, 0.5, 3, InsecureRandom(1))
    tables = max(1, len(columns))
    assert total_rho(noisy.spends) == pytest.approx(0.5, rel=1e-6) and total_rho(noisy.spends) <= 0.5
    assert [spend.kind for spend in noisy.spends] == ["gaussian"] * tables and len(noisy.tables) == tables
    assert {spend.parameter * 3 for spend in noisy.spends} == {noisy.sigma}
    assert noisy.sigma == pytest.approx(3 * math.sqrt(tables), rel=1e-6)


@pytest.mark.parametrize("rows_per_unit", [1, 3])
def test_every_token_has_noise_of_the_stated_deviation(rows_per_unit: int) -> None:
    original = rows(60, 1)
    bare = count_tokens(COLUMNS, original, VOCABULARY, 0.01, rows_per_unit, _Silent(0)).tables
    noise = []
    for seed in range(40):
        noisy = count_tokens(COLUMNS, original, VOCABULARY, 0.01, rows_per_unit, InsecureRandom(seed))
        noise.append([a - b for a, b in zip(noisy.tables, bare, strict=True)])
    sampled, sigma = np.array(noise), noisy.sigma
    assert sampled.shape == (40, 2, 2, VOCABULARY) and np.all(sampled * 65536 == np.rint(sampled * 65536))
    assert sigma == pytest.approx(rows_per_unit * 10)
    # Also each token by itself, those that no text holds among them.
    assert sampled.std() == pytest.approx(sigma, rel=0.01)
    assert np.all(np.abs(sampled.std(axis=0) / sigma - 1) < 0.55) and abs(sampled.mean()) < 0.05 * sigma


@pytest.mark.parametrize("sizes", [[1], [2], [3], [40], [299], [1, 40, 7]], ids=str)
def test_a_unit_moves_each_table_by_at_most_its_rows(sizes: list[int]) -> None:
    unit = [({"sort": "x", "side": "y"}, np.arange(size)) for size in sizes]
    for column in (None, *COLUMNS):
        without, with_it = (histogram(column, others, VOCABULARY) for others in (rows(50, 1), rows(50, 1) + unit))
        moved = float(np.linalg.norm((with_it - without) / 65536))
        assert moved <= len(sizes)
        assert len(sizes) > 1 or moved > 0.99, "what is left unused of the bound is wasted"


def test_a_text_without_tokens_counts_nothing() -> None:
    assert not histogram(None, [({}, np.array([], dtype=np.int64))], VOCABULARY).any()


def test_a_value_has_counts_of_its_own_where_it_has_enough_rows() -> None:
    column = Category(name="sort", values=["a", "b", "c"], nullable=False)
    codes = {"sort": np.repeat([0, 1, 2], [700, 250, 50])}
    model = measure_marginals(Domain((Attribute(column, (0, 1, 2, 3)),)), codes, 10.0, InsecureRandom(0))

    split = ColumnSplit(Schema(columns=[column, Text(name="text", max_tokens=20)]), hybrid=True)

    def groups(least: float) -> list[tuple[int, ...]]:
        """For noise under which a value needs `least` rows."""
        found = choose_grouping_columns(split, model, (100 / least) ** 2 / 2, 1, VOCABULARY)
        return [column.groups for column in found]

    assert groups(20) == [(0, 1, 2)] and groups(200) == [(0, 1, 2)], "the rest are one value, which is that value"
    assert groups(280) == [(0, 1, 1)], "those that are too few share a group"
    assert groups(400) == [], "one group alone tells nothing that all rows do not"


def fitted(
    columns: list[GroupingColumn], original: list[Row], written: list[Row], rho: float = 0.5, seed: int = 1
) -> TokenCounts:
    noisy = count_tokens(columns, original, VOCABULARY, rho, 1, InsecureRandom(seed))
    compared = [written] * max(1, len(columns))
    return first_bias(noisy, compared, END)


def bias(count: TokenCounts, row: dict[str, str], token: int) -> float:
    (place,) = np.flatnonzero(count.tokens == token)
    return float(LogitBias(count).of(row)[place]) if token in count.tokens else 0.0


def test_bias_of_a_token_is_positive_for_its_own_group_alone() -> None:
    original, written = rows(3000, 1, {"x": 290, "y": 299}), rows(1000, 2)
    count = fitted(COLUMNS[:1], original, written)
    assert bias(count, {"sort": "y"}, 299) > 1.5 and bias(count, {"sort": "x"}, 290) > 1.5
    assert abs(bias(count, {"sort": "x"}, 299)) < 0.6 > abs(bias(count, {"sort": "y"}, 290))


def test_a_token_written_too_often_is_written_less() -> None:
    original, written = rows(3000, 1), rows(1000, 2, {"x": 290, "y": 290})
    assert bias(fitted([], original, written), {}, 290) < -1


def test_where_only_noise_differs_hardly_anything_is_moved() -> None:
    """The model writes as the original is: what is found is chance, so little and few."""
    moved = []
    for seed in range(5):
        count = fitted([], rows(2000, seed), rows(1000, 50 + seed), rho=0.05, seed=seed)
        moved += [np.abs(count.biases[0]).sum() / VOCABULARY]
    assert np.mean(moved) < 0.05


def test_group_shares_of_generated_rows_do_not_matter() -> None:
    original, written = rows(3000, 1), rows(3000, 2)
    few_of_one = [row for i, row in enumerate(written) if row[0]["sort"] == "y" or i % 10 == 0]
    count = fitted(COLUMNS[:1], original, few_of_one)
    assert np.abs(count.biases[0]).sum() / (2 * VOCABULARY) < 0.1


def test_the_second_round_takes_back_what_the_first_did_too_much() -> None:
    original = rows(3000, 1, {"x": 290, "y": 299})
    first = fitted(COLUMNS[:1], original, rows(1000, 2))
    # Now the model writes 299 in every text of its sort: too often.
    written = [(row, np.union1d(tokens, [299] if row["sort"] == "y" else [])) for row, tokens in rows(1000, 3)]
    second = refined_bias(first, [written], END)
    assert second.refined and not first.refined
    assert bias(second, {"sort": "y"}, 299) < bias(first, {"sort": "y"}, 299) - 0.3
    assert bias(second, {"sort": "x"}, 290) > bias(first, {"sort": "x"}, 290), "what it still does not write, it is to write more"
    assert second.spends == first.spends and np.array_equal(second.tokens, first.tokens)


def test_a_group_of_which_nothing_was_written_is_left_alone() -> None:
    written = [row for row in rows(1000, 2) if row[0]["sort"] == "x"]
    count = fitted(COLUMNS[:1], rows(3000, 1, {"x": 290, "y": 299}), written)
    assert not count.biases[0][1].any() and count.biases[0][0].any()
    assert np.isfinite(refined_bias(count, [written], END).biases[0]).all()


@pytest.fixture(scope="module")
def honest() -> dict[str, Any]:
    return fitted(COLUMNS, rows(2000, 1, {"x": 290, "y": 299}), rows(500, 2)).to_json()


def test_a_file_keeps_everything(honest: dict[str, Any]) -> None:
    assert TokenCounts.from_json(json.loads(json.dumps(honest))).to_json() == honest
    nothing = fitted([], rows(30, 1), rows(30, 1), rho=1e-6).to_json()
    assert TokenCounts.from_json(json.loads(json.dumps(nothing))).to_json() == nothing


def leaves(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document where something stands, as (container, key); of a list the first and the last."""
    keys = list(tree) if isinstance(tree, dict) else [0, -1] if isinstance(tree, list) and tree else []
    for key in keys:
        yield tree, key
        yield from leaves(tree[key])


@pytest.mark.parametrize("value", [None, "x", [], -1, 1e300, 10**12, 10**399], ids=lambda value: str(value)[:9])
def test_a_damaged_file_is_refused_or_biases_a_little(honest: dict[str, Any], value: Any) -> None:
    tree = copy.deepcopy(honest)
    refused = 0
    for container, key in list(leaves(tree)):
        before, container[key] = container[key], value
        try:
            count = TokenCounts.from_json(tree)
        except IntegrityError:
            refused += 1
            continue
        finally:
            container[key] = before
        if count.fits(SCHEMA):
            biases = LogitBias(count).of({"sort": "x", "side": "y"})
            assert biases.shape == count.tokens.shape and np.abs(biases).max() <= 20
    assert refused > 5


def test_more_than_is_ever_counted_is_refused(honest: dict[str, Any]) -> None:
    wide = {"kind": "integer", "name": "n", "min": 0, "max": 99_999, "nullable": False}
    huge = {"attribute": {"column": wide, "starts": list(range(100_001))}, "groups": list(range(100_000))}
    many = {"tokens": list(range(200)), "grouping_columns": [huge], "target": [[[]]], "biases": [[[]]]}
    for spoiled in (many, {"sigma": 1e200}, {"sigma": 1e-200}, {"rho": math.inf}, {"spends": None}):
        with pytest.raises(IntegrityError):
            TokenCounts.from_json({**honest, **spoiled})
