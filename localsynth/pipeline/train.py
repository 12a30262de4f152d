"""A new run, or the unfinished one: noisy counts → runs/ID/marginals.json, DP-SGD → runs/ID/adapter, or one after the other."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from localsynth.config import Config
from localsynth.errors import BudgetError, ConfigError, IntegrityError
from localsynth.events import note, stage_done, stage_started, warning
from localsynth.llm.base_models import find_base_model
from localsynth.pipeline.ingest import ingest_settings, size_epsilon
from localsynth.pipeline.marginals import finish, measure, train_result
from localsynth.pipeline.session import (
    Session,
    check_base_model,
    installed_versions,
    open_budget,
    open_ledger,
    private_recorder,
    random_source,
    warn_of_other_spends,
)
from localsynth.planning.budgets import plan_training, shares_of
from localsynth.planning.forecast import training_setup
from localsynth.planning.warnings import accept_size, delta_warning, text_warning
from localsynth.privacy.account import Account
from localsynth.privacy.accountant import Mechanism
from localsynth.privacy.gaussian import gaussian_of_rho
from localsynth.results.stages import TrainResult
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.feasible import check_constraints
from localsynth.system.extras import need_training_parts
from localsynth.system.files import file_sha256
from localsynth.train.cost import resumed_micro_batch_tokens
from localsynth.workspace.effective_schema import Effective, IngestRecord, finished_ingest
from localsynth.workspace.erasure_record import refuse_erased
from localsynth.workspace.runs import ModelPlan, Run, RunRecord, RunSettings, TrainOutcome, latest_run, new_run

if TYPE_CHECKING:
    from localsynth.privacy.ledger import Ledger

_SHOWN = 3
"""Rows shown before the model is trained."""
_COMPOSITIONS = 100
"""How often the epsilon that is shown during training is computed."""


def train(session: Session) -> TrainResult:
    """Begin a run, or resume an unfinished one. Raises ConfigError where the newest run is trained, without --again."""
    latest = latest_run(session.workspace)
    if latest is not None and latest.record.train is not None and not session.options.again:
        raise ConfigError(
            f"Run {latest.id} is trained already.",
            "Continue with: localsynth export, or add --again to train again (that is charged again).",
        )
    return train_or_resume(session)[1]


def train_or_resume(session: Session) -> tuple[Run, TrainResult]:
    """As `train`, also after a trained run; returns the run, too.

    Raises ResourceError where a model is to be trained and the libraries for it are not installed.
    """
    synthesizer = session.config.synthesizer
    if synthesizer != "marginals":
        need_training_parts()
    refuse_erased(session.workspace)
    table = _checked_table(session)
    _warn_of_size(session, table.effective)
    ledger, settings = open_ledger(session), RunSettings.of(session.config)
    current = _run_to_resume(session, ledger, settings, table)
    source_sha256 = source_of(session, table)
    if current is None:
        current = _new_run(session, ledger, settings, table)
    elif synthesizer != "marginals":
        check_base_model(current)
        current.note(reruns=current.record.reruns + 1)
    private_recorder(session, current)(stage_started("train", session.seal))
    warn_of_other_spends(session, source_sha256)
    if current.record.budget is None:
        open_budget(session, ledger, current.budget, current.id, _own_account(session, ledger, table), source_sha256)
    if synthesizer != "llm" and current.record.marginals is None:
        measure(session, ledger, current)
        if synthesizer == "hybrid":
            _show_first_rows(session, current)
    if synthesizer == "marginals":
        return current, finish(session, ledger, current)
    return current, _train_model(session, ledger, current)


def _new_run(session: Session, ledger: "Ledger", settings: RunSettings, table: IngestRecord) -> Run:
    """A run in the account that the ingest opened, if no run has spent from it, or in one of its own."""
    opened = ledger.budget(table.budget)
    joins = opened is not None and all(e["run"] is None for e in ledger.spends() if e["budget"] == table.budget)
    account = opened.account if joins and opened is not None else _own_account(session, ledger, table)
    measured = ledger.charged(table.budget) if joins else []
    synthesizer = session.config.synthesizer
    model = None if synthesizer == "marginals" else _model_plan(session, account, measured, table.effective)
    budget = table.budget if joins else None
    return new_run(
        session.workspace, RunRecord(synthesizer=synthesizer, settings=settings, table=table, budget=budget, model=model)
    )


def _own_account(session: Session, ledger: "Ledger", table: IngestRecord) -> Account:
    """The account of a run on a table that is measured: its parameters are fixed before its first mechanism runs.

    Whatever the ingest measured has a budget of its own, and the sum holds whichever parameters were chosen after it.
    """
    return Account(session.config.privacy.epsilon - size_epsilon(ledger, table.budget), session.config.privacy.resolved_delta)


def _checked_table(session: Session) -> IngestRecord:
    """The ingested table, under today's settings. Raises ConfigError."""
    table = finished_ingest(session.workspace)
    # Checked again, because bounds and lists may have been measured: before anything else is charged.
    check_constraints(table.effective.schema)
    if table.settings != ingest_settings(session).model_copy(update={"max_units": table.settings.max_units}):
        raise ConfigError(
            "The data, schema or privacy settings have changed since this workspace's table was ingested.",
            "Undo the change, or ingest again: localsynth ingest WS --again (what is measured again is charged again).",
        )
    return table


