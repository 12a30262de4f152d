"""The joint account: both methods against other accountants, against samples of the privacy loss, and the calibration."""

import itertools
import math
import warnings
from typing import Any

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld

from localsynth.errors import BudgetError
from localsynth.privacy.account import Account, choose_order
from localsynth.privacy.accountant import dp_sgd_step, epsilon_of
from localsynth.privacy.gaussian import epsilon_of_rho, gaussian_of_rho, rho_for
from localsynth.privacy.renyi import ORDERS, epsilon_at_order, rdp
from tests.helpers.dp_events import to_dp_event

DELTA = 1e-5
RATE, STEPS = 0.1, 42
"""Of a hybrid by default, with any table of 320 to 10,240 units."""


def counts_of(epsilon: float) -> list[dict[str, Any]]:
    """The marginals and the token counts of a hybrid by default."""
    return [gaussian_of_rho(rho_for(share * epsilon, share * DELTA)) for share in (0.2, 0.16)]


def steps_of(noise: float, steps: int = STEPS) -> dict[str, Any]:
    return {"type": "repeated", "count": steps, "of": dp_sgd_step(noise, RATE)}


def measured(epsilon: float, columns: int = 7) -> list[dict[str, Any]]:
    return [{"type": "pure_dp", "epsilon": 0.1 * epsilon / columns}] * columns


@pytest.mark.parametrize(("epsilon", "reach"), [(8.0, 0.795), (4.0, 1.125), (1.0, 2.82)])
def test_noise_with_all_parameters_fixed(epsilon: float, reach: float) -> None:
    account = Account(epsilon, DELTA)
    noise = account.noise(RATE, STEPS, counts_of(epsilon))
    assert 0.97 * reach < noise <= reach
    assert 0.99 * epsilon <= account.spent([*counts_of(epsilon), steps_of(noise)]) <= epsilon


@pytest.mark.parametrize(("epsilon", "reach"), [(8.0, 0.85), (4.0, 1.21), (1.0, 3.08)])
def test_noise_with_parameters_chosen_by_earlier_results(epsilon: float, reach: float) -> None:
    account = choose_order(Account(epsilon, DELTA), RATE, STEPS, counts_of(epsilon))
    noise = account.noise(RATE, STEPS, counts_of(epsilon))
    assert 0.97 * reach < noise <= reach
    assert 0.99 * epsilon <= account.spent([*counts_of(epsilon), steps_of(noise)]) <= epsilon


@pytest.mark.parametrize("epsilon", [8.0, 1.0])
def test_joint_composition_against_other_accountants(epsilon: float) -> None:
    from opacus.accountants import PRVAccountant

    gaussians = counts_of(epsilon)
    noise = Account(epsilon, DELTA).noise(RATE, STEPS, gaussians)
    ours = epsilon_of([*gaussians, steps_of(noise)], DELTA)

    optimistic = pld.from_gaussian_mechanism(
        noise, sampling_prob=RATE, pessimistic_estimate=False, use_connect_dots=False
    ).self_compose(STEPS)
    for gaussian in gaussians:
        optimistic = optimistic.compose(
            pld.from_gaussian_mechanism(gaussian["noise_multiplier"], pessimistic_estimate=False, use_connect_dots=False)
        )
    assert optimistic.get_epsilon_for_delta(DELTA) <= ours
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prv = PRVAccountant()
        # A rate of almost 1: Opacus has no mechanism without sampling.
        prv.history = [(noise, RATE, STEPS), *((g["noise_multiplier"], 1 - 1e-9, 1) for g in gaussians)]
        assert ours == pytest.approx(prv.get_epsilon(DELTA, eps_error=0.02), abs=0.03)
    theirs = dp_accounting.rdp.RdpAccountant()
    for mechanism in [*gaussians, steps_of(noise)]:
        theirs.compose(to_dp_event(mechanism))
    assert ours <= theirs.get_epsilon(DELTA)


def test_joint_composition_against_sampled_losses() -> None:
    """δ at ε is the mean of (1 - exp(ε - L))+ over losses L of the dominating pair, here at a δ that samples can see."""
    epsilon, noise, counts, draws = 1.0, 1.6, 4.0, 400_000
    random = np.random.default_rng(1)
    loss = random.normal(1 / (2 * counts**2), 1 / counts, draws)
    for _ in range(20):
        x = random.normal(0, noise, draws) + (random.random(draws) < RATE)
        loss += np.log1p(RATE * np.expm1((2 * x - 1) / (2 * noise**2)))
    seen = np.maximum(0.0, -np.expm1(epsilon - loss))
    delta, error = float(seen.mean()), 4 * float(seen.std()) / math.sqrt(draws)
    mechanisms = [{"type": "gaussian", "noise_multiplier": counts}, steps_of(noise, 20)]
    assert epsilon_of(mechanisms, delta + error) <= epsilon <= epsilon_of(mechanisms, delta - error)


@pytest.mark.parametrize("order", [2, 3, 16, 64])
def test_rdp_agrees_with_other_accountants(order: int) -> None:
    from opacus.accountants.analysis import rdp as opacus_rdp

    for noise, rate in itertools.product((0.7, 1.5, 6.0), (0.001, 0.1, 1.0)):
        ours = rdp(dp_sgd_step(noise, rate), order)
        theirs = dp_accounting.rdp.RdpAccountant([order])
        theirs.compose(to_dp_event(dp_sgd_step(noise, rate)))
        assert ours == pytest.approx(float(theirs._rdp[0]), rel=1e-6, abs=1e-12)
        assert ours == pytest.approx(
            float(opacus_rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=[order])[0]), rel=1e-6, abs=1e-12
        )
    assert rdp({"type": "gaussian", "noise_multiplier": 2.0}, order) == pytest.approx(order / 8)


