"""What a ρ of zero-concentrated differential privacy is in (ε, δ), against closed forms and another accountant."""

import math

import dp_accounting
import numpy as np
import opendp.prelude as dp
import pytest
import scipy.stats

from localsynth.errors import ConfigError
from localsynth.privacy.accountant import epsilon_of, group_epsilon
from localsynth.privacy.zcdp import epsilon_of_rho, gaussian_of_rho, privacy_profile, rho_for
from tests.helpers.dp_events import to_dp_event


def test_conversion_bounds_the_exact_epsilon_of_a_gaussian() -> None:
    for noise in (0.7, 2.0, 5.0, 20.0):
        exact = epsilon_of([{"type": "gaussian", "noise_multiplier": noise}], 1e-5)
        ours = epsilon_of_rho(1 / (2 * noise**2), 1e-5)
        assert exact <= ours <= 1.15 * exact


def test_conversion_is_below_the_classic_formula() -> None:
    for rho in (1e-4, 0.02, 0.5, 10.0):
        assert epsilon_of_rho(rho, 1e-5) < rho + 2 * math.sqrt(rho * math.log(1e5))


def test_conversion_is_the_minimum_over_orders() -> None:
    rho, delta = 0.02, 1e-5
    grid = [1 + 10 ** (step / 100) for step in range(-300, 500)]
    bounds = [rho * a + math.log1p(-1 / a) - (math.log(delta) + math.log(a)) / (a - 1) for a in grid]
    assert epsilon_of_rho(rho, delta) == pytest.approx(min(bounds), rel=1e-4)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.01, 1e-6), (1.0, 1e-5), (8.0, 1e-9), (50.0, 1e-5)])
def test_inverse_is_conservative_and_tight(epsilon: float, delta: float) -> None:
    rho = rho_for(epsilon, delta)
    assert epsilon * (1 - 1e-6) <= epsilon_of_rho(rho, delta) <= epsilon


@pytest.mark.parametrize("rho", [1e-8, 1e-3, 0.02, 0.3, 3.0, 40.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-9])
def test_conversion_agrees_with_dp_accounting(rho: float, delta: float) -> None:
    """dp_accounting's Rényi accountant: at its own orders never below ours, at many more the same; and at its own mechanism the
    Gaussian of that ρ, whose exact ε is below."""
    own = dp_accounting.rdp.RdpAccountant().compose(dp_accounting.ZCDpEvent(rho))
    many = dp_accounting.rdp.RdpAccountant(orders=[1 + 10 ** (step / 200) for step in range(-400, 1600)])
    gaussian = {"type": "gaussian", "noise_multiplier": 1 / math.sqrt(2 * rho)}
    many.compose(to_dp_event(gaussian))
    ours = epsilon_of([{"type": "zcdp", "rho": rho}], delta)
    assert ours == epsilon_of_rho(rho, delta)
    assert ours <= own.get_epsilon(delta) * (1 + 1e-9)
    assert ours == pytest.approx(many.get_epsilon(delta), rel=1e-4)
    assert ours >= epsilon_of([gaussian], delta) - 1e-4 * (rho < 1e-4)


@pytest.mark.parametrize("rho", [1e-8, 1e-3, 0.02, 0.3, 3.0, 40.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-9])
def test_conversion_agrees_with_opendp(rho: float, delta: float) -> None:
    """OpenDP converts a Gaussian whose privacy loss it gives as that ρ."""
    dp.enable_features("contrib")
    space = dp.atom_domain(T=float, nan=False), dp.absolute_distance(T=float)
    gaussian = dp.m.make_gaussian(*space, scale=1 / math.sqrt(2 * rho))
    assert gaussian.map(1.0) == pytest.approx(rho, rel=1e-12)
    profile = dp.c.make_zCDP_to_approxDP(gaussian).map(1.0)
    assert epsilon_of_rho(rho, delta) == pytest.approx(profile.epsilon(delta), rel=1e-9)


def test_rhos_add_up() -> None:
    part = {"type": "zcdp", "rho": 0.02}
    assert epsilon_of([part] * 5, 1e-6) == epsilon_of([{"type": "repeated", "count": 5, "of": part}], 1e-6)
    assert epsilon_of([part] * 5, 1e-6) == pytest.approx(epsilon_of_rho(0.1, 1e-6), rel=1e-12)
    assert to_dp_event(part) == dp_accounting.ZCDpEvent(0.02)


