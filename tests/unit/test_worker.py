"""The working process: sealed before it reads anything, and silent about what its errors quote."""

import errno
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from localsynth.config import DataConfig, load_config, render_config
from localsynth.errors import Cancelled, ConfigError, DataError, ResourceError
from localsynth.pipeline.evaluate import evaluate
from localsynth.pipeline.session import Session
from localsynth.schema.columns import Integer, Schema
from localsynth.system.files import write_json
from localsynth.system.lock import work_lock
from localsynth.system.network_seal import available_levels
from localsynth.worker import _doing, _environment, _with_less_memory, _without_an_answer, failure_event, serve
from localsynth.workspace.paths import Workspace

PLANTED = "PLANTEDvalue123"


def failed(make):
    """What the process answers when `make` raises inside it."""
    try:
        make()
    except BaseException as error:
        return failure_event(error)
    raise AssertionError("nothing was raised")


def raising(error):
    def make():
        raise error

    return make


# --- what an error says -----------------------------------------------------------------------------------------------


def chained():
    try:
        int(PLANTED)
    except ValueError as error:
        raise RuntimeError(PLANTED) from error


def noted():
    error = ValueError(PLANTED)
    error.add_note(PLANTED)
    raise error


@pytest.mark.parametrize(
    "make",
    [
        lambda: int(PLANTED),
        lambda: {}[PLANTED],
        lambda: PLANTED.encode() + "",
        lambda: (PLANTED.encode() + b"\xff").decode(),
        lambda: (PLANTED + "\ud800").encode(),
        lambda: json.loads(PLANTED),
        raising(AssertionError(PLANTED)),
        raising(OSError(errno.EIO, PLANTED)),
        raising(ExceptionGroup(PLANTED, [ValueError(PLANTED)])),
        chained,
        noted,
    ],
)
def test_a_bug_is_located_without_its_text(make):
    event = failed(make)
    assert PLANTED not in json.dumps(event)
    assert event["kind"] == "failed" and event["code"] == 70 and event["hint"]
    assert "test_worker.py:" in event["message"]
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - of any type
        make()
    assert caught.type.__name__ in event["message"]


def test_an_error_for_the_user_keeps_its_message():
    event = failure_event(DataError("row 3, column 'n': not a whole number", "Correct it."))
    assert event == {"kind": "failed", "code": 3, "message": "row 3, column 'n': not a whole number", "hint": "Correct it."}
    assert failure_event(Cancelled("Stopped."))["code"] == 130


def test_a_second_ctrl_c_is_a_cancellation():
    assert failure_event(KeyboardInterrupt())["code"] == 130


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError(PLANTED),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 B"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ValueError(f"Unable to allocate 3 GiB for an array; {PLANTED}"),
        RuntimeError("std::bad_alloc"),
    ],
    ids=["plain", "with a text", "torch", "cuda", "loader", "kernel", "numpy", "c++"],
)
def test_every_out_of_memory_error_is_recognised(error):
    event = failure_event(error, "train")
    assert event["code"] == 5 and event["message"] == "Memory ran out." and "micro_batch_tokens" in event["hint"]


def test_the_hint_fits_the_stage_that_was_running():
    started = {"kind": "stage_started", "stage": "train"}
    measuring = {"kind": "progress", "stage": "train", "work": "marginals", "step": 0, "steps": 100}
    kept = {"kind": "progress", "stage": "train", "step": 100, "steps": 100}
    doing = ""
    for event, hint in (
        (started, "resumes from the last checkpoint"),
        (measuring, "how to begin another run"),
        ({"kind": "note", "text": "of something"}, "how to begin another run"),
        (kept, "resumes from the last checkpoint"),
        ({"kind": "stage_done", "stage": "train"}, "finished before is kept"),
        ({"kind": "stage_started", "stage": "sample"}, "generates the missing rows"),
    ):
        doing = _doing(event, doing)
        stopped, full = failure_event(KeyboardInterrupt(), doing), failure_event(MemoryError(), doing)
        assert hint in stopped["hint"] and hint in full["hint"] and hint in _with_less_memory(doing)
        assert ("micro_batch_tokens" in full["hint"]) is (event in (started, kept))
        assert ("sample.batch_size" in full["hint"]) is (event.get("stage") == "sample")
    assert PLANTED not in json.dumps(event)


def test_a_file_that_cannot_be_used_is_named():
    event = failed(lambda: Path("/nowhere/at/all").read_bytes())
    assert event["code"] == 5 and event["message"] == "/nowhere/at/all: No such file or directory."
    full = failure_event(OSError(errno.ENOSPC, "No space left on device", "/ws/run.json"))
    assert full["code"] == 5 and full["message"] == "/ws/run.json: No space left on device."
    unnamed = failure_event(OSError(errno.ENOSPC, "No space left on device"), "train")
    assert unnamed["code"] == 5 and unnamed["message"] == "The disk is full." and "last checkpoint" in unnamed["hint"]


