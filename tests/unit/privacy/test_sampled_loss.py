"""The privacy loss distributions of sampled Gaussians are dp_accounting's own."""

import numpy as np
import pytest
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism, from_mixture_gaussian_mechanism

from localsynth.privacy.sampled_loss import group_distribution, unit_distribution


@pytest.mark.parametrize(
    ("noise", "probabilities"),
    [(1.5, [0.7, 0.25, 0.05]), (0.3, [0.998, 0.001, 0.001]), (6.0, [0.0, 0.1, 0.0, 0.9]), (4.0, [0.1] * 10)],
)
def test_a_group_has_the_distribution_of_dp_accounting(noise: float, probabilities: list[float]) -> None:
    interval = 1e-2
    ours = group_distribution(noise, probabilities, interval)
    sensitivities = list(range(len(probabilities)))
    theirs = from_mixture_gaussian_mechanism(noise, sensitivities, probabilities, value_discretization_interval=interval)
    for one, other in [(ours, theirs), (ours.self_compose(3), theirs.self_compose(3))]:
        epsilons = np.linspace(-10, 30, 2001)
        assert np.array_equal(one.get_delta_for_epsilon(epsilons), other.get_delta_for_epsilon(epsilons))


@pytest.mark.parametrize(
    ("noise", "rate", "steps"),
    [(0.3, 0.5, 2), (0.8, 0.05, 40), (1.2, 0.2, 100), (2.8, 0.01, 2000), (0.5, 1e-4, 10_000), (1.0, 0.999, 5), (30.0, 0.5, 10)],
)
def test_a_unit_has_the_distribution_of_dp_accounting(noise: float, rate: float, steps: int) -> None:
    interval = 1e-3
    ours = unit_distribution(noise, rate, interval)
    theirs = from_gaussian_mechanism(noise, sampling_prob=rate, value_discretization_interval=interval)
    epsilons = np.linspace(-10, 30, 2001)
    # Composition multiplies the rounding errors of one step.
    for one, other, error in [(ours, theirs, 1e-13), (ours.self_compose(steps), theirs.self_compose(steps), 1e-14 * steps)]:
        found, expected = (np.asarray(each.get_delta_for_epsilon(epsilons)) for each in (one, other))
        assert np.allclose(found, expected, rtol=1e-7, atol=error)
    assert ours.self_compose(steps).get_epsilon_for_delta(1e-6) == pytest.approx(
        theirs.self_compose(steps).get_epsilon_for_delta(1e-6), rel=1e-6
    )
