"""A home of its own for each test, a workspace, and an engine that plays a script."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # so that tests find scripted_run.py under any import mode
from localsynth_tui import runner
from localsynth_tui.runner import Job

from localsynth.schema import Schema

Play = Callable[[list[dict[str, Any]]], None]

COLUMNS = [
    {"name": "id", "kind": "identifier"},
    {"name": "full name", "kind": "surrogate", "of": "name"},
    {"name": "kind", "kind": "category"},
    {"name": "amount", "kind": "integer", "min": 1, "max": 90},
    {"name": "price", "kind": "number", "decimals": 2},
    {"name": "day", "kind": "date"},
    {"name": "ok", "kind": "boolean", "nullable": False},
    {"name": "note [b]", "kind": "text", "max_tokens": 32},
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    # Processes that are started see this checkout, wherever they are started.
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(root / part) for part in ("", "models", "tui")))
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCALSYNTH_MODELS", str(tmp_path / "models"))
    return here


@pytest.fixture
def workspace(home: Path) -> Iterator[Path]:
    """A workspace as `init` makes it, without a table behind it."""
    from localsynth.config import DataConfig, render_config
    from localsynth.workspace import Workspace, write_file

    root = home / "tickets"
    made = Workspace.create(root)
    schema = Schema.model_validate({"columns": COLUMNS})
    source = DataConfig(source=str(home / "tickets.csv"))
    write_file(made.config_path, render_config(source, schema, str(root)))
    yield root
    job = Job(root)
    if job.exists:
        job.stop()
        while job.running:
            pass
        job.dismiss()


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Has every job play these events."""

    def choose(events: list[dict[str, Any]]) -> None:
        script = tmp_path / "script.jsonl"
        script.write_text("".join(json.dumps(event) + "\n" for event in events))
        monkeypatch.setattr(runner, "KEEPER", [sys.executable, str(Path(__file__).with_name("fake_keeper.py")), str(script)])

    return choose
