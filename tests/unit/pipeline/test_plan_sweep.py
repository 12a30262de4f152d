"""`plan --sweep`: nothing is read or charged, and the command line shows it as text and JSON."""

import json
from pathlib import Path
from typing import Any

import pytest

from localsynth import worker
from localsynth.cli.main import app
from localsynth.pipeline.plan import ASSUMED_UNITS, plan
from localsynth.pipeline.session import Session
from localsynth.planning.sweep import EPSILONS
from localsynth.privacy.ledger import Ledger
from localsynth.results.plans import Sweep
from localsynth.store.private import PrivateStore
from localsynth.workspace.paths import Workspace

CONFIG = """
[data]
source = "absent.csv"
[schema]
columns = [{name = "kind", kind = "category"}, {name = "n", kind = "integer", min = 0, max = 9}]
"""


def files_of(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("plan --sweep opened it")


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in ((Ledger, "open"), (Ledger, "charge"), (PrivateStore, "open"), (PrivateStore, "__init__")):
        monkeypatch.setattr(owner, name, refuse)


@pytest.mark.usefixtures("untouched")
def test_a_sweep_reads_and_charges_nothing(make_session: Any) -> None:
    session: Session = make_session(synthesizer="auto", sweep=True)
    Path(session.config.data.source).unlink()
    before = files_of(session.workspace.root)
    found = plan(session)
    assert isinstance(found, Sweep) and [row.epsilon for row in found.rows] == list(EPSILONS)
    assert (found.units, found.units_origin, found.rows_per_unit) == (150, "declared", 2)
    assert files_of(session.workspace.root) == before and not session.workspace.ledger_path.exists()


@pytest.mark.usefixtures("untouched")
def test_the_command_line_shows_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(
        worker,
        "run_in_child",
        lambda verb, request, emit: json.loads(json.dumps(worker.serve({**request, "verb": verb}, emit, lambda: False, "none"))),
    )
    workspace = Workspace.create(tmp_path / "ws")
    workspace.config_path.write_text(CONFIG)

    def shown(*options: str) -> str:
        app(["plan", str(workspace.root), "--sweep", *options], standalone_mode=False)
        return capsys.readouterr().out

    text = shown()
    assert text.splitlines()[0].split() == ["epsilon", "single", "pair", "lists", "measured"]
    assert "(assumed; declare privacy.public_size" in " ".join(text.split()) and text.endswith("Nothing was read or spent.\n")
    found = json.loads(shown("--json", "--set", "privacy.epsilon=7"))
    assert found["units"] == ASSUMED_UNITS and len(found["rows"]) == len(EPSILONS)
    assert found["rows"][0]["single"]["share"] == found["rows"][0]["single"]["rows"] / found["training_units"]
    assert not workspace.ledger_path.exists()
