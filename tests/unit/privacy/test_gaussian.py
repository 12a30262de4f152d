"""The Gaussian mechanism in (ε, δ), against closed forms and other accountants."""

import math

import dp_accounting
import pytest
import scipy.stats
from dp_accounting.pld import privacy_loss_distribution as pld

from localsynth.errors import ConfigError
from localsynth.privacy.accountant import epsilon_of, group_epsilon
from localsynth.privacy.gaussian import epsilon_of_rho, gaussian_of_rho, rho_for
from tests.helpers.dp_events import to_dp_event


def bounds(noises: list[float], delta: float) -> tuple[float, float]:
    """ε of Gaussians by dp_accounting, on a grid of about 0.1 % of it: an optimistic and a pessimistic figure."""
    grid, found = max(1e-6, 1e-3 * sum(1 / noise for noise in noises)), []
    for sure in (False, True):
        parts = [
            pld.from_gaussian_mechanism(n, pessimistic_estimate=sure, use_connect_dots=sure, value_discretization_interval=grid)
            for n in noises
        ]
        whole = parts[0]
        for part in parts[1:]:
            whole = whole.compose(part)
        found.append(whole.get_epsilon_for_delta(delta))
    return found[0], found[1]


@pytest.mark.parametrize("rho", [1e-8, 1e-3, 0.02, 0.3, 3.0, 40.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-9])
def test_epsilon_agrees_with_dp_accounting(rho: float, delta: float) -> None:
    low, high = bounds([1 / math.sqrt(2 * rho)], delta)
    ours = epsilon_of_rho(rho, delta)
    assert low <= ours <= high
    assert epsilon_of([gaussian_of_rho(rho)], delta) == pytest.approx(ours, rel=1e-12)
    assert ours < dp_accounting.rdp.RdpAccountant().compose(to_dp_event(gaussian_of_rho(rho))).get_epsilon(delta)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.01, 1e-6), (1.0, 1e-5), (8.0, 1e-9), (50.0, 1e-5)])
def test_inverse_is_conservative_and_tight(epsilon: float, delta: float) -> None:
    rho = rho_for(epsilon, delta)
    assert epsilon * (1 - 1e-6) <= epsilon_of_rho(rho, delta) <= epsilon
    mu = math.sqrt(2 * rho)
    cdf, logcdf = scipy.stats.norm.cdf, scipy.stats.norm.logcdf
    exact = cdf(mu / 2 - epsilon / mu) - math.exp(epsilon + logcdf(-mu / 2 - epsilon / mu))
    assert exact == pytest.approx(delta, rel=1e-5)


def test_several_gaussians_compose_to_one() -> None:
    noises = [4.0, 4.0, 6.0, 12.0]
    mechanisms = [{"type": "gaussian", "noise_multiplier": noise} for noise in noises]
    ours = epsilon_of(mechanisms, 1e-6)
    assert ours == pytest.approx(epsilon_of_rho(sum(1 / (2 * n**2) for n in noises), 1e-6), rel=1e-12)
    low, high = bounds(noises, 1e-6)
    assert low <= ours <= high
    repeated = [{"type": "repeated", "count": 2, "of": mechanisms[0]}, *mechanisms[2:]]
    assert epsilon_of(repeated, 1e-6) == ours


def test_gaussian_beside_other_mechanisms() -> None:
    part, delta = gaussian_of_rho(0.1), 1e-6
    pure, listed = {"type": "pure_dp", "epsilon": 0.5}, {"type": "thresholded_gaussian", "noise_multiplier": 10.0, "delta": 4e-7}
    alone = epsilon_of_rho(0.1, delta)
    assert alone < epsilon_of([part, pure], delta) < alone + 0.5
    both = epsilon_of_rho(0.1 + 1 / 200, 6e-7)
    assert epsilon_of([part, listed], delta) == pytest.approx(both, rel=1e-3)
    assert epsilon_of([part], 0.0) == math.inf and epsilon_of([part, {**listed, "delta": delta}], delta) == math.inf


@pytest.mark.parametrize("units", [2, 5])
def test_group_has_its_square_of_rho(units: int) -> None:
    """k units are a sensitivity of k."""
    found = group_epsilon([gaussian_of_rho(0.01), gaussian_of_rho(0.004)], 1e-6, units)
    low, high = bounds([1 / math.sqrt(2 * rho) / units for rho in (0.01, 0.004)], 1e-6)
    assert found == (pytest.approx(epsilon_of_rho(units**2 * 0.014, 1e-6), rel=1e-12), 1e-6)
    assert low <= found[0] <= high


def test_what_delta_covers_alone_costs_nothing() -> None:
    assert epsilon_of_rho(0.0, 1e-5) == 0.0 == epsilon_of_rho(1e-12, 1e-5)


@pytest.mark.parametrize(("rho", "delta"), [(-1.0, 1e-5), (1.0, 0.0), (1.0, 1.0), (math.nan, 1e-5)])
def test_invalid_rho_and_delta_are_refused(rho: float, delta: float) -> None:
    with pytest.raises(ConfigError):
        epsilon_of_rho(rho, delta)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 1e-5), (math.inf, 1e-5), (1.0, 0.0), (1.0, 1.0)])
def test_invalid_epsilon_and_delta_are_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(ConfigError):
        rho_for(epsilon, delta)
