"""Orders the stages and resumes a run: the only file that knows what comes after what.

ingest    source → private.duckdb, and what the schema leaves open measured → schema.json
train     a new run, or the unfinished one: DP-SGD → runs/ID/adapter, or noisy counts → runs/ID/marginals.json
export    adapter → runs/ID/model.<QTYPE>.gguf with its certificate inside; for marginals the certificate alone
count_texts  model → a noisy token histogram of the original texts → runs/ID/text_counts.json, where the settings ask for it
sample    model or marginals → synthetic.duckdb
evaluate  original beside synthetic → runs/ID/report.html
run       all of them, going on where the last one stopped
rehearse  all of them on rows made up from the schema, spending nothing
audit     a training on canaries with a run's settings, attacked → runs/ID/audit.json, spending nothing
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from localsynth.config import Config
from localsynth.errors import ConfigError
from localsynth.events import Event
from localsynth.pipeline.audit import audit
from localsynth.pipeline.count_texts import count_texts
from localsynth.pipeline.evaluate import evaluate
from localsynth.pipeline.export import export
from localsynth.pipeline.ingest import ingest, ingest_if_needed
from localsynth.pipeline.plan import plan
from localsynth.pipeline.rehearse import StageClock, prepare_rehearsal
from localsynth.pipeline.sample import sample
from localsynth.pipeline.session import Session
from localsynth.pipeline.train import need_device, train, train_or_resume
from localsynth.system.extras import need_training_parts
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import Run, latest_run

__all__ = ["VERBS", "needs_key", "rehearse", "run", "summary"]


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
        stages = [sample(session)]
        current = latest_run(session.workspace)
        assert current is not None
        return {"run": current.id, "stages": stages, **summary(session.workspace, session.config, current)}
    if session.config.synthesizer != "marginals":
        # Before anything is measured and charged.
        need_training_parts()
        need_device(session.config)
    stages = []
    if latest is None or not latest.get("train") or latest.finished:
        stages += [ingest_if_needed(session), train_or_resume(session)]
    stages.append(export(session))
    exported = latest_run(session.workspace)
    assert exported is not None
    if exported.counts_texts:
        stages.append(count_texts(session))
    stages.append(sample(session))
    if session.config.evaluate.report and session.options.rehearsal_steps is None and not session.workspace.erasure_path.exists():
        stages.append(evaluate(session))
    current = latest_run(session.workspace)
    assert current is not None
    return {"run": current.id, "stages": stages, **summary(session.workspace, session.config, current)}


def summary(workspace: Workspace, config: Config, current: Run) -> dict[str, Any]:
    """What a finished run gives the user: figures and files."""
    certificate = current.certificate()
    report = current.directory / "report.html"
    return {
        "workspace": str(workspace.root),
        "rows": current["sample"]["rows"],
        "epsilon_guaranteed": certificate["guarantee"]["guaranteed_epsilon"],
        "epsilon_spent": certificate["guarantee"]["spent_epsilon"],
        "epsilon_target": config.privacy.epsilon,
        "delta": certificate["guarantee"]["spent_delta"],
        "synthetic": str(workspace.synthetic_path),
        "model": str(current.product_path),
        "certificate": str(current.certificate_path),
        "report": str(report) if report.exists() else None,
    }


def rehearse(session: Session) -> dict[str, Any]:
    """`run` on made-up rows, with few steps and rows: the form of the rows, and the time and memory the real run will take."""
    from localsynth.store.synthetic import SyntheticStore

    # --rows is how many to draw here, not how many the real run shall have.
    planned = plan(replace(session, options=replace(session.options, rows=None)))
    rehearsal, clock = prepare_rehearsal(session), StageClock()

    def watched(event: Event) -> None:
        clock(event)
        session.emit(event)

    result = run(replace(rehearsal, emit=watched))
    drawn = result["rows"]
    columns, rows = SyntheticStore(rehearsal.workspace.synthetic_path).query("select * from synthetic limit 3")
    return {
        "workspace": str(rehearsal.workspace.root),
        "units": planned["units"],
        "units_origin": planned["units_origin"],
        "planned": {key: planned[key] for key in ("steps", "rows_wanted", "seconds", "memory_bytes", "disk_bytes")},
        "rehearsed": {
            "steps": len(clock.steps) or clock.counted,
            "rows": drawn,
            "seconds": {stage: clock.seconds(stage) for stage in clock.ended},
        },
        "forecast": {
            "seconds": clock.forecast(planned["steps"], drawn, planned["rows_wanted"]),
            "memory_bytes": result["stages"][1]["private"].get("peak_memory_bytes", planned["memory_bytes"]),
        },
        # The result leaves this process as JSON, which has no dates.
        "first_rows": [
            {name: str(value) if isinstance(value, dt.date) else value for name, value in zip(columns, row, strict=True)}
            for row in rows
        ],
        "warnings": planned["warnings"],
    }


def needs_key(workspace: Workspace, verb: str, again: bool = False, release: bool = False) -> bool:
    """Whether the verb, with these options, will open the original rows: then it needs the key's passphrase, where it has one."""
    if workspace.erasure_path.exists() or release:
        return False
    if verb == "run":
        latest = latest_run(workspace)
        return latest is None or not latest.finished or again
    return verb in ("ingest", "train", "count_texts", "evaluate")


VERBS: dict[str, Callable[[Session], dict[str, Any]]] = {
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
"""What the engine's process can be asked to do on a workspace."""
