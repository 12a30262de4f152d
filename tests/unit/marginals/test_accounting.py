"""The filter of the marginals' ρ: what it refuses, and what gets through it to an analyst who follows the noisy results."""

import contextlib
import math
from typing import Any

import numpy as np
import pytest

from localsynth.errors import BudgetError, ConfigError
from localsynth.marginals.accounting import Budget, Spend, total_rho
from localsynth.marginals.mechanisms import PrivateCounts
from localsynth.privacy.accountant import deltas_of
from localsynth.privacy.gaussian import gaussian_of_rho
from localsynth.privacy.noise import RandomSource
from tests.helpers.seeded_random import InsecureRandom


def test_costs_equal_published_formulas() -> None:
    assert Spend("gaussian", 5.0, ()).rho == pytest.approx(1 / 50)
    assert Spend("distances", 0.4, ()).rho == pytest.approx(3.125)
    assert total_rho([Spend("gaussian", 5.0, ()), Spend("distances", 10.0, ())]) == pytest.approx(0.025)


def test_refused_charge_leaves_the_budget_unchanged() -> None:
    budget = Budget(0.1)
    budget.charge(Spend("gaussian", math.sqrt(1 / (2 * 0.06)), ()))
    with pytest.raises(BudgetError):
        budget.charge(Spend("distances", math.sqrt(1 / (2 * 0.05)), ()))
    assert len(budget.spends) == 1
    budget.charge(Spend("distances", math.sqrt(1 / (2 * budget.left)), ()))
    assert total_rho(budget.spends) <= 0.1
    assert budget.left <= 1e-8 * 0.1


def test_budget_is_exact_to_a_millionth() -> None:
    for spend in (
        Spend("gaussian", math.sqrt(1 / (2 * 0.1 * (1 + 1e-6))), ()),
        Spend("distances", math.sqrt(1 / (2 * 0.1 * (1 + 1e-6))), ()),
    ):
        budget = Budget(0.1)
        with pytest.raises(BudgetError):
            budget.charge(spend)
        assert budget.spends == []


@pytest.mark.parametrize(
    ("kind", "parameter"), [("gaussian", 1e-200), ("gaussian", math.nan), ("distances", 0.0), ("exponential", 1.0)]
)
def test_unknown_mechanism_has_no_cost(kind: Any, parameter: float) -> None:
    with pytest.raises(ConfigError):
        _ = Spend(kind, parameter, ()).rho


@pytest.mark.parametrize("rho", [0.0, -1.0, math.inf, math.nan])
def test_budget_must_be_positive(rho: float) -> None:
    with pytest.raises(BudgetError):
        Budget(rho)


def loss_of_an_analyst(rho: float, random: RandomSource) -> float:
    """The privacy loss, in nats, of all that is released about a unit of 50 rows that is in the table.

    The analyst asks for counts, with less noise while the unit seems to be there, also after a refusal, then takes what is left.
    """
    rows, loss, budget = 50, 0.0, Budget(rho)
    counts = PrivateCounts({"a": np.zeros(rows, dtype=np.int64)}, {"a": 1}, rows, budget, random)
    for last in [False] * 8 + [True]:
        share = budget.left / rho if last else 0.4 if loss > 0 else 0.2
        noise = 1 / math.sqrt(2 * rho * max(share, 1e-9))
        with contextlib.suppress(BudgetError):
            (seen,) = counts.noisy_counts(("a",), noise)
            # log of N(seen; rows, sigma) over N(seen; 0, sigma).
            loss += (seen**2 - (seen - rows) ** 2) / (2 * counts.sigma(noise) ** 2)
    return float(loss)


def test_an_adaptive_analyst_gets_what_one_gaussian_tells() -> None:
    """δ at ε is the mean of (1 - exp(ε - L))+ over losses L: no more than what is charged, and no less."""
    rho, random, paths = 0.5, InsecureRandom(1), 1000
    losses = np.array([loss_of_an_analyst(rho, random) for _ in range(paths)])
    for epsilon in (0.0, 0.5, 1.5):
        seen = np.maximum(0.0, -np.expm1(epsilon - losses))
        (delta,) = deltas_of([gaussian_of_rho(rho)], [epsilon])
        assert float(seen.mean()) == pytest.approx(delta, abs=4 * float(seen.std()) / math.sqrt(paths))
