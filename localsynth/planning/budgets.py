"""How a run uses its (ε, δ), from the configuration and the public size alone.

The number of units, where it is measured, has a small budget of its own, because the plan of everything else follows from it.
All other mechanisms compose in one account (`localsynth.privacy.account`). Each measurement gets a share of ε, as if it ran
alone. The training, or the marginals of a run without a model, then fill the account.
"""

import math
from dataclasses import dataclass, replace

from localsynth.config import Config
from localsynth.errors import ConfigError
from localsynth.ingest.measurement import Measurement
from localsynth.privacy.account import Account, choose_order
from localsynth.privacy.accountant import Mechanism, epsilon_of
from localsynth.privacy.gaussian import gaussian_of_rho, rho_for
from localsynth.privacy.risk import risks_of
from localsynth.results.plans import Risks
from localsynth.train.plan import TrainPlan, make_train_plan, schedule

_SIZE_SHARE = 0.02
"""Of privacy.epsilon, for the number of units where it is not declared."""
SCHEMA_SHARE = 0.25
"""Of privacy.epsilon, as if alone, where privacy.schema_epsilon is not set."""
_FAILURE_SHARE = 0.1
"""Of δ, for measured values; half of it is planned with, and half is for measurements that an interruption lost."""


@dataclass(frozen=True)
class Shares:
    """What a run measures beside its training.

    schema_epsilon  ε of all measurements of the schema's columns, as if alone
    size_epsilon    of the measurement of the number of units; 0 where it is declared
    columns         the measurement of each column that leaves something open
    marginals       ρ of the marginals of a hybrid; None where there are none, or where they fill the account
    text_counts     ρ of the token histogram; None where there is none
    """

    schema_epsilon: float
    size_epsilon: float
    columns: dict[str, Measurement]
    marginals: float | None
    text_counts: float | None

    @property
    def schema(self) -> list[Mechanism]:
        """The measurements of the columns, as they are charged."""
        return [measurement.mechanism for measurement in self.columns.values()]

    @property
    def counts(self) -> list[Mechanism]:
        """The noisy counts beside the training of a model, as they are charged."""
        return [gaussian_of_rho(rho) for rho in (self.marginals, self.text_counts) if rho is not None]


def shares_of(config: Config) -> Shares:
    """The measurements of a run under `config`. Raises ConfigError where the schema's leave nothing for the rest."""
    privacy, delta, synthesizer = config.privacy, config.privacy.resolved_delta, config.synthesizer
    schema_epsilon = privacy.schema_epsilon or SCHEMA_SHARE * privacy.epsilon
    if schema_epsilon >= privacy.epsilon:
        raise ConfigError(
            f"privacy.schema_epsilon ({schema_epsilon}) leaves nothing of privacy.epsilon ({privacy.epsilon}) for training.",
            "Lower schema_epsilon, or declare bounds and category lists that are public.",
        )
    size = _SIZE_SHARE * privacy.epsilon if privacy.public_size is None else 0.0
    marginals = config.train.marginals_share if synthesizer == "hybrid" else 0.0
    text_counts = (1 - marginals) * config.text_counts.share if config.counts_texts else 0.0

    def rho(share: float) -> float | None:
        return rho_for(share * privacy.epsilon, share * delta) if share else None

    return Shares(schema_epsilon, size, _measurements(config, schema_epsilon), rho(marginals), rho(text_counts))


def _measurements(config: Config, epsilon: float) -> dict[str, Measurement]:
    """Equal parts of the ρ of `epsilon`, and of δ, for all open columns."""
    columns = [column for column in config.schema_.columns if column.unmeasured()]
    if not columns:
        return {}
    noise = math.sqrt(len(columns) / (2 * rho_for(epsilon, config.privacy.resolved_delta)))
    delta = _FAILURE_SHARE / 2 * config.privacy.resolved_delta / len(columns)
    return {column.name: Measurement(noise, delta, config.privacy.rows_per_unit) for column in columns}


def account_of(config: Config, units: int, size_epsilon: float) -> Account:
    """The account of a run on `units` expected training units, of what the size, measured for `size_epsilon`, leaves.

    Where columns are measured, later parameters may depend on what was found (a person may change the settings on seeing it), so
    the account has an order, chosen for the run as it is planned. Raises BudgetError where the columns leave nothing.
    """
    shares = shares_of(config)
    account = Account(config.privacy.epsilon - size_epsilon, config.privacy.resolved_delta)
    if not shares.columns:
        return account
    account = replace(account, failure=_FAILURE_SHARE * account.delta)
    if config.synthesizer == "marginals":
        account = replace(account, order="all")
        account.rho(shares.schema)
        return account
    planned = schedule(config.train, units)
    return choose_order(account, planned.sample_rate, planned.steps + planned.reserve, [*shares.schema, *shares.counts])


def plan_training(config: Config, account: Account, units: int, measured: list[Mechanism]) -> TrainPlan:
    """The plan of a training that fills `account` beside the run's counts and what was `measured` in it before."""
    others = [*measured, *shares_of(config).counts]
    return make_train_plan(config.train, units, lambda rate, steps: account.noise(rate, steps, others))


def planned_risks(config: Config, account: Account, main: Mechanism) -> Risks:
    """The risks of a run whose `account` is filled by `main`: the training, or the marginals of a run without a model."""
    shares = shares_of(config)
    epsilon = shares.size_epsilon
    size = [(Account(epsilon, 0.0), [{"type": "pure_dp", "epsilon": epsilon}])] if epsilon else []
    return risks_of([*size, (account, [*shares.schema, *shares.counts, main])])


def epsilons_alone(config: Config, account: Account, plan: TrainPlan | None) -> dict[str, float]:
    """{"total": ε, stage: ε of that stage if it were alone at the run's δ, ...}; `plan`: None for a run without a model.

    Composed, they cost "total", less than their sum.
    """
    shares, delta = shares_of(config), config.privacy.resolved_delta
    found = {"total": config.privacy.epsilon}
    if shares.columns or shares.size_epsilon:
        found["schema"] = shares.size_epsilon + (shares.schema_epsilon if shares.columns else 0.0)
    rho = account.rho(shares.schema) if plan is None else shares.marginals
    if rho is not None:
        found["marginals"] = epsilon_of([gaussian_of_rho(rho)], delta)
    if plan is not None:
        found["train"] = epsilon_of([plan.all_steps], delta)
    if shares.text_counts is not None:
        found["text_counts"] = epsilon_of([gaussian_of_rho(shares.text_counts)], delta)
    return found
