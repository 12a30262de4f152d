"""Where the user's own directories lie."""

from pathlib import Path

import pytest

from localsynth.system.files import config_directory, model_directory


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
