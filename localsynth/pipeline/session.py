"""What all stages share: the session, the ledger, the budgets, and the record of a run.

An account is opened before anything is measured, and every spend is charged before it happens.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from localsynth.config import Config
from localsynth.errors import BudgetError, ConfigError, IntegrityError
from localsynth.events import Emit, Recorder, mark_private, warning
from localsynth.llm.base_models import BaseModel, find_base_model
from localsynth.system.files import file_sha256
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import Run, latest_run

if TYPE_CHECKING:
    from localsynth.privacy.account import Account
    from localsynth.privacy.ledger import Ledger
    from localsynth.privacy.noise import SecureRandom


@dataclass(frozen=True)
class Options:
    """The options of a command, beside the configuration."""

    rows: int | None = None
    more: int | None = None
    where: str | None = None
    balance: str | None = None
    seeds: str | None = None
    target: str | None = None
    quasi_identifiers: list[str] | None = None
    release: bool = False
    frame: str | None = None
    """The path of a file in memory with the original rows, where they were given as a data frame."""
    max_units: int | None = None
    sweep: bool = False
    """Plan for several epsilons, in place of the configured one."""
    force: bool = False
    again: bool = False
    sign: bool = True
    canaries: int | None = None
    search: int = 0
    """Rows that an audit generates and searches for the canaries' endings."""
    rehearsal_steps: int | None = None
    """Not None: a rehearsal on random rows, which trains for this many steps."""


@dataclass
class Session:
    """One command's work on one workspace."""

    workspace: Workspace
    config: Config
    emit: Emit
    should_stop: Callable[[], bool]
    options: Options = field(default_factory=Options)
    seal: str = "none"


def random_source(session: Session) -> "SecureRandom":
    """The secret randomness of a stage; in a rehearsal its label says so, and with it everything that is made."""
    from localsynth.privacy.noise import RehearsalRandom, SecureRandom

    return SecureRandom() if session.options.rehearsal_steps is None else RehearsalRandom()


def installed_versions(*packages: str) -> dict[str, str]:
    """The versions of Python and of packages, for the certificate."""
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def open_ledger(session: Session) -> "Ledger":
    """The workspace's ledger, checked against the head of its chain."""
    from localsynth.privacy.ledger import Ledger

    workspace = session.workspace
    return Ledger.open(workspace.ledger_path, workspace.keys_path / "ledger-head.json", workspace.id)


def open_budget(
    session: Session, ledger: "Ledger", name: str, run_id: str | None, account: "Account", source_sha256: str
) -> None:
    """Reserve an account. Exceeds the configured total only with --again, since that weakens the guarantee."""
    from localsynth.privacy.ledger_chain import Basis
    from localsynth.privacy.spend_registry import register_spend

    config = session.config
    privacy = config.privacy
    basis = Basis(privacy.unit, privacy.rows_per_unit, privacy.public_size is not None)
    try:
        ledger.open_budget(
            name,
            run_id,
            account,
            limit=config.privacy.epsilon,
            limit_delta=config.privacy.resolved_delta,
            basis=basis,
            beyond_limit=session.options.again,
        )
    except BudgetError as error:
        raise BudgetError(error.message, "Start a new workspace, or add --again to spend more than privacy.epsilon.") from None
    if session.options.rehearsal_steps is not None:
        return
    # At once and in full: an abandoned run has spent it, too.
    register_spend(source_sha256, session.workspace.id, sum(event["epsilon"] for event in ledger.budgets()))


def warn_of_other_spends(session: Session, source_sha256: str) -> None:
    """Warn of spends of other workspaces on the same source file: they add up, which no single ledger shows."""
    from localsynth.privacy.spend_registry import registry_total

    others = {name: spent for name, spent in registry_total(source_sha256).workspaces.items() if name != session.workspace.id}
    if others:
        text = (
            f"This source file has been used in {len(others)} other workspace{'s' if len(others) > 1 else ''}, which spent "
            f"epsilon {sum(others.values()):.3g}. For the people in it all of this adds up; this workspace's certificate states "
            "only its own part."
        )
        session.emit(warning(text))


def trained_run(session: Session) -> Run:
    """The newest run, if it is trained. Raises ConfigError."""
    latest = latest_run(session.workspace)
    if latest is None or latest.record.train is None:
        raise ConfigError(
            f"{session.workspace.root} holds no trained run.", f"Train first: localsynth train {session.workspace.root}"
        )
    return latest


def exported_run(session: Session) -> Run:
    """The newest run, if it is exported. Raises ConfigError."""
    current = trained_run(session)
    if current.record.export is None:
        raise ConfigError(f"Run {current.id} is not exported yet.", f"Export it: localsynth export {session.workspace.root}")
    return current


def check_base_model(current: Run) -> BaseModel:
    """The base model that the run's model is trained on. Raises IntegrityError where its file is another one by now."""
    base = find_base_model(current.settings.train.model)
    if file_sha256(base.path) != current.model.base_sha256:
        raise IntegrityError(f"{base.path} is not the base model that run {current.id} was trained on.", "Put that file back.")
    return base


def check_product(current: Run) -> None:
    """Raise IntegrityError where the exported run's model or marginals are missing or changed."""
    from localsynth.export.model_hash import model_hash

    path, again = current.product_path, f"Make it again: localsynth export {current.directory.parents[1]}"
    if not path.is_file():
        raise IntegrityError(f"{path} is missing.", again)
    marginals = current.check_marginals()
    if (marginals if current.by_marginals else model_hash(path)) != current.exported.model_hash:
        raise IntegrityError(f"{path} is not the model that run {current.id} exported.", again)


def certificate_of(session: Session, current: Run) -> dict[str, Any]:
    """The exported run's certificate. Raises IntegrityError unless it is valid.

    Its ε and δ must follow from this workspace's ledger, its model must be that of the run, and a signature must be valid.
    The run's record could be edited along with the certificate; the head of the ledger is outside of the workspace.
    """
    from localsynth.privacy.certificate import stated
    from localsynth.privacy.ledger_chain import recompute
    from localsynth.privacy.signing import is_signature_valid

    certificate, events = current.certificate(), open_ledger(session).document()["events"]
    try:
        own, guarantee = certificate["ledger"]["events"], certificate["guarantee"]
        whole = own == events[: len(own)] and all(event["run"] != current.id for event in events[len(own) :])
        spent = recompute(own) if whole else None
        follows = spent is not None and (
            (guarantee["guaranteed_epsilon"], guarantee["spent_delta"]) == (stated(spent.bound), stated(spent.delta))
            and certificate["hashes"]["marginals" if current.by_marginals else "model"] == current.exported.model_hash
            and (certificate["signature"] is None or is_signature_valid(certificate))
        )
    except (KeyError, TypeError):
        follows = False
    if not follows:
        raise IntegrityError(
            f"{current.certificate_path} does not state what the ledger of this workspace holds.",
            f"Make it again, which charges nothing: localsynth export {session.workspace.root}",
        )
    return certificate


def recorder(session: Session, current: Run) -> Emit:
    """Records events of a stage that spends nothing, with the ε spent before it, so that clients can keep showing it."""
    record = Recorder(current.directory / "events.jsonl", session.emit)
    epsilon = open_ledger(session).spent().epsilon
    return lambda event: record({"epsilon": epsilon, **event})


def private_recorder(session: Session, current: Run) -> Emit:
    """Records events of a stage that reads the original rows, on which speed, time left and memory then depend."""
    record = Recorder(current.directory / "events.jsonl", session.emit)
    return lambda event: record(mark_private(event))
