"""A group's privacy loss distribution is dp_accounting's own, value for value."""

import numpy as np
import pytest
from dp_accounting.pld.privacy_loss_distribution import from_mixture_gaussian_mechanism

from localsynth.privacy.group_loss import group_distribution


@pytest.mark.parametrize(
    ("noise", "probabilities"),
    [(1.5, [0.7, 0.25, 0.05]), (0.3, [0.998, 0.001, 0.001]), (6.0, [0.0, 0.1, 0.0, 0.9]), (4.0, [0.1] * 10)],
)
def test_it_is_what_dp_accounting_returns(noise: float, probabilities: list[float]) -> None:
    interval = 1e-2
    ours = group_distribution(noise, probabilities, interval)
    sensitivities = list(range(len(probabilities)))
    theirs = from_mixture_gaussian_mechanism(noise, sensitivities, probabilities, value_discretization_interval=interval)
    for one, other in [(ours, theirs), (ours.self_compose(3), theirs.self_compose(3))]:
        epsilons = np.linspace(-10, 30, 2001)
        assert np.array_equal(one.get_delta_for_epsilon(epsilons), other.get_delta_for_epsilon(epsilons))
