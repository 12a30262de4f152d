"""Source → private.duckdb, and what the schema leaves open measured → schema.json."""

import hashlib
import hmac
import math
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from localsynth.errors import ConfigError, IntegrityError
from localsynth.events import note, private_note, stage_done, stage_started, warning
from localsynth.pipeline.session import Session, open_budget, open_ledger, random_source, warn_of_other_spends
from localsynth.planning.budgets import account_of, shares_of
from localsynth.planning.warnings import measurement_needs
from localsynth.privacy.account import Account
from localsynth.results.stages import IngestResult
from localsynth.schema.columns import Schema
from localsynth.workspace.effective_schema import Effective, IngestRecord, IngestSettings, TableSize, read_ingest
from localsynth.workspace.erasure_record import refuse_erased
from localsynth.workspace.hash_secret import hash_secret

if TYPE_CHECKING:
    from localsynth.ingest.sources.base import Source
    from localsynth.privacy.ledger import Ledger
    from localsynth.store.private import PrivateStore


def ingest_settings(session: Session) -> IngestSettings:
    """The settings of an ingest that this session asks for.

    The source's path is replaced by a keyed hash: it may name people, and schema.json is handed on.
    """
    config = session.config
    source = hmac.new(hash_secret(session.workspace), config.data.source.encode(), hashlib.sha256).hexdigest()
    shares = shares_of(config)
    settings = IngestSettings.of(config, shares.schema_epsilon if shares.columns else 0.0, session.options.max_units)
    return settings.model_copy(update={"data": config.data.model_copy(update={"source": source})})


def ingest(session: Session) -> IngestResult:
    """Read the source into the private store and measure what the schema leaves open. Without --again, it is done once.

    An interrupted ingest resumes: what was measured is in schema.json and is not charged twice. What was charged and not
    written is charged and measured again, and leaves less for the training, so that the total holds. Where private.duckdb is
    gone, the rows are read again and nothing is measured: earlier measurements are public, whatever rows are read now, and the
    ledger counts them once for everybody they were made on. With --again everything is read and measured again, on a budget
    of its own.
    """
    return _ingest(session, session.options.again)


def ingest_if_needed(session: Session) -> IngestResult:
    """`ingest` as the first stage of a run, where --again asks for another run: a table that fits is not read again."""
    return _ingest(session, read_again=False)


def _check_store(store: "PrivateStore", ingest: str) -> None:
    """Raise IntegrityError unless the store holds the complete rows of this ingest, within the bound on a unit's rows."""
    if store.info().get("ingest") != ingest:
        raise IntegrityError(
            "private.duckdb and schema.json are not of the same ingest.",
            "Put back the file that belongs to the other, or ingest again: localsynth ingest WS --again",
        )
    store.check_readable()


def _ingest(session: Session, read_again: bool) -> IngestResult:
    workspace, again = session.workspace, session.options.again
    refuse_erased(workspace)
    session.config.check_sequence()
    record, stored = read_ingest(workspace), workspace.private_path.exists()
    earlier_budget = record.budget if record is not None else None
    settings = ingest_settings(session)
    if record is not None and session.options.max_units is None:
        settings = settings.model_copy(update={"max_units": record.settings.max_units})
    if record is not None and record.settings != settings:
        if not again:
            raise ConfigError(
                "The data, schema or privacy settings have changed since this workspace's table was ingested.",
                "Undo the change, start a new workspace, or add --again (what is measured again is charged again).",
            )
        record = None
    elif record is not None and record.complete and stored and not read_again:
        return _result(record.effective, done_before=True)
    elif record is not None and (read_again or (again and not record.complete)):
        record = None
    elif record is not None and record.ingest is not None and not stored:
        session.emit(
            note(
                f"{workspace.private_path} is missing: the source is read again. "
                "What was measured before stays valid and is not charged again."
            )
        )
        record = record.store_lost()
    return _begin_or_resume(session, settings, record, earlier_budget)


