"""The accountant against three others, against closed forms, and the calibration against the accountant."""

import json
import math
import warnings
from typing import Any

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution
from hypothesis import given, settings
from hypothesis import strategies as st

from localsynth.errors import BudgetError, ConfigError
from localsynth.privacy.accountant import (
    MAX_RUNS,
    calibrate_noise,
    dp_sgd_step,
    epsilon_of,
    flatten,
    group_epsilon,
    max_repetitions,
)
from tests.helpers.dp_events import to_dp_event

DELTA = 1e-6
GRID = [(0.01, 1.2, 300), (0.05, 1.5, 200), (0.2, 4.0, 100), (1.0, 20.0, 50)]


def dp_sgd(rate: float, noise: float, steps: int) -> list[dict[str, Any]]:
    return [{"type": "repeated", "count": steps, "of": dp_sgd_step(noise, rate)}]


def normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


@pytest.mark.parametrize(("rate", "noise", "steps"), GRID)
def test_epsilon_agrees_with_other_accountants(rate: float, noise: float, steps: int) -> None:
    from opacus.accountants import PRVAccountant
    from opacus.accountants.analysis import rdp as opacus_rdp

    ours = epsilon_of(dp_sgd(rate, noise, steps), DELTA)

    theirs = dp_accounting.rdp.RdpAccountant()
    theirs.compose(to_dp_event(dp_sgd(rate, noise, steps)[0]))
    assert ours <= theirs.get_epsilon(DELTA)

    orders = [1 + x / 10 for x in range(1, 100)] + list(range(12, 64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rdp = opacus_rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=steps, orders=orders)
        assert ours <= opacus_rdp.get_privacy_spent(orders=orders, rdp=rdp, delta=DELTA)[0]
        if rate < 1:
            prv = PRVAccountant()
            prv.history = [(noise, rate, steps)]
            assert ours == pytest.approx(prv.get_epsilon(DELTA, eps_error=0.02), abs=0.03)

    optimistic = privacy_loss_distribution.from_gaussian_mechanism(
        noise, sampling_prob=rate, pessimistic_estimate=False, use_connect_dots=False
    ).self_compose(steps)
    assert ours >= optimistic.get_epsilon_for_delta(DELTA)


@pytest.mark.parametrize("noise", [1.0, 3.0])
def test_gaussian_against_closed_form(noise: float) -> None:
    """Balle & Wang 2018, "Improving the Gaussian Mechanism for Differential Privacy", theorem 5."""
    epsilon = epsilon_of([{"type": "gaussian", "noise_multiplier": noise}], DELTA)
    a, b = 1 / (2 * noise), epsilon * noise
    assert normal_cdf(a - b) - math.exp(epsilon) * normal_cdf(-a - b) == pytest.approx(DELTA, rel=1e-3)
    assert epsilon == pytest.approx(epsilon_of([dp_sgd_step(noise, 1.0)], DELTA), rel=1e-6)


def test_repeated_gaussians_equal_one_with_less_noise() -> None:
    many = [{"type": "repeated", "count": 16, "of": {"type": "gaussian", "noise_multiplier": 8.0}}]
    assert epsilon_of(many, DELTA) == pytest.approx(epsilon_of([{"type": "gaussian", "noise_multiplier": 2.0}], DELTA), rel=1e-3)


def test_repetition_nested_or_listed() -> None:
    step = dp_sgd_step(1.0, 0.1)
    nested = {"type": "repeated", "count": 3, "of": {"type": "repeated", "count": 4, "of": step}}
    assert flatten([nested]) == flatten([step] * 12)
    assert epsilon_of([nested], DELTA) == epsilon_of([step] * 12, DELTA)
    assert epsilon_of([json.loads(json.dumps(nested))], DELTA) == epsilon_of([nested], DELTA)


@settings(max_examples=30, deadline=None)
@given(parts=st.lists(st.floats(1e-3, 0.5), min_size=1, max_size=30))
def test_pure_mechanisms_never_cost_more_than_their_sum(parts: list[float]) -> None:
    epsilon = epsilon_of([{"type": "pure_dp", "epsilon": part} for part in parts], DELTA)
    assert 0 < epsilon <= math.fsum(parts) * (1 + 1e-12)


def test_many_pure_mechanisms_cost_less_than_their_sum() -> None:
    assert epsilon_of([{"type": "repeated", "count": 300, "of": {"type": "pure_dp", "epsilon": 0.1}}], DELTA) < 12


def test_pure_mechanism_costs_its_epsilon() -> None:
    assert epsilon_of([{"type": "pure_dp", "epsilon": 0.3}], 0.0) == 0.3
    assert epsilon_of([{"type": "pure_dp", "epsilon": 0.3}], DELTA) == pytest.approx(0.3, abs=2e-4)


def test_deltas_of_mechanisms_count_towards_delta() -> None:
    listed = {"type": "thresholded_gaussian", "noise_multiplier": 50.0, "delta": 1e-7}
    assert epsilon_of([listed] * 9, 1e-6) < 1
    assert epsilon_of([listed] * 11, 1e-6) == math.inf
    gaussian = {"type": "gaussian", "noise_multiplier": 2.0}
    both = epsilon_of([gaussian, listed], 1e-6)
    assert epsilon_of([gaussian], 1e-6) < both <= epsilon_of([gaussian], 9e-7) + 0.1


def test_gaussian_without_delta_has_no_epsilon() -> None:
    assert epsilon_of([{"type": "gaussian", "noise_multiplier": 2.0}], 0.0) == math.inf
    assert epsilon_of([{"type": "gaussian", "noise_multiplier": 0.01}, dp_sgd_step(1.0, 0.1)], DELTA) == math.inf
    assert epsilon_of([], DELTA) == 0


@pytest.mark.parametrize(("rate", "noise", "steps"), [(0.05, 2.5, 20), (0.3, 3.0, 1)])
def test_epsilon_is_monotone_in_steps_rate_noise_and_delta(rate: float, noise: float, steps: int) -> None:
    cost = epsilon_of(dp_sgd(rate, noise, steps), DELTA)
    assert epsilon_of(dp_sgd(rate, noise, steps * 2), DELTA) > cost
    assert epsilon_of(dp_sgd(rate * 1.5, noise, steps), DELTA) > cost
    assert epsilon_of(dp_sgd(rate, noise * 1.2, steps), DELTA) < cost
    assert epsilon_of(dp_sgd(rate, noise, steps), DELTA * 10) < cost


@pytest.mark.parametrize(("epsilon", "rate", "steps"), [(4, 0.05, 100), (8, 0.02, 10_000), (2.0, 1.0, 1), (0.05, 0.01, 100)])
def test_calibration_is_tight_and_conservative(epsilon: float, rate: float, steps: int) -> None:
    spent = epsilon_of(dp_sgd(rate, calibrate_noise(epsilon, DELTA, rate, steps), steps), DELTA)
    assert 0.98 * epsilon <= spent <= epsilon


@pytest.mark.parametrize(("rate", "steps"), [(0, 1), (1.1, 1), (-0.1, 1), (0.1, 0), (math.nan, 1)])
def test_calibration_refuses_invalid_arguments(rate: float, steps: int) -> None:
    with pytest.raises(ConfigError):
        calibrate_noise(1.0, DELTA, rate, steps)


def test_calibration_where_no_noise_is_enough() -> None:
    with pytest.raises(BudgetError, match="No amount of noise"):
        calibrate_noise(1e-7, 1e-9, 1.0, 1)


@pytest.mark.parametrize(
    "mechanism",
    [
        None,
        {},
        {"type": "magic"},
        {"type": "gaussian"},
        {"type": "gaussian", "noise_multiplier": 0},
        {"type": "gaussian", "noise_multiplier": "1"},
        {"type": "gaussian", "noise_multiplier": True},
        {"type": "gaussian", "noise_multiplier": math.nan},
        {"type": "gaussian", "noise_multiplier": 1.0, "more": 1},
        {"type": "gaussian", "noise_multiplier": 10**400},
        {"type": "gaussian", "noise_multiplier": 1e308},
        {"type": "laplace", "noise_multiplier": 1.0},
        {"type": "pure_dp", "epsilon": 10**400},
        {"type": "pure_dp", "epsilon": 1000.0},
        {"type": "thresholded_gaussian", "noise_multiplier": 1.0, "delta": 1e-320},
        {"type": "repeated", "count": 10**30, "of": {"type": "pure_dp", "epsilon": 1}},
        {"type": "repeated", "count": 10**4, "of": {"type": "repeated", "count": 10**4, "of": {"type": "pure_dp", "epsilon": 1}}},
        {"type": "poisson_sampled", "rate": 1e-320, "of": {"type": "gaussian", "noise_multiplier": 1.0}},
        {"type": "pure_dp", "epsilon": -1},
        {"type": "thresholded_gaussian", "noise_multiplier": 1.0, "delta": 1.0},
        {"type": "repeated", "count": 0, "of": {"type": "pure_dp", "epsilon": 1}},
        {"type": "repeated", "count": 1.5, "of": {"type": "pure_dp", "epsilon": 1}},
        {"type": "repeated", "count": 1, "of": {}},
        {"type": "poisson_sampled", "rate": 0.5, "of": {"type": "pure_dp", "epsilon": 1}},
        {"type": "poisson_sampled", "rate": 2, "of": {"type": "gaussian", "noise_multiplier": 1.0}},
    ],
)
def test_malformed_mechanisms_are_refused(mechanism: Any) -> None:
    with pytest.raises(ConfigError, match="Not a privacy mechanism"):
        epsilon_of([mechanism], DELTA)


def test_too_many_repetitions_are_refused() -> None:
    million = {"type": "repeated", "count": 10**6, "of": {"type": "pure_dp", "epsilon": 1e-9}}
    assert flatten([million] * 2).total() == 2 * 10**6
    with pytest.raises(ConfigError, match="too often"):
        flatten([million] * 3)


def test_epsilon_too_large_to_compute_is_infinite() -> None:
    """The distribution of these would have more than a thousand million points."""
    for mechanisms in (dp_sgd(0.5, 0.5, 10**6), dp_sgd(1.0, 0.5, 10**6)):
        assert epsilon_of(mechanisms, DELTA) == math.inf
        assert group_epsilon(mechanisms, DELTA, 2)[0] == math.inf
    assert 300 < epsilon_of(dp_sgd(0.1, 0.6, 8000), DELTA) < 1000


@pytest.mark.parametrize("most", [0, 1, 2, 31, 32, 33, 1000, 10**6 - 1, 10**6])
def test_max_repetitions(most: int) -> None:
    asked: list[int] = []

    def fits(times: int) -> bool:
        asked.append(times)
        return times <= most

    assert max_repetitions(fits) == most
    assert len(asked) <= 35
    assert max_repetitions(lambda times: True) == MAX_RUNS


def test_delta_must_be_a_probability() -> None:
    for delta in (-1e-9, 1.0, math.nan):
        with pytest.raises(ConfigError):
            epsilon_of([], delta)


def test_group_of_one_is_a_unit() -> None:
    for mechanisms in (dp_sgd(0.02, 1.0, 100), [{"type": "pure_dp", "epsilon": 0.5}]):
        epsilon, delta = group_epsilon(mechanisms, DELTA, 1)
        assert delta == DELTA
        assert epsilon_of(mechanisms, DELTA) * 0.999 <= epsilon <= epsilon_of(mechanisms, DELTA) * 1.05


def test_group_of_proven_bounds_is_textbook_bound() -> None:
    """Dwork & Roth 2014, "The Algorithmic Foundations of Differential Privacy", theorem 2.2."""
    assert group_epsilon([{"type": "pure_dp", "epsilon": 0.5}], 0.0, 4) == (2.0, 0.0)
    assert group_epsilon([{"type": "pure_dp", "epsilon": 0.5}] * 3, 1e-7, 2) == (3.0, 1e-7)


def test_group_under_gaussian_scales_sensitivity() -> None:
    group = group_epsilon([{"type": "gaussian", "noise_multiplier": 6.0}], DELTA, 3)
    assert group[0] == pytest.approx(epsilon_of([{"type": "gaussian", "noise_multiplier": 2.0}], DELTA), rel=0.01)


@pytest.mark.parametrize("units", [2, 5])
def test_group_in_poisson_batches_below_textbook_bound(units: int) -> None:
    mechanisms = dp_sgd(0.01, 2.0, 50)
    single = epsilon_of(mechanisms, 1e-9)
    delta = units * math.exp((units - 1) * single) * 1e-9
    assert single < group_epsilon(mechanisms, delta, units)[0] <= units * single


def test_group_in_one_poisson_batch_against_integral() -> None:
    rate, noise, delta = 0.3, 2.5, 1e-3
    epsilon, _ = group_epsilon(dp_sgd(rate, noise, 1), delta, 2)
    x = np.linspace(-20, 24, 400_001)

    def density(mean: float) -> Any:
        return np.exp(-((x - mean) ** 2) / (2 * noise**2)) / (noise * math.sqrt(2 * math.pi))

    with_group = (1 - rate) ** 2 * density(0) + 2 * rate * (1 - rate) * density(1) + rate**2 * density(2)
    removed = np.maximum(with_group - math.exp(epsilon) * density(0), 0).sum() * (x[1] - x[0])
    added = np.maximum(density(0) - math.exp(epsilon) * with_group, 0).sum() * (x[1] - x[0])
    assert max(removed, added) == pytest.approx(delta, rel=0.02)
    assert max(removed, added) <= delta


def test_group_needs_at_least_one_unit() -> None:
    with pytest.raises(ConfigError):
        group_epsilon([], DELTA, 0)
