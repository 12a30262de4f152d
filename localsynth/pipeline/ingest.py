"""Source → private.duckdb, and what the schema leaves open measured → schema.json."""

import secrets
from typing import TYPE_CHECKING, Any

from localsynth.errors import ConfigError, IntegrityError
from localsynth.events import note, private_note, stage_started, warning
from localsynth.pipeline.repeated_spends import repeat_budget
from localsynth.pipeline.session import Session, open_budget, open_ledger, warn_of_other_spends
from localsynth.planning.budgets import EpsilonDelta, budgets
from localsynth.planning.warnings import list_warning
from localsynth.schema.columns import Schema, conform
from localsynth.system.files import read_json, write_json
from localsynth.workspace.effective_schema import Effective, effective_of
from localsynth.workspace.erasure_record import refuse_erased

if TYPE_CHECKING:
    from localsynth.store.private import PrivateStore

__all__ = ["ingest", "ingest_if_needed", "ingest_settings"]


def ingest_settings(session: Session) -> dict[str, Any]:
    """Everything that decides what ingest makes; another ingest with the same settings need not be paid again."""
    config = session.config
    privacy = config.privacy.model_dump(mode="json", exclude={"epsilon", "delta"})
    return {
        "data": config.data.model_dump(mode="json"),
        "schema": config.schema_.model_dump(mode="json", exclude={"confirmed"}),
        "privacy": {**privacy, "schema_epsilon": budgets(config).schema.epsilon},
        "max_units": session.options.max_units,
    }


def ingest(session: Session) -> dict[str, Any]:
    """Read the source into the private store and settle the schema. Does nothing where that is done already, without --again.

    Interrupted, it goes on: what was measured stands in schema.json and is not paid twice. What was charged and never came to be
    written is measured again, at the cost of the training's budget, so that the total holds. Where private.duckdb is gone, the
    rows are read again and nothing is measured: what was is public by now, whatever rows are read, and the ledger counts it once
    for everybody it was measured on. With --again everything is read and measured anew, on a budget of its own.
    """
    return _ingest(session, session.options.again)


def ingest_if_needed(session: Session) -> dict[str, Any]:
    """`ingest` as the first stage of a run: with --again (which asks for another run) a table that fits is not read again."""
    return _ingest(session, read_again=False)


def _check_store(store: "PrivateStore", ingest: str) -> None:
    """What is measured next is measured on the rows of this ingest, whole, and no more of a unit than the noise hides."""
    if store.info().get("ingest") != ingest:
        raise IntegrityError(
            "private.duckdb and schema.json are not of the same ingest.",
            "Put back the file that belongs to the other, or ingest again: localsynth ingest WS --again",
        )
    store.check_readable()


def _ingest(session: Session, read_again: bool) -> dict[str, Any]:
    workspace = session.workspace
    refuse_erased(workspace)
    session.config.check_sequence()
    settings = ingest_settings(session)
    document = read_json(workspace.schema_path) if workspace.schema_path.exists() else {}
    if session.options.max_units is None and document:
        settings["max_units"] = document["settings"]["max_units"]
    same = document.get("settings") == settings
    stored = workspace.private_path.exists()
    if same and document["complete"] and stored and not read_again:
        return {"stage": "ingest", "done_before": True, **_size_facts(effective_of(document))}
    if document and not same and not session.options.again:
        raise ConfigError(
            "The data, schema or privacy settings have changed since this workspace's table was ingested.",
            "Undo the change, start a new workspace, or add --again (what is measured anew is charged again).",
        )
    if not same or read_again or (session.options.again and not document["complete"]):
        return _ingest_anew(session, settings, {})
    if document["ingested"] and not stored:
        text = f"{workspace.private_path} is missing: the source is read anew. What was measured stands and is not charged again."
        session.emit(note(text))
        document |= {"complete": False, "ingested": False}
    return _ingest_anew(session, settings, document)


