"""Jobs outlive whoever started them, can be followed from anywhere, stop in good order, and leave nothing private."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from localsynth.errors import ExitCode, ResourceError
from localsynth_tui.jobs import client, plan_server
from localsynth_tui.jobs.client import AnswerError, Job, Planner, Request, ask
from localsynth_tui.jobs.run_state import STAGES, RunState, stages_of
from localsynth_tui.jobs.supervisor import EVENTS, keep
from tests.helpers.tui.scripted_run import RESULT, training, whole_run


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def follow(job):
    """Every event and the outcome."""
    events = []
    deadline = time.monotonic() + 60
    while True:
        outcome, new = job.outcome(), job.new_events()
        events += new
        if outcome is not None and not new:
            return events, outcome
        assert time.monotonic() < deadline, "it did not end"
        time.sleep(0.02)


def test_events_and_outcome_arrive_and_the_private_part_is_gone_afterwards(workspace, play):
    play(whole_run())
    job = Job.start(Request("run", workspace))
    events, outcome = follow(job)
    assert [event for event in events if event["kind"] == "stage_started"]
    assert any("loss" in event.get("private", {}) for event in events), "the screen sees the loss"
    assert outcome["kind"] == "result" and outcome["result"]["rows"] == 70
    left = {path.name: path.read_text() for path in job.directory.iterdir()}
    assert EVENTS not in left and "private" not in "".join(left.values())
    job.dismiss()
    assert not job.directory.exists()


def test_one_job_at_a_time_and_anybody_can_follow_it(workspace, play, tmp_path):
    gate = tmp_path / "gate"
    play([*training(9, last=2), {"wait_for": str(gate)}, *training(9, first=3), RESULT])
    job = Job.start(Request("run", workspace, {"rows": 5}))
    with pytest.raises(ResourceError, match="at work already"):
        Job.start(Request("sample", workspace))
    other = Job(workspace)
    assert other.running and other.request.verb == "run" and other.request.options == {"rows": 5}
    wait_until(lambda: other.new_events())
    assert other.outcome() is None
    gate.touch()
    assert follow(other)[1]["kind"] == "result"
    assert follow(job)[1]["kind"] == "result", "a follower takes nothing away"


def test_work_goes_on_when_whoever_started_it_is_killed(workspace, tmp_path, play):
    gate = tmp_path / "gate"
    play([*training(9, last=2), {"wait_for": str(gate)}, RESULT])
    code = (
        "import sys, time; from pathlib import Path; from localsynth_tui.jobs import client\n"
        f"client.KEEPER = {client.KEEPER!r}\n"
        f"client.Job.start(client.Request('run', Path({str(workspace)!r})))\nprint('up', flush=True); time.sleep(60)"
    )
    ui = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert ui.stdout.readline() == "up\n"
    os.killpg(ui.pid, signal.SIGKILL)  # as when its terminal is closed: with everything that belongs to it
    ui.wait()
    job = Job(workspace)
    wait_until(lambda: job.new_events())
    assert job.running
    gate.touch()
    assert follow(job)[1]["kind"] == "result"


def test_a_stop_is_asked_for_once_and_tells_so(workspace, play, tmp_path):
    play([*training(9, last=2), {"wait_for": str(tmp_path / "never")}, RESULT])
    job = Job.start(Request("run", workspace))
    wait_until(lambda: job.new_events())
    assert not job.stopping
    job.stop()
    assert job.stopping
    outcome = follow(job)[1]
    assert outcome["code"] == ExitCode.CANCELLED
    state = RunState("run")
    state.apply({"kind": "stage_started", "stage": "train"})
    state.end(outcome)
    assert [stage.status for stage in state.stages] == ["done", "stopped", "waiting", "waiting"]


def test_the_engine_gets_one_interrupt(workspace, tmp_path):
    """The real keeper passes a stop on to its child, once."""
    seen = tmp_path / "seen"
    child_code = (
        "import signal, sys, time, pathlib\n"
        f"seen = pathlib.Path({str(seen)!r})\n"
        "def on(*_): seen.write_text(seen.read_text() + 'x' if seen.exists() else 'x')\n"
        "signal.signal(signal.SIGINT, on); print('up', flush=True)\n"
        "until = time.monotonic() + 60\n"
        "while not seen.exists() and time.monotonic() < until: time.sleep(0.02)\n"
        "time.sleep(1)"  # for another one to come
    )

    def run(_verb, _request, emit):
        with subprocess.Popen([sys.executable, "-c", child_code], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout.readline() == "up\n"
            emit({"kind": "note", "text": "up"})
            (directory / "stop").touch()
            child.wait()
        return {}

    directory = tmp_path / "job"
    directory.mkdir()
    before = signal.getsignal(signal.SIGINT)
    keep(directory, {"verb": "run"}, run)
    assert signal.getsignal(signal.SIGINT) is before
    assert seen.read_text() == "x"


def test_where_files_lie_on_a_disk_nothing_private_is_written(tmp_path):
    written = []

    def run(_verb, _request, emit):
        emit({"kind": "progress", "stage": "train", "step": 1, "steps": 2, "private": {"loss": 2.5}})
        written.append((tmp_path / EVENTS).read_text())
        return {"stages": [{"stage": "train", "private": {"seconds": 3}}]}

    keep(tmp_path, {"verb": "run"}, run)
    assert "step" in written[0] and "private" not in written[0] and "2.5" not in written[0]
    assert json.loads((tmp_path / "outcome.json").read_text())["result"] == {"stages": [{"stage": "train"}]}


def test_a_killed_keeper_is_noticed_and_leaves_nothing_private(workspace, play, tmp_path):
    play([*training(9, last=2), {"wait_for": str(tmp_path / "never")}, RESULT])
    job = Job.start(Request("run", workspace))
    wait_until(lambda: (job.directory / EVENTS).read_text())
    job._keeper.kill()
    job._keeper.wait()
    outcome = Job(workspace).outcome()
    assert outcome["code"] == ExitCode.RESOURCES and "goes on" in outcome["hint"]
    assert not (job.directory / EVENTS).exists()


def test_the_event_file_is_for_the_user_alone(workspace, play, tmp_path):
    gate = tmp_path / "gate"
    play([{"wait_for": str(gate)}, RESULT])
    job = Job.start(Request("run", workspace))
    assert (job.directory / EVENTS).stat().st_mode & 0o077 == 0
    assert job.directory.stat().st_mode & 0o077 == 0 and job.directory.parent.stat().st_mode & 0o077 == 0
    gate.touch()
    follow(job)


def test_a_short_answer_carries_the_engines_error(home):
    with pytest.raises(AnswerError) as caught:
        asyncio.run(ask(Request("init", home / "new", data={"source": str(home / "nothing.csv")})))
    assert caught.value.exit_code in (ExitCode.USAGE, ExitCode.DATA) and "nothing.csv" in caught.value.message
    assert not (home / "new").exists()


def test_a_plan_that_is_given_up_is_not_taken_for_the_next(workspace, tmp_path, monkeypatch):
    slow = tmp_path / "planner.py"
    slow.write_text(
        "import json, sys, time\n"
        "for line in sys.stdin:\n"
        "    time.sleep(0.3); rows = json.loads(line)['options'].get('rows')\n"
        "    print(json.dumps({'kind': 'result', 'result': {'rows': rows}}), flush=True)\n"
    )
    monkeypatch.setattr(client, "PLANNER", [sys.executable, str(slow)])

    async def scenario():
        plan_server = Planner()
        first = asyncio.create_task(plan_server.plan(Request("plan", workspace, {"rows": 1})))
        await asyncio.sleep(0.1)
        first.cancel()
        assert await plan_server.plan(Request("plan", workspace, {"rows": 2})) == {"rows": 2}
        child = plan_server._child
        assert await plan_server.plan(Request("plan", workspace, {"rows": 3})) == {"rows": 3}
        assert plan_server._child is child, "it is not started anew"
        await plan_server.close()
        assert child.returncode is not None

    asyncio.run(scenario())


def test_the_planner_answers_what_the_engine_would(workspace):
    answered = plan_server.answer({"workspace": str(workspace), "overrides": ["privacy.epsilon=0"], "options": {}}, "none")
    assert answered["kind"] == "failed" and answered["code"] == ExitCode.USAGE and "privacy.epsilon" in answered["message"]


STARTS = [{"kind": "stage_started", "stage": stage} for stage in STAGES]
"""Every stage of a run that has all six, in the order in which the pipeline starts them."""


def statuses(state):
    return {stage.name: stage.status for stage in state.stages}


def test_no_stage_is_done_before_it_began():
    state = RunState("run", counts_texts=True, report=True)
    for place, event in enumerate(STARTS):
        state.apply(event)
        expected = ["done"] * place + ["running"] + ["waiting"] * (len(STAGES) - place - 1)
        assert list(statuses(state).values()) == expected, event["stage"]
        state.apply({"kind": "stage_done", "stage": event["stage"]})


def test_unknown_stage_leaves_later_stages_waiting():
    state = RunState("run", report=True)
    for event in STARTS[:3]:
        state.apply(event)
        state.apply({**event, "kind": "stage_done"})
    state.apply({"kind": "stage_started", "stage": "new"})
    assert statuses(state) == {
        "ingest": "done",
        "train": "done",
        "export": "done",
        "new": "running",
        "sample": "waiting",
        "evaluate": "waiting",
    }


def test_resumed_run_shows_earlier_stages_as_done():
    state = RunState("run", counts_texts=True)
    state.apply({"kind": "stage_started", "stage": "sample"})
    assert list(statuses(state).values()) == ["done"] * 4 + ["running"]


@pytest.mark.parametrize(
    ("verb", "counts_texts", "report", "left_out"),
    [
        ("run", True, True, set()),
        ("run", False, True, {"count_texts"}),
        ("run", True, False, {"evaluate"}),
        ("rehearse", True, True, {"evaluate"}),
    ],
)
def test_only_the_stages_of_this_run_are_listed(verb, counts_texts, report, left_out):
    assert set(STAGES) - set(stages_of(verb, counts_texts, report)) == left_out


def test_a_single_stage_is_listed_alone():
    assert stages_of("evaluate", counts_texts=True, report=True) == ("evaluate",)


def test_what_a_stage_tells_of_itself_is_kept_apart():
    state = RunState("run", report=True)
    told = {"kind": "progress", "stage": "train", "step": 1, "steps": 100}
    state.apply({**told, "work": "marginals", "rate": 1.0, "unit": "tables/s"})
    assert state.stages[1].work == "marginals" and state.unit == "tables/s" and state.device is None
    state.apply({**told, "rate": 300.0, "unit": "tokens/s", "device": "cuda, nf4"})
    assert state.stages[1].work is None and state.unit == "tokens/s" and state.device == "cuda, nf4"
    assert state.speed.points == [(1.0, 300.0)], "a curve is of one thing"
    state.apply({"kind": "stage_started", "stage": "sample"})
    assert state.device is None


def test_the_command_line_twin():
    request = Request(
        "run", Path("my visits"), {"rows": 5, "again": True, "force": False, "sign": False, "more": None}, ("a.b=1",)
    )
    assert request.command() == "localsynth run 'my visits' --rows 5 --again --no-sign --set a.b=1"
