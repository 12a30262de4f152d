"""What attacks can gain: against closed forms, another implementation, and a simulated attack."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from riskcal.analysis.conversions import get_beta_from_adp, get_beta_from_pld, get_beta_from_rdp
from scipy.stats import beta, norm

from localsynth.privacy.account import Account
from localsynth.privacy.accountant import dp_sgd_step, epsilon_of
from localsynth.privacy.gaussian import gaussian_of_rho, rho_for
from localsynth.privacy.renyi import rdp_within
from localsynth.privacy.risk import Risks, risks_of
from tests.helpers.dp_events import to_dp_event

DELTA = 1e-6
RATE = 0.1
MARGINALS = gaussian_of_rho(0.02)
COUNTS = {"type": "gaussian", "noise_multiplier": 4.0}


def steps_of(noise: float, count: int) -> dict[str, Any]:
    return {"type": "repeated", "count": count, "of": dp_sgd_step(noise, RATE)}


def filled(*mechanisms: dict[str, Any]) -> tuple[Account, list[dict[str, Any]]]:
    """The account that `mechanisms` fill exactly."""
    return Account(epsilon_of(list(mechanisms), DELTA), DELTA), list(mechanisms)


def figures(risks: Risks) -> list[tuple[float, float]]:
    members = [(risk.false_positive_rate, risk.true_positive_rate) for risk in risks.membership]
    return members + [(risk.base_rate, risk.success) for risk in risks.inference]


@pytest.mark.parametrize("noise", [0.8, 2.0, 8.0])
def test_gaussian_mechanism_against_its_trade_off_curve(noise: float) -> None:
    risks = risks_of([filled({"type": "gaussian", "noise_multiplier": noise})])
    assert risks.basis == "curve"
    for rate, most in figures(risks):
        exact = norm.cdf(norm.ppf(rate) + 1 / noise)
        assert exact <= most <= 1.001 * exact + 2e-6


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 5.0])
def test_randomized_response_against_its_trade_off_curve(epsilon: float) -> None:
    mechanism = {"type": "pure_dp", "epsilon": epsilon}
    for rate, most in figures(risks_of([(Account(epsilon, 0.0), [mechanism])])):
        exact = min(math.exp(epsilon) * rate, 1 - math.exp(-epsilon) * (1 - rate))
        assert exact - 1e-12 <= most <= exact + 1e-6


@pytest.mark.parametrize(("noise", "count"), [(1.274, 42), (0.9, 42), (3.0, 500)])
def test_a_composition_against_another_implementation(noise: float, count: int) -> None:
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant()
    for mechanism in (steps_of(noise, count), COUNTS):
        accountant.compose(to_dp_event(mechanism))
    account, mechanisms = filled(steps_of(noise, count), COUNTS)
    for rate, most in figures(risks_of([(account, mechanisms)])):
        theirs = 1 - get_beta_from_pld(accountant._pld, alpha=rate)
        assert 0 <= most - theirs <= 1e-3 * theirs


def seen_total(members: np.ndarray, noise: float, count: int, r: np.random.Generator) -> np.ndarray:
    """The log-likelihood ratio, after `count` steps, of a unit whose gradient is all that a batch holds."""
    total = np.zeros(len(members))
    for _ in range(count):
        seen = r.normal(0, noise, len(members)) + (members & (r.random(len(members)) < RATE))
        total += np.log1p(RATE * np.expm1((seen - 0.5) / noise**2))
    return total


def test_a_simulated_attack_stays_below_the_bound_and_near_it() -> None:
    """The likelihood-ratio attack, which no attack exceeds."""
    noise, count, tries, r = 1.274, 42, 400_000, np.random.default_rng(1)
    outsiders, members = (seen_total(np.full(tries, member), noise, count, r) for member in (False, True))
    for rate, most in figures(risks_of([filled(steps_of(noise, count))])):
        found = int(np.sum(members > np.quantile(outsiders, 1 - rate)))
        # The attack's true rate is in this interval but for a probability of 1e-9; the threshold is six standard deviations off.
        low, high = beta.ppf(5e-10, found, tries - found + 1), beta.ppf(1 - 5e-10, found + 1, tries - found)
        slack = 6 * math.sqrt(rate / tries) * (most / rate)
        assert low - slack <= most <= high + slack


def test_a_guess_about_a_unit_stays_below_the_bound_and_near_it() -> None:
    """A unit has one of k equally likely values, each with a query of its own; the best guess is the largest noisy answer."""
    noise, tries, r = 0.7, 200_000, np.random.default_rng(2)
    risks = risks_of([filled({"type": "gaussian", "noise_multiplier": noise})])
    for risk in risks.inference:
        values = round(1 / risk.base_rate)
        answers = r.normal(0, noise, (tries, values))
        answers[:, 0] += 1
        right = float(np.mean(np.argmax(answers, axis=1) == 0))
        assert right <= risk.success + 6 * math.sqrt(0.25 / tries)
        assert right >= risk.base_rate + (risk.success - risk.base_rate) / 3


def test_a_run_that_stopped_early_has_the_risks_of_its_whole_budget() -> None:
    account, mechanisms = filled(steps_of(1.274, 42))
    assert risks_of([(account, [steps_of(1.274, 3)])]) == risks_of([(account, mechanisms)])
    account, mechanisms = filled(gaussian_of_rho(0.2))
    assert risks_of([(account, [gaussian_of_rho(0.05)])]).membership[1].true_positive_rate == pytest.approx(
        risks_of([(account, mechanisms)]).membership[1].true_positive_rate, abs=2e-6
    )


def test_the_curve_is_of_all_mechanisms_of_a_run() -> None:
    whole = [MARGINALS, steps_of(1.5, 42), COUNTS]
    account, _ = filled(*whole)
    theirs = [risks_of([(Account(epsilon_of([part], DELTA), DELTA), [part])]) for part in whole]
    together = risks_of([(account, whole)])
    for each in theirs:
        assert all(a < b for (_, a), (_, b) in zip(figures(each), figures(together), strict=True))


def test_two_budgets_count_with_their_sums() -> None:
    """The second was opened after a look at the first: only what was fixed beforehand counts."""
    size = (Account(0.08, 0.0), [{"type": "pure_dp", "epsilon": 0.08}])
    run = filled(steps_of(1.274, 42))
    risks = risks_of([size, run])
    assert risks.basis == "epsilon and delta"
    for rate, most in figures(risks):
        assert most == pytest.approx(1 - get_beta_from_adp(run[0].epsilon + 0.08, DELTA, rate), abs=2e-6)


@pytest.mark.parametrize(("epsilon", "order"), [(4.0, 6), (1.0, 20), (8.0, 3)])
def test_an_order_against_another_implementation(epsilon: float, order: int) -> None:
    account = Account(epsilon, DELTA, order)
    risks = risks_of([(account, [{"type": "pure_dp", "epsilon": 0.01}])])
    assert risks.basis == "order"
    for rate, most in figures(risks):
        by_order = 1 - get_beta_from_rdp(rdp_within(epsilon, DELTA, 0.0, order), rate, order)
        theirs = min(float(np.squeeze(by_order)), float(1 - get_beta_from_adp(epsilon, DELTA, rate)))
        assert most == pytest.approx(theirs, abs=3e-6)


def test_an_account_of_gaussians_against_its_trade_off_curve() -> None:
    """Filled up, whatever was charged, and with all that may fail."""
    risks = risks_of([(Account(1.0, DELTA, "all", DELTA / 10), [gaussian_of_rho(0.001)])])
    distance = math.sqrt(2 * rho_for(1.0, 0.9 * DELTA))
    for rate, most in figures(risks):
        exact = float(norm.cdf(norm.ppf(rate) + distance)) + DELTA / 10
        assert exact - 1e-9 <= most <= exact + 1e-6


def test_an_order_is_above_the_curve_of_what_fits_into_it() -> None:
    account = Account(4.0, DELTA, 6)
    noise = account.noise(RATE, 42)
    loose, tight = risks_of([(account, [steps_of(noise, 42)])]), risks_of([filled(steps_of(noise, 42))])
    assert all(a > b for (_, a), (_, b) in zip(figures(loose), figures(tight), strict=True))


def test_what_may_fail_is_counted_as_success() -> None:
    """A mechanism that reveals the unit with its whole failure, and otherwise answers at random with all of the order's room."""
    order, failure = 8, 0.01
    account = Account(1.5, 0.02, order, failure)
    bound = rdp_within(1.5, 0.02, failure, order)
    answer = max(e for e in np.linspace(0.01, 2, 400) if _rdp_of_response(e, order) <= bound)
    mechanism = {"type": "thresholded_gaussian", "noise_multiplier": 100.0, "delta": failure}
    for rate, most in figures(risks_of([(account, [mechanism])])):
        honest = rate / (1 - failure)
        kept = min(math.exp(answer) * honest, 1 - math.exp(-answer) * (1 - honest))
        assert most >= failure + (1 - failure) * kept


def _rdp_of_response(epsilon: float, order: int) -> float:
    p = 1 / (1 + math.exp(-epsilon))
    return math.log(p**order * (1 - p) ** (1 - order) + (1 - p) ** order * p ** (1 - order)) / (order - 1)


@settings(max_examples=60, deadline=None)
@given(epsilon=st.floats(0.01, 30), delta=st.floats(1e-12, 0.1), order=st.sampled_from([None, 2, 5, 64, 256]))
def test_risks_lie_between_chance_and_certainty(epsilon: float, delta: float, order: int | None) -> None:
    account = Account(epsilon, delta, order)
    budgets = [(account, [{"type": "pure_dp", "epsilon": 0.001}])] * (2 if order is None else 1)
    risks = risks_of(budgets)
    assert all(rate <= most <= 1 for rate, most in figures(risks))
    for side in ([risk.true_positive_rate for risk in risks.membership], [risk.success for risk in risks.inference]):
        assert side == sorted(side)


def test_an_unbounded_epsilon_bounds_nothing() -> None:
    risks = risks_of([(Account(1.0, DELTA), [{"type": "gaussian", "noise_multiplier": 0.02}])])
    assert all(most == 1.0 for _, most in figures(risks))