def _warn_of_size(session: Session, effective: Effective) -> None:
    config, units = session.config, effective.kept_units
    accept_size(units, session.options.force, session.emit)
    for text in (text_warning(config, units), delta_warning(config, units)):
        if text:
            session.emit(warning(text))


def _run_to_resume(session: Session, ledger: "Ledger", settings: RunSettings, table: IngestRecord) -> Run | None:
    """The newest run, if it is not trained. Raises ConfigError where its settings or its table have changed.

    A run whose marginals were charged and lost is over: None with --again, else a BudgetError.
    """
    latest = latest_run(session.workspace)
    if latest is None or latest.record.train is not None:
        return None
    if latest.record.marginals is None and any(event["what"] == "marginals" for event in ledger.spends(latest.id)):
        if session.options.again:
            return None
        raise BudgetError(
            f"Run {latest.id} was interrupted while its marginals were measured. They are charged, and cannot be resumed.",
            "Measure again with --again (Python: again=True), which is charged on top.",
        )
    if latest.settings != settings:
        raise ConfigError(
            f"The train, text_counts or privacy settings have changed since run {latest.id} began.",
            "Undo the change to resume it, or delete its directory in runs/ and add --again (what it spent stays charged).",
        )
    if latest.record.table != table:
        raise ConfigError(
            f"The table was ingested again since run {latest.id} began; that run cannot resume with other rows.",
            "Delete its directory in runs/ and train again with --again (what it spent stays charged).",
        )
    return latest


def _show_first_rows(session: Session, current: Run) -> None:
    """Show rows without their texts: the marginals are known, and the model takes minutes or hours to train."""
    from localsynth.sample.row_plan import first_rows

    rows = first_rows(current.marginals_path, current.effective.schema, session.config.sample.seed, _SHOWN)
    text = "The first synthetic rows, from the marginals. Their texts follow once the model is trained:"
    session.emit(note(text))
    for row in rows:
        session.emit(note(" | ".join(f"{k}: {'' if v is None else v}" for k, v in row.items())))


def need_device(config: Config) -> None:
    """Raise ResourceError where training is to be on a GPU and there is none."""
    # Asked only then: importing torch takes seconds.
    if config.train.device == "cuda":
        from localsynth.train.device import choose_device

        choose_device("cuda")


def _model_plan(session: Session, account: Account, measured: list[Mechanism], effective: Effective) -> ModelPlan:
    """How the model will be trained in `account`, beside what was `measured` in it; fixed before the run reads a row."""
    from localsynth.train.device import choose_device, choose_precision
    from localsynth.train.memory import memory_room

    # Loading torch and calibrating the noise take some seconds.
    session.emit(note("Computing the number of training steps and the noise multiplier."))
    config = session.config
    # Raises where this machine cannot: later would be after the marginals were paid for.
    device = choose_device(config.train.device)
    precision = choose_precision(config.train.precision, device)
    base = find_base_model(config.train.model)
    _check_own_model(config.train.model, base.path)
    plan = plan_training(config, account, effective.training_units, measured)
    if session.options.rehearsal_steps is not None:
        plan = replace(plan, steps=min(plan.steps, session.options.rehearsal_steps))
    setup = training_setup(config, base, effective.schema, plan, precision, device, memory_room(device))
    return ModelPlan(plan=vars(plan), targets=setup.targets, micro_batch_tokens=setup.tokens, base_sha256=file_sha256(base.path))


