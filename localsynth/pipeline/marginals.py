"""DP marginals of columns and pairs of columns → runs/ID/marginals.json: a run without a model, or the first half of a hybrid.

The marginals are one release. Their whole cost is charged before a row is read (except to check that the file is complete), as
the Gaussian mechanism of their ρ; the measurements add up to at most that. A run that is interrupted between the charge and the
file is over: measuring again would be charged again.
"""

from typing import TYPE_CHECKING, Any

from localsynth.errors import Cancelled
from localsynth.events import stage_done
from localsynth.pipeline.session import Session, installed_versions, private_recorder, random_source
from localsynth.planning.budgets import shares_of
from localsynth.privacy.gaussian import gaussian_of_rho
from localsynth.results.stages import TrainResult
from localsynth.schema.column_split import ColumnSplit
from localsynth.system.files import file_sha256, write_json
from localsynth.workspace.runs import MarginalsOutcome, Run, TrainOutcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from localsynth.marginals.model import MarginalModel
    from localsynth.marginals.sequence_model import SequenceModel
    from localsynth.privacy.ledger import Ledger


def measure(session: Session, ledger: "Ledger", current: Run) -> None:
    """Charge the marginals, measure, fit, and write `marginals.json`."""
    from localsynth.marginals.domain import Domain
    from localsynth.marginals.measure import MarginalSettings, measure_marginals
    from localsynth.marginals.measure_transitions import measure_sequences
    from localsynth.marginals.transitions import Layout
    from localsynth.store.private import PrivateStore

    config, workspace = session.config, session.workspace
    emit = private_recorder(session, current)

    def report(done: int, of: int) -> None:
        emit({"kind": "progress", "stage": "train", "work": "marginals", "step": done, "steps": of})

    schema = current.effective.schema
    split = ColumnSplit(schema, hybrid=current.hybrid)
    # Whatever can fail without the rows fails before they are paid for.
    domain = Domain.of_schema(split.schema)
    sequence_by, most = config.data.sequence_by, config.privacy.rows_per_unit
    layout = None if sequence_by is None else Layout.of_schema(schema, sequence_by, most)
    # Public, like all of the configuration: its name says nothing of the rows. A text has no marginals.
    target = config.evaluate.target if config.evaluate.target in domain.names else None
    settings = MarginalSettings(rows_per_unit=most, target=target)
    if session.should_stop():
        raise Cancelled("Stopped before anything was measured.", "Start the command again to resume.")
    with PrivateStore.open(workspace) as store:
        store.check_readable()
        rho = _rho(session, ledger, current)
        # The ledger works out what that ρ costs, and refuses it where it is more than is left.
        mechanism = gaussian_of_rho(rho)
        ledger.charge(budget=current.budget, run=current.id, stage="train", what="marginals", mechanism=mechanism)
        report(0, 100)
        codes: dict[str, NDArray[Any]]
        if layout is not None:
            codes = layout.encode([unit for unit in store.conformed_units("train", schema) if unit])
        elif current.hybrid:
            units = store.conformed_units("train", schema)
            codes = domain.encode([split.with_lengths(row) for unit in units for row in unit])
        else:
            codes = domain.encode_ordinals(store.conformed_ordinals("train", schema))
    model: MarginalModel | SequenceModel
    if layout is not None:
        model = measure_sequences(layout, codes, rho, random_source(session), settings, report)
    else:
        model = measure_marginals(domain, codes, rho, random_source(session), settings, report)
    write_json(current.marginals_path, model.to_json())
    current.note(marginals=MarginalsOutcome(sha256=file_sha256(current.marginals_path), measured=len(model.spends)))
    # From here on, what was measured is kept.
    emit({"kind": "progress", "stage": "train", "work": "marginals", "step": 100, "steps": 100})


def _rho(session: Session, ledger: "Ledger", current: Run) -> float:
    """The ρ of a hybrid's marginals, or all that is left in the account of a run without a model."""
    if current.hybrid:
        rho = shares_of(session.config).marginals
        assert rho is not None
        return rho
    opened = ledger.budget(current.budget)
    assert opened is not None
    return opened.account.rho(ledger.charged(current.budget))


def finish(session: Session, ledger: "Ledger", current: Run) -> TrainResult:
    """Record that a run by marginals is measured, which is all its training."""
    assert current.record.marginals is not None
    outcome = TrainOutcome(
        steps=current.record.marginals.measured,
        precision="fp64",
        noise=random_source(session).label,
        seal=session.seal,
        versions=installed_versions("localsynth", "numpy", "opendp"),
    )
    current.note(train=outcome)
    epsilon = ledger.spent().epsilon
    private_recorder(session, current)({**stage_done("train"), "epsilon": epsilon, "steps": outcome.steps})
    return train_result(current, epsilon, {})


def train_result(current: Run, epsilon: float, private: dict[str, float]) -> TrainResult:
    """The result of the stage `train`; `private` depends on the original rows."""
    outcome = current.training
    return TrainResult(
        run=current.id,
        synthesizer=current.record.synthesizer,
        steps=outcome.steps,
        precision=outcome.precision,
        noise=outcome.noise,
        seal=outcome.seal,
        epsilon=epsilon,
        private=private,
    )
