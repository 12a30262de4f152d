"""A new run, or the unfinished one: noisy counts → runs/ID/marginals.json, DP-SGD → runs/ID/adapter, or one after the other."""

import platform
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localsynth.config import MACHINES_PART, Config
from localsynth.errors import ConfigError, IntegrityError
from localsynth.events import note, stage_started, warning
from localsynth.llm.base_models import find_base_model
from localsynth.pipeline.ingest import ingest_settings
from localsynth.pipeline.marginals import finish, measure
from localsynth.pipeline.repeated_spends import remaining_budgets
from localsynth.pipeline.session import (
    Session,
    check_base_model,
    open_budget,
    open_ledger,
    private_recorder,
    warn_of_other_spends,
)
from localsynth.planning.budgets import EpsilonDelta
from localsynth.planning.forecast import training_setup
from localsynth.planning.warnings import accept_size, delta_warning, text_warning
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.feasible import check_constraints
from localsynth.system.extras import need_training_parts
from localsynth.system.files import file_sha256, read_json
from localsynth.train.cost import resumed_micro_batch_tokens
from localsynth.workspace.effective_schema import Effective, read_effective
from localsynth.workspace.erasure_record import refuse_erased
from localsynth.workspace.runs import Run, latest_run, new_run

if TYPE_CHECKING:
    from localsynth.privacy.ledger import Ledger

__all__ = ["need_device", "source_of", "train", "train_or_resume"]

_SHOWN = 3
"""Rows shown before the model is trained."""
_PARTS = ("localsynth", "torch", "opacus", "peft", "transformers", "llama-cpp-python", "opendp")


def _unfinished(session: Session) -> Run | None:
    latest = latest_run(session.workspace)
    return None if latest is None or latest.get("train") else latest


def train(session: Session) -> dict[str, Any]:
    """Train a new adapter, or go on with an unfinished one. Raises ConfigError where a trained run stands, without --again."""
    latest = latest_run(session.workspace)
    if latest is not None and latest.get("train") and not session.options.again:
        raise ConfigError(
            f"Run {latest.id} is trained already.",
            "Go on with: localsynth export, or add --again to train anew (that is charged again).",
        )
    return train_or_resume(session)


def train_or_resume(session: Session) -> dict[str, Any]:
    """As `train`, but a finished run is no hindrance. Raises ResourceError where a model is to be trained without the parts."""
    workspace, config = session.workspace, session.config
    synthesizer = config.synthesizer
    if synthesizer != "marginals":
        need_training_parts()
    refuse_erased(workspace)
    document = read_json(workspace.schema_path) if workspace.schema_path.exists() else {}
    effective = read_effective(workspace)
    # Once more, since bounds and lists may have been measured: before anything else is paid for.
    check_constraints(effective.schema)
    if document["settings"] != {**ingest_settings(session), "max_units": document["settings"]["max_units"]}:
        raise ConfigError(
            "The data, schema or privacy settings have changed since this workspace's table was ingested.",
            "Undo the change, or ingest again: localsynth ingest WS --again (what is measured anew is charged again).",
        )
    accept_size(effective.kept_units, session.options.force, session.emit)
    for text in (text_warning(config, effective.kept_units), delta_warning(config, effective.kept_units)):
        if text:
            session.emit(warning(text))
    current = _unfinished(session)
    ledger = open_ledger(session)
    settings = {
        "train": config.train.model_dump(mode="json", exclude=set(MACHINES_PART)),
        "text_counts": config.text_counts.model_dump(mode="json"),
        "privacy": config.privacy.model_dump(mode="json"),
        "data": {"sequence_by": config.data.sequence_by},
    }
    if current is not None and current["settings"] != settings:
        raise ConfigError(
            f"The train, text_counts or privacy settings have changed since run {current.id} began.",
            "Undo the change to go on with it, or delete its directory in runs/ and add --again (what it spent stays charged).",
        )
    if current is not None and current["table"] != document:
        raise ConfigError(
            f"The table was ingested anew since run {current.id} began; that run cannot go on with other rows.",
            "Delete its directory in runs/ and train again with --again (what it spent stays charged).",
        )
    source_sha256 = source_of(session, document)
    if current is None:
        if synthesizer != "marginals":
            # Loading torch and working out the noise take some seconds, before there is a run to tell of.
            session.emit(note("Working out how many steps the training takes, and with how much noise."))
        planned = {} if synthesizer == "marginals" else _model_plan(session, ledger, effective)
        # The table may be ingested anew later; what this run's model writes stays this.
        current = new_run(workspace, {"synthesizer": synthesizer, "settings": settings, "table": document, **planned})
    elif synthesizer != "marginals":
        check_base_model(current)
        current.note(reruns=current["reruns"] + 1)
    private_recorder(session, current)(stage_started("train", session.seal))
    warn_of_other_spends(session, source_sha256)
    if synthesizer != "llm" and not current.get("marginals_sha256"):
        measure(session, ledger, current, effective, source_sha256)
        if synthesizer == "hybrid":
            _show_first_rows(session, current, effective)
    if synthesizer == "marginals":
        return finish(session, ledger, current)
    return _train_model(session, ledger, current, effective, source_sha256)


