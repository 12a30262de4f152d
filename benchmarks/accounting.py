"""Noise multiplier of training in a hybrid run by default: a budget for each stage against one joint account.

    python benchmarks/accounting.py [SHARE_OF_MARGINALS SHARE_OF_TOKEN_COUNTS]

At each ε and δ 1e-5, with a rate of 0.1 and 42 steps (any table of 320 to 10,240 units): marginals with a fifth of ε, token
counts with a fifth of the rest. "stages": budgets added up. "worth": the ε of that run, composed jointly. "Rényi": parameters
may follow noisy results. "PLD": all parameters are fixed beforehand. "size": so, after 2 % of ε for the number of units.
"columns": seven open columns are measured, too.

Then the ρ of marginals alone: by Rényi DP of the best order, as it is for any zCDP mechanism, and of the Gaussian mechanism that
they compose to.

Last, marginals of Adult, all 15 columns open, 9 of them lists, at δ 1e-6: σ of the counts of a list and of the marginals' single
columns, and by how much the noise of pairs would shrink if the counts of lists were reused: as they are, or with the σ of single
columns.
"""

import math
import sys

from localsynth.marginals.measure import MarginalSettings
from localsynth.planning.budgets import SCHEMA_SHARE
from localsynth.privacy.account import Account, choose_order
from localsynth.privacy.accountant import Mechanism, calibrate_noise, dp_sgd_step, epsilon_of
from localsynth.privacy.gaussian import gaussian_of_rho, rho_for
from localsynth.privacy.renyi import ORDERS, rho_left

DELTA, RATE, STEPS = 1e-5, 0.1, 42


def main() -> None:
    """Print the table."""
    print(f"{'ε':>3} {'stages':>7} {'worth':>6} {'Rényi':>7} {'order':>5} {'PLD':>7} {'size':>7} {'columns':>7}")
    shares = [float(share) for share in sys.argv[1:]] or [0.2, 0.16]
    for epsilon in (8.0, 4.0, 1.0):
        counts = [gaussian_of_rho(rho_for(share * epsilon, share * DELTA)) for share in shares]
        rest = 1 - math.fsum(shares)
        alone = calibrate_noise(rest * epsilon, rest * DELTA, RATE, STEPS)
        worth = epsilon_of([*counts, {"type": "repeated", "count": STEPS, "of": dp_sgd_step(alone, RATE)}], DELTA)
        adaptive = choose_order(Account(epsilon, DELTA), RATE, STEPS, counts)
        renyi, pld = (account.noise(RATE, STEPS, counts) for account in (adaptive, Account(epsilon, DELTA)))
        size = Account(0.98 * epsilon, DELTA).noise(RATE, STEPS, counts)
        found = f"{alone:7.3f} {worth:6.3f} {renyi:7.3f} {adaptive.order:5d} {pld:7.3f} {size:7.3f}"
        print(f"{epsilon:3g} {found} {with_columns(epsilon, counts):7.3f}")
    print(f"{'ε':>3} {'Rényi':>7} {'Gaussian':>8}")
    for epsilon in (0.5, 1.0, 4.0, 8.0):
        any_order = max(rho_left(epsilon, DELTA, 0.0, order, []) for order in ORDERS)
        print(f"{epsilon:3g} {any_order:7.4f} {rho_for(epsilon, DELTA):8.4f}")
    print(f"{'ε':>3} {'lists':>6} {'single':>6} {'reused':>7} {'free':>7}")
    for epsilon in (0.5, 1.0, 4.0):
        print(f"{epsilon:3g} {reuse(epsilon)}")


def with_columns(epsilon: float, counts: list[Mechanism], columns: int = 7) -> float:
    """The noise of training where the size and `columns` columns are measured."""
    noise, delta = math.sqrt(columns / (2 * rho_for(SCHEMA_SHARE * epsilon, DELTA))), 0.05 * DELTA / columns
    measured: Mechanism = {"type": "thresholded_gaussian", "noise_multiplier": noise, "delta": delta}
    others = [{"type": "repeated", "count": columns, "of": measured}, *counts]
    account = choose_order(Account(0.98 * epsilon, DELTA, failure=0.1 * DELTA), RATE, STEPS, others)
    return account.noise(RATE, STEPS, others)


def reuse(epsilon: float, columns: int = 15, lists: int = 9, delta: float = 1e-6) -> str:
    """The last table's line for this ε."""
    schema, single = rho_for(SCHEMA_SHARE * epsilon, delta), MarginalSettings().single_fraction
    marginals = rho_for(0.98 * epsilon, 0.9 * delta) - schema
    of_list, of_single = math.sqrt(columns / (2 * schema)), math.sqrt(columns / (2 * single * marginals))
    less = []
    for same in (min(1.0, (of_single / of_list) ** 2), 1.0):
        saved = single * lists / columns * same
        less.append(1 - math.sqrt((1 - single) / (1 - single + saved)))
    return f"{of_list:6.1f} {of_single:6.1f} {less[0]:7.1%} {less[1]:7.1%}"


if __name__ == "__main__":
    main()
