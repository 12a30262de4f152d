"""`config get` and `config set`: values and defaults shown, comments kept, nothing invalid written."""

import json
from pathlib import Path

import pytest

from localsynth.cli.main import app
from localsynth.config import load_config
from localsynth.errors import ConfigError
from localsynth.pipeline.init import new_workspace

TEXT = """\
# What is promised.
[data]
source = "t.csv"

[privacy]
epsilon = 4.0  # agreed with the board
# public_size = 10000

[schema]
confirmed = true

[[schema.columns]]
name = "age"
kind = "integer"
min = 0
max = 120
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))
    new_workspace(tmp_path / "ws", TEXT, None)
    return tmp_path / "ws" / "localsynth.toml"


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    app(["config", *arguments], standalone_mode=False)
    return capsys.readouterr().out.rstrip("\n")


def test_a_value_and_a_default_are_shown(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "get", "ws", "privacy.epsilon") == "4.0"
    assert shown(capsys, "get", "ws", "privacy.unit") == "row"
    assert shown(capsys, "get", "ws", "privacy.public_size") == "null"
    assert json.loads(shown(capsys, "get", "ws", "data.missing", "--json")) == {"key": "data.missing", "value": [""]}


def test_a_value_is_written_and_comments_stay(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "set", "ws", "privacy.epsilon", "2") == "privacy.epsilon: 2.0"
    assert shown(capsys, "set", "ws", "privacy.unit", "patient") == "privacy.unit: patient"
    assert shown(capsys, "set", "ws", "train.epochs", "8") == "train.epochs: 8.0"
    text = config.read_text()
    assert "# What is promised.\n" in text and "epsilon = 2  # agreed with the board\n# public_size" in text
    loaded = load_config(config)
    assert (loaded.privacy.epsilon, loaded.privacy.unit, loaded.train.epochs) == (2, "patient", 8)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["get", "ws", "privacy.epsilom"], "no key 'privacy.epsilom'"),
        (["get", "ws", "privacy.epsilon.x"], "no key"),
        (["set", "ws", "privacy.epsilom", "2"], "unknown key"),
        (["set", "ws", "privacy.epsilon", "0"], "privacy.epsilon"),
        (["set", "ws", "epsilon", "2"], "names no section"),
        (["set", "ws", "nothing.epsilon", "2"], "unknown key"),
        (["get", "elsewhere", "privacy.epsilon"], "not a workspace"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(config: Path, arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        app(["config", *arguments], standalone_mode=False)
    assert said in refused.value.message and config.read_text() == TEXT


def test_a_misspelled_key_is_told_the_nearest(config: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        app(["config", "get", "ws", "privacy.epsilom"], standalone_mode=False)
    assert refused.value.hint == "Did you mean 'epsilon'?"
