"""The order of the stages, and what resumes where: the only file that knows both.

ingest    source → private.duckdb, and what the schema leaves open measured → schema.json
train     a new run, or the unfinished one: DP-SGD → runs/ID/adapter, or DP marginals → runs/ID/marginals.json
export    adapter → runs/ID/model.<QTYPE>.gguf with its certificate inside; for marginals the certificate alone
count_texts  model → a noisy token histogram of the original texts → runs/ID/text_counts.json, where the settings ask for it
sample    model or marginals → synthetic.duckdb
evaluate  original and synthetic rows → runs/ID/report.html
run       all of them, resumed where the last one stopped
rehearse  all of them on random rows of the schema, spending nothing
audit     a training on canaries with a run's settings, attacked → runs/ID/audit.json, spending nothing
"""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from localsynth.config import Config
from localsynth.errors import ConfigError
from localsynth.events import Event
from localsynth.pipeline.audit import audit
from localsynth.pipeline.count_texts import count_texts, count_texts_of
from localsynth.pipeline.evaluate import evaluate, evaluate_run
from localsynth.pipeline.export import export, export_run
from localsynth.pipeline.ingest import ingest, ingest_if_needed
from localsynth.pipeline.plan import plan
from localsynth.pipeline.rehearse import StageClock, prepare_rehearsal
from localsynth.pipeline.sample import sample, sample_run
from localsynth.pipeline.session import Session
from localsynth.pipeline.train import need_device, train, train_or_resume
from localsynth.results import RunResult, StageResults, Summary
from localsynth.system.extras import need_training_parts
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import Run, latest_run

__all__ = ["VERBS", "needs_key", "rehearse", "run", "summary"]


def run(session: Session) -> RunResult:
    """All stages, resumed where the last command stopped. After a finished run it refuses without --again."""
    current, results = run_stages(session)
    return {"run": current.id, "stages": list(results.values()), **summary(session.workspace, session.config, current)}


def run_stages(session: Session) -> tuple[Run, StageResults]:
    """The run, and the results of the stages that `run` took, by their names."""
    latest, options = latest_run(session.workspace), session.options
    if latest is not None and latest.finished and not options.again:
        if options.rows is None or options.rows <= _rows_of(latest):
            raise ConfigError(
                f"Run {latest.id} is finished.",
                "More rows cost no privacy: localsynth sample WS --more N. To train again, which is charged again, add --again.",
            )
        return latest, {"sample": sample_run(session, latest)}
    if session.config.synthesizer != "marginals":
        # Before anything is measured and charged.
        need_training_parts()
        need_device(session.config)
    results: StageResults = {}
    if latest is None or latest.record.train is None or latest.finished:
        results["ingest"] = ingest_if_needed(session)
        current, results["train"] = train_or_resume(session)
    else:
        current = latest
    results["export"] = export_run(session, current)
    if current.counts_texts:
        results["count_texts"] = count_texts_of(session, current)
    results["sample"] = sample_run(session, current)
    if session.config.evaluate.report and options.rehearsal_steps is None and not session.workspace.erasure_path.exists():
        results["evaluate"] = evaluate_run(session, current)
    return current, results


def summary(workspace: Workspace, config: Config, current: Run) -> Summary:
    """The figures and files of a finished run."""
    certificate = current.certificate()
    report = current.directory / "report.html"
    return {
        "workspace": str(workspace.root),
        "rows": _rows_of(current),
        "epsilon_guaranteed": certificate["guarantee"]["guaranteed_epsilon"],
        "epsilon_spent": certificate["guarantee"]["spent_epsilon"],
        "epsilon_target": config.privacy.epsilon,
        "delta": certificate["guarantee"]["spent_delta"],
        "synthetic": str(workspace.synthetic_path),
        "model": str(current.product_path),
        "certificate": str(current.certificate_path),
        "report": str(report) if report.exists() else None,
    }


def _rows_of(finished: Run) -> int:
    assert finished.record.sample is not None
    return finished.record.sample.rows


def rehearse(session: Session) -> dict[str, Any]:
    """`run` on random rows, with few steps and rows: the format of the rows, and the time and memory of the real run."""
    from localsynth.store.synthetic import SyntheticStore

    # --rows is the number of rows of the rehearsal, not that of the real run.
    planned = plan(replace(session, options=replace(session.options, rows=None)))
    rehearsal, clock = prepare_rehearsal(session), StageClock()

    def watched(event: Event) -> None:
        clock(event)
        session.emit(event)

    current, results = run_stages(replace(rehearsal, emit=watched))
    generated = _rows_of(current)
    columns, rows = SyntheticStore(rehearsal.workspace.synthetic_path).query("select * from synthetic limit 3")
    return {
        "workspace": str(rehearsal.workspace.root),
        "units": planned["units"],
        "units_origin": planned["units_origin"],
        "planned": {key: planned[key] for key in ("steps", "rows_wanted", "seconds", "memory_bytes", "disk_bytes")},
        "rehearsed": {
            "steps": len(clock.steps) or clock.counted,
            "rows": generated,
            "seconds": {stage: clock.seconds(stage) for stage in clock.ended},
        },
        "forecast": {
            "seconds": clock.forecast(planned["steps"], generated, planned["rows_wanted"]),
            "memory_bytes": results["train"]["private"].get("peak_memory_bytes", planned["memory_bytes"]),
        },
        # The result leaves this process as JSON, which has no dates.
        "first_rows": [
            {name: str(value) if isinstance(value, dt.date) else value for name, value in zip(columns, row, strict=True)}
            for row in rows
        ],
        "warnings": planned["warnings"],
    }


def needs_key(workspace: Workspace, verb: str, again: bool = False, release: bool = False) -> bool:
    """Whether the verb, with these options, will open the original rows, for which it needs the key (and its passphrase)."""
    if workspace.erasure_path.exists() or release:
        return False
    if verb == "run":
        latest = latest_run(workspace)
        return latest is None or not latest.finished or again
    return verb in ("ingest", "train", "count_texts", "evaluate")


VERBS: dict[str, Callable[[Session], Mapping[str, Any]]] = {
    "plan": plan,
    "ingest": ingest,
    "train": train,
    "export": export,
    "count_texts": count_texts,
    "sample": sample,
    "evaluate": evaluate,
    "run": run,
    "rehearse": rehearse,
    "audit": audit,
}
"""What the worker can be asked to do on a workspace."""
