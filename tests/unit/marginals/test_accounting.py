import math
from typing import Any

import pytest

from localsynth.errors import BudgetError, ConfigError
from localsynth.marginals.accounting import Budget, Spend, total_rho


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
