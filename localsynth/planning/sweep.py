"""What each of several ε buys: the errors of noisy counts and the noise of training, from public figures alone.

Reads no row and spends nothing.
"""

import math
from dataclasses import dataclass

from localsynth.config import Config, Synthesizer
from localsynth.errors import BudgetError, ConfigError
from localsynth.marginals.measure import MarginalSettings
from localsynth.marginals.select_tables import DISTANCES_FRACTION, TREE_FRACTION
from localsynth.marginals.transitions import Layout
from localsynth.planning.budgets import account_of, plan_training, shares_of
from localsynth.planning.forecast import Size, with_placeholders
from localsynth.privacy.mechanisms import CategoriesPlan
from localsynth.results.plans import CountError, Sweep, SweepRow, Tables
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.columns import Category, Schema
from localsynth.schema.ordinals import Structured
from localsynth.train.plan import schedule

EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class Reference:
    """A score on a public table, as a share of what its original rows give, at the ε that were measured.

    what: the score, the table, and the lab note.
    """

    what: str
    by_epsilon: dict[float, float]


MEASURED: dict[Synthesizer, tuple[Reference, ...]] = {
    "marginals": (Reference("AUC on Adult (docs/lab/marginals.md)", {1.0: 0.97}),),
    "hybrid": (
        Reference("TSTR F1 on 4,574 messages", {1.0: 0.73, 8.0: 0.80}),
        Reference("on 9,003 questions, all of epsilon for training (docs/lab/adapters.md)", {1.0: 0.52, 8.0: 0.58}),
    ),
    "llm": (),
}
"""Of each synthesizer, from the lab notes. Empty where none has such figures."""


def sweep(config: Config, schema: Schema, origin: str, size: Size) -> Sweep:
    """What each of `EPSILONS` buys in a new run under `config`, whose own epsilon is ignored.

    `schema` is the effective one, or that of `config` before anything is measured. Raises ConfigError.
    """
    synthesizer = config.synthesizer
    single, pair = _tables(config, schema) if synthesizer != "llm" else (None, None)
    planned = schedule(config.train, size.training_units) if synthesizer != "marginals" else None
    rows, left_out = [], []
    for epsilon in EPSILONS:
        privacy = config.privacy.model_copy(update={"epsilon": epsilon})
        try:
            rows.append(_row(config.model_copy(update={"privacy": privacy}), size.training_units, single, pair))
        except (BudgetError, ConfigError):
            # privacy.schema_epsilon leaves nothing for the rest.
            left_out.append(epsilon)
    return Sweep(
        units=size.units,
        units_origin=origin,
        training_units=size.training_units,
        rows_per_unit=config.privacy.rows_per_unit,
        delta=config.privacy.resolved_delta,
        synthesizer=synthesizer,
        single_tables=single,
        pair_tables=pair,
        steps=planned.steps if planned else None,
        batch_size=planned.batch_size if planned else None,
        max_grad_norm=config.train.max_grad_norm if planned else None,
        measured_on=tuple(reference.what for reference in MEASURED[synthesizer]),
        rows=tuple(rows),
        left_out=tuple(left_out),
    )


def _tables(config: Config, schema: Schema) -> tuple[Tables, Tables | None]:
    """The tables of single columns, and of the pairs that link all columns.

    Exact where all pairs have as many cells; else a pair of more cells has less noise. Pairs that are counted afterwards are as
    precise as what they add deserves.
    """
    fraction = MarginalSettings().single_fraction
    if config.data.sequence_by is None:
        learned = ColumnSplit(schema, hybrid=config.synthesizer == "hybrid").schema.learned()
        singles = sum(isinstance(column, Structured) for column in learned)
        links = singles - 1
    else:
        layout = Layout.of_schema(with_placeholders(schema), config.data.sequence_by, config.privacy.rows_per_unit)
        # The index in the sequence and the end are counted as one table. To the index, all else but the columns is linked.
        singles, links = len(layout.own) - 1 + len(layout.repeated), len(layout.columns.names)
    if links < 1:
        return Tables(1, 1.0), None
    return Tables(singles, fraction), Tables(links, (1 - fraction) * TREE_FRACTION * (1 - DISTANCES_FRACTION))


def _row(config: Config, units: int, single: Tables | None, pair: Tables | None) -> SweepRow:
    """What the ε of `config` buys. Raises BudgetError or ConfigError where no run is possible."""
    shares = shares_of(config)
    account = account_of(config, units, shares.size_epsilon)
    plan = plan_training(config, account, units, shares.schema) if config.synthesizer != "marginals" else None
    rho = account.rho(shares.schema) if plan is None else shares.marginals

    def error(tables: Tables | None) -> CountError | None:
        if tables is None or rho is None:
            return None
        rows = math.sqrt(tables.count / (2 * tables.fraction * rho)) * config.privacy.rows_per_unit
        return CountError(rows, rows / units)

    lists = [shares.columns[c.name] for c in config.schema_.columns if isinstance(c, Category) and c.name in shares.columns]
    thresholds = [
        CategoriesPlan(m.noise_multiplier, m.delta, m.contributions).threshold for m in lists[:1] if m.delta is not None
    ]
    references = MEASURED[config.synthesizer]
    return SweepRow(
        epsilon=config.privacy.epsilon,
        single=error(single),
        pair=error(pair),
        list_threshold=thresholds[0] if thresholds else None,
        noise_multiplier=plan.noise_multiplier if plan else None,
        step_noise=plan.noise_multiplier * plan.max_grad_norm / plan.batch_size if plan else None,
        measured=tuple(r.by_epsilon[config.privacy.epsilon] for r in references if config.privacy.epsilon in r.by_epsilon),
    )