@pytest.mark.parametrize("rho", [1e-3, 0.1, 2.0])
def test_zcdp_composes_above_its_gaussian_and_below_the_sum_of_rho(rho: float) -> None:
    """A Gaussian of that ρ is one ρ-zCDP mechanism; and ρ add up, whatever the mechanisms."""
    part, gaussian = {"type": "zcdp", "rho": rho}, {"type": "gaussian", "noise_multiplier": 2.0}
    found = epsilon_of([part, gaussian], 1e-6)
    assert epsilon_of([gaussian_of_rho(rho), gaussian], 1e-6) <= found <= epsilon_of_rho(rho + 1 / 8, 1e-6) + 1e-3
    assert found < epsilon_of_rho(rho, 5e-7) + epsilon_of([gaussian], 5e-7)


def test_zcdp_beside_proven_bounds() -> None:
    part, delta = {"type": "zcdp", "rho": 0.1}, 1e-6
    pure, listed = {"type": "pure_dp", "epsilon": 0.5}, {"type": "thresholded_gaussian", "noise_multiplier": 10.0, "delta": 4e-7}
    alone = epsilon_of_rho(0.1, delta)
    assert alone < epsilon_of([part, pure], delta) < alone + 0.5
    assert alone < epsilon_of([part, listed], delta) < epsilon_of_rho(0.1 + 1 / 200, 6e-7) + 1e-3
    assert epsilon_of([part], 0.0) == math.inf and epsilon_of([part, {**listed, "delta": delta}], delta) == math.inf


@pytest.mark.parametrize("rho", [1e-4, 0.05, 3.0, 200.0])
def test_privacy_profile_bounds_gaussians_and_is_convex(rho: float) -> None:
    epsilons = np.linspace(-rho - 10 * math.sqrt(rho), rho + 10 * math.sqrt(rho), 9999)
    profile, noise = privacy_profile(rho, epsilons), 1 / math.sqrt(2 * rho)
    # Balle & Wang 2018 (arXiv:1805.06530), theorem 5.
    a, b = 1 / (2 * noise), epsilons * noise
    exact = scipy.stats.norm.cdf(a - b) - np.exp(epsilons + scipy.stats.norm.logcdf(-a - b))
    assert (profile >= exact - 1e-14).all() and profile[0] <= 1
    some = np.flatnonzero((profile < 0.9) & (epsilons > 0))[:3000]  # below 1, where rounding does not decide
    slopes = np.diff(profile[some]) / np.diff(np.exp(epsilons[some] - epsilons[some[0]]))
    assert (np.diff(slopes) >= -1e-9 * np.abs(slopes[1:])).all()
    # Near 0 the profile is less than the conversion gives; in the tail it is the same.
    for at in (1e-4, 1e-8):
        epsilon = epsilons[np.searchsorted(-profile, -at)]
        assert epsilon_of_rho(rho, at) == pytest.approx(epsilon, rel=2e-3, abs=1e-3 * math.sqrt(rho))


def test_group_scales_rho_by_its_square() -> None:
    """A Gaussian tells: k units are a sensitivity of k, so ρ is k² times as large."""
    delta, noise = 1e-6, 6.0
    rho = 1 / (2 * noise**2)
    for units in (2, 5):
        epsilon, own = group_epsilon([{"type": "zcdp", "rho": rho}], delta, units)
        assert own == delta
        assert epsilon_of_rho(units**2 * rho, delta) * (1 - 1e-6) <= epsilon <= 1.02 * epsilon_of_rho(units**2 * rho, delta)
        assert epsilon >= epsilon_of([{"type": "gaussian", "noise_multiplier": noise / units}], delta)
    one = epsilon_of([{"type": "zcdp", "rho": rho}], delta)
    assert group_epsilon([{"type": "zcdp", "rho": rho}], delta, 1)[0] == pytest.approx(one, rel=1e-4)


def test_zero_rho_costs_nothing() -> None:
    assert epsilon_of_rho(0.0, 1e-5) == 0.0


@pytest.mark.parametrize(("rho", "delta"), [(-1.0, 1e-5), (1.0, 0.0), (1.0, 1.0), (math.nan, 1e-5)])
def test_invalid_rho_and_delta_are_refused(rho: float, delta: float) -> None:
    with pytest.raises(ConfigError):
        epsilon_of_rho(rho, delta)