def _begin_or_resume(
    session: Session, settings: IngestSettings, record: IngestRecord | None, earlier_budget: str | None
) -> IngestResult:
    from localsynth.ingest.sources.open import open_source
    from localsynth.store.key import check_passphrase

    check_passphrase(session.workspace)
    session.emit(stage_started("ingest", session.seal))
    held = record is not None and record.ingest is not None
    source = None if held else open_source(session.config.data, session.options.frame)
    # What is measured now is of the rows that are held, whatever their file has become.
    source_sha256 = held_source(session) if source is None else source.sha256()
    warn_of_other_spends(session, source_sha256)
    ledger = open_ledger(session)
    if record is None:
        record = IngestRecord.begin(settings, session.config.schema_, _new_budget(ledger, earlier_budget))
    work = _Ingest(session, ledger, source_sha256, record)
    if source is None:
        work.begin()
    else:
        work.read_rows(source)
    work.measure_columns()
    epsilon = ledger.spent().epsilon
    session.emit({**stage_done("ingest"), "epsilon": epsilon})
    return _result(work.record.effective, done_before=False, epsilon=epsilon)


def held_source(session: Session) -> str:
    """The hash of the source that private.duckdb was read from."""
    from localsynth.store.private import PrivateStore

    with PrivateStore.open(session.workspace) as store:
        return store.info()["source_sha256"]


def _new_budget(ledger: "Ledger", earlier: str | None) -> str:
    """The name of another ingest's budgets; those of the first start with "ingest". `earlier` is that of schema.json."""
    opened = [event["budget"] for event in ledger.budgets() if event["run"] is None]
    names: list[str] = list(dict.fromkeys(name.partition(_SIZE)[0] for name in opened))
    if names and names[-1] != earlier and not any(_is_of(event["budget"], names[-1]) for event in ledger.spends()):
        # Opened by a process that was killed before it wrote schema.json.
        return names[-1]
    return "ingest" if not names else f"ingest-{len(names) + 1}"


_SOME_UNITS = 10_000
"""In place of a size that is still to be measured."""
_SECONDS_BETWEEN_EVENTS = 0.5
_SIZE = "-size"
"""Follows an ingest's name in the name of a budget for the number of units."""


def _is_of(budget: str, ingest: str) -> bool:
    return budget == ingest or budget.startswith(ingest + _SIZE)


def size_epsilon(ledger: "Ledger", budget: str) -> float:
    """The ε of the budgets in which the ingest named `budget` measured the number of units."""
    return math.fsum(event["epsilon"] for event in ledger.budgets() if event["budget"].startswith(budget + _SIZE))


