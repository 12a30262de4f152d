"""Mechanisms as dp_accounting describes them, for its own accountants."""

from dp_accounting import DpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

from localsynth.privacy.accountant import Mechanism


def to_dp_event(mechanism: Mechanism) -> DpEvent:
    """The event of any mechanism but a proven bound."""
    if mechanism["type"] == "gaussian":
        return GaussianDpEvent(mechanism["noise_multiplier"])
    if mechanism["type"] == "poisson_sampled":
        return PoissonSampledDpEvent(mechanism["rate"], to_dp_event(mechanism["of"]))
    return SelfComposedDpEvent(to_dp_event(mechanism["of"]), mechanism["count"])
