"""A workspace inside the workspace, with random rows of the schema, to try everything before the one real run.

Reads nothing private: it knows the configuration, and the effective schema where the table has been ingested. What the
rehearsal spends on its own ledger is spent on random rows.
"""

import json
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import tomlkit

from localsynth.config import DataConfig
from localsynth.errors import ConfigError, IntegrityError
from localsynth.events import Event
from localsynth.pipeline.plan import known_size
from localsynth.pipeline.session import Options, Session
from localsynth.planning.forecast import with_placeholders
from localsynth.schema.columns import Record, Schema, written
from localsynth.schema.random_rows import random_rows
from localsynth.system.files import read_json, write_file, write_json
from localsynth.workspace.paths import Workspace

DIRECTORY = "rehearsal"
ROWS = 40
STEPS = 3


def prepare_rehearsal(session: Session) -> Session:
    """A session on a new workspace WS/rehearsal, with as many random units as the real table has by its public size.

    An earlier rehearsal is replaced. Raises ConfigError, ResourceError.
    """
    options = session.options
    schema, _, size = known_size(session)
    schema, kept = with_placeholders(schema), size.units
    root = session.workspace.root / DIRECTORY
    _remove_earlier(root)
    workspace = _new_workspace(root)
    source = root / "random-rows.jsonl"
    privacy = session.config.privacy
    rows = random_rows(schema, kept, privacy.unit, privacy.max_rows_per_unit)
    write_file(source, "".join(json.dumps(_spelled(schema, row), ensure_ascii=False) + "\n" for row in rows))
    # The options for reading the original file do not apply to this one.
    original = session.config.data
    data = DataConfig(
        source=str(source.absolute()),
        format="jsonl",
        header=True,
        missing=original.missing,
        sequence_by=original.sequence_by,
        description=original.description,
    )
    if privacy.public_size is not None:
        privacy = privacy.model_copy(update={"public_size": kept})
    config = session.config.model_copy(update={"data": data, "privacy": privacy})
    unsaid = {"schema_": {"columns": {"__all__": {"measured"}}}}
    text = tomlkit.dumps(config.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=unsaid))
    write_file(workspace.config_path, "# A rehearsal on random rows; localsynth rehearse replaces it.\n" + text)
    return replace(
        session,
        workspace=workspace,
        config=config,
        options=Options(rows=options.rows or ROWS, force=True, sign=False, rehearsal_steps=options.rehearsal_steps or STEPS),
    )


def _spelled(schema: Schema, row: Record) -> dict[str, str | None]:
    """The row as the file would spell it."""
    return {column.name: written(column, row[column.name]) for column in schema.columns}


def _remove_earlier(root: Path) -> None:
    if not root.exists():
        return
    earlier = Workspace(root)
    try:
        is_rehearsal = bool(read_json(earlier.identity_path).get("rehearsal"))
    except IntegrityError:
        is_rehearsal = False
    if not is_rehearsal:
        raise ConfigError(f"{root} is no earlier rehearsal.", "Move it away, then start the command again.")
    # Renamed first, so that a process that is killed leaves no part of a rehearsal under its name.
    shutil.rmtree(earlier.keys_path, ignore_errors=True)
    unfinished = _unfinished(root)
    root.rename(unfinished)
    shutil.rmtree(unfinished)


def _unfinished(root: Path) -> Path:
    """Where a rehearsal lies until it is marked as one, or while it is removed; free for another."""
    path = root.with_name(f".{root.name}.part")
    if path.exists():
        shutil.rmtree(path)
    return path


def _new_workspace(root: Path) -> Workspace:
    unfinished = _unfinished(root)
    workspace = Workspace.create(unfinished)
    write_json(workspace.identity_path, {**read_json(workspace.identity_path), "rehearsal": True})
    unfinished.rename(root)
    return Workspace(root)


@dataclass
class StageClock:
    """Measures the stages of a rehearsal by its events."""

    started: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    steps: list[float] = field(default_factory=list)
    counted: int = 0
    """Steps of measuring marginals; the real run takes as many."""

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if event["kind"] == "stage_started":
            self.started[event["stage"]] = now
        elif event["kind"] == "stage_done":
            self.ended[event["stage"]] = now
        elif event["kind"] == "progress" and event["stage"] == "train":
            if event.get("work") == "marginals":
                self.counted += 1
            else:
                self.steps.append(now)

    def seconds(self, stage: str) -> float:
        """How long the stage took."""
        return self.ended[stage] - self.started[stage]

    def forecast(self, steps: int, rows_generated: int, rows_wanted: int) -> dict[str, float]:
        """Estimated seconds of the real run's stages: its steps at the pace of the rehearsed ones, its rows likewise."""
        train = self.seconds("train")
        if self.steps:
            # The first step is slower: kernels are chosen and memory is taken.
            pace = (self.steps[-1] - self.steps[0]) / (len(self.steps) - 1) if len(self.steps) > 1 else 0.0
            train = self.steps[0] - self.started["train"] + pace * (steps - 1)
        counting = {"count_texts": self.seconds("count_texts")} if "count_texts" in self.ended else {}
        return {
            "ingest": self.seconds("ingest"),
            "train": train,
            "export": self.seconds("export"),
            **counting,
            "sample": self.seconds("sample") * rows_wanted / rows_generated,
        }
