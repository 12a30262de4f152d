"""The worker: a process that is sealed off the network, runs one command and speaks JSON lines.

    parent ── request (one JSON object on stdin) ──▶ child
    parent ◀─ events (one JSON object a line on stdout), the last one `result` or `failed` ─ child

The command line and the terminal UI are both clients of this stream, so they cannot differ. `run_in_child` is the side of
the parent, `main` that of the child. The child seals itself before it imports anything that could start a thread or open a
socket.
"""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

from localsynth.errors import Cancelled, ExitCode, LocalsynthError, ResourceError
from localsynth.events import Emit, Event
from localsynth.results.as_json import to_json

if TYPE_CHECKING:
    from localsynth.system.network_seal import Requirement, Seal


class WorkerError(LocalsynthError):
    """The child's error, raised again in the parent with the child's exit code."""

    def __init__(self, message: str, hint: str, code: int) -> None:
        super().__init__(message, hint)
        self.exit_code = ExitCode(code)


@contextmanager
def _left_to_the_child() -> Iterator[None]:
    """Ctrl-C reaches both processes: the child stops cleanly, and the parent waits for it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_in_child(verb: str, request: dict[str, Any], emit: Emit, inherited: tuple[int, ...] = ()) -> dict[str, Any]:
    """Run a verb of the pipeline in a sealed child, passing its events to `emit`. Returns its result or raises its error.

    The child gets the descriptors `inherited`.
    """
    command = [sys.executable, "-m", "localsynth.worker"]
    with (
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            encoding="utf-8",
            pass_fds=inherited,
        ) as child,
        # After the child is started: a signal that is ignored when a process starts is ignored by the process, too.
        _left_to_the_child(),
    ):
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(json.dumps({"verb": verb, **request}))
        child.stdin.close()
        last: Event | None = None
        doing = ""
        for line in child.stdout:
            event: Event = json.loads(line)
            if event["kind"] in ("result", "failed"):
                last = event
            else:
                doing = _doing(event, doing)
                emit(event)
        code = child.wait()
    if last is None:
        raise _without_an_answer(code, doing)
    if last["kind"] == "failed":
        raise WorkerError(last["message"], last["hint"], last["code"])
    result: dict[str, Any] = last["result"]
    return result


def _environment() -> dict[str, str]:
    """The child's environment: passive waits, no downloads, no traces."""
    return {
        # Waiting threads sleep instead of spinning: up to a third slower on an idle machine, twice or more as fast on a
        # laptop where another program wants a core (docs/lab/training-speed.md). Whoever knows better sets the variable.
        "OMP_WAIT_POLICY": "passive",
        **os.environ,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        # Before it aborts, llama.cpp has a debugger print every call with its arguments, which may be original values.
        "GGML_NO_BACKTRACE": "1",
    }


_LOADER_FAILED = 127
"""The status with which the dynamic loader of glibc ends a process, as when a new thread's data finds no memory."""


def _without_an_answer(code: int, doing: str) -> WorkerError:
    """The error of a child that ended with this status and no last event."""
    if code in (-signal.SIGKILL, -signal.SIGABRT, _LOADER_FAILED):
        # The kernel kills a process when memory is gone; a library that is refused memory may abort, the loader exits.
        return WorkerError(
            "The working process was ended, probably because memory ran out.",
            _with_less_memory(doing),
            ExitCode.RESOURCES,
        )
    return WorkerError(
        f"The working process ended without an answer (status {code}).",
        f"A library failed, perhaps because memory ran out. {_start_again(doing)} If it happens again, please report it.",
        ExitCode.BUG,
    )


