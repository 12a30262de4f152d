"""A second process, a workspace that cannot be written, a clock that goes back: a clear message, or it continues correctly."""

import datetime as dt
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from localsynth.pipeline.run import VERBS
from localsynth.privacy import ledger as ledger_module
from localsynth.privacy.account import Account
from localsynth.privacy.accountant import dp_sgd_step
from localsynth.privacy.ledger import Ledger
from localsynth.privacy.ledger_chain import Basis
from localsynth.schema.columns import Integer, Schema
from localsynth.store.synthetic import Origin, SyntheticStore
from localsynth.system.lock import work_lock
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import latest_run, new_run
from tests.helpers.records import run_record


@pytest.fixture
def workspace(localsynth, tickets, tmp_path):
    localsynth.init("ws", tickets)
    return tmp_path / "ws"


@pytest.fixture(scope="module")
def at_work(command_in, tmp_path_factory):
    """The command, beside a workspace that another is at work in."""
    directory = tmp_path_factory.mktemp("at-work")
    (directory / "rows.csv").write_text("a,b\n" + "1,x\n" * 9)
    localsynth = command_in(directory)
    localsynth.ok("init", "ws", "--data", "rows.csv")
    with work_lock(directory / "ws", "train"):
        yield localsynth


# One writes nothing, another has its own lock, the third is the Python API's.
@pytest.mark.parametrize("verb", sorted(VERBS.keys() - {"plan", "sample", "fit"}))
def test_one_command_at_a_time(at_work, verb):
    refused = at_work(verb.replace("_", "-"), "ws")
    assert refused.code == 5 and "in use by process" in refused.err and "Wait until it is done" in refused.err


def both_at_once(localsynth, directory, *arguments):
    """(exit code, stderr) of the same command started twice, the first to end well first."""
    line = [sys.executable, "-m", "localsynth.cli.main", *map(str, arguments)]
    pipes = {"cwd": directory, "env": localsynth.environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(line, **pipes) for _ in range(2)]
    said = [process.communicate(timeout=600)[1] for process in both]
    assert "Traceback" not in "".join(said), said
    return sorted(zip((process.returncode for process in both), said, strict=True))


def test_two_at_once_end_as_one(localsynth, workspace, tmp_path):
    """Both ingest, then train, and are charged: one does all of it, the other is told who does, or finds it done."""
    first, second = both_at_once(localsynth, tmp_path, "ingest", "ws")
    assert first[0] == 0 and second[0] in (0, 5), (first, second)
    events = json.loads((workspace / "ledger.json").read_text())["events"]
    opened = [event["budget"] for event in events if event["kind"] == "budget"]
    assert len(set(opened)) == len(opened) and opened[0].startswith("ingest")
    assert localsynth.ok("ingest", "ws", "--json").json()["done_before"]
    first, second = both_at_once(localsynth, tmp_path, "train", "ws", *localsynth.quick())
    assert first[0] == 0, first
    assert (second[0] == 5 and "in use by process" in second[1]) or (second[0] == 2 and "trained already" in second[1]), second
    events = json.loads((workspace / "ledger.json").read_text())["events"]
    (run,) = (workspace / "runs").iterdir()
    assert [event["budget"] for event in events if event["kind"] == "budget"][len(opened) :] in ([], [run.name])
    spends = sum(event["kind"] == "spend" and event["what"] == "DP-SGD step" for event in events)
    assert spends == json.loads((run / "run.json").read_text())["train"]["steps"]


def test_two_rehearsals_at_once(localsynth, tmp_path):
    """One is made; the other does not replace it on the way."""
    # Without a text, it is rehearsed by marginals: quicker, and isolated in the same way.
    (tmp_path / "rows.csv").write_text("a,b\n" + "1,x\n2,y\n" * 50)
    localsynth.ok("init", "ws", "--data", "rows.csv")
    first, second = both_at_once(localsynth, tmp_path, "rehearse", "ws", "--rows", 3)
    assert first[0] == 0 and second[0] in (0, 5), (first, second)
    assert second[0] == 0 or "in use by process" in second[1]
    rows = localsynth.ok("query", "ws/rehearsal", "select count(*) as n from synthetic", "--json").json()
    assert rows == [{"n": 3}] and not (tmp_path / "ws" / "ledger.json").exists()


