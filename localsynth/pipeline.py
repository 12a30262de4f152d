"""Orders the stages and resumes a run: the only file that knows what comes after what.

    ingest    source → private.duckdb, and what the schema leaves open measured → schema.json
    train     a new run, or the unfinished one: DP-SGD → runs/ID/adapter
    export    adapter → runs/ID/model.<QTYPE>.gguf with its certificate inside
    sample    model → synthetic.duckdb
    run       all of them, going on where the last one stopped

Every stage opens its budget before it touches data, and charges before it spends.
"""

import json
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localsynth.base_models import find_base_model
from localsynth.config import Config, DataConfig, render_config
from localsynth.errors import BudgetError, ConfigError, IntegrityError
from localsynth.events import Emit, Recorder
from localsynth.planning import TOO_FEW_UNITS, accept_size, budgets, forecast, size_warning
from localsynth.runs import Run, latest_run, new_run
from localsynth.schema import Schema
from localsynth.verify import CERTIFICATE_KEY
from localsynth.workspace import Workspace, file_sha256, read_json, write_file, write_json

if TYPE_CHECKING:
    from localsynth.privacy.ledger import Ledger

__all__ = ["VERBS", "Options", "Session", "export", "ingest", "initialise", "plan", "run", "sample", "train"]


@dataclass(frozen=True)
class Options:
    """What the command line says beside the configuration."""

    rows: int | None = None
    more: int | None = None
    max_units: int | None = None
    force: bool = False
    again: bool = False
    sign: bool = True


@dataclass
class Session:
    """One command's work on one workspace."""

    workspace: Workspace
    config: Config
    emit: Emit
    should_stop: Callable[[], bool]
    options: Options = field(default_factory=Options)
    seal: str = "none"


def open_ledger(session: Session) -> "Ledger":
    """The workspace's ledger, checked against the head of its chain."""
    from localsynth.privacy.ledger import Ledger

    workspace = session.workspace
    return Ledger.open(workspace.ledger_path, workspace.keys_path / "ledger-head.json", workspace.id)


# --- ingest -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effective:
    """`schema.json`: the schema with nothing left open, and the public size of the table that was kept."""

    schema: Schema
    units: int
    """Units in the source, declared or measured."""
    keep_probability: float
    holdout: float
    size_measured: bool

    @property
    def kept_units(self) -> int:
        """Expected units kept, training and holdout together."""
        return max(1, round(self.units * self.keep_probability))

    @property
    def training_units(self) -> int:
        """Expected units to train on."""
        return max(1, round(self.kept_units * (1 - self.holdout)))


def _ingest_settings(session: Session) -> dict[str, Any]:
    """Everything that decides what ingest makes; another ingest with the same settings need not be paid again."""
    config = session.config
    privacy = config.privacy.model_dump(mode="json", exclude={"epsilon", "delta"})
    return {
        "data": config.data.model_dump(mode="json"),
        "schema": config.schema_.model_dump(mode="json", exclude={"confirmed"}),
        "privacy": {**privacy, "schema_epsilon": budgets(config).schema_epsilon},
        "max_units": session.options.max_units,
    }


def read_effective(workspace: Workspace) -> Effective:
    """The effective schema of a finished ingest. Raises ConfigError where there is none."""
    document = read_json(workspace.schema_path) if workspace.schema_path.exists() else {}
    if not document.get("complete"):
        raise ConfigError(f"{workspace.root} holds no ingested table.", f"Read it first: localsynth ingest {workspace.root}")
    return _effective(document)


def _effective(document: dict[str, Any]) -> Effective:
    return Effective(
        Schema.model_validate(document["schema"]),
        document["size"]["units"],
        document["keep_probability"],
        document["holdout"],
        document["size"]["origin"] == "measured",
    )


