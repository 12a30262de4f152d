"""A home directory for each test, a workspace, and a worker that plays a script."""

import json
import os
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import localsynth.verification.file
from localsynth.results.doctor import DoctorResult, Finding, Memory, Processor, SystemFacts
from localsynth.results.plans import Plan
from localsynth.schema.columns import Schema
from localsynth.system import doctor
from localsynth.worker import WorkerError
from localsynth_tui import app
from localsynth_tui.jobs import client
from localsynth_tui.jobs.client import Job, PlanServer, Request
from localsynth_tui.screens import data, plan
from tests.helpers.tui import planned as answers
from tests.helpers.tui.finished_run import finish

FAKE_SUPERVISOR = Path(__file__).parents[1] / "helpers" / "tui" / "fake_supervisor.py"

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


MACHINE = DoctorResult(
    system=SystemFacts("An operating system", "x86_64", "3.11"),
    processor=Processor("A random processor", 2, 2, []),
    memory=Memory(total=2**35, available=2**34),
    disk=(),
    gpus=(),
    precision="bf16",
    seal=("namespace",),
    versions={},
    models=(),
    findings=(Finding("warning", "All is random.", "Nothing helps."),),
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    # Child processes import this checkout, whatever their directory.
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(root / part) for part in ("", "models", "tui")))
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCALSYNTH_MODELS", str(tmp_path / "models"))
    return here


@pytest.fixture(autouse=True)
def no_background_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start no process that examines the machine or reads the first rows, except in tests of it."""

    async def nothing(*_: Any, **__: Any) -> Any:
        raise WorkerError("There is no table.", "", 3)

    monkeypatch.setattr(doctor, "examine", lambda *_: MACHINE)
    monkeypatch.setattr(data, "ask", nothing)


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays for a person's eyes and fingers are short."""
    monkeypatch.setattr(app, "_POLL_INTERVAL", 0.05)
    monkeypatch.setattr(data, "_SAVE_DELAY", 0.1)
    monkeypatch.setattr(plan, "_SAVE_DELAY", 0.1)


@pytest.fixture
def workspace(home: Path) -> Iterator[Path]:
    """A workspace as `init` makes it, without a source table."""
    from localsynth.config import DataConfig, render_config
    from localsynth.system.files import write_file
    from localsynth.workspace.paths import Workspace

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
    """Makes every job play the given events."""

    def choose(events: list[dict[str, Any]]) -> None:
        script = tmp_path / "script.jsonl"
        script.write_text("".join(json.dumps(event) + "\n" for event in events))
        monkeypatch.setattr(client, "SUPERVISOR", [sys.executable, str(FAKE_SUPERVISOR), str(script)])

    return choose


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Request, dict[str, Any]]]:
    """Makes every plan answer `PLANNED`; lists each request with the localsynth.toml of that moment."""
    requests = []

    async def answer(_self: PlanServer, _kind: type[Plan], request: Request) -> Plan:
        requests.append((request, tomllib.loads((request.workspace / "localsynth.toml").read_text())))
        return answers.PLANNED

    monkeypatch.setattr(PlanServer, "plan", answer)
    return requests


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a finished run, made once."""
    root = tmp_path_factory.mktemp("finished")
    finish(root)
    return root


@pytest.fixture
def finished(workspace: Path, finished_run: Path) -> Path:
    """The workspace with a finished run of 200 rows."""
    shutil.copytree(finished_run, workspace, dirs_exist_ok=True)
    return workspace


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The result of every verification; tests may change it."""
    found = {"file": "c.json", "valid": True, "verdict": "Valid.", "summary": "Stated.", "not_covered": [], "findings": []}
    monkeypatch.setattr(localsynth.verification.file, "verify_file", lambda _path, _key: found)
    return found


@pytest.fixture(scope="session")
def markup_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic.duckdb of 450 rows whose text looks like markup, made once."""
    from localsynth.store.synthetic import Origin, SyntheticStore

    path = tmp_path_factory.mktemp("rows") / "synthetic.duckdb"
    schema = Schema.model_validate(
        {"columns": [{"name": "n", "kind": "integer", "min": 0, "max": 999}, {"name": "t [x]", "kind": "text"}]}
    )
    store = SyntheticStore(path)
    store.create_table(schema)
    job = store.open_job(Origin("001", "00", 0, 4.0, 1e-6, {}, {}), total=450)
    store.append(job.number, 0, [{"n": i, "t [x]": f"[bold]row {i}"} for i in range(450)])
    return path


@pytest.fixture
def rows(workspace: Path, markup_rows: Path) -> Path:
    """The workspace with `markup_rows`, and no run."""
    shutil.copy(markup_rows, workspace)
    return workspace
