"""Noise multiplier of training in a hybrid run by default: a budget for each stage against one joint account.

    python benchmarks/accounting.py

At each ε and δ 1e-5, with a rate of 0.1 and 42 steps (any table of 320 to 10,240 units): marginals with a fifth of ε, token
counts with a fifth of the rest. "stages": budgets added up. "Rényi": parameters may follow noisy results. "PLD": all parameters
are fixed beforehand. "worth": the ε of the run with a budget for each stage, composed jointly.
"""

from localsynth.privacy.account import Account, choose_order
from localsynth.privacy.accountant import Mechanism, calibrate_noise, dp_sgd_step, epsilon_of
from localsynth.privacy.zcdp import gaussian_of_rho, rho_for

DELTA, RATE, STEPS = 1e-5, 0.1, 42


def main() -> None:
    """Print the table."""
    print(f"{'ε':>3} {'stages':>7} {'worth':>6} {'Rényi':>7} {'order':>5} {'PLD':>7}")
    for epsilon in (8.0, 4.0, 1.0):
        marginals: Mechanism = {"type": "zcdp", "rho": rho_for(0.2 * epsilon, 0.2 * DELTA)}
        counts = [marginals, gaussian_of_rho(rho_for(0.16 * epsilon, 0.16 * DELTA))]
        alone = calibrate_noise(0.64 * epsilon, 0.64 * DELTA, RATE, STEPS)
        worth = epsilon_of([*counts, {"type": "repeated", "count": STEPS, "of": dp_sgd_step(alone, RATE)}], DELTA)
        adaptive = choose_order(Account(epsilon, DELTA), RATE, STEPS, counts)
        renyi, pld = (account.noise(RATE, STEPS, counts) for account in (adaptive, Account(epsilon, DELTA)))
        print(f"{epsilon:3g} {alone:7.3f} {worth:6.3f} {renyi:7.3f} {adaptive.order:5d} {pld:7.3f}")


if __name__ == "__main__":
    main()
