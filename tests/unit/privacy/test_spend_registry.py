"""Spends of several workspaces on one source file."""

from pathlib import Path

import pytest

from localsynth.errors import IntegrityError
from localsynth.privacy.spend_registry import register_spend, registry_total


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_spends_of_workspaces_on_one_file_add_up() -> None:
    assert registry_total("aa").epsilon == 0
    register_spend("aa", "one", 1.5)
    register_spend("aa", "two", 2.0)
    register_spend("bb", "three", 9.0)
    assert registry_total("aa").workspaces == {"one": 1.5, "two": 2.0}
    assert registry_total("aa").epsilon == 3.5


def test_total_of_a_workspace_never_falls() -> None:
    register_spend("aa", "one", 1.5)
    register_spend("aa", "one", 2.5)
    register_spend("aa", "one", 1.0)
    assert registry_total("aa").epsilon == 2.5


def test_damaged_registry_is_named(home: Path) -> None:
    register_spend("aa", "one", 1.5)
    for content in ("[]", "not json", '{"sources": 3}'):
        (home / "registry.json").write_text(content)
        with pytest.raises(IntegrityError, match=r"registry\.json"):
            registry_total("aa")
