"""`--json` may be kept in a file, so nothing of a result that depends on the original rows is in it."""

import json
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

import pytest

from localsynth import worker
from localsynth.cli import in_worker
from localsynth.cli.main import app
from localsynth.pipeline.run import VERBS
from localsynth.results.as_json import without_private
from localsynth.workspace.paths import Workspace

MEASURED = {"seconds": 1234.5, "peak_memory_bytes": 98765}


def result() -> dict[str, Any]:
    """Of any verb, as the worker returns it: its own private figures, and those of stages that it took."""
    stage = {"stage": "train", "run": "r", "steps": 3, "private": MEASURED}
    return {**stage, "status": "passed", "csv": "c", "stages": [stage, {"stage": "export"}]}


# `fit` is a verb of the Python API alone.
@pytest.mark.parametrize("verb", [*(verb for verb in VERBS if verb != "fit"), "bench sample", "bench train"])
def test_no_command_prints_private_figures_as_json(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace.create(tmp_path / "ws")
    workspace.config_path.write_text("")
    monkeypatch.setattr(worker, "run_in_child", lambda *_: result())
    monkeypatch.setattr(in_worker, "from_json", lambda _kind, document: make_dataclass("Result", document)(**document))
    if verb.startswith("bench"):
        from localsynth.bench import sample, train

        monkeypatch.setattr(sample, "bench_sample", lambda *_: result())
        monkeypatch.setattr(train, "bench_train", lambda *_: result())
        arguments = verb.split()
    else:
        arguments = [verb.replace("_", "-"), str(workspace.root)]
    app([*arguments, "--json"], standalone_mode=False)
    out = capsys.readouterr().out
    assert json.loads(out)["steps"] == 3
    assert "private" not in out and "1234.5" not in out and "98765" not in out


def test_a_column_named_private_stays() -> None:
    rows = {"first_rows": [{"private": 1}], "private": MEASURED}
    assert without_private(rows) == {"first_rows": [{"private": 1}]}
