"""What the guarantee means for an attack: the most that any attacker can succeed, however much they know besides.

Two figures, each a bound for one unit:

- Membership inference. The attacker says of a unit whether it was in the table. At a false-positive rate x, the true-positive
  rate is at most T(x): the trade-off curve of the mechanism (Dong, Roth & Su 2019, arXiv:1905.02383).
- Re-identification and attribute inference. The attacker guesses something about a unit. A guess that is right with
  probability x had the unit's rows not been used is right with probability at most T(x): "the guess is right" is a test of
  membership (Kulynych et al. 2025, arXiv:2507.06969). What follows about the unit from all other rows is in the base rate x.

(ε, δ) in both directions gives T(x) <= e^ε x + δ and T(x) <= 1 - e^-ε (1 - δ - x). The smallest over any (ε, δ) that hold is
again an upper bound; both directions count, since add and remove are both neighbours.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

from localsynth.privacy.account import Account
from localsynth.privacy.accountant import MAX_RUNS, Mechanism, deltas_of, flatten, unflatten
from localsynth.privacy.gaussian import rho_for
from localsynth.privacy.renyi import rdp_within
from localsynth.results.plans import InferenceRisk, MembershipRisk, Risks

FALSE_POSITIVE_RATES = (0.001, 0.01, 0.05)
BASE_RATES = (0.01, 0.1, 0.5)
_POINTS = 4000
"""Values of ε at which a profile is read. Fewer give a larger bound, never a wrong one."""


def risks_of(charged: Sequence[tuple[Account, list[Mechanism]]]) -> Risks:
    """The risks of all charged accounts in full, whatever was executed of them. What is not charged yet is not in them.

    One account without an order: from the privacy loss distribution of its longest run (`Account.in_full`). Otherwise parameters
    followed noisy results, and only what the accounts bound beforehand counts. Raises ConfigError.
    """
    return _risks_of(tuple((account, tuple(sorted(flatten(mechanisms).items()))) for account, mechanisms in charged))


@lru_cache(maxsize=16)
def _risks_of(counted: tuple[tuple[Account, tuple[tuple[str, int], ...]], ...]) -> Risks:
    charged = [(account, unflatten(dict(counts))) for account, counts in counted]
    epsilon = math.fsum(max(account.epsilon, account.spent(mechanisms)) for account, mechanisms in charged)
    delta = min(1.0, math.fsum(account.delta for account, _ in charged))
    basis, profile, order = "epsilon and delta", [(epsilon, delta)], None
    if len(charged) == 1:
        ((account, mechanisms),) = charged
        longest = account.in_full(mechanisms) if account.order is None else []
        if account.order is not None:
            basis, order = "order", account
        elif flatten(longest).total() < MAX_RUNS and math.isfinite(epsilon):
            epsilons = [epsilon * step / _POINTS for step in range(_POINTS + 1)]
            basis, profile = "curve", [*profile, *zip(epsilons, deltas_of(longest, epsilons), strict=True)]

    def most(rate: float) -> float:
        found = min(_by_epsilon(rate, *pair) for pair in profile)
        if order is not None and math.isfinite(epsilon):
            found = min(found, _by_order(rate, epsilon, order))
        # The last digits are rounding errors, which differ between machines.
        return math.ceil(round(1e6 * found, 6)) / 1e6

    membership = tuple(MembershipRisk(rate, most(rate)) for rate in FALSE_POSITIVE_RATES)
    return Risks(basis, membership, tuple(InferenceRisk(rate, most(rate)) for rate in BASE_RATES))


def _by_epsilon(rate: float, epsilon: float, delta: float) -> float:
    """The largest true-positive rate at the false-positive rate `rate` of an (ε, δ)-DP mechanism."""
    above = math.exp(epsilon) * rate + delta if epsilon < 700 else 1.0
    return min(1.0, above, 1 - math.exp(-epsilon) * (1 - delta - rate))


def _by_order(rate: float, epsilon: float, account: Account) -> float:
    """The same from what bounds an account with an order: Rényi DP by bisection, rounded up, or the curve of a Gaussian.

    A test is post-processing: true- and false-positive rate t and x are two Bernoulli distributions with a Rényi divergence of
    at most that bound, in both directions. What may fail (a value that only this unit has enters a list) fails where the unit
    is present: it adds its probability to the true-positive rate and none to the false-positive rate.
    """
    assert account.order is not None
    if account.order == "all":
        normal, rho = NormalDist(), rho_for(epsilon, account.delta - account.failure)
        return min(1.0, normal.cdf(normal.inv_cdf(rate) + math.sqrt(2 * rho)) + account.failure)
    order, bound = account.order, rdp_within(epsilon, account.delta, account.failure, account.order)

    def is_possible(found: float) -> bool:
        return max(_divergence(found, rate, order), _divergence(rate, found, order)) <= bound

    low, high = rate, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if is_possible(middle) else (low, middle)
    return min(1.0, high + account.failure)


def _divergence(p: float, q: float, order: int) -> float:
    """The Rényi divergence of Bernoulli(p) from Bernoulli(q); 0 < p, q < 1."""
    logs = [order * math.log(a) + (1 - order) * math.log(b) for a, b in ((p, q), (1 - p, 1 - q))]
    top = max(logs)
    return (top + math.log(math.fsum(math.exp(value - top) for value in logs))) / (order - 1)
