"""Where the user's own directories lie, and who may read them."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from localsynth.privacy.ledger import Ledger
from localsynth.privacy.signing import signing_key
from localsynth.privacy.spend_registry import register_spend
from localsynth.system.files import config_directory, make_private_directory, model_directory
from localsynth.system.lock import file_lock
from localsynth.workspace.paths import Workspace


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_directories_by_own_variables_xdg_and_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LOCALSYNTH_HOME", "LOCALSYNTH_MODELS", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_directory() == tmp_path / ".config" / "localsynth"
    assert model_directory() == tmp_path / ".local" / "share" / "localsynth" / "models"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "c"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "d"))
    assert config_directory() == tmp_path / "c" / "localsynth"
    assert model_directory() == tmp_path / "d" / "localsynth" / "models"
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "own"))
    monkeypatch.setenv("LOCALSYNTH_MODELS", str(tmp_path / "gguf"))
    assert (config_directory(), model_directory()) == (tmp_path / "own", tmp_path / "gguf")


@pytest.mark.parametrize("first_use", ["key", "ledger's head", "registry"])
def test_configuration_directory_is_private_from_the_first_moment(
    first_use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_umask: None
) -> None:
    (tmp_path / "ws").mkdir()
    workspace = Workspace.create(tmp_path / "ws")
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "config" / "own"))
    monkeypatch.setattr(os, "chmod", lambda *_, **__: pytest.fail("changed afterwards"))
    if first_use == "key":
        signing_key()
    elif first_use == "registry":
        register_spend("ab" * 32, workspace.id, 1.0)
    else:
        Ledger.open(workspace.ledger_path, workspace.keys_path / "head.json", workspace.id)
    made = list((tmp_path / "config").rglob("*"))
    assert config_directory() in made
    for path in [tmp_path / "config", *made]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_lock_file_is_private_from_the_first_moment(tmp_path: Path, no_umask: None) -> None:
    with file_lock(tmp_path / "lock", "It"):
        assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600


def test_mode_of_an_existing_directory_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private_directory(tmp_path / "a" / "b")
    make_private_directory(tmp_path / "a" / "b")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
