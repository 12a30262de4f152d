import math

import pytest

from localsynth.errors import BudgetError, ConfigError
from localsynth.marginals.accounting import Budget, Spend, epsilon_of_rho, rho_for, total_rho
from localsynth.privacy.accountant import epsilon_of


def test_costs_are_the_textbook_ones() -> None:
    assert Spend("gaussian", 5.0, "").rho == pytest.approx(1 / 50)
    assert Spend("exponential", 0.4, "").rho == pytest.approx(0.16 / 8)
    assert total_rho([Spend("gaussian", 5.0, ""), Spend("exponential", 0.4, "")]) == pytest.approx(0.04)


def test_conversion_is_a_bound_on_the_exact_epsilon_of_a_gaussian_and_close_to_it() -> None:
    for noise in (0.7, 2.0, 5.0, 20.0):
        exact = epsilon_of([{"type": "gaussian", "noise_multiplier": noise}], 1e-5)
        ours = epsilon_of_rho(1 / (2 * noise**2), 1e-5)
        assert exact <= ours <= 1.15 * exact


def test_conversion_is_better_than_the_classic_formula() -> None:
    for rho in (1e-4, 0.02, 0.5, 10.0):
        assert epsilon_of_rho(rho, 1e-5) < rho + 2 * math.sqrt(rho * math.log(1e5))


def test_conversion_is_below_the_bound_at_many_orders() -> None:
    rho, delta = 0.02, 1e-5
    grid = [1 + 10 ** (step / 100) for step in range(-300, 500)]
    bounds = [rho * a + math.log1p(-1 / a) - (math.log(delta) + math.log(a)) / (a - 1) for a in grid]
    assert epsilon_of_rho(rho, delta) == pytest.approx(min(bounds), rel=1e-4)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.01, 1e-6), (1.0, 1e-5), (8.0, 1e-9), (50.0, 1e-5)])
def test_inverse_is_on_the_safe_side_and_tight(epsilon: float, delta: float) -> None:
    rho = rho_for(epsilon, delta)
    assert epsilon * (1 - 1e-6) <= epsilon_of_rho(rho, delta) <= epsilon


def test_nothing_costs_nothing() -> None:
    assert epsilon_of_rho(0.0, 1e-5) == 0.0


@pytest.mark.parametrize(("rho", "delta"), [(-1.0, 1e-5), (1.0, 0.0), (1.0, 1.0), (math.nan, 1e-5)])
def test_senseless_guarantees_are_refused(rho: float, delta: float) -> None:
    with pytest.raises(ConfigError):
        epsilon_of_rho(rho, delta)


def test_a_budget_refuses_what_does_not_fit_and_keeps_nothing_of_it() -> None:
    budget = Budget(0.1)
    budget.charge(Spend("gaussian", math.sqrt(1 / (2 * 0.06)), ""))
    with pytest.raises(BudgetError):
        budget.charge(Spend("exponential", math.sqrt(8 * 0.05), ""))
    assert len(budget.spends) == 1
    budget.charge(Spend("exponential", math.sqrt(8 * budget.left), ""))
    assert total_rho(budget.spends) <= 0.1
    assert budget.left <= 1e-8 * 0.1


@pytest.mark.parametrize("rho", [0.0, -1.0, math.inf, math.nan])
def test_a_budget_is_positive(rho: float) -> None:
    with pytest.raises(BudgetError):
        Budget(rho)
