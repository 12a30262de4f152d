"""A run's name: in order of creation, and without the time of day."""

import datetime as dt
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from localsynth.config import Config, DataConfig
from localsynth.errors import IntegrityError
from localsynth.schema.columns import Integer, Schema
from localsynth.workspace import runs
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import Run, RunSettings, is_kept, latest_run, new_run
from tests.helpers.records import run_record, stage_outcomes


class Clock(dt.datetime):
    at = dt.datetime(2026, 11, 23, 13, 57, 46, tzinfo=dt.UTC)

    @classmethod
    def now(cls, tz=None):
        return cls.at.astimezone(tz)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setattr(runs.dt, "datetime", Clock)
    monkeypatch.setattr(Clock, "at", Clock.at)
    return Workspace(tmp_path)


def test_a_name_has_the_day_and_no_time_of_day(workspace):
    names = {new_run(workspace, run_record()).id for _ in range(3)}
    for name in names:
        assert re.fullmatch(r"00[123]-20261123-[0-9a-f]{4}", name), name
    Clock.at += dt.timedelta(hours=5, minutes=1)
    later = new_run(workspace, run_record()).id
    assert later.startswith("004-20261123-"), "the time of day changes nothing"


def test_names_sort_in_the_order_of_the_runs(workspace, monkeypatch):
    # The random end alone would sort them the other way round.
    ends = iter(f"{n:04x}" for n in range(99, 0, -1))
    monkeypatch.setattr(runs.secrets, "token_hex", lambda size: next(ends))
    made = []
    for number in range(25):
        made.append(new_run(workspace, run_record(reruns=number)).id)
        newest = latest_run(workspace)
        assert newest is not None and newest.id == made[-1] and newest.record.reruns == number
    assert made == sorted(made)


def test_the_number_of_a_deleted_run_is_not_used_again(workspace):
    first, second, third = (new_run(workspace, run_record()) for _ in range(3))
    (first.directory / "run.json").unlink()
    first.directory.rmdir()
    assert new_run(workspace, run_record()).id.startswith("004-")
    assert second.directory.exists() and third.directory.exists()


def test_the_thousandth_run_is_the_latest(workspace):
    for name in ("998-20261122-ffff", "999-20261123-ffff"):
        directory = workspace.run_path(name)
        directory.mkdir(parents=True)
        run_record().write(directory / "run.json")
    newest = new_run(workspace, run_record()).id
    assert newest.startswith("1000-")
    found = latest_run(workspace)
    assert found is not None and found.id == newest


def test_a_directory_without_a_record_is_no_run(workspace):
    workspace.runs_path.mkdir()
    (workspace.runs_path / "999-no-record").mkdir()
    assert latest_run(workspace) is None
    assert new_run(workspace, run_record()).id.startswith("001-")


def test_a_run_is_finished_when_every_stage_is_noted(workspace):
    run = new_run(workspace, run_record())
    for stage, outcome in stage_outcomes().items():
        assert not run.finished
        run.note(**{stage: outcome})
    again = Run(run.directory)
    assert again.finished and again.record == run.record
    assert run.directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("changes", [{"loss": 1.0}, {"reruns": "many"}])
def test_a_fact_that_the_record_does_not_know_is_refused(workspace, changes):
    run = new_run(workspace, run_record())
    before = (run.directory / "run.json").read_text()
    with pytest.raises(ValidationError):
        run.note(**changes)
    assert (run.directory / "run.json").read_text() == before


def test_the_error_of_a_damaged_record_hides_its_content(workspace):
    run = new_run(workspace, run_record())
    path = run.directory / "run.json"
    path.write_text(path.read_text().replace('"synthesizer": "llm"', '"synthesizer": "secret"'))
    with pytest.raises(IntegrityError, match=r"run\.json is damaged") as caught:
        latest_run(workspace)
    assert "secret" not in caught.value.message and caught.value.hint


def test_the_settings_leave_out_what_only_suits_the_machine(workspace):
    settings = run_record().settings
    tuned = settings.train.model_copy(update={"device": "cpu", "precision": "fp32", "micro_batch_tokens": 64})
    config = Config(data=DataConfig(source="t.csv"), schema=Schema(columns=[Integer(name="n")]), train=tuned)
    assert RunSettings.of(config).train == settings.train
    assert not {"device", "precision", "micro_batch_tokens"} & set(settings.model_dump(mode="json")["train"])


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("run.json", True),
        ("certificate.json", True),
        ("marginals.json", True),
        ("model.BF16.gguf", True),
        ("report-release.html", True),
        ("report.html", False),
        ("report.json", False),
        ("checkpoint", False),
        (".model.BF16.gguf.f16.part", False),
        ("anything else", False),
    ],
)
def test_erasure_keeps_the_public_files_of_a_run(name: str, kept: bool) -> None:
    assert is_kept(Path("runs") / "001" / name) == kept