def test_erase_while_a_job_is_at_work(localsynth, workspace, tmp_path):
    """It is refused and the job continues; after the erasure no job brings anything back."""
    localsynth.ok("ingest", "ws")
    line = [sys.executable, "-m", "localsynth.cli.main", "train", "ws", *localsynth.quick()]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    job = subprocess.Popen(line, cwd=tmp_path, env=localsynth.environment, start_new_session=True, **quiet)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list((workspace / "runs").glob("*/run.json")):
        assert job.poll() is None
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGSTOP)  # or it might be done before the other has begun
    refused = localsynth("erase", "ws", "--yes")
    assert refused.code == 5 and "in use by process" in refused.err and "(localsynth train)" in refused.err, refused.err
    assert (workspace / "private.duckdb").exists() and not (workspace / "erasure.json").exists()
    os.killpg(job.pid, signal.SIGCONT)
    assert job.wait(300) == 0
    localsynth.ok("erase", "ws", "--yes")
    late = localsynth("evaluate", "ws")
    assert late.code == 2 and "were erased" in late.err
    assert not list(workspace.glob("runs/*/report*"))


def test_a_workspace_that_cannot_be_written(localsynth, workspace, tmp_path):
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this system does not allow a mount namespace of one's own")
    store = SyntheticStore(workspace / "synthetic.duckdb")
    store.create_table(Schema(columns=[Integer(name="n", min=0, max=9)]))
    job = store.open_job(Origin("r", "0", 0, 1.0, 1e-6, {}, {}), total=1)
    store.append(job.number, job.first_row, [{"n": 3}])
    before = {path: path.read_bytes() for path in workspace.rglob("*") if path.is_file()}
    python = f"{sys.executable} -m localsynth.cli.main"
    script = f"""
        mount --bind ws ws && mount -o remount,bind,ro ws || exit 99
        {python} run ws; echo "run: $?" >&2
        {python} erase ws --yes; echo "erase: $?" >&2
        {python} query ws "select n from synthetic" --json; echo "query: $?" >&2"""
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=tmp_path,
        env=localsynth.environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode == 99:
        pytest.skip("this system does not allow a bind mount")
    assert "Traceback" not in done.stderr and "run: 5" in done.stderr and "erase: 5" in done.stderr, done.stderr
    assert "ws/.work.lock: Read-only file system" in done.stderr and "permissions" in done.stderr
    assert "query: 0" in done.stderr and json.loads(done.stdout) == [{"n": 3}]
    assert {path: path.read_bytes() for path in workspace.rglob("*") if path.is_file()} == before


def test_a_clock_that_goes_back(tmp_path, monkeypatch):
    """Order is by number and chain, never by date."""
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))
    workspace = Workspace.create(tmp_path / "ws")
    days = iter(
        [dt.datetime(2026, 5, 2, tzinfo=dt.UTC), dt.datetime(1999, 12, 31, tzinfo=dt.UTC), dt.datetime(2026, 5, 1, tzinfo=dt.UTC)]
    )

    class Clock(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now() if tz is None else next(days)  # without a time zone: what a lock says of its holder

    monkeypatch.setattr(ledger_module.dt, "datetime", Clock)
    head = workspace.keys_path / "ledger-head.json"
    ledger = Ledger.open(workspace.ledger_path, head, workspace.id)
    ledger.open_budget("train", "r", Account(4.0, 1e-6), limit=4.0, limit_delta=1e-6, basis=Basis("row", 1, size_declared=True))
    for _ in range(2):
        ledger.charge(budget="train", run="r", stage="train", what="step", mechanism=dp_sgd_step(6.0, 0.1))
    again = Ledger.open(workspace.ledger_path, head, workspace.id)
    assert again.spent() == ledger.spent() and len(again.document()["events"]) == 3
    days = iter([dt.datetime(2026, 5, 2, tzinfo=dt.UTC), dt.datetime(1999, 12, 31, tzinfo=dt.UTC)])
    new_run(workspace, run_record())
    second = new_run(workspace, run_record())
    assert "19991231" in second.id and latest_run(workspace).id == second.id
    monkeypatch.undo()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with work_lock(workspace.root, "train"):
        pass
