"""Rényi differential privacy (RDP) of one order: the composition that holds when parameters depend on earlier results.

At an order α fixed beforehand the RDP of mechanisms add up, also where each was chosen by what the ones before it released, as
long as the sum stays within a bound fixed beforehand (Feldman & Zrnic 2021, arXiv:2008.11193, theorem 4.3). Each mechanism may
fail with a δ of its own: where none fails, the moments are bounded as before, and the probability that one fails is at most
the sum of those δ.
"""

import math

from localsynth.privacy.accountant import Mechanism, flatten_parsed

ORDERS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 96, 128, 192, 256)
"""Orders to choose from. Whole numbers: the RDP of Poisson sampling is then a finite sum."""


def rdp(mechanism: Mechanism, order: int) -> float:
    """The RDP of one run of `mechanism` at `order`, apart from the δ with which it may fail.

    Gaussian: α / (2 σ²). Poisson-sampled Gaussian: Mironov, Talwar & Zhang 2019 (arXiv:1908.10530), section 3.3, for both
    directions. Proven bounds: that of randomized response, of which every ε-DP mechanism is a post-processing (Kairouz, Oh &
    Viswanath 2015, arXiv:1311.0776, theorem 2.5).
    """
    kind = mechanism["type"]
    if kind in ("gaussian", "thresholded_gaussian"):
        return float(order / (2 * mechanism["noise_multiplier"] ** 2))
    if kind == "poisson_sampled":
        return _sampled_gaussian(mechanism["rate"], mechanism["of"]["noise_multiplier"], order)
    epsilon = mechanism["epsilon"]
    # log((e^{αε} + e^{(1-α)ε}) / (1 + e^ε)) / (α - 1), with large terms taken out.
    return float(
        (order * epsilon - epsilon + math.log1p(math.exp((1 - 2 * order) * epsilon)) - math.log1p(math.exp(-epsilon)))
        / (order - 1)
    )


def _sampled_gaussian(rate: float, noise: float, order: int) -> float:
    """log(sum over k of C(α, k) (1-q)^(α-k) q^k exp(k (k-1) / (2 σ²))) / (α - 1)."""
    if rate == 1:
        return order / (2 * noise**2)
    logs = [
        math.lgamma(order + 1)
        - math.lgamma(k + 1)
        - math.lgamma(order - k + 1)
        + (order - k) * math.log1p(-rate)
        + k * math.log(rate)
        + k * (k - 1) / (2 * noise**2)
        for k in range(order + 1)
    ]
    top = max(logs)
    return max(0.0, top + math.log(math.fsum(math.exp(value - top) for value in logs))) / (order - 1)


def _conversion(order: int, delta: float) -> float:
    """What an ε at `delta` exceeds the RDP by (Canonne, Kamath & Steinke 2020, arXiv:2004.00010, proposition 12)."""
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)


def _summed(mechanisms: list[Mechanism], order: int) -> float:
    return math.fsum(count * rdp(mechanism, order) for mechanism, count in flatten_parsed(mechanisms))


def fails(parts: list[tuple[Mechanism, int]], failure: float) -> bool:
    """Whether the δ of what may fail, each with how often it runs, add up to more than `failure`."""
    return math.fsum(count * mechanism.get("delta", 0.0) for mechanism, count in parts) > failure * (1 + 1e-9)


def epsilon_at_order(mechanisms: list[Mechanism], delta: float, failure: float, order: int) -> float:
    """The ε at `delta` of all of `mechanisms`, also where each was chosen by earlier results.

    `failure` is the part of δ, fixed beforehand, for those that may fail with a δ of their own; infinite where theirs add up to
    more. Raises ConfigError.
    """
    if not mechanisms:
        return 0.0
    if fails(flatten_parsed(mechanisms), failure):
        return math.inf
    return max(0.0, _summed(mechanisms, order) + _conversion(order, delta - failure))


def rdp_within(epsilon: float, delta: float, failure: float, order: int) -> float:
    """The RDP at `order` that (ε, δ) has room for, `failure` of δ being for what may fail; negative where there is none."""
    return epsilon - _conversion(order, delta - failure)


def rho_left(epsilon: float, delta: float, failure: float, order: int, others: list[Mechanism]) -> float:
    """The ρ of the Gaussian mechanism that fits into (ε, δ) beside `others`; not positive where none does."""
    return (rdp_within(epsilon, delta, failure, order) - _summed(others, order)) / order
