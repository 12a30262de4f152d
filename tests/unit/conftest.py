"""A workspace of its own for each test."""

from pathlib import Path

import pytest

from localsynth.workspace.paths import Workspace


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))
    return Workspace.create(tmp_path / "workspace")
