"""A rehearsal that was killed while its workspace was made or an earlier one removed is replaced by the next."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from localsynth.errors import ConfigError
from localsynth.pipeline import rehearse
from localsynth.pipeline.rehearse import prepare_rehearsal
from localsynth.workspace.paths import Workspace


def killed(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize(
    "place",
    [
        (Workspace, "create"),
        (rehearse, "write_json"),
        (Path, "rename"),
        (rehearse, "random_rows"),
        (rehearse, "write_file"),
        (shutil, "rmtree"),
    ],
)
def test_a_killed_rehearsal_is_replaced(make_session: Any, monkeypatch: pytest.MonkeyPatch, earlier: bool, place: Any) -> None:
    if earlier:
        prepare_rehearsal(make_session())
    with monkeypatch.context() as patched:
        patched.setattr(*place, killed)
        if earlier or place != (shutil, "rmtree"):
            with pytest.raises(KeyboardInterrupt):
                prepare_rehearsal(make_session())
    session = prepare_rehearsal(make_session())
    assert session.workspace.config_path.exists() and session.workspace.root.name == "rehearsal"
    assert not [path for path in session.workspace.root.parent.iterdir() if path.name.endswith(".part")]


def test_only_an_earlier_rehearsal_is_replaced(make_session: Any) -> None:
    session = prepare_rehearsal(make_session())
    shutil.rmtree(session.workspace.keys_path, ignore_errors=True)
    session = prepare_rehearsal(make_session())
    session.workspace.identity_path.write_text('{"id": "00"}')
    with pytest.raises(ConfigError, match="no earlier rehearsal"):
        prepare_rehearsal(make_session())