ENDED = """
import ctypes
import localsynth.llm.llama_cpp
ctypes.CDLL("libstdc++.so.6")._ZSt9terminatev()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the library is Linux's")
def test_an_aborting_library_prints_no_values():
    """Left alone, llama.cpp prints what a debugger says of every call: its arguments, too."""
    done = subprocess.run([sys.executable, "-c", ENDED], env=_environment(), capture_output=True, text=True)
    assert done.returncode == -signal.SIGABRT and done.stderr.strip() == "terminate called without an active exception"


@pytest.mark.parametrize("code", [-signal.SIGKILL, -signal.SIGABRT, 127, -signal.SIGSEGV, 1])
def test_an_end_without_an_answer_has_a_hint(code):
    told = _without_an_answer(code, "train")
    assert "memory" in told.message + told.hint and "resumes from the last checkpoint" in told.hint
    assert told.exit_code == (5 if code in (-signal.SIGKILL, -signal.SIGABRT, 127) else 70)


# --- sealed first -----------------------------------------------------------------------------------------------------

ORDER = """
import json, os, sys
import localsynth.system.network_seal as isolation
import localsynth.worker as engine

log, out = [], os.fdopen(os.dup(1), "w")
heavy = {"torch", "numpy", "duckdb", "llama_cpp"}

def seal():
    log.append(["sealed", sorted(heavy & set(sys.modules))])
    return isolation.Seal("none", "not really")

class Request:
    def read(self, *sizes):
        log.append(["read"])
        return json.dumps({"verb": "plan", "workspace": "nowhere"})

def serve(request, emit, stop, sealed):
    log.append(["served", request["verb"], sealed])
    return {}

isolation.seal, engine.serve, sys.stdin = seal, serve, Request()
engine.main()
out.write(json.dumps(log))
"""


def test_the_worker_seals_itself_before_it_reads_or_imports():
    done = subprocess.run([sys.executable, "-c", ORDER], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [["sealed", []], ["read"], ["served", "plan", "none"]]


@pytest.fixture
def child():
    process = subprocess.Popen(
        [sys.executable, "-m", "localsynth.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def seccomp_mode(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("Seccomp:"))


def core_limits(pid):
    """The soft and the hard limit of core files, in bytes."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line.split()[4:6] for line in lines if line.startswith("Max core file size"))


@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")
def test_a_real_worker_is_sealed_while_it_waits_for_its_request(child):
    """The kernel's own word, from outside."""
    if "seccomp" not in available_levels():
        pytest.skip("this system has no seccomp")
    before = seccomp_mode(os.getpid())
    if before == "2":
        pytest.skip("the tests themselves run under a filter")
    deadline = time.monotonic() + 30
    while seccomp_mode(child.pid) != "2":
        assert child.poll() is None and time.monotonic() < deadline, "it waits for its request without a seal"
        time.sleep(0.05)
    while core_limits(child.pid) != ["0", "0"]:
        assert child.poll() is None and time.monotonic() < deadline, "a crash would write its memory to a file"
        time.sleep(0.05)


def ignored_signals(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = int(next(line.split()[1] for line in lines if line.startswith("SigIgn:")), 16)
    return {number for number in signal.valid_signals() if mask >> (number - 1) & 1}


@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")
def test_a_worker_takes_interrupts_that_its_parent_ignores():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = subprocess.Popen([sys.executable, "-m", "localsynth.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    with child:
        deadline = time.monotonic() + 30
        while signal.SIGINT in ignored_signals(child.pid):
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        child.kill()


def test_a_failure_is_one_line_and_the_exit_code(child, tmp_path):
    out, _ = child.communicate(json.dumps({"verb": "run", "workspace": str(tmp_path / PLANTED)}), timeout=60)
    (line,) = out.splitlines()
    event = json.loads(line)
    assert event["kind"] == "failed" and event["code"] == child.returncode == 2
    assert "localsynth init" in event["hint"]


def test_the_text_of_a_bug_is_on_no_stream():
    script = f"""
import sys, localsynth.worker as engine
def serve(*arguments):
    print("{PLANTED[:7]} of a library")
    raise ValueError({PLANTED!r})
engine.serve = serve
sys.exit(engine.main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], input='{"verb": "run", "workspace": "ws"}', capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 70
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["kind"] == "failed"
    assert PLANTED not in done.stdout + done.stderr
    assert "of a library" in done.stderr, "stdout belongs to the events"


def test_a_private_report_excludes_an_erasure(tmp_path, monkeypatch):
    monkeypatch.setattr("localsynth.pipeline.run.VERBS", {"evaluate": lambda session: {"written": True}})
    workspace = Workspace.create(tmp_path / "ws")
    schema = Schema(columns=[Integer(name="n", min=0, max=9)])
    workspace.config_path.write_text(render_config(DataConfig(source="x.csv"), schema, "ws"))

    def served(release):
        request = {"verb": "evaluate", "workspace": str(workspace.root), "options": {"release": release}}
        return serve(request, lambda event: None, lambda: False, "none")

    with work_lock(workspace.root, "train"), pytest.raises(ResourceError, match="in use"):
        served(release=False)
    assert served(release=False) == {"written": True}
    write_json(workspace.erasure_path, {"erased": "2026-11-24"})
    session = Session(workspace, load_config(workspace.config_path), lambda event: None, lambda: False)
    with pytest.raises(ConfigError, match="were erased"):
        evaluate(session)