def _train_model(session: Session, ledger: "Ledger", current: Run) -> TrainResult:
    from localsynth.llm.llama_cpp import Vocabulary
    from localsynth.llm.row_text import Codec, Encoded
    from localsynth.store.private import PrivateStore
    from localsynth.train.checkpoint import remove_checkpoint
    from localsynth.train.device import choose_device
    from localsynth.train.loop import train as train_adapter
    from localsynth.train.plan import TrainPlan

    workspace, config = session.workspace, session.config
    base = find_base_model(config.train.model)
    plan = TrainPlan(**current.model.plan)
    emit = private_recorder(session, current)
    random = random_source(session)
    steps_left = plan.steps + plan.reserve - sum(e["mechanism"] == plan.step_mechanism for e in ledger.spends(current.id))
    # Composed once: every step is then known to fit, and so are the token counts after them.
    counts = [] if (rho := shares_of(config).text_counts) is None else [gaussian_of_rho(rho)]
    if steps_left > 0 and not ledger.fits(
        current.budget, [{"type": "repeated", "count": steps_left, "of": plan.step_mechanism}, *counts]
    ):
        raise BudgetError(
            f"What is left of the budget {current.budget!r} does not hold the planned steps.",
            "Start another run with --again, which is charged on top.",
        )

    def load_units() -> list[list[Encoded]]:
        with PrivateStore.open(workspace) as store, Vocabulary(base.path) as vocabulary:
            split = ColumnSplit(current.effective.schema, hybrid=current.hybrid)
            codec = Codec(split.schema, vocabulary.tokenize, vocabulary.start, config.data.description, split.given)
            encoded = [
                [codec.encode(split.with_lengths(row)) for row in unit]
                for unit in store.conformed_units("train", current.effective.schema)
            ]
        # A row without a text has nothing to teach in a hybrid.
        return [[row for row in unit if any(row.learned)] for unit in encoded]

    charged, epsilon = 0, 0.0

    def charge_step() -> float:
        nonlocal charged, epsilon, steps_left
        if steps_left <= 0:
            raise BudgetError("The planned steps and their reserve are used up.", "Completed work is kept.")
        ledger.charge(budget=current.budget, run=current.id, stage="train", what="DP-SGD step", mechanism=plan.step_mechanism)
        steps_left -= 1
        # Composing takes some tenths of a second: what is shown may lag by some steps, what is charged never does. By steps, not
        # by time: the epsilon in a log would show how long each step took.
        if charged % max(1, plan.steps // _COMPOSITIONS) == 0:
            epsilon = ledger.spent().epsilon
        charged += 1
        return epsilon

    result = train_adapter(
        load_units=load_units,
        base=base.path,
        targets=current.model.targets,
        micro_batch_tokens=resumed_micro_batch_tokens(
            config.train, current.model.micro_batch_tokens, choose_device(config.train.device)
        ),
        plan=plan,
        settings=config.train,
        charge_step=charge_step,
        random=random,
        run_directory=current.directory,
        emit=emit,
        should_stop=session.should_stop,
    )
    epsilon = ledger.spent().epsilon
    current.note(
        train=TrainOutcome(
            steps=result.steps,
            precision=result.precision,
            noise=random.label,
            seal=session.seal,
            # For the certificate: by the time of the export, others may be installed.
            versions=installed_versions("localsynth", "torch", "opacus", "peft", "transformers", "llama-cpp-python", "opendp"),
            adapter_sha256=current.adapter_sha256(),
        )
    )
    remove_checkpoint(current.directory / "checkpoint")
    emit({**stage_done("train"), "epsilon": epsilon, "steps": result.steps})
    measured = {"seconds": round(result.seconds, 1), "peak_memory_bytes": result.peak_memory_bytes}
    return train_result(current, epsilon, measured)


def source_of(session: Session, table: IngestRecord) -> str:
    """The hash of the file that the private store was read from. Raises IntegrityError where the store is not that of `table`."""
    from localsynth.store.private import PrivateStore

    workspace, privacy = session.workspace, session.config.privacy
    with PrivateStore.open(workspace) as store:
        info = store.info()
    if info.get("ingest") != table.ingest:
        raise IntegrityError(
            f"{workspace.private_path} and {workspace.schema_path} are not of the same ingest.",
            "Put back the file that belongs to the other, or ingest again: localsynth ingest WS --again",
        )
    if (info["unit"], info["max_rows_per_unit"]) != (privacy.unit, str(privacy.max_rows_per_unit)):
        raise IntegrityError(
            "The private table was not ingested for the privacy unit in the configuration.",
            "Ingest again: localsynth ingest WS --again",
        )
    return info["source_sha256"]


def _check_own_model(name: str, path: Path) -> None:
    """Compare torch with llama.cpp on a model of the user's own *before* anything is spent on it."""
    from localsynth_models.catalog import catalog

    if name not in catalog():
        from localsynth.export.verify import verify_base

        verify_base(path)
