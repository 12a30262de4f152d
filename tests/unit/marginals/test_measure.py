"""What touches the original rows: sensitivity, charges, noise, and that nothing else is told of them."""

import math
import random as python_random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from localsynth.errors import BudgetError, ConfigError
from localsynth.marginals import mechanisms
from localsynth.marginals.accounting import Budget
from localsynth.marginals.domain import Domain
from localsynth.marginals.inference import cells
from localsynth.marginals.measure import MarginalSettings, measure_marginals
from localsynth.marginals.mechanisms import PrivateCounts
from localsynth.marginals.model import MarginalModel
from localsynth.privacy.gaussian import rho_for
from localsynth.privacy.noise import RandomSource
from localsynth.schema.columns import Category, Record, Schema
from tests.helpers.seeded_random import InsecureRandom

Rows = Callable[[int], list[Record]]
SIZES = {"a": 3, "b": 4}


class NoNoise(InsecureRandom):
    """Gaussian noise of zero, so that what lies under it can be seen."""

    def gaussian(self, n: int) -> NDArray[np.float64]:
        return np.zeros(n)


def table_of(
    a: list[int], b: list[int], m: int = 1, rho: float = 1e6, source: RandomSource | None = None
) -> tuple[PrivateCounts, Budget]:
    budget = Budget(rho)
    codes = {"a": np.array(a, dtype=np.int64), "b": np.array(b, dtype=np.int64)}
    return PrivateCounts(codes, SIZES, m, budget, source or NoNoise(0)), budget


rows = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=12)


@settings(max_examples=200, deadline=None)
@given(rows, st.integers(1, 5), st.data())
def test_sensitivity_of_counts_and_distances_is_not_exceeded(common: list[tuple[int, int]], m: int, data: st.DataObject) -> None:
    own = data.draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=m))
    with_unit = common + own
    without, _ = table_of([r[0] for r in common], [r[1] for r in common], m)
    having, _ = table_of([r[0] for r in with_unit], [r[1] for r in with_unit], m)
    for names in (("a",), ("b",), ("a", "b"), ("b", "a")):
        moved = having.noisy_counts(names, 1.0) - without.noisy_counts(names, 1.0)
        assert np.linalg.norm(moved) <= m and np.abs(moved).sum() <= m
    expected = [(("a", "b"), np.full((3, 4), 1.3)), (("b",), np.full(4, 2.0)), (("a",), np.zeros(3))]
    moved = having.noisy_distances(expected, 1.0) - without.noisy_distances(expected, 1.0)
    assert np.abs(moved).max() <= m and np.linalg.norm(moved) <= m * math.sqrt(3)


def test_sensitivity_is_attained() -> None:
    """So that a smaller claim would be wrong: m rows in one cell."""
    without, _ = table_of([], [], 4)
    having, _ = table_of([1] * 4, [2] * 4, 4)
    assert np.linalg.norm(having.noisy_counts(("a", "b"), 1.0) - without.noisy_counts(("a", "b"), 1.0)) == 4
    expected = [(("a", "b"), np.zeros((3, 4))), (("b",), np.zeros(4)), (("a",), np.zeros(3))]
    moved = having.noisy_distances(expected, 1.0) - without.noisy_distances(expected, 1.0)
    assert np.linalg.norm(moved) == pytest.approx(4 * math.sqrt(3))


@pytest.mark.parametrize("m", [1, 3])
def test_noise_scale_is_the_charged_one_times_rows_per_unit(m: int) -> None:
    table, budget = table_of([0] * 50, [1] * 50, m, source=InsecureRandom(1))
    draws = np.array([table.noisy_counts(("a", "b"), 20.0) for _ in range(1500)])
    draws[:, 0, 1] -= 50
    assert draws.std() == pytest.approx(20.0 * m, rel=0.03)
    assert abs(draws.mean()) < 5 * 20.0 * m / math.sqrt(draws.size)
    assert (draws == np.rint(draws)).all()
    assert budget.spends[0].parameter == 20.0


def test_noise_of_cells_is_independent() -> None:
    """Noise that cells share would be seen, and taken away, in their difference."""
    table, _ = table_of([0] * 50, [1] * 50, source=InsecureRandom(4))
    draws = np.array([table.noisy_counts(("a", "b"), 20.0).ravel() for _ in range(4000)])
    between = np.corrcoef(draws.T) - np.eye(12)
    assert np.abs(between).max() < 5 / math.sqrt(4000)
    draws[:, 1] -= 50
    following = np.corrcoef(draws[:-1].ravel(), draws[1:].ravel())[0, 1]
    assert abs(following) < 5 / math.sqrt(12 * 4000), "nor of the same cell, counted again"


