"""A trained run's settings, audited: a training on canaries with them → runs/ID/audit.json, its evidence → private.duckdb.

Reads nothing private and spends nothing: the canaries are random rows of the effective schema, which is public. So the result is
about the code and the settings of the run, not about the run's own model.
"""

import math
import shutil
import time
from typing import TYPE_CHECKING, Any

from localsynth.config import MACHINES_PART
from localsynth.errors import ConfigError
from localsynth.events import stage_done, stage_started
from localsynth.pipeline.session import Session, check_base_model, trained_run
from localsynth.results.as_json import to_json
from localsynth.results.audit import AuditRecord, AuditResult, TrainingAudited
from localsynth.schema.column_split import ColumnSplit
from localsynth.system.extras import need_training_parts
from localsynth.system.files import write_json
from localsynth.train.cost import resumed_micro_batch_tokens
from localsynth.workspace.runs import Run

if TYPE_CHECKING:
    from localsynth.train.plan import TrainPlan

_DELTAS = (1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.2, 0.3, 0.5)
"""The δ at which the claimed curve is computed, beside the certified one."""
_MIN_CANARIES = 20
"""With fewer canaries no guesses would be left."""


def audit(session: Session) -> AuditResult:
    """Audit the newest run's training. Raises ConfigError where there is none, or it was made by marginals."""
    current = trained_run(session)
    if current.by_marginals:
        raise ConfigError(
            f"Run {current.id} was made by marginals; the canary audit is of the language model's training.",
            "See docs/guarantee.md for the tests behind the guarantee of marginals.",
        )
    if session.options.canaries is not None and session.options.canaries < _MIN_CANARIES:
        raise ConfigError(
            f"{session.options.canaries} canaries show nothing.", f"Take {_MIN_CANARIES} or more; hundreds are needed."
        )
    need_training_parts()
    return _audit_model(session, current)


def _audit_model(session: Session, current: Run) -> AuditResult:
    from localsynth.evaluate.audit.attack import attack_training
    from localsynth.evaluate.audit.canaries import canary_units, enough_canaries, guesses_of, has_room_for_endings
    from localsynth.evaluate.audit.outcome import audit_figures, right_guesses
    from localsynth.evaluate.audit.search import search_endings
    from localsynth.evaluate.audit.training import AuditedTraining
    from localsynth.llm.llama_cpp import Vocabulary
    from localsynth.llm.row_text import Codec
    from localsynth.privacy.noise import SecureRandom
    from localsynth.train.device import choose_device
    from localsynth.train.plan import TrainPlan as Plan

    begun = time.monotonic()
    plan = Plan(**current.model.plan)
    # In the precision of the run's training, whichever this machine would choose, unless another one is configured.
    machines = session.config.train.model_dump(include=set(MACHINES_PART))
    if machines["precision"] == "auto":
        machines["precision"] = current.training.precision
    settings = current.settings.train.model_copy(update=machines)
    device = choose_device(settings.device)
    base = check_base_model(current)
    session.emit(stage_started("audit", session.seal))
    curve = claimed_curve(plan, current.settings.privacy.resolved_delta)
    canaries = session.options.canaries or enough_canaries(plan.sample_rate, plan.steps, curve)
    guesses = guesses_of(canaries, plan.sample_rate, plan.steps)
    random = SecureRandom()
    schema = current.effective.schema
    split = ColumnSplit(schema, hybrid=current.hybrid)
    privacy = current.settings.privacy
    units, _ = canary_units(schema, canaries, privacy.rows_per_unit, int(random.integers(2**31, 1)[0]))
    with Vocabulary(base.path) as vocabulary:
        codec = Codec(split.schema, vocabulary.tokenize, vocabulary.start, current.description, split.given)
        encoded = [[codec.encode(split.with_lengths(row)) for row in unit] for unit in units]
    directory = current.directory / "audit"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    training = AuditedTraining(
        base.path,
        current.model.targets,
        resumed_micro_batch_tokens(settings, current.model.micro_batch_tokens, device),
        plan,
        settings,
        random,
        session.emit,
        session.should_stop,
    )
    searched = None
    try:
        attacked = attack_training(encoded, training, directory / "training")
        if session.options.search and has_room_for_endings(schema):
            searched = search_endings(
                schema=schema,
                split=split,
                description=current.description,
                rows_per_unit=privacy.rows_per_unit,
                training=training,
                directory=directory / "search",
                rows=session.options.search,
                sampling=session.config.sample,
            )
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    evidence = {
        "canaries": units,
        "included": attacked.included.tolist(),
        "scores": attacked.scores.tolist(),
        "control": attacked.control.tolist(),
    }
    right, control_right = (right_guesses(scores, attacked.included, guesses) for scores in (attacked.scores, attacked.control))
    found = AuditRecord(
        **vars(audit_figures(canaries, guesses, right, control_right, curve, searched)),
        run=current.id,
        adapter_sha256=current.training.adapter_sha256,
        trained_on=int(attacked.included.sum()),
        training=TrainingAudited(
            steps=plan.steps,
            sample_rate=plan.sample_rate,
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.max_grad_norm,
            base_sha256=current.model.base_sha256,
            noise=random.label,
            device=device,
            precision=attacked.precision,
        ),
        evidence=_keep(session, current, evidence),
    )
    write_json(current.audit_path, to_json(found))
    session.emit(stage_done("audit"))
    return AuditResult(**vars(found), path=str(current.audit_path), seconds=round(time.monotonic() - begun, 1))


def _keep(session: Session, current: Run, evidence: dict[str, Any]) -> str | None:
    """Put the evidence into the encrypted store and return the store's name; None where it was erased or is locked.

    `included` says which canaries were trained on. That is not private, but not meant for publication either.
    """
    from localsynth.evaluate.tables import json_able
    from localsynth.store.key import is_wrapped
    from localsynth.store.private import keep_artifact

    workspace = session.workspace
    if not workspace.private_path.is_file() or (is_wrapped(workspace) and workspace.passphrase is None):
        return None
    keep_artifact(workspace, f"audit of {current.id}", json_able(evidence))
    return workspace.private_path.name


def claimed_curve(plan: "TrainPlan", certified: float) -> list[tuple[float, float]]:
    """(ε, δ) pairs of the steps that the audit takes, from the `certified` δ upwards."""
    from localsynth.privacy.accountant import epsilon_of

    steps = [{"type": "repeated", "count": plan.steps, "of": plan.step_mechanism}]
    pairs = [(epsilon_of(steps, delta), delta) for delta in (certified, *(each for each in _DELTAS if each > certified))]
    return [(epsilon, delta) for epsilon, delta in pairs if math.isfinite(epsilon)]