class _Stop:
    """Set by ctrl-C or by a parent that is gone; stages check it between steps. A second ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked

    def ask(self, _signal: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


_SIGNS_OF_TOO_LITTLE_MEMORY = ("allocate memory", "out of memory", "failed to map segment", "unable to allocate", "bad_alloc")
"""In the messages of torch, the dynamic loader, NumPy and C++, each an error of another type."""


def _doing(event: Event, before: str) -> str:
    """What the process is doing after an event: a stage, or the "work" within one; "" between stages."""
    if event["kind"] == "stage_done":
        return ""
    return str(event.get("work") or event.get("stage") or before)


_LOWER = {"train": "lower train.micro_batch_tokens", "sample": "lower sample.batch_size"}
_AGAIN = {
    "marginals": "Start the command again: it says how to begin another run. This one is charged, and its marginals are lost.",
    "train": "Start the command again: it resumes from the last checkpoint.",
    "sample": "Start the command again: it generates the missing rows.",
}


def _start_again(doing: str) -> str:
    return _AGAIN.get(doing, "Start the command again: what was finished before is kept.")


def _with_less_memory(doing: str) -> str:
    lower = f" and {_LOWER[doing]}" if doing in _LOWER else ""
    return f"Close other programs{lower}. {_start_again(doing)}"


def failure_event(error: BaseException, doing: str = "") -> Event:
    """The last event of a process that ends with this error while it is `doing` a stage, or a part of one.

    Of a bug it says where it happened, but not the error's own text: that may quote a private value.
    """
    if isinstance(error, LocalsynthError):
        return _failed(error.exit_code, error.message, error.hint)
    if isinstance(error, KeyboardInterrupt):
        return _failed(ExitCode.CANCELLED, "Stopped.", _start_again(doing))
    if isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _SIGNS_OF_TOO_LITTLE_MEMORY):
        return _failed(ExitCode.RESOURCES, "Memory ran out.", _with_less_memory(doing))
    if isinstance(error, OSError) and error.filename is not None:
        hint = "Check disk space and permissions, then start the command again."
        return _failed(ExitCode.RESOURCES, f"{error.filename}: {error.strerror}.", hint)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _failed(ExitCode.RESOURCES, "The disk is full.", f"Free some space. {_start_again(doing)}")
    places = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-4:]]
    message = f"A bug in localsynth: {type(error).__name__} at {' > '.join(places)}."
    return _failed(ExitCode.BUG, message, "Please report these lines. What was finished before is kept.")


def _failed(code: ExitCode, message: str, hint: str) -> Event:
    return {"kind": "failed", "code": int(code), "message": message, "hint": hint}


_ALONE = frozenset({"ingest", "train", "export", "count_texts", "fit", "run", "rehearse", "evaluate", "audit"})
"""Verbs that exclude each other on a workspace. Two rehearsals would replace each other's workspace, and a report that is made
during an erasure would bring back some of what is erased. Sampling has a lock of its own; the others change nothing."""


def _require_seal(requirement: "Requirement", sealed: "Seal") -> None:
    from localsynth.system.network_seal import meets

    if not meets(sealed.level, requirement):
        raise ResourceError(
            f"--require-seal {requirement}: this machine gives no such seal. Nothing was read. What it gives: {sealed.text}",
            "See `localsynth doctor` for what it allows and how to allow more, or leave --require-seal out.",
        )


def serve(request: dict[str, Any], emit: Emit, should_stop: Callable[[], bool], seal: str) -> Any:
    """The result of a request, as JSON, in this process, which has the network seal `seal`. Raises the errors of its verb."""
    from localsynth.config import load_config
    from localsynth.pipeline.init import infer, initialise
    from localsynth.pipeline.run import VERBS
    from localsynth.pipeline.session import Options, Session
    from localsynth.store.key import check_passphrase
    from localsynth.system.lock import work_lock
    from localsynth.workspace.paths import Workspace

    if request["verb"] == "init":
        return initialise(Path(request["workspace"]), request["data"], emit, request.get("passphrase"))
    if request["verb"] == "infer":
        return infer(request["data"], request["frame"], emit)
    workspace = Workspace.open(Path(request["workspace"]), request.get("passphrase"))
    if request["verb"] == "unlock":
        # For a client that wants to know before it begins; the key itself stays in this process.
        check_passphrase(workspace)
        return {}
    config = load_config(workspace.config_path, request.get("overrides"))

    def emit_or_stop(event: Event) -> None:
        emit(event)
        if should_stop() and event.get("stage") in ("ingest", "export") and event["kind"] == "progress":
            # These stages can be stopped anywhere: their output is written at the end, as a whole.
            raise Cancelled(f"Stopped during {event['stage']}.", "Start the command again to resume.")

    session = Session(workspace, config, emit_or_stop, should_stop, Options(**request.get("options", {})), seal)
    with work_lock(workspace.root, request["verb"].replace("_", "-")) if request["verb"] in _ALONE else nullcontext():
        return to_json(VERBS[request["verb"]](session))


def claim_stdout() -> TextIO:
    """The standard output for events alone, a line at a time. What libraries print goes to stderr, and their advice nowhere."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    # A missing kernel or a deprecation is not for the person at the screen.
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    return events


def main() -> int:
    """The child: one request from stdin, events to stdout."""
    stop = _Stop()
    # Set here, because a parent that ignores the signal would pass that on.
    signal.signal(signal.SIGINT, stop.ask)
    signal.signal(signal.SIGTERM, stop.ask)
    from localsynth.system.network_seal import seal

    sealed = seal()
    request = json.load(sys.stdin)
    events = claim_stdout()
    doing = ""

    def emit(event: Event) -> None:
        nonlocal doing
        doing = _doing(event, doing)
        try:
            events.write(json.dumps(event) + "\n")
        except BrokenPipeError:
            stop.asked = True

    try:
        if requirement := request.get("require_seal"):
            _require_seal(requirement, sealed)
        result = serve(request, emit, stop, sealed.level)
    except (Exception, KeyboardInterrupt) as error:
        failed = failure_event(error, doing)
        emit(failed)
        return int(failed["code"])
    emit({"kind": "result", "result": result})
    return 0


if __name__ == "__main__":
    sys.exit(main())