def test_regrouped_counts_keep_budget_and_random_source() -> None:
    source = InsecureRandom(0)
    table, budget = table_of([0, 1], [2, 3], 3, source=source)
    merged = table.regrouped({"a": np.array([0, 0, 1]), "b": np.array([0, 1, 1, 1])})
    assert merged._random is source and merged._budget is budget and merged.sigma(2.0) == table.sigma(2.0) == 6.0


@pytest.mark.parametrize("m", [1, 4])
def test_noise_of_distances_is_the_charged_one_times_their_joint_sensitivity(m: int) -> None:
    table, budget = table_of([0] * 6, [0] * 6, m, source=InsecureRandom(2))
    expected = [(("a",), np.array([6.0, 0, 0])), (("b",), np.zeros(4)), (("a", "b"), np.full((3, 4), 0.5))]
    draws = np.array([table.noisy_distances(expected, 20.0) for _ in range(1500)])
    # Distances: 0; 6; 5.5 + 11 * 0.5 = 11. Three tables, each of sensitivity m.
    noise = draws - np.array([0.0, 6.0, 11.0])
    sigma = 20.0 * m * math.sqrt(3)
    assert noise.std() == pytest.approx(sigma, rel=0.06)
    assert np.abs(noise.mean(axis=0)).max() < 5 * sigma / math.sqrt(len(noise))
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 5 / math.sqrt(len(noise))
    assert {(spend.kind, spend.parameter) for spend in budget.spends} == {("distances", 20.0)}


def test_distances_and_their_noise_are_added_without_rounding() -> None:
    """All are multiples of the same power of two, whatever is expected: the sum tells nothing that its exact value would not."""
    table, _ = table_of([0] * 6, [0] * 6, source=InsecureRandom(3))
    distances = table.noisy_distances([(("a",), np.array([0.1, 1 / 3, math.pi]))] * 50, 7.0)
    assert (distances * 2**10 == np.rint(distances * 2**10)).all()


def test_refused_charge_counts_and_samples_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = table_of([0], [0], rho=1e-6)

    def touched(*_: Any) -> Any:
        raise AssertionError("the data was touched")

    monkeypatch.setattr(PrivateCounts, "_counts", touched)
    with pytest.raises(BudgetError):
        table.noisy_counts(("a",), 1.0)
    with pytest.raises(BudgetError):
        table.noisy_distances([(("a",), np.zeros(3))], 1.0)


