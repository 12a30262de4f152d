"""Jobs survive the UI, have any number of followers, stop cleanly, and leave nothing private."""

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
from localsynth.worker import WorkerError
from localsynth_tui.jobs import client, plan_server
from localsynth_tui.jobs.client import Job, PlanServer, Request, ask
from localsynth_tui.jobs.run_state import RunState
from localsynth_tui.jobs.supervisor import EVENTS, supervise
from tests.helpers.tui.scripted_run import RESULT, training, whole_run


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def follow(job):
    """All events, and the outcome."""
    events = []
    deadline = time.monotonic() + 60
    while True:
        outcome, new = job.outcome(), job.new_events()
        events += new
        if outcome is not None and not new:
            return events, outcome
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def test_job_events_arrive_and_are_removed_at_the_end(workspace, play):
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


def test_one_job_at_a_time_with_several_followers(workspace, play, tmp_path):
    gate = tmp_path / "gate"
    play([*training(9, last=2), {"wait_for": str(gate)}, *training(9, first=3), RESULT])
    job = Job.start(Request("run", workspace, {"rows": 5}))
    with pytest.raises(ResourceError, match="already running"):
        Job.start(Request("sample", workspace))
    other = Job(workspace)
    assert other.running and other.request.verb == "run" and other.request.options == {"rows": 5}
    wait_until(lambda: other.new_events())
    assert other.outcome() is None
    gate.touch()
    assert follow(other)[1]["kind"] == "result"
    assert follow(job)[1]["kind"] == "result", "each follower reads all events"


def test_job_survives_a_killed_ui(workspace, tmp_path, play):
    gate = tmp_path / "gate"
    play([*training(9, last=2), {"wait_for": str(gate)}, RESULT])
    code = (
        "import sys, time; from pathlib import Path; from localsynth_tui.jobs import client\n"
        f"client.SUPERVISOR = {client.SUPERVISOR!r}\n"
        f"client.Job.start(client.Request('run', Path({str(workspace)!r})))\nprint('up', flush=True); time.sleep(60)"
    )
    ui = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert ui.stdout.readline() == "up\n"
    os.killpg(ui.pid, signal.SIGKILL)  # with its process group, as when a terminal is closed
    ui.wait()
    job = Job(workspace)
    wait_until(lambda: job.new_events())
    assert job.running
    gate.touch()
    assert follow(job)[1]["kind"] == "result"


def test_stopped_job_is_cancelled(workspace, play, tmp_path):
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


def test_worker_gets_one_interrupt(workspace, tmp_path):
    """The real supervisor forwards a stop to its child once."""
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
    supervise(directory, {"verb": "run"}, run)
    assert signal.getsignal(signal.SIGINT) is before
    assert seen.read_text() == "x"


def test_no_private_events_are_written_to_a_disk(tmp_path):
    written = []

    def run(_verb, _request, emit):
        emit({"kind": "progress", "stage": "train", "step": 1, "steps": 2, "private": {"loss": 2.5}})
        written.append((tmp_path / EVENTS).read_text())
        return {"stages": [{"stage": "train", "private": {"seconds": 3}}]}

    supervise(tmp_path, {"verb": "run"}, run)
    assert "step" in written[0] and "private" not in written[0] and "2.5" not in written[0]
    assert json.loads((tmp_path / "outcome.json").read_text())["result"] == {"stages": [{"stage": "train"}]}


def test_killed_supervisor_is_noticed_and_leaves_no_events(workspace, play, tmp_path):
    play([*training(9, last=2), {"wait_for": str(tmp_path / "never")}, RESULT])
    job = Job.start(Request("run", workspace))
    wait_until(lambda: (job.directory / EVENTS).read_text())
    job._supervisor.kill()
    job._supervisor.wait()
    outcome = Job(workspace).outcome()
    assert outcome["code"] == ExitCode.RESOURCES and "resumes" in outcome["hint"]
    assert not (job.directory / EVENTS).exists()


def test_files_of_a_job_are_readable_by_the_user_only(workspace, play, tmp_path):
    gate = tmp_path / "gate"
    play([{"wait_for": str(gate)}, RESULT])
    before = os.umask(0)
    try:
        job = Job.start(Request("run", workspace))
    finally:
        os.umask(before)
    for path in job.directory.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path.name
    assert job.directory.stat().st_mode & 0o077 == 0 and job.directory.parent.stat().st_mode & 0o077 == 0
    gate.touch()
    follow(job)


def test_ask_raises_the_workers_error(home):
    with pytest.raises(WorkerError) as caught:
        asyncio.run(ask(Request("init", home / "new", data={"source": str(home / "nothing.csv")})))
    assert caught.value.exit_code in (ExitCode.USAGE, ExitCode.DATA) and "nothing.csv" in caught.value.message
    assert not (home / "new").exists()


def test_abandoned_plan_is_not_the_answer_to_the_next(workspace, tmp_path, monkeypatch):
    slow = tmp_path / "plan_server.py"
    slow.write_text(
        "import json, sys, time\n"
        "for line in sys.stdin:\n"
        "    time.sleep(0.3); rows = json.loads(line)['options'].get('rows')\n"
        "    print(json.dumps({'kind': 'result', 'result': {'rows': rows}}), flush=True)\n"
    )
    monkeypatch.setattr(client, "PLAN_SERVER", [sys.executable, str(slow)])

    async def scenario():
        server = PlanServer()
        first = asyncio.create_task(server.plan(dict, Request("plan", workspace, {"rows": 1})))
        await asyncio.sleep(0.1)
        first.cancel()
        assert await server.plan(dict, Request("plan", workspace, {"rows": 2})) == {"rows": 2}
        child = server._child
        assert await server.plan(dict, Request("plan", workspace, {"rows": 3})) == {"rows": 3}
        assert server._child is child, "the process is reused"
        await server.close()
        assert child.returncode is not None

    asyncio.run(scenario())


def test_plan_server_reports_config_errors(workspace):
    answered = plan_server.answer({"workspace": str(workspace), "overrides": ["privacy.epsilon=0"], "options": {}}, "none")
    assert answered["kind"] == "failed" and answered["code"] == ExitCode.USAGE and "privacy.epsilon" in answered["message"]


def test_equivalent_command_of_a_request():
    request = Request("run", Path("my visits"), {"rows": 5, "again": True, "force": False, "more": None})
    assert request.command() == "localsynth run 'my visits' --rows 5 --again"
    assert Request("count_texts", Path("visits")).command() == "localsynth count-texts visits"
