"""Noise multiplier of training in a hybrid run by default: a budget for each stage against one joint account.

    python benchmarks/accounting.py

At each ε and δ 1e-5, with a rate of 0.1 and 42 steps (any table of 320 to 10,240 units): marginals with a fifth of ε, token
counts with a fifth of the rest. "stages": budgets added up. "Rényi": parameters may follow noisy results. "PLD": all parameters
are fixed beforehand. "worth": the ε of the run with a budget for each stage, composed jointly. Then the ρ of marginals alone: by
Rényi DP of the best order, as it is for any zCDP mechanism, and of the Gaussian mechanism that they compose to.
"""

from localsynth.privacy.account import Account, choose_order
from localsynth.privacy.accountant import calibrate_noise, dp_sgd_step, epsilon_of
from localsynth.privacy.gaussian import gaussian_of_rho, rho_for
from localsynth.privacy.renyi import ORDERS, rho_left

DELTA, RATE, STEPS = 1e-5, 0.1, 42


def main() -> None:
    """Print the table."""
    print(f"{'ε':>3} {'stages':>7} {'worth':>6} {'Rényi':>7} {'order':>5} {'PLD':>7}")
    for epsilon in (8.0, 4.0, 1.0):
        counts = [gaussian_of_rho(rho_for(share * epsilon, share * DELTA)) for share in (0.2, 0.16)]
        alone = calibrate_noise(0.64 * epsilon, 0.64 * DELTA, RATE, STEPS)
        worth = epsilon_of([*counts, {"type": "repeated", "count": STEPS, "of": dp_sgd_step(alone, RATE)}], DELTA)
        adaptive = choose_order(Account(epsilon, DELTA), RATE, STEPS, counts)
        renyi, pld = (account.noise(RATE, STEPS, counts) for account in (adaptive, Account(epsilon, DELTA)))
        print(f"{epsilon:3g} {alone:7.3f} {worth:6.3f} {renyi:7.3f} {adaptive.order:5d} {pld:7.3f}")
    print(f"{'ε':>3} {'Rényi':>7} {'Gaussian':>8}")
    for epsilon in (0.5, 1.0, 4.0, 8.0):
        any_order = max(rho_left(epsilon, DELTA, 0.0, order, []) for order in ORDERS)
        print(f"{epsilon:3g} {any_order:7.4f} {rho_for(epsilon, DELTA):8.4f}")


if __name__ == "__main__":
    main()
