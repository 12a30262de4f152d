"""A run by marginals: noisy counts of the columns and of pairs of them → runs/ID/marginals.json, its certificate, its rows.

The counts are one release: the whole of the run's budget is charged before the first row is read, and what is measured under it
adds up to at most that (zero-concentrated differential privacy, converted to (ε, δ)). Interrupted between the charge and the
file, the run is over: measuring again would be charged again.
"""

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from localsynth.errors import BudgetError
from localsynth.events import Event, Recorder, mark_private
from localsynth.planning import budgets
from localsynth.runs import Run
from localsynth.schema import Record, conform
from localsynth.stages.session import Session, open_budget, warn_of_other_spends
from localsynth.stages.table import Effective
from localsynth.workspace import write_json

if TYPE_CHECKING:
    from localsynth.marginals.model import MarginalModel
    from localsynth.marginals.sequence_model import SequenceModel
    from localsynth.privacy.ledger import Ledger

__all__ = ["measure"]

_PARTS = ("localsynth", "numpy", "opendp")


def measure(session: Session, ledger: "Ledger", current: Run, effective: Effective, source_sha256: str) -> dict[str, Any]:
    """Charge the run's budget, measure, fit, and write `marginals.json`. Raises BudgetError where it was charged before."""
    from localsynth.marginals.accounting import epsilon_of_rho, rho_for
    from localsynth.marginals.domain import Domain
    from localsynth.marginals.links import Layout
    from localsynth.marginals.measure import MarginalSettings, measure_marginals
    from localsynth.marginals.measure_sequences import measure_sequences
    from localsynth.privacy.noise import REHEARSAL_LABEL, SecureRandom
    from localsynth.store.private import PrivateStore

    config, workspace = session.config, session.workspace
    privacy, share = config.privacy, budgets(config)
    recorded = Recorder(current.directory / "events.jsonl", session.emit)

    def emit(event: Event) -> None:
        recorded(mark_private(event))

    def report(done: int, of: int) -> None:
        emit({"kind": "progress", "stage": "train", "step": done, "steps": of})

    emit({"kind": "stage_started", "stage": "train", "seal": session.seal})
    schema = effective.schema
    random = SecureRandom()
    with PrivateStore.open(workspace) as store:
        warn_of_other_spends(session, source_sha256)
        open_budget(session, ledger, "train", current.id, share.train_epsilon, share.train_delta, source_sha256)
        rho = rho_for(share.train_epsilon, share.train_delta)
        cost = min(share.train_epsilon, epsilon_of_rho(rho, share.train_delta))
        try:
            ledger.charge(
                budget="train",
                run=current.id,
                stage="train",
                what="marginals",
                mechanism={"type": "approximate_dp", "epsilon": cost, "delta": share.train_delta},
                details={"rho": rho},
            )
        except BudgetError as error:
            raise BudgetError(
                error.message,
                "The run was interrupted after it was charged. Delete its directory in runs/ and add --again to measure anew.",
            ) from None
        units: dict[int, list[Record]] = {}
        for unit, record in store.records("train", schema):
            conformed = conform(schema, record)
            if conformed is not None:
                units.setdefault(unit, []).append(conformed)
    settings = MarginalSettings(rows_per_unit=privacy.rows_per_unit)
    model: MarginalModel | SequenceModel
    if config.data.sequence_by is not None:
        layout = Layout.of_schema(schema, config.data.sequence_by, privacy.rows_per_unit)
        model = measure_sequences(layout, layout.encode(units.values()), rho, random, settings, report)
    else:
        domain = Domain.of_schema(schema)
        rows = [row for unit in units.values() for row in unit]
        model = measure_marginals(domain, domain.encode(rows), rho, random, settings, report)
    write_json(current.marginals_path, model.to_json())
    label = random.label if session.options.rehearsal_steps is None else REHEARSAL_LABEL
    epsilon = ledger.spent().epsilon
    current.note(
        train={"synthesizer": "marginals", "steps": len(model.spends), "precision": "fp64", "noise": label, "seal": session.seal},
        marginals_sha256=current.marginals_sha256(),
        versions={"python": platform.python_version(), **{part: version(part) for part in _PARTS}},
    )
    emit({"kind": "stage_done", "stage": "train", "epsilon": epsilon, "steps": len(model.spends)})
    return {"stage": "train", "run": current.id, "epsilon": epsilon, **current["train"], "private": {}}