def _ingest_anew(session: Session, settings: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    from localsynth.ingest.load import load_table
    from localsynth.ingest.private_bounds import measure_column, measure_unit_count, split_budget
    from localsynth.ingest.sources.open import open_source
    from localsynth.privacy.noise import SecureRandom
    from localsynth.store.key import check_passphrase
    from localsynth.store.private import PrivateStore

    workspace, config, emit = session.workspace, session.config, session.emit
    check_passphrase(workspace)
    privacy, schema_budget = config.privacy, budgets(config).schema
    emit(stage_started("ingest", session.seal))
    source = open_source(config.data)
    ledger = open_ledger(session)
    parts = split_budget(
        config.schema_, privacy.public_size is not None, schema_budget.epsilon, schema_budget.delta, privacy.rows_per_unit
    )
    source_sha256 = source.sha256()
    warn_of_other_spends(session, source_sha256)
    if not document:
        # Each ingest that measures has a budget of its own; the first one is called plainly "schema".
        before = {event["budget"].partition("-repeat")[0] for event in ledger.budgets() if event["budget"].startswith("schema")}
        document = {"budget": "schema" if not before else f"schema-{len(before) + 1}"}
    if parts is not None:
        open_budget(session, ledger, document["budget"], None, schema_budget, source_sha256)
    measured_events: dict[str, int] = dict(document.get("measured_by", {}))

    def charge(what: str, mechanism: dict[str, Any]) -> None:
        budget = document["budget"]
        if (again := repeat_budget(ledger, budget, what, measured_events.values())) is not None:
            budget, epsilon = again, mechanism["epsilon"]
            text = (
                f"An earlier ingest was interrupted while it measured {what!r}, which was charged. It is measured again; the "
                f"epsilon of {epsilon:.3g} that this costs is taken from the training's."
            )
            emit(warning(text))
            open_budget(session, ledger, budget, None, EpsilonDelta(epsilon, mechanism.get("delta", 0.0)), source_sha256)
        event = ledger.charge(budget=budget, run=None, stage="schema", what=what, mechanism=mechanism)
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
            size.update(units=measure_unit_count(units, parts, charge), origin="measured")
        wanted = settings["max_units"]
        document["keep_probability"] = 1.0 if wanted is None else min(1.0, wanted / size["units"])
        document["measured_by"] = measured_events
        write_json(workspace.schema_path, document)
        return float(document["keep_probability"])

    if not document["ingested"]:
        # Of this reading alone, whatever is read: a run that began with other rows must not go on with these.
        document["ingest"] = secrets.token_hex(8)
        load_table(workspace, config, SecureRandom(), keep, emit, document["ingest"], source)
        document["ingested"] = True
        write_json(workspace.schema_path, document)
    schema = Schema.model_validate(document["schema"])
    if text := list_warning(config, effective_of(document).training_units):
        emit(warning(text))
    with PrivateStore.open(workspace) as store:
        if schema.unmeasured():
            _check_store(store, document["ingest"])
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
        if schema.constraints:
            _tell_of_broken_constraints(session, schema, store)
    document["complete"] = True
    write_json(workspace.schema_path, document)
    emit({"kind": "stage_done", "stage": "ingest", "epsilon": ledger.spent().epsilon})
    return {"stage": "ingest", "done_before": False, **_size_facts(effective_of(document)), "epsilon": ledger.spent().epsilon}


def _tell_of_broken_constraints(session: Session, schema: Schema, store: "PrivateStore") -> None:
    """How many rows will be left out, for the person at the screen alone: a constraint that many break is no public knowledge."""
    rows = broken = 0
    without = schema.model_copy(update={"constraints": []})
    for split in ("train", "holdout"):
        for _, record in store.records(split, schema):
            rows += 1
            broken += conform(schema, record) is None and conform(without, record) is not None
    if broken:
        text = f"{broken:,} of {rows:,} rows break a constraint of the schema and are left out from here on."
        session.emit(private_note(text))


def _size_facts(effective: Effective) -> dict[str, Any]:
    return {
        "units": effective.units,
        "units_origin": "measured" if effective.size_measured else "declared",
        "kept_units": effective.kept_units,
        "training_units": effective.training_units,
    }
