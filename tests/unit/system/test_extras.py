"""What works without the training's libraries, and what is said where they are missing."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from localsynth.errors import ResourceError
from localsynth.system import extras

ROOT = Path(__file__).parents[3]

WITHOUT = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {parts!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}")
sys.meta_path.insert(0, Nothing())
import localsynth.cli.main, localsynth.verification.file, localsynth.system.doctor, localsynth.pipeline.run
import localsynth.pipeline.sample, localsynth.sample.job, localsynth.store.synthetic
import localsynth.verification.certificate, localsynth.privacy.accountant
"""


def test_sampling_and_verifying_need_no_training_parts() -> None:
    code = WITHOUT.format(parts=extras.TRAINING_PARTS)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_missing_training_part_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda part: None if part == "peft" else object())
    with pytest.raises(ResourceError) as raised:
        extras.need_training_parts()
    assert " peft," in raised.value.message and "torch" not in raised.value.message
    assert 'pip install "localsynth[train]"' in raised.value.hint


def test_training_parts_are_the_extra() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {extra: sorted(requirement.partition(">")[0] for requirement in declared[extra]) for extra in ("train", "cuda")}
    assert names["train"] == list(extras.TRAINING_PARTS)
    assert names["cuda"] == [extras.QUANTIZING_PART, "localsynth[train]"]


def test_nf4_without_bitsandbytes_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from localsynth.train.device import choose_precision

    monkeypatch.setattr(extras, "find_spec", lambda part: None if part == "bitsandbytes" else object())
    assert choose_precision("bf16", "cuda") == "bf16"
    for wanted in ("nf4", "auto"):
        with pytest.raises(ResourceError, match="needs bitsandbytes") as raised:
            choose_precision(wanted, "cuda")  # type: ignore[arg-type]
        assert 'pip install "localsynth[cuda]"' in raised.value.hint


@pytest.mark.parametrize(
    ("prefix", "command"),
    [
        ("/home/ann/.local/share/pipx/venvs/localsynth", 'pipx install --force "localsynth[train]"'),
        ("/home/ann/pipx-like/venv", 'pip install "localsynth[train]"'),
    ],
)
def test_install_command_under_pipx(monkeypatch: pytest.MonkeyPatch, prefix: str, command: str) -> None:
    monkeypatch.setattr(extras.sys, "prefix", prefix)
    monkeypatch.setattr(extras, "find_spec", lambda part: None)
    with pytest.raises(ResourceError) as raised:
        extras.need_training_parts()
    assert f": {command} (" in raised.value.hint


def test_pipx_is_recognised_in_any_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(extras.sys, "prefix", str(tmp_path))
    assert extras.install_extra("train").startswith("pip install")
    (tmp_path / "pipx_metadata.json").write_text("{}")
    assert extras.install_extra("train") == 'pipx install --force "localsynth[train]"'