def _show_first_rows(session: Session, current: Run, effective: Effective) -> None:
    """The noisy counts already say what the rows will be, and the model takes minutes or hours to write their texts."""
    from localsynth.sample.row_plan import first_rows

    rows = first_rows(current.marginals_path, effective.schema, session.config.sample.seed, _SHOWN)
    text = "The first synthetic rows, by the noisy counts. Their texts follow once the model is trained:"
    session.emit(note(text))
    for row in rows:
        session.emit(note(" | ".join(f"{k}: {'' if v is None else v}" for k, v in row.items())))


def need_device(config: Config) -> None:
    """Raises ResourceError where training is to be on a GPU and there is none. Looks only then: importing torch takes seconds."""
    if config.train.device == "cuda":
        from localsynth.train.loop import choose_device

        choose_device("cuda")


def _model_plan(session: Session, ledger: "Ledger", effective: Effective) -> dict[str, Any]:
    """What a run's record says of the model that will be trained, fixed before a row is read."""
    from localsynth.train.loop import choose_device
    from localsynth.train.memory import memory_room
    from localsynth.train.model import choose_precision
    from localsynth.train.plan import make_train_plan

    config = session.config
    # Raises where this machine cannot: later would be after the marginals were paid for.
    device = choose_device(config.train.device)
    precision = choose_precision(config.train.precision, device)
    base = find_base_model(config.train.model)
    _check_own_model(config.train.model, base.path)
    budget = remaining_budgets(session, ledger).train
    plan = make_train_plan(config.train, effective.training_units, budget.epsilon, budget.delta)
    if session.options.rehearsal_steps is not None:
        plan = replace(plan, steps=min(plan.steps, session.options.rehearsal_steps))
    setup = training_setup(config, base, effective.schema, plan, precision, device, memory_room(device))
    return {
        "plan": vars(plan),
        "targets": setup.targets,
        "micro_batch_tokens": setup.tokens,
        "base_sha256": file_sha256(base.path),
        "reruns": 0,
    }


def _train_model(session: Session, ledger: "Ledger", current: Run, effective: Effective, source_sha256: str) -> dict[str, Any]:
    from localsynth.llm.llama_cpp import Vocabulary
    from localsynth.llm.row_text import Codec
    from localsynth.privacy.noise import REHEARSAL_LABEL, SecureRandom
    from localsynth.store.private import PrivateStore
    from localsynth.train.checkpoint import remove_checkpoint
    from localsynth.train.loop import choose_device
    from localsynth.train.loop import train as train_adapter
    from localsynth.train.plan import TrainPlan

    workspace, config = session.workspace, session.config
    base = find_base_model(config.train.model)
    plan = TrainPlan(**current["plan"])
    emit = private_recorder(session, current)
    random = SecureRandom()
    with PrivateStore.open(workspace) as store, Vocabulary(base.path) as vocabulary:
        open_budget(session, ledger, "train", current.id, EpsilonDelta(plan.epsilon, plan.delta), source_sha256)
        split = ColumnSplit(effective.schema, hybrid=current.hybrid)
        codec = Codec(split.schema, vocabulary.tokenize, vocabulary.start, config.data.description, split.given)
        units = [
            [codec.encode(split.with_lengths(row)) for row in unit] for unit in store.conformed_units("train", effective.schema)
        ]
    # A row without a text has nothing to teach in a hybrid.
    units = [[row for row in unit if any(row.learned)] for unit in units]
    run_id = current.id

    shown = {"epsilon": 0.0, "at": 0.0}

    def charge_step() -> float:
        ledger.charge(budget="train", run=run_id, stage="train", what="DP-SGD step", mechanism=plan.step_mechanism)
        # Composing takes some tenths of a second: what is shown may lag by a few seconds, what is charged never does.
        if time.monotonic() - shown["at"] > 3:
            shown.update(epsilon=ledger.spent().epsilon, at=time.monotonic())
        return shown["epsilon"]

    result = train_adapter(
        units=units,
        base=base.path,
        targets=current["targets"],
        micro_batch_tokens=resumed_micro_batch_tokens(
            config.train, current["micro_batch_tokens"], choose_device(config.train.device)
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
    label = random.label if session.options.rehearsal_steps is None else REHEARSAL_LABEL
    current.note(
        # Not the seconds or the memory: they depend on the private rows, and this file stays.
        train={"steps": result.steps, "precision": result.precision, "noise": label, "seal": session.seal},
        # What the export must find, and what the certificate says: not what lies here, or is installed, by then.
        adapter_sha256=current.adapter_sha256(),
        versions={"python": platform.python_version(), **{part: version(part) for part in _PARTS}},
    )
    remove_checkpoint(current.directory / "checkpoint")
    emit({"kind": "stage_done", "stage": "train", "epsilon": epsilon, "steps": result.steps})
    measured = {"seconds": round(result.seconds, 1), "peak_memory_bytes": result.peak_memory_bytes}
    return {"stage": "train", "run": current.id, "epsilon": epsilon, **current["train"], "private": measured}


def source_of(session: Session, document: dict[str, Any]) -> str:
    """The hash of the file that the private store was read from; it must be the store that `document` (schema.json) describes."""
    from localsynth.store.private import PrivateStore

    workspace, privacy = session.workspace, session.config.privacy
    with PrivateStore.open(workspace) as store:
        info = store.info()
    if info.get("ingest") != document.get("ingest"):
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