@pytest.mark.parametrize("epsilon", [1e-4, 0.3, 5.0, 90.0])
@pytest.mark.parametrize("order", [2, 5, 256])
def test_rdp_of_proven_bounds_is_that_of_randomized_response(order: int, epsilon: float) -> None:
    truth, lie = -np.log1p(np.exp(-epsilon)), -np.log1p(np.exp(epsilon))
    exact = np.logaddexp(order * truth + (1 - order) * lie, order * lie + (1 - order) * truth) / (order - 1)
    assert rdp({"type": "pure_dp", "epsilon": epsilon}, order) == pytest.approx(exact, rel=1e-6, abs=1e-13)


def test_renyi_epsilon_is_that_of_dp_accounting() -> None:
    mechanisms = [steps_of(1.2), {"type": "gaussian", "noise_multiplier": 5.0}]
    for order in ORDERS:
        theirs = dp_accounting.rdp.RdpAccountant([order])
        for mechanism in mechanisms:
            theirs.compose(to_dp_event(mechanism))
        assert epsilon_at_order(mechanisms, DELTA, 0.0, order) == pytest.approx(theirs.get_epsilon(DELTA), rel=1e-9)


def test_what_may_fail_has_its_part_of_delta() -> None:
    listed = {"type": "thresholded_gaussian", "noise_multiplier": 9.0, "delta": DELTA / 40}
    account = Account(4.0, DELTA, 8, DELTA / 10)
    four = account.spent([listed] * 4)
    assert account.spent([listed] * 5) == math.inf
    assert Account(4.0, DELTA, 8).spent([listed]) == math.inf
    assert four == pytest.approx(Account(4.0, 0.9 * DELTA, 8).spent([{"type": "gaussian", "noise_multiplier": 9.0}] * 4))
    # What is for failures is gone, whether or not something may fail.
    assert account.spent([steps_of(2.0)]) == pytest.approx(Account(4.0, 0.9 * DELTA, 8).spent([steps_of(2.0)]))


def test_nothing_costs_nothing_and_one_step_too_many_does_not_fit() -> None:
    for account in (Account(4.0, DELTA), Account(4.0, DELTA, 6)):
        noise = account.noise(RATE, STEPS, counts_of(4.0))
        assert account.spent([]) == 0
        assert account.fits([*counts_of(4.0), steps_of(noise)])
        assert not account.fits([*counts_of(4.0), steps_of(noise, STEPS + 2)])


def test_marginals_fill_what_is_left() -> None:
    assert Account(1.0, DELTA).rho([]) == rho_for(1.0, DELTA)
    others = [gaussian_of_rho(0.004), {"type": "thresholded_gaussian", "noise_multiplier": 12.0, "delta": DELTA / 10}]
    for order in ("all", 16):
        account = Account(1.0, DELTA, order, DELTA / 10)
        rho = account.rho(others)
        assert rho == pytest.approx(account.rho([]) - 0.004 - 1 / 288)
        assert account.spent([*others, gaussian_of_rho(rho)]) == pytest.approx(1.0)
        with pytest.raises(BudgetError, match="leave nothing"):
            account.rho([gaussian_of_rho(1.0)])


def test_an_account_of_gaussians_is_exact_and_holds_nothing_else() -> None:
    account = Account(1.0, DELTA, "all", DELTA / 10)
    listed = {"type": "thresholded_gaussian", "noise_multiplier": 12.0, "delta": DELTA / 20}
    gaussian = {"type": "gaussian", "noise_multiplier": 6.0}
    exact = epsilon_of_rho(2 / 288 + 1 / 72, 0.9 * DELTA)
    assert account.spent([listed, gaussian, listed]) == pytest.approx(exact, rel=1e-9)
    assert exact < Account(1.0, DELTA, 16, DELTA / 10).spent([listed, gaussian, listed])
    assert account.spent([listed] * 3) == math.inf, "more than may fail"
    for other in (steps_of(6.0), {"type": "pure_dp", "epsilon": 0.01}):
        assert account.spent([other]) == math.inf and not account.fits([gaussian, other])
    with pytest.raises(BudgetError, match="marginals alone") as caught:
        account.noise(RATE, STEPS, [listed])
    assert "ingest WS --again" in caught.value.hint, "a training with --again would join this account"


def test_measuring_the_schema_costs_the_training_little() -> None:
    for epsilon in (1.0, 8.0):
        alone = choose_order(Account(epsilon, DELTA), RATE, STEPS, counts_of(epsilon)).noise(RATE, STEPS, counts_of(epsilon))
        others = [*measured(epsilon), *counts_of(epsilon)]
        assert choose_order(Account(epsilon, DELTA), RATE, STEPS, others).noise(RATE, STEPS, others) < 1.02 * alone


def test_epsilon_that_leaves_nothing_at_any_order_is_refused() -> None:
    with pytest.raises(BudgetError, match="too small"):
        choose_order(Account(0.02, 1e-6, failure=1e-7), RATE, STEPS, measured(0.02))


def test_no_noise_is_enough_beside_what_is_spent() -> None:
    for account in (Account(1.0, DELTA), Account(1.0, DELTA, 16)):
        with pytest.raises(BudgetError, match="No amount of noise"):
            account.noise(RATE, STEPS, [gaussian_of_rho(1.0)])
