"""The state of a workspace, read from its public files. Takes some tenths of a second: call it in a thread."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from localsynth.errors import ConfigError, LocalsynthError

if TYPE_CHECKING:
    from localsynth.schema.columns import Schema
    from localsynth.workspace.paths import Workspace


@dataclass(frozen=True)
class WorkspaceStatus:
    """`next_step` is the screen to open; `epsilon` is reserved in the ledger so far, of the `target` in the configuration."""

    path: Path
    stage: str
    next_step: str
    epsilon: float | None = None
    target: float | None = None
    rows: int = 0
    unfinished: bool = False
    finished: bool = False
    """The newest run is finished; `unfinished`: it was started and is not finished."""
    run: str | None = None
    counts_texts: bool = False
    """Whether a run counts the tokens of its texts."""
    report: bool = False
    """Whether a run ends with the report."""
    problem: str = ""


def read_status(path: Path) -> WorkspaceStatus:
    """The status of a workspace. For a damaged one, `problem` says what is wrong and what to do."""
    from localsynth.config import load_config
    from localsynth.workspace.paths import Workspace
    from localsynth.workspace.runs import latest_run

    workspace = Workspace(path)
    if (path / "erasure.json").exists():
        return WorkspaceStatus(path, "private side erased", "synthetic")
    try:
        config = load_config(Workspace.open(path).config_path)
        epsilon = _reserved_epsilon(workspace)
        run = latest_run(workspace)
        sampled = run.record.sample if run is not None else None
    except LocalsynthError as error:
        return WorkspaceStatus(path, "cannot be read", "data", problem=f"{error.message} {error.hint}".strip())
    stage, step = "check the inferred schema", "data"
    if config.schema_.confirmed:
        stage, step = "schema checked", "plan"
    if workspace.schema_path.exists():
        stage, step = "table ingested", "plan"
    if run is not None:
        done = [name for name in ("train", "export", "sample") if getattr(run.record, name) is not None]
        names = {"train": "trained", "export": "model exported", "sample": "finished"}
        stage, step = (names[done[-1]] if done else "training started"), ("synthetic" if run.finished else "run")
    return WorkspaceStatus(
        path=path,
        stage=stage,
        next_step=step,
        epsilon=epsilon,
        target=config.privacy.epsilon,
        rows=sampled.rows if sampled is not None else 0,
        unfinished=run is not None and not run.finished,
        finished=run is not None and run.finished,
        run=run.id if run is not None else None,
        counts_texts=config.counts_texts,
        report=config.evaluate.report,
    )


def _reserved_epsilon(workspace: "Workspace") -> float:
    from localsynth.privacy.ledger import Ledger

    if not workspace.ledger_path.exists():
        return 0.0
    ledger = Ledger.open(workspace.ledger_path, workspace.keys_path / "ledger-head.json", workspace.id)
    return float(sum(event["epsilon"] for event in ledger.budgets()))


def schema_of_rows(root: Path) -> "Schema":
    """The effective schema of the workspace's newest run. Raises ConfigError where there is none, IntegrityError."""
    from localsynth.workspace.paths import Workspace
    from localsynth.workspace.runs import latest_run

    run = latest_run(Workspace(root))
    if run is None:
        raise ConfigError("There is no run yet to generate rows from.", "Start one in Plan (3).")
    return run.effective.schema
