"""The order of the stages, and what resumes where: the only file that knows both.

ingest    source → private.duckdb, and what the schema leaves open measured → schema.json
train     a new run, or the unfinished one: DP-SGD → runs/ID/adapter, or DP marginals → runs/ID/marginals.json
export    adapter → runs/ID/model.<QTYPE>.gguf with its certificate inside; for marginals the certificate alone
count_texts  model → a noisy token histogram of the original texts → runs/ID/text_counts.json, where the settings ask for it
sample    model or marginals → synthetic.duckdb
evaluate  original and synthetic rows → runs/ID/report.html
fit       those before sampling, resumed where the last one stopped
run       all of them, resumed where the last one stopped
rehearse  all of them on random rows of the schema, spending nothing
audit     a training on canaries with a run's settings, attacked → runs/ID/audit.json, spending nothing
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from localsynth.config import Config
from localsynth.errors import ConfigError
from localsynth.events import Event
from localsynth.pipeline.audit import audit
from localsynth.pipeline.count_texts import count_texts, count_texts_of
from localsynth.pipeline.evaluate import evaluate, evaluate_run
from localsynth.pipeline.export import export, export_run
from localsynth.pipeline.ingest import held_source, ingest, ingest_if_needed
from localsynth.pipeline.plan import plan, plan_run
from localsynth.pipeline.rehearse import StageClock, prepare_rehearsal
from localsynth.pipeline.sample import sample, sample_run
from localsynth.pipeline.session import Session
from localsynth.pipeline.train import need_device, train, train_or_resume
from localsynth.results.plans import PlannedRun, RehearsalForecast, RehearsalResult, RehearsedRun
from localsynth.results.stages import FitResult, RunResult, StageResult, Summary, TrainResult
from localsynth.system.extras import need_training_parts
from localsynth.system.files import file_sha256
from localsynth.workspace.effective_schema import read_ingest
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import Run, latest_run


def run(session: Session) -> RunResult:
    """All stages, resumed where the last command stopped; a missing report is made. Refuses a finished run without --again."""
    current, results = run_stages(session)
    return RunResult(**vars(summary(session.workspace, session.config, current)), run=current.id, stages=tuple(results))


def run_stages(session: Session) -> tuple[Run, list[StageResult]]:
    """The run, and the results of the stages that `run` took."""
    latest, options = latest_run(session.workspace), session.options
    if latest is not None and latest.finished and not options.again:
        more: list[StageResult] = []
        if options.rows is not None and options.rows > _rows_of(latest):
            more.append(sample_run(session, latest))
        if not _report_of(latest).exists():
            more += _evaluated(session, latest)
        if not more:
            raise ConfigError(
                f"Run {latest.id} is finished.",
                "More rows cost no privacy: localsynth sample WS --more N. To train again, which is charged again, add --again.",
            )
        return latest, more
    current, results = _fitted(session, None if latest is None or latest.finished else latest)
    results.append(sample_run(session, current))
    return current, results + _evaluated(session, current)


def fit(session: Session) -> FitResult:
    """The stages before sampling, resumed where the last command stopped. Refuses a finished fit without --again."""
    _check_same_frame(session)
    latest = latest_run(session.workspace)
    if latest is not None and _is_fitted(latest):
        if not session.options.again:
            raise ConfigError(
                f"Run {latest.id} is fitted.",
                "Rows cost no privacy: sample. To fit again, which is charged again, say so: fit(..., again=True).",
            )
        latest = None
    current, results = _fitted(session, latest)
    guarantee = current.certificate()["guarantee"]
    return FitResult(
        run=current.id,
        epsilon_guaranteed=guarantee["guaranteed_epsilon"],
        epsilon_spent=guarantee["spent_epsilon"],
        epsilon_target=session.config.privacy.epsilon,
        delta=guarantee["spent_delta"],
        model=str(current.product_path),
        certificate=str(current.certificate_path),
        stages=tuple(results),
    )


def _check_same_frame(session: Session) -> None:
    """Raise ConfigError where the store holds other rows than the data frame given now, whose name does not show it."""
    from localsynth.store.key import check_passphrase

    workspace, frame = session.workspace, session.options.frame
    record = read_ingest(workspace)
    if frame is None or record is None or record.ingest is None or not workspace.private_path.exists():
        return
    check_passphrase(workspace)
    if file_sha256(Path(frame)) != held_source(session):
        raise ConfigError(
            "This data frame is not the one that the workspace holds.",
            "Give that one, or use another workspace for this one: what is learned of both adds up.",
        )


def _is_fitted(run: Run) -> bool:
    return run.record.export is not None and (not run.counts_texts or run.record.text_counts is not None)


def _fitted(session: Session, unfinished: Run | None) -> tuple[Run, list[StageResult]]:
    """A new run, or `unfinished` one, through the stages before sampling."""
    if session.config.synthesizer != "marginals":
        # Before anything is measured and charged.
        need_training_parts()
        need_device(session.config)
    results: list[StageResult] = []
    current = unfinished
    if current is None or current.record.train is None:
        results.append(ingest_if_needed(session))
        current, trained = train_or_resume(session)
        results.append(trained)
    results.append(export_run(session, current))
    if current.counts_texts:
        results.append(count_texts_of(session, current))
    return current, results


def _evaluated(session: Session, current: Run) -> list[StageResult]:
    """The report, unless the settings want none, in a rehearsal, or after the private side was erased."""
    wanted = session.config.evaluate.report and session.options.rehearsal_steps is None
    return [evaluate_run(session, current)] if wanted and not session.workspace.erasure_path.exists() else []


def _report_of(current: Run) -> Path:
    return current.directory / "report.html"


def summary(workspace: Workspace, config: Config, current: Run) -> Summary:
    """The figures and files of a finished run."""
    guarantee = current.certificate()["guarantee"]
    report = _report_of(current)
    return Summary(
        workspace=str(workspace.root),
        rows=_rows_of(current),
        epsilon_guaranteed=guarantee["guaranteed_epsilon"],
        epsilon_spent=guarantee["spent_epsilon"],
        epsilon_target=config.privacy.epsilon,
        delta=guarantee["spent_delta"],
        synthetic=str(workspace.synthetic_path),
        model=str(current.product_path),
        certificate=str(current.certificate_path),
        report=str(report) if report.exists() else None,
    )


def _rows_of(finished: Run) -> int:
    assert finished.record.sample is not None
    return finished.record.sample.rows


def rehearse(session: Session) -> RehearsalResult:
    """`run` on random rows, with few steps and rows: the format of the rows, and the time and memory of the real run."""
    from localsynth.store.synthetic import SyntheticStore

    # --rows is the number of rows of the rehearsal, not that of the real run.
    planned = plan_run(replace(session, options=replace(session.options, rows=None)))
    rehearsal, clock = prepare_rehearsal(session), StageClock()

    def watched(event: Event) -> None:
        clock(event)
        session.emit(event)

    current, results = run_stages(replace(rehearsal, emit=watched))
    generated = _rows_of(current)
    measured = next(stage.private for stage in results if isinstance(stage, TrainResult))
    columns, rows = SyntheticStore(rehearsal.workspace.synthetic_path).query("select * from synthetic limit 3")
    return RehearsalResult(
        workspace=str(rehearsal.workspace.root),
        units=planned.units,
        units_origin=planned.units_origin,
        planned=PlannedRun(planned.steps, planned.rows_wanted, planned.seconds, planned.memory_bytes, planned.disk_bytes),
        rehearsed=RehearsedRun(
            len(clock.steps) or clock.counted, generated, {stage: clock.seconds(stage) for stage in clock.ended}
        ),
        forecast=RehearsalForecast(
            clock.forecast(planned.steps, generated, planned.rows_wanted),
            int(measured.get("peak_memory_bytes", planned.memory_bytes)),
        ),
        # The result leaves this process as JSON, which has no dates.
        first_rows=[
            {name: str(value) if isinstance(value, dt.date) else value for name, value in zip(columns, row, strict=True)}
            for row in rows
        ],
        warnings=planned.warnings,
    )


def needs_key(workspace: Workspace, verb: str, again: bool = False, release: bool = False) -> bool:
    """Whether the verb, with these options, will open the original rows, for which it needs the key (and its passphrase)."""
    if workspace.erasure_path.exists() or release:
        return False
    latest = latest_run(workspace)
    if verb == "fit":
        return latest is None or not _is_fitted(latest) or again
    if verb == "run":
        return latest is None or not latest.finished or not _report_of(latest).exists() or again
    return verb in ("ingest", "train", "count_texts", "evaluate")


VERBS: dict[str, Callable[[Session], Any]] = {
    "plan": plan,
    "ingest": ingest,
    "train": train,
    "export": export,
    "count_texts": count_texts,
    "sample": sample,
    "evaluate": evaluate,
    "fit": fit,
    "run": run,
    "rehearse": rehearse,
    "audit": audit,
}
"""What the worker can be asked to do on a workspace."""
