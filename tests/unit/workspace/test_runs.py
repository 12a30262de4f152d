"""A run's name: in order of creation, and without the time of day."""

import datetime as dt
import re
from pathlib import Path

import pytest

from localsynth.workspace import runs
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import Run, is_kept, latest_run, new_run


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
    names = {new_run(workspace, {}).id for _ in range(3)}
    for name in names:
        assert re.fullmatch(r"00[123]-20261123-[0-9a-f]{4}", name), name
    Clock.at += dt.timedelta(hours=5, minutes=1)
    later = new_run(workspace, {}).id
    assert later.startswith("004-20261123-"), "the time of day changes nothing"


def test_names_sort_in_the_order_of_the_runs_even_on_one_day(workspace, monkeypatch):
    # The random end alone would sort them the other way round.
    ends = iter(f"{n:04x}" for n in range(99, 0, -1))
    monkeypatch.setattr(runs.secrets, "token_hex", lambda size: next(ends))
    made = []
    for number in range(25):
        made.append(new_run(workspace, {"number": number}).id)
        newest = latest_run(workspace)
        assert newest is not None and newest.id == made[-1] and newest["number"] == number
    assert made == sorted(made)


def test_a_number_is_not_used_twice_when_an_earlier_run_is_deleted(workspace):
    first, second, third = (new_run(workspace, {}) for _ in range(3))
    (first.directory / "run.json").unlink()
    first.directory.rmdir()
    assert new_run(workspace, {}).id.startswith("004-")
    assert second.directory.exists() and third.directory.exists()


def test_the_thousandth_run_is_the_latest(workspace):
    for name in ("998-20261122-ffff", "999-20261123-ffff"):
        directory = workspace.run_path(name)
        directory.mkdir(parents=True)
        (directory / "run.json").write_text("{}")
    newest = new_run(workspace, {}).id
    assert newest.startswith("1000-")
    found = latest_run(workspace)
    assert found is not None and found.id == newest


def test_what_is_no_run_is_passed_over(workspace):
    workspace.runs_path.mkdir()
    (workspace.runs_path / "999-no-record").mkdir()
    assert latest_run(workspace) is None
    assert new_run(workspace, {}).id.startswith("001-")


def test_facts_last_and_a_run_is_finished_when_every_stage_is_noted(workspace):
    run = new_run(workspace, {"reruns": 0})
    for stage in ("train", "export", "sample"):
        assert not run.finished
        run.note(**{stage: {"steps": 1}})
    again = Run(run.directory)
    assert again.finished and again["reruns"] == 0 and again.get("nothing") is None
    assert run.directory.stat().st_mode & 0o777 == 0o700


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
def test_what_erase_leaves_of_a_run_is_public(name: str, kept: bool) -> None:
    assert is_kept(Path("runs") / "001" / name) == kept