class _Ingest:
    """An ingest at work. `record` is what schema.json says, once there is a budget.

    The rows are read and checked first: a table that does not fit the schema binds the workspace to nothing.

    A measurement is charged to the ledger, made, and then written to schema.json together with the index of its charge.
    A process that is killed in between, or stops since the noise hides a range, leaves a charge that no record names. The next
    process sees that and measures again, at another charge.
    """

    def __init__(self, session: Session, ledger: "Ledger", source_sha256: str, record: IngestRecord) -> None:
        """Raises ConfigError where epsilon is too small."""
        self._session, self._ledger, self._source_sha256 = session, ledger, source_sha256
        self._measured_by = dict(record.measured_by)
        self._shares = shares_of(session.config)
        self.record = record
        if record.size.units is None:
            # Before the size is paid for.
            account_of(session.config, _SOME_UNITS, self._shares.size_epsilon)

    def begin(self) -> None:
        """Open the ingest's first budget, where something is to be measured, then write the record.

        In this order a budget that is refused leaves the record of an earlier ingest unchanged.
        """
        if self.record.size.units is None:
            self._open_size_budget()
        else:
            self._open_account()
        self._write(self.record)

    def _write(self, record: IngestRecord) -> None:
        record.write(self._session.workspace.schema_path)
        self.record = record

    def _open_size_budget(self) -> str:
        """The name of a budget for the number of units that was not charged yet."""
        charged = {event["budget"] for event in self._ledger.spends()}
        name, number = f"{self.record.budget}{_SIZE}", 1
        while name in charged:
            number += 1
            name = f"{self.record.budget}{_SIZE}-{number}"
        open_budget(self._session, self._ledger, name, None, Account(self._shares.size_epsilon, 0.0), self._source_sha256)
        return name

    def _open_account(self) -> None:
        """Open the account of the columns' measurements and of the first run; without any, each run opens its own.

        One that is open was fixed beforehand, and stays whatever the settings of the run have become.
        """
        budget = self.record.budget
        if self._shares.columns:
            opened, units = self._ledger.budget(budget), self.record.effective.training_units
            account = opened.account if opened else account_of(self._session.config, units, size_epsilon(self._ledger, budget))
            open_budget(self._session, self._ledger, budget, None, account, self._source_sha256)

    def _charge(self, budget: str, what: str, mechanism: dict[str, Any]) -> None:
        lost = [e for e in self._ledger.spends() if _is_of(e["budget"], self.record.budget) and e["what"] == what]
        if lost and lost[-1]["index"] not in self._measured_by.values():
            self._session.emit(
                warning(
                    f"An earlier ingest stopped when {what!r} was charged, and kept no result of it. It is measured at another "
                    "charge, which is taken from what is left for the training."
                )
            )
        event = self._ledger.charge(budget=budget, run=None, stage="schema", what=what, mechanism=mechanism)
        self._measured_by[what] = event["index"]

    def read_rows(self, source: "Source") -> None:
        """Write private.duckdb."""
        from localsynth.ingest.load import load_table
        from localsynth.privacy.noise import SecureRandom

        session = self._session
        # Of this reading alone: a run that began with other rows must not resume with these.
        ingest = secrets.token_hex(8)
        load_table(session.workspace, session.config, SecureRandom(), self._keep_probability, session.emit, ingest, source)
        self._write(self.record.store_written(ingest))

    def _keep_probability(self, units: int) -> float:
        """The probability to keep a unit, which depends on the true number of `units` only through a measurement."""
        from localsynth.ingest.private_bounds import measure_unit_count

        self.begin()
        size = self.record.size
        if size.units is None:
            charge = partial(self._charge, self._open_size_budget())
            size = TableSize(units=measure_unit_count(units, self._shares.size_epsilon, charge), origin="measured")
        self._write(self.record.size_known(size, self._measured_by))
        return self.record.keep_probability

    def measure_columns(self) -> None:
        """Measure what the schema leaves open, and finish the record."""
        from localsynth.ingest.private_bounds import measure_column
        from localsynth.store.private import PrivateStore

        session = self._session
        self._open_account()
        random = random_source(session)
        for need in measurement_needs(session.config, self.record.effective.kept_units):
            session.emit(warning(need.text))
        with PrivateStore.open(session.workspace) as store:
            if self.record.schema_.unmeasured():
                assert self.record.ingest is not None
                _check_store(store, self.record.ingest)
            steps, last_event = len(self._shares.columns), 0.0
            for index, column in enumerate(self.record.schema_.learned()):
                if not column.unmeasured():
                    continue
                charge, measurement = partial(self._charge, self.record.budget), self._shares.columns[column.name]
                measured = measure_column(column, index, store, measurement, charge, random)
                self._write(self.record.column_measured(measured, self._measured_by))
                step = steps - sum(bool(one.unmeasured()) for one in self.record.schema_.columns)
                if step == steps or time.monotonic() - last_event >= _SECONDS_BETWEEN_EVENTS:
                    last_event, spent = time.monotonic(), self._ledger.spent().epsilon
                    session.emit(
                        {"kind": "progress", "stage": "ingest", "work": "columns", "step": step, "steps": steps, "epsilon": spent}
                    )
            if self.record.schema_.constraints:
                _report_broken_constraints(session, self.record.schema_, store)
        self._write(self.record.finish())


def _report_broken_constraints(session: Session, schema: Schema, store: "PrivateStore") -> None:
    """How many rows will be left out, for the person at the screen alone: a constraint that many break is no public knowledge."""
    broken, rows = store.constrained_out(schema)
    if broken:
        text = f"{broken:,} of {rows:,} rows break a constraint of the schema and are left out from here on."
        session.emit(private_note(text))


def _result(effective: Effective, done_before: bool, epsilon: float | None = None) -> IngestResult:
    return IngestResult(
        done_before=done_before,
        units=effective.units,
        units_origin="measured" if effective.size_measured else "declared",
        kept_units=effective.kept_units,
        training_units=effective.training_units,
        epsilon=epsilon,
    )
