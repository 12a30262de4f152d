"""What right guesses about canaries say of a privacy claim: the statistics of an audit in one training run.

Each of m canaries is in the training with probability 1/2, independently. The auditor sees what the run releases, guesses for
r of them whether they were in, and is right about v. Two answers:

epsilon_bound   the largest ε that v right guesses refute, whatever the mechanism
                (Steinke, Nasr, Jagielski 2023, "Privacy Auditing with One (1) Training Run", arXiv:2305.08846)
curve_p_value   how probable v right guesses are at most, if the mechanism keeps its whole curve of (ε, δ)
                (after Mahloujifar, Melis, Chaudhuri 2025, "Auditing f-Differential Privacy in One Run", arXiv:2410.22235)

The first needs about 3 e^ε right guesses without a wrong one before it can reach ε: 9,000 for ε = 8. The second needs about a
hundred, since a mechanism that claims ε = 8 at δ = 1e-6 claims much less at δ = 0.1, where a few guesses are enough.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats as distributions

CONFIDENCE = 0.95

_MAX_EPSILON = 50.0
"""No audit shows an ε beyond: it would take 10^22 canaries."""
_TAILS = 80
"""Tails of the distribution that are constrained in `curve_p_value`; fewer only make it more cautious."""
_SOLVER_ERROR = 1e-6
"""What the linear program's solution may be off by, added to it."""


def _check(canaries: int, guesses: int, right: int) -> None:
    if not 0 <= right <= guesses <= canaries:
        raise ValueError(f"{right} right of {guesses} guesses about {canaries} canaries cannot be")


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """The largest chance that (ε, δ)-DP allows of `right` or more right among `guesses` about `canaries`.

    arXiv:2305.08846, theorem 5.2, as in the code of its appendix D: with R ~ Binomial(guesses, e^ε / (1 + e^ε)),
    P[R >= right] + 2 canaries δ max over i of P[right > R >= right - i] / i, and never more than 1.
    """
    _check(canaries, guesses, right)
    if epsilon < 0 or not 0 <= delta <= 1:
        raise ValueError(f"no privacy has epsilon {epsilon} and delta {delta}")
    share = 1 / (1 + math.exp(-epsilon))
    chance = float(distributions.binom.sf(right - 1, guesses, share))
    if delta > 0 and right > 0:
        below = np.cumsum(distributions.binom.pmf(np.arange(right - 1, -1, -1), guesses, share))
        chance += 2 * canaries * delta * float((below / np.arange(1, right + 1)).max())
    return min(chance, 1.0)


def epsilon_bound(canaries: int, guesses: int, right: int, delta: float) -> float:
    """The largest ε that so many right guesses refute at `delta` with 95 % confidence; 0 where they refute none.

    The p-value grows with ε, so it is found by bisection, rounded towards 0.
    """
    if p_value(canaries, guesses, right, 0.0, delta) >= 1 - CONFIDENCE:
        return 0.0
    low, high = 0.0, _MAX_EPSILON
    for _ in range(60):
        middle = (low + high) / 2
        if p_value(canaries, guesses, right, middle, delta) < 1 - CONFIDENCE:
            low = middle
        else:
            high = middle
    return low


def curve_p_value(canaries: int, guesses: int, right: int, curve: Sequence[tuple[float, float]]) -> float:
    """The largest chance of `right` or more right guesses, if the mechanism is (ε, δ)-DP for every pair of `curve`.

    Write p_v for the chance of v right guesses, m for canaries, r for guesses. Choose one canary at random and
    invert its inclusion. A run with v right guesses, that about this canary among them, becomes one with v - 1 right. Under
    (ε, δ)-DP its probability changes by a factor of at most e^ε, up to δ. Summed over all runs with i or more right guesses:

        sum over v >= i of (v / m) p_v  <=  e^ε sum over v >= i - 1 of ((r - v) / m) p_v + δ    for every i and every (ε, δ).

    The largest P[v >= right] of all distributions that satisfy this is a linear program. Its constraints are necessary, so the
    true chance is no larger. (Mahloujifar et al. have the same inequality for a trade-off function, their theorem 3.2.)
    """
    from scipy.optimize import linprog

    _check(canaries, guesses, right)
    if guesses == 0 or right == 0:
        return 1.0
    counts = np.arange(guesses + 1)
    tails = np.unique(np.append(np.linspace(1, guesses, _TAILS).round().astype(int), right))
    rows, limits = [], []
    for least in tails:
        rightly = np.where(counts >= least, counts, 0.0) / guesses
        wrongly = np.where(counts >= least - 1, guesses - counts, 0.0) / guesses
        for epsilon, delta in curve:
            # Divided by e^ε, so that no coefficient is above 1.
            rows.append(rightly * math.exp(-epsilon) - wrongly)
            limits.append(delta * canaries / guesses * math.exp(-epsilon))
    found = linprog(
        -(counts >= right).astype(float),
        A_ub=np.array(rows),
        b_ub=limits,
        A_eq=np.ones((1, guesses + 1)),
        b_eq=[1.0],
        bounds=(0, 1),
        method="highs",
    )
    # A solver that gives up says nothing against the claim.
    return min(1.0, float(-found.fun) + _SOLVER_ERROR) if found.status == 0 else 1.0