def ingest(session: Session) -> dict[str, Any]:
    """Read the source into the private store and settle the schema. Does nothing where that is done already.

    Interrupted, it goes on: what was measured stands in schema.json and is not paid twice.
    """
    workspace = session.workspace
    settings = _ingest_settings(session)
    document = read_json(workspace.schema_path) if workspace.schema_path.exists() else {}
    if session.options.max_units is None and document:
        settings["max_units"] = document["settings"]["max_units"]
    same = document.get("settings") == settings
    if same and document["complete"] and workspace.private_path.exists():
        return {"stage": "ingest", "done_before": True, **_size_facts(_effective(document))}
    if document and not same and not session.options.again:
        raise ConfigError(
            "The data, schema or privacy settings have changed since this workspace's table was ingested.",
            "Undo the change, start a new workspace, or add --again (what is measured anew is charged again).",
        )
    # With --again an interrupted ingest, too, is begun anew, on a budget of its own.
    return _ingest_anew(session, settings, document if same and not session.options.again else {})


def _ingest_anew(session: Session, settings: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    from localsynth.ingest.ingest import ingest as ingest_source
    from localsynth.ingest.measure import measure_column, measure_size, share_budget
    from localsynth.ingest.source import open_source
    from localsynth.privacy.noise import SecureRandom
    from localsynth.store.private import PrivateStore

    workspace, config, emit = session.workspace, session.config, session.emit
    privacy, share = config.privacy, budgets(config)
    emit({"kind": "stage_started", "stage": "ingest", "seal": session.seal})
    source = open_source(config.data)
    ledger = open_ledger(session)
    parts = share_budget(
        config.schema_, privacy.public_size is not None, share.schema_epsilon, share.schema_delta, privacy.max_rows_per_unit
    )
    source_sha256 = source.sha256()
    if not document:
        # Each ingest that measures has a budget of its own; the first one is called plainly "schema".
        before = sum(event["stage"].startswith("schema") for event in ledger.budgets())
        document = {"budget": "schema" if before == 0 else f"schema-{before + 1}"}
    if parts is not None:
        _open_budget(session, ledger, document["budget"], None, share.schema_epsilon, share.schema_delta, source_sha256)
    measured_events: dict[str, int] = dict(document.get("measured_by", {}))

    def charge(what: str, mechanism: dict[str, Any]) -> None:
        event = ledger.charge(budget=document["budget"], run=None, stage="schema", what=what, mechanism=mechanism)
        measured_events[what] = event["index"]

    if "complete" not in document:
        document |= {
            "complete": False,
            "ingested": False,
            "settings": settings,
            "schema": config.schema_.model_dump(mode="json"),
            "size": {"units": privacy.public_size, "origin": "declared"},
            "keep_probability": 1.0,
            "holdout": privacy.holdout,
            "measured_by": measured_events,
        }
        write_json(workspace.schema_path, document)

    def keep(units: int) -> float:
        size = document["size"]
        if size["units"] is None:
            assert parts is not None
            size.update(units=measure_size(units, parts, charge), origin="measured")
        wanted = settings["max_units"]
        document["keep_probability"] = 1.0 if wanted is None else min(1.0, wanted / size["units"])
        document["measured_by"] = measured_events
        write_json(workspace.schema_path, document)
        return float(document["keep_probability"])

    if not document["ingested"]:
        ingest_source(workspace, config, SecureRandom(), keep, emit, source)
        document["ingested"] = True
        write_json(workspace.schema_path, document)
    schema = Schema.model_validate(document["schema"])
    with PrivateStore.open(workspace) as store:
        for index, column in enumerate(schema.learned()):
            if not column.unmeasured():
                continue
            assert parts is not None
            settled = measure_column(column, index, store, parts, charge)
            columns = [settled if c.name == column.name else c for c in schema.columns]
            schema = schema.model_copy(update={"columns": columns})
            document.update(schema=schema.model_dump(mode="json"), measured_by=measured_events)
            write_json(workspace.schema_path, document)
            emit({"kind": "progress", "stage": "ingest", "epsilon": ledger.spent().epsilon})
    document["complete"] = True
    write_json(workspace.schema_path, document)
    emit({"kind": "stage_done", "stage": "ingest", "epsilon": ledger.spent().epsilon})
    return {"stage": "ingest", "done_before": False, **_size_facts(_effective(document)), "epsilon": ledger.spent().epsilon}


def _size_facts(effective: Effective) -> dict[str, Any]:
    return {
        "units": effective.units,
        "units_origin": "measured" if effective.size_measured else "declared",
        "kept_units": effective.kept_units,
        "training_units": effective.training_units,
    }


def _open_budget(
    session: Session, ledger: "Ledger", name: str, run_id: str | None, epsilon: float, delta: float, source_sha256: str
) -> None:
    """Set a stage's budget aside. Over the configured total only with --again, since that protects less than was promised."""
    from localsynth.privacy.chain import Basis
    from localsynth.privacy.registry import register_spend

    config = session.config
    privacy = config.privacy
    rows = 1 if privacy.unit == "row" else privacy.max_rows_per_unit
    basis = Basis(privacy.unit, rows, privacy.public_size is not None)
    try:
        ledger.open_budget(
            name,
            run_id,
            epsilon,
            delta,
            limit=config.privacy.epsilon,
            limit_delta=config.delta(),
            basis=basis,
            beyond_limit=session.options.again,
        )
    except BudgetError as error:
        raise BudgetError(error.message, "Start a new workspace, or add --again to spend more than privacy.epsilon.") from None
    # At once and in full: a run that is given up has spent, too.
    register_spend(source_sha256, session.workspace.id, sum(event["epsilon"] for event in ledger.budgets()))


# --- train ------------------------------------------------------------------------------------------------------------


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
    return _train(session)


def _train(session: Session) -> dict[str, Any]:
    from localsynth.codec import Codec
    from localsynth.llama import Vocabulary
    from localsynth.privacy.noise import SecureRandom
    from localsynth.schema import conform
    from localsynth.store.private import PrivateStore
    from localsynth.train.checkpoint import remove_checkpoint
    from localsynth.train.loop import train as train_adapter
    from localsynth.train.plan import TrainPlan, make_train_plan

    workspace, config = session.workspace, session.config
    document = read_json(workspace.schema_path) if workspace.schema_path.exists() else {}
    effective = read_effective(workspace)
    if document["settings"] != {**_ingest_settings(session), "max_units": document["settings"]["max_units"]}:
        raise ConfigError(
            "The data, schema or privacy settings have changed since this workspace's table was ingested.",
            "Undo the change, or ingest again: localsynth ingest WS --again (what is measured anew is charged again).",
        )
    accept_size(effective.kept_units, session.options.force, session.emit)
    base = find_base_model(config.train.model)
    current = _unfinished(session)
    ledger = open_ledger(session)
    settings = {"train": config.train.model_dump(mode="json"), "privacy": config.privacy.model_dump(mode="json")}
    if current is not None and current["settings"] != settings:
        raise ConfigError(
            f"The train or privacy settings have changed since run {current.id} began.",
            "Undo the change to go on with it, or delete its directory in runs/ and add --again (what it spent stays charged).",
        )
    if current is not None and current["table"] != document:
        raise ConfigError(
            f"The table was ingested anew since run {current.id} began; that run cannot go on with other rows.",
            "Delete its directory in runs/ and train again with --again (what it spent stays charged).",
        )
    base_sha256 = file_sha256(base.path)
    if current is not None and current["base_sha256"] != base_sha256:
        raise IntegrityError(
            f"{base.path} is not the base model that run {current.id} began with.", "Put that file back to go on."
        )
    if current is None:
        _check_own_model(config.train.model, base.path)
        share = budgets(config)
        plan = make_train_plan(config.train, effective.training_units, share.train_epsilon, share.train_delta)
        current = new_run(
            workspace,
            {
                "settings": settings,
                "plan": vars(plan),
                "base_sha256": base_sha256,
                "reruns": 0,
                # The table may be ingested anew later; what this run's model writes stays this.
                "table": document,
            },
        )
    else:
        plan = TrainPlan(**current["plan"])
        current.note(reruns=current["reruns"] + 1)

    emit = Recorder(current.directory / "events.jsonl", session.emit)
    emit({"kind": "stage_started", "stage": "train", "seal": session.seal})
    schema = effective.schema
    random = SecureRandom()
    with PrivateStore.open(workspace) as store, Vocabulary(base.path) as vocabulary:
        info = store.info()
        _warn_of_other_spends(session, info["source_sha256"])
        if (info["unit"], info["max_rows_per_unit"]) != (config.privacy.unit, str(config.privacy.max_rows_per_unit)):
            raise IntegrityError(
                "The private table was not ingested for the privacy unit in the configuration.",
                "Ingest again: localsynth ingest WS --again",
            )
        _open_budget(session, ledger, "train", current.id, plan.epsilon, plan.delta, info["source_sha256"])
        codec = Codec(schema, vocabulary.tokenize, vocabulary.start, config.data.description)
        units: dict[int, list[Any]] = {}
        for unit, record in store.records("train", schema):
            rows = units.setdefault(unit, [])
            conformed = conform(schema, record)
            if conformed is not None:
                rows.append(codec.encode(conformed))
    run_id = current.id

    shown = {"epsilon": 0.0, "at": 0.0}

    def charge_step() -> float:
        ledger.charge(budget="train", run=run_id, stage="train", what="DP-SGD step", mechanism=plan.step_mechanism)
        # Composing takes some tenths of a second: what is shown may lag by a few seconds, what is charged never does.
        if time.monotonic() - shown["at"] > 3:
            shown.update(epsilon=ledger.spent().epsilon, at=time.monotonic())
        return shown["epsilon"]

    result = train_adapter(
        units=list(units.values()),
        base=base.path,
        targets=base.targets,
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
        # Not the seconds or the memory: they depend on the private rows, and this file stays.
        train={"steps": result.steps, "precision": result.precision, "noise": random.label, "seal": session.seal}
    )
    remove_checkpoint(current.directory / "checkpoint")
    emit({"kind": "stage_done", "stage": "train", "epsilon": epsilon, "steps": result.steps})
    measured = {"seconds": round(result.seconds, 1), "peak_memory_bytes": result.peak_memory_bytes}
    return {"stage": "train", "run": current.id, "epsilon": epsilon, **current["train"], "private": measured}


def _warn_of_other_spends(session: Session, source_sha256: str) -> None:
    """Two workspaces on one source file add up for the people in it, which neither ledger alone shows."""
    from localsynth.privacy.registry import registry_total

    others = {name: spent for name, spent in registry_total(source_sha256).workspaces.items() if name != session.workspace.id}
    if others:
        text = (
            f"This source file has been used in {len(others)} other workspace{'s' if len(others) > 1 else ''}, which spent "
            f"epsilon {sum(others.values()):.3g}. For the people in it all of that adds up; this workspace's certificate states "
            "its own part."
        )
        session.emit({"kind": "warning", "text": text})


def _check_own_model(name: str, path: Path) -> None:
    """Compare torch with llama.cpp on a model of the user's own *before* anything is spent on it."""
    from localsynth_models.catalog import catalog

    if name not in catalog():
        from localsynth.export.verify import verify_base

        verify_base(path)


# --- export -----------------------------------------------------------------------------------------------------------


def _trained_run(session: Session) -> Run:
    latest = latest_run(session.workspace)
    if latest is None or not latest.get("train"):
        raise ConfigError(
            f"{session.workspace.root} holds no trained run.", f"Train first: localsynth train {session.workspace.root}"
        )
    return latest


def _recorder(session: Session, current: Run) -> Emit:
    """Records events of a stage that spends nothing, with the ε spent before it, so that it is in view to the end."""
    record = Recorder(current.directory / "events.jsonl", session.emit)
    epsilon = open_ledger(session).spent().epsilon
    return lambda event: record({"epsilon": epsilon, **event})


def export(session: Session) -> dict[str, Any]:
    """Merge, quantize and verify the newest run's adapter, and write its certificate beside and into the model."""
    from localsynth.export.export import export as export_model
    from localsynth.sample.job import default_threads

    current = _trained_run(session)
    config = session.config
    quantization = config.sample.quantization
    done = current.get("export")
    if done and done["quantization"] == quantization and current.model_path(quantization).exists():
        return {"stage": "export", "run": current.id, "done_before": True, **done}
    base = find_base_model(current["settings"]["train"]["model"])
    emit = _recorder(session, current)
    emit({"kind": "stage_started", "stage": "export", "seal": session.seal})
    path = current.model_path(quantization)
    result = export_model(base.path, current.directory / "adapter", path, quantization, default_threads(), emit)
    certificate = _certify(session, current, path)
    facts = {
        "quantization": quantization,
        "kl": round(result.kl, 6),
        "shift": round(result.shift, 6),
        "size_bytes": path.stat().st_size,
        "seconds": round(result.seconds, 1),
        "model_hash": certificate["hashes"]["model"],
        "signed": certificate["signature"] is not None,
    }
    current.note(export=facts)
    emit({"kind": "stage_done", "stage": "export"})
    return {"stage": "export", "run": current.id, "done_before": False, "path": str(path), **facts}


def _certify(session: Session, current: Run, model: Path) -> dict[str, Any]:
    """Write the certificate of a run beside its model and into it. Covers everything the workspace's ledger holds."""
    from localsynth.export.merge import set_metadata
    from localsynth.privacy.certificate import CertificateFacts, build
    from localsynth.privacy.model_hash import model_hash
    from localsynth.privacy.signing import signing_key

    parts = ("localsynth", "torch", "opacus", "peft", "transformers", "llama-cpp-python", "opendp")
    facts = CertificateFacts(
        noise_label=current["train"]["noise"],
        ledger=open_ledger(session).document(),
        schema=_effective(current["table"]).schema,
        hashes={
            "model": model_hash(model),
            "config": file_sha256(session.workspace.config_path),
            "base_model": current["base_sha256"],
        },
        versions={"python": platform.python_version(), **{part: version(part) for part in parts}},
    )
    document = build(facts, signing_key() if session.options.sign else None)
    set_metadata(model, {CERTIFICATE_KEY: json.dumps(document, ensure_ascii=False)})
    write_json(current.certificate_path, document)
    return document


# --- sample -----------------------------------------------------------------------------------------------------------


def sample(session: Session) -> dict[str, Any]:
    """Draw synthetic rows from the newest run's model until the table has as many as asked for."""
    from localsynth.sample.job import draw_rows
    from localsynth.store.lock import sampler_lock
    from localsynth.store.synthetic import SyntheticStore

    workspace, config = session.workspace, session.config
    current = _trained_run(session)
    done = current.get("export")
    if not done:
        raise ConfigError(f"Run {current.id} has no model yet.", f"Make it: localsynth export {workspace.root}")
    effective = _effective(current["table"])
    path = current.model_path(done["quantization"])
    if not path.exists():
        raise IntegrityError(f"{path} is missing.", f"Make it again: localsynth export {workspace.root}")
    emit = _recorder(session, current)
    with sampler_lock(workspace.root / ".sampler.lock"):
        store = SyntheticStore(workspace.synthetic_path)
        if store.row_count() > store.row_count(current.id):
            # Rows of an earlier run: a table has one provenance, and theirs stays in their own certificate.
            store.clear()
        store.create_table(effective.schema)
        certificate = read_json(current.certificate_path)
        guarantee = certificate["guarantee"]
        settings = config.sample.model_dump(mode="json")
        store.add_run(
            current.id, done["model_hash"], config.sample.seed, guarantee["spent_epsilon"], guarantee["spent_delta"], settings
        )
        present = store.row_count(current.id)
        rows = _wanted_rows(session, effective, present)
        emit({"kind": "stage_started", "stage": "sample", "seal": session.seal})
        result = draw_rows(
            model=path,
            schema=effective.schema,
            description=config.data.description,
            settings=config.sample,
            store=store,
            run=current.id,
            rows=rows,
            emit=emit,
            should_stop=session.should_stop,
        )
    facts = {"rows": result.total, "rejected": result.statistics.rejected, "seconds": round(result.seconds, 1)}
    current.note(sample=facts)
    emit({"kind": "stage_done", "stage": "sample"})
    return {"stage": "sample", "run": current.id, "new_rows": result.rows, **facts}


def _wanted_rows(session: Session, effective: Effective, present: int) -> int:
    if session.options.more is not None:
        return present + session.options.more
    return session.options.rows or session.config.sample.rows or effective.kept_units


# --- run --------------------------------------------------------------------------------------------------------------


def run(session: Session) -> dict[str, Any]:
    """All stages, going on where the last command stopped. After a finished run it refuses without --again."""
    latest = latest_run(session.workspace)
    if latest is not None and latest.finished and not session.options.again:
        wanted = session.options.rows
        if wanted is None or wanted <= latest["sample"]["rows"]:
            raise ConfigError(
                f"Run {latest.id} is finished.",
                "More rows cost no privacy: localsynth sample WS --more N. To train anew, which is charged again, add --again.",
            )
        return {"run": latest.id, "stages": [sample(session)]}
    stages = []
    if latest is None or not latest.get("train") or latest.finished:
        stages += [ingest(session), _train(session)]
    stages += [export(session), sample(session)]
    current = latest_run(session.workspace)
    assert current is not None
    return {"run": current.id, "stages": stages, **summary(session, current)}


def summary(session: Session, current: Run) -> dict[str, Any]:
    """What a finished run gives the user: figures and files."""
    certificate = read_json(current.certificate_path)
    return {
        "rows": current["sample"]["rows"],
        "epsilon_spent": certificate["guarantee"]["spent_epsilon"],
        "epsilon_target": session.config.privacy.epsilon,
        "delta": certificate["guarantee"]["spent_delta"],
        "synthetic": str(session.workspace.synthetic_path),
        "model": str(current.model_path(current["export"]["quantization"])),
        "certificate": str(current.certificate_path),
    }


# --- init and plan ----------------------------------------------------------------------------------------------------


def initialise(root: Path, data: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """A new workspace for a source file, with a schema guessed from its first rows. Makes nothing where the file is unusable."""
    from localsynth.ingest.infer import infer_schema
    from localsynth.ingest.source import open_source

    source_config = DataConfig.model_validate({**data, "source": str(Path(data["source"]).expanduser().absolute())})
    source = open_source(source_config)
    schema, notes = infer_schema(source, source_config.missing)
    workspace = Workspace.create(root)
    write_file(workspace.config_path, render_config(source_config, schema, str(root)))
    for note in notes:
        emit({"kind": "note", "text": note})
    columns = [{"name": column.name, "kind": column.kind} for column in schema.columns]
    return {"workspace": str(root), "config": str(workspace.config_path), "columns": columns}


ASSUMED_UNITS = 10_000
"""What `plan` reckons with while the number of units is neither declared nor measured."""


def plan(session: Session) -> dict[str, Any]:
    """What a run would cost and take. Spends nothing and reads no row."""
    from localsynth.train.model import choose_precision
    from localsynth.train.speed import matmul_rate

    config, workspace = session.config, session.workspace
    base = find_base_model(config.train.model)
    document = read_json(workspace.schema_path) if workspace.schema_path.exists() else {}
    if document.get("complete"):
        effective = _effective(document)
        schema, kept, training = effective.schema, effective.kept_units, effective.training_units
        origin = "measured" if effective.size_measured else "declared"
    else:
        schema = config.schema_
        origin = "declared" if config.privacy.public_size else "assumed"
        size = config.privacy.public_size or ASSUMED_UNITS
        kept = min(size, session.options.max_units or size)
        training = max(1, round(kept * (1 - config.privacy.holdout)))
    precision = choose_precision(config.train.precision, "cpu" if config.train.device == "cpu" else "auto")
    rate = matmul_rate(precision, base.info.embedding_length, base.info.feed_forward_length)
    rows = session.options.rows or config.sample.rows or kept
    facts = forecast(config, base, schema, kept, training, rows, rate, precision)
    warnings = [text for text in [size_warning(kept)] if text]
    free = shutil.disk_usage(workspace.root).free
    if free < facts["disk_bytes"]:
        warnings.append(f"The disk has {free / 1e9:.1f} GB free, and about {facts['disk_bytes'] / 1e9:.1f} GB are needed.")
    if not config.schema_.confirmed:
        warnings.append(
            "The schema is a guess that you have not confirmed: check it in localsynth.toml, then set schema.confirmed = true."
        )
    if kept < TOO_FEW_UNITS and not session.options.force:
        raise BudgetError(warnings[0], "Collect more, or add --force to plan and run all the same.")
    still_open = [f"{name}.{field}" for name, field in schema.unmeasured()]
    return {**facts, "units_origin": origin, "to_be_measured": still_open, "free_disk_bytes": free, "warnings": warnings}


VERBS: dict[str, Callable[[Session], dict[str, Any]]] = {
    "plan": plan,
    "ingest": ingest,
    "train": train,
    "export": export,
    "sample": sample,
    "run": run,
}
"""What the engine's process can be asked to do on a workspace."""