class Watched:
    """Adds up, by itself, the cost of every draw that is made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, source: RandomSource) -> None:
        self.rho = 0.0
        self.source = source
        counts, distances = PrivateCounts.noisy_counts, PrivateCounts.noisy_distances

        def noisy_counts(table: PrivateCounts, names: Any, noise_multiplier: float) -> Any:
            result = counts(table, names, noise_multiplier)
            self.rho += 0.5 / noise_multiplier**2
            return result

        def noisy_distances(table: PrivateCounts, expected: Any, noise_multiplier: float) -> Any:
            result = distances(table, expected, noise_multiplier)
            self.rho += 0.5 / noise_multiplier**2
            return result

        monkeypatch.setattr(mechanisms.PrivateCounts, "noisy_counts", noisy_counts)
        monkeypatch.setattr(mechanisms.PrivateCounts, "noisy_distances", noisy_distances)


@pytest.mark.parametrize("target", [None, "sick"])
@pytest.mark.parametrize("rho", [1e-4, 0.02, 5.0])
def test_recorded_spends_are_all_that_ran_within_the_budget(
    target: str | None, rho: float, small_schema: Schema, small_rows: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch, InsecureRandom(0))
    domain = Domain.of_schema(small_schema)
    chosen = MarginalSettings(target=target)
    model = measure_marginals(domain, domain.encode(small_rows), rho, watched.source, chosen)
    by_hand = sum(1 / (2 * spend.parameter**2) for spend in model.spends)
    assert watched.rho == pytest.approx(by_hand, rel=1e-12)
    assert by_hand <= rho
    assert by_hand >= (1 - 1e-6) * rho


def test_only_the_given_random_source_is_used(
    small_schema: Schema, small_rows: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("another generator was used")

    for module, names in (
        (np.random, ["default_rng", "rand", "random", "normal", "choice", "shuffle", "seed", "Generator", "Philox"]),
        (python_random, ["random", "gauss", "choice", "shuffle", "Random"]),
    ):
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    domain = Domain.of_schema(small_schema)
    codes = domain.encode(small_rows)
    a, b = (measure_marginals(domain, codes, 0.05, InsecureRandom(7)) for _ in range(2))
    assert a.to_json() == b.to_json()
    assert measure_marginals(domain, codes, 0.05, InsecureRandom(8)).to_json() != a.to_json()


def test_total_is_noisy_or_public_never_exact(small_schema: Schema, small_rows: list[Record]) -> None:
    domain = Domain.of_schema(small_schema)
    codes = domain.encode(small_rows)
    totals = [measure_marginals(domain, codes, 0.01, InsecureRandom(seed)).total for seed in range(25)]
    assert len(set(totals)) == 25
    assert len(small_rows) not in totals
    # Inverse-variance mean of the four columns' sums, whose noise has the variance (bins) * deviation².
    deviation = math.sqrt(4 / (2 * 0.15 * 0.01))
    expected = deviation / math.sqrt(sum(1 / a.size for a in domain.attributes))
    assert np.std(totals) == pytest.approx(expected, rel=0.5)
    assert np.mean(totals) == pytest.approx(len(small_rows), abs=4 * expected / 5)
    public = MarginalSettings(public_rows=1234)
    assert measure_marginals(domain, codes, 0.01, InsecureRandom(0), public).total == 1234


@pytest.mark.parametrize("m", [1, 5])
def test_model_holds_no_exact_count(m: int, small_schema: Schema, small_rows: list[Record]) -> None:
    domain = Domain.of_schema(small_schema)
    codes = domain.encode(small_rows)
    settings = MarginalSettings(rows_per_unit=m)
    model = measure_marginals(domain, codes, 0.02, InsecureRandom(3), settings)
    charged = [spend.parameter for spend in model.spends if spend.kind == "gaussian"]
    errors = []
    for measured, noise_multiplier in zip(model.measured, charged, strict=True):
        assert measured.sigma == pytest.approx(m * noise_multiplier)
        groups = [np.array(model.merged_bins[name].groups)[codes[name]] for name in measured.names]
        exact = np.zeros(measured.counts.shape)
        np.add.at(exact, tuple(groups), 1.0)
        error = measured.counts - exact * (1.0 if measured.weights is None else measured.weights)
        assert error.any()
        errors.append(error.ravel() / measured.sigma)
    assert 0.5 < np.sqrt((np.concatenate(errors) ** 2).mean()) < 2


def test_dependent_columns_stay_dependent(small_schema: Schema, rows_of: Rows) -> None:
    domain = Domain.of_schema(small_schema)
    codes = domain.encode(rows_of(8000))
    drawn = measure_marginals(domain, codes, rho_for(2.0, 1e-6), InsecureRandom(5)).sample(8000, 0)
    sick = [row for row in drawn if row["sick"]]
    assert len(sick) / len(drawn) == pytest.approx(0.45, abs=0.05)
    assert sum(row["ward"] in ("a", "b") for row in sick) > 0.9 * len(sick)
    assert np.mean([row["age"] for row in sick]) > 1 + np.mean([row["age"] for row in drawn if not row["sick"]])  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [0, 1])
def test_empty_tables_and_tables_of_one_row(n: int, small_schema: Schema, rows_of: Rows) -> None:
    domain = Domain.of_schema(small_schema)
    model = measure_marginals(domain, domain.encode(rows_of(n)), 0.02, InsecureRandom(n))
    assert model.total >= 1
    assert len(model.sample(20, 0)) == 20


def test_a_column_with_one_value_and_a_table_of_one_column(small_schema: Schema, rows_of: Rows) -> None:
    constant = Category(name="only", values=["x"], nullable=False)
    both = Domain.of_schema(Schema(columns=[constant, *small_schema.columns]))
    codes = both.encode([{"only": "x", **row} for row in rows_of(300)])
    model = measure_marginals(both, codes, 0.5, InsecureRandom(0))
    assert {row["only"] for row in model.sample(50, 0)} == {"x"}
    alone = Domain.of_schema(Schema(columns=[constant]))
    model = measure_marginals(alone, alone.encode([{"only": "x"}] * 9), 0.5, InsecureRandom(0))
    assert model.sample(2, 0) == [{"only": "x"}] * 2
    assert [spend.kind for spend in model.spends] == ["gaussian"]


def test_model_stays_within_max_cells(small_schema: Schema, small_rows: list[Record]) -> None:
    domain = Domain.of_schema(small_schema)
    chosen = MarginalSettings(max_cells=150, max_groups=8)
    model: MarginalModel = measure_marginals(domain, domain.encode(small_rows), 5.0, InsecureRandom(0), chosen)
    assert cells(model.sizes, [m.names for m in model.measured]) <= 150


@pytest.mark.parametrize(
    "chosen",
    [
        MarginalSettings(target="nothing"),
        MarginalSettings(rows_per_unit=0),
        MarginalSettings(public_rows=0),
        MarginalSettings(single_fraction=1.0),
        MarginalSettings(max_cells=0),
    ],
)
def test_settings_out_of_range_are_refused(chosen: MarginalSettings, small_schema: Schema, rows_of: Rows) -> None:
    domain = Domain.of_schema(small_schema)
    with pytest.raises(ConfigError):
        measure_marginals(domain, domain.encode(rows_of(5)), 1.0, InsecureRandom(0), chosen)
