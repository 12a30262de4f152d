"""The account of a run: one (ε, δ) in which all of its mechanisms compose."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from localsynth.errors import BudgetError
from localsynth.privacy.accountant import (
    TOLERANCE,
    Mechanism,
    calibrate_noise,
    dp_sgd_step,
    epsilon_of,
    flatten,
    flatten_parsed,
    least_noise,
    max_repetitions,
    rho_of,
    unflatten,
)
from localsynth.privacy.gaussian import epsilon_of_rho, gaussian_of_rho, rho_for
from localsynth.privacy.renyi import ORDERS, epsilon_at_order, fails, rho_left


@dataclass(frozen=True)
class Account:
    """An (ε, δ) and how mechanisms compose in it.

    order    None: by privacy loss distributions, which needs every parameter fixed before the first mechanism runs.
             Otherwise parameters may depend on earlier noisy results. A number: the order, fixed beforehand, of Rényi
             differential privacy (RDP). "all": of Gaussian mechanisms alone, whose ρ bounds every order, so that ε is exact.
    failure  with an order: the part of δ, fixed beforehand, for measured columns, which may fail with a δ of their own
    """

    epsilon: float
    delta: float
    order: int | Literal["all"] | None = None
    failure: float = 0.0

    def spent(self, mechanisms: list[Mechanism]) -> float:
        """The ε of `mechanisms` at the account's δ; infinite where δ is too small for them. Raises ConfigError."""
        if self.order is None:
            return epsilon_of(mechanisms, self.delta)
        if self.order != "all":
            return epsilon_at_order(mechanisms, self.delta, self.failure, self.order)
        parts = flatten_parsed(mechanisms)
        gaussian = {mechanism["type"] for mechanism, _ in parts} <= {"gaussian", "thresholded_gaussian"}
        fits = gaussian and not fails(parts, self.failure)
        return epsilon_of_rho(rho_of(parts), self.delta - self.failure) if fits else math.inf

    def fits(self, mechanisms: list[Mechanism]) -> bool:
        """Whether all of `mechanisms` together stay within the account. Raises ConfigError."""
        return self.spent(mechanisms) <= self.epsilon + TOLERANCE

    def in_full(self, mechanisms: list[Mechanism]) -> list[Mechanism]:
        """`mechanisms` with as many training steps as fit, or Gaussians alone with all the ρ: it covers every shorter run."""
        parts = flatten_parsed(mechanisms)
        steps = [mechanism for mechanism, _ in parts if mechanism["type"] == "poisson_sampled"]
        if {mechanism["type"] for mechanism, _ in parts} == {"gaussian"}:
            return [gaussian_of_rho(max(rho_of(parts), rho_for(self.epsilon, self.delta)))]
        if len(steps) != 1:
            return mechanisms
        more = _more_steps(self, tuple(sorted(flatten(mechanisms).items())), steps[0]["rate"], steps[0]["of"]["noise_multiplier"])
        return [*mechanisms, *([{"type": "repeated", "count": more, "of": steps[0]}] if more else [])]

    def noise(self, rate: float, steps: int, others: Sequence[Mechanism] = ()) -> float:
        """The smallest noise multiplier, to 0.2 %, with which `steps` Poisson-sampled steps fit beside `others`.

        Raises BudgetError where none does.
        """
        if self.order is None:
            return calibrate_noise(self.epsilon, self.delta, rate, steps, list(others))
        if self.order == "all":
            raise BudgetError(
                "The schema was measured in a budget for marginals alone, in which no model can be trained.",
                "Undo the change of train.synthesizer, or ingest again: localsynth ingest WS --again (it is charged on top).",
            )

        def fits(noise: float) -> bool:
            return self.fits([*others, {"type": "repeated", "count": steps, "of": dp_sgd_step(noise, rate)}])

        return least_noise(fits, f"{steps} steps within what is left of epsilon {self.epsilon:g} at delta {self.delta:g}")

    def rho(self, others: list[Mechanism]) -> float:
        """The ρ of the Gaussian mechanism that, with `others`, fills the account. Raises BudgetError where they leave nothing.

        Without a numbered order, `others` are Gaussian too.
        """
        if isinstance(self.order, int):
            rho = rho_left(self.epsilon, self.delta, self.failure, self.order, others)
        else:
            rho = rho_for(self.epsilon, self.delta - self.failure) - rho_of(flatten_parsed(others))
        if rho <= 0:
            raise BudgetError(
                "The measurements for the schema leave nothing of the privacy budget.",
                "Declare bounds and lists that are public, or start a new workspace and let its ingest finish.",
            )
        return rho


@lru_cache(maxsize=64)
def _more_steps(account: Account, counts: tuple[tuple[str, int], ...], rate: float, noise: float) -> int:
    """How many more of these steps fit beside the mechanisms with these canonical texts. Takes some twenty compositions."""
    charged = unflatten(dict(counts))
    step = dp_sgd_step(noise, rate)
    return max_repetitions(lambda times: account.fits([*charged, {"type": "repeated", "count": times, "of": step}]))


def choose_order(account: Account, rate: float, steps: int, others: list[Mechanism]) -> Account:
    """`account` with the order at which the planned steps need the least noise beside `others`.

    Every order is valid; the choice may use public figures only. Raises BudgetError where no order leaves anything.
    """

    def cost(order: int) -> float:
        try:
            return replace(account, order=order).noise(rate, steps, others)
        except BudgetError:
            return math.inf

    least, order = min((cost(order), order) for order in ORDERS)
    if math.isinf(least):
        raise BudgetError(
            f"Epsilon {account.epsilon:g} at delta {account.delta:g} is too small for what is to be measured.",
            "Raise privacy.epsilon, or declare bounds and lists that are public.",
        )
    return replace(account, order=order)
