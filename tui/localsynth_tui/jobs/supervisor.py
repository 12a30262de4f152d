"""The process between the worker and the screen. It outlives the terminal UI: a job survives when the UI closes or crashes.

    terminal UI ── starts ──▶ supervisor (own session) ── run_in_child ──▶ sealed worker process
    terminal UI ◀─ tails ──── events, outcome.json, in a directory in memory ─┘

The UI can be closed and reopened at any moment. Where the supervisor is killed, the worker
stops cleanly: its pipe breaks, and it stops before the next step.

Why a file in /dev/shm: events hold values that depend on the original rows (loss, speed),
to be shown and not stored. That file system is memory, so nothing reaches the disk (unless
the system swaps, as it may swap any program's memory). It needs no server, and a late or
stalled reader blocks nobody. The directory has mode 0700, the file 0600. The supervisor
removes the events when the job is over; the outcome holds nothing private. Where there is
no /dev/shm, private parts are left out of the file, so that none reaches a disk.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localsynth.errors import Cancelled, ExitCode
from localsynth.events import Event
from localsynth.results.as_json import without_private
from localsynth.system.files import write_json
from localsynth.worker import failure_event, run_in_child

MEMORY = Path("/dev/shm")
EVENTS, OUTCOME, STOP = "events", "outcome.json", "stop"

_PROGRESS_INTERVAL = 0.1
"""Seconds between two written progress events of a stage: the screen shows no more, and the file stays small."""
_STOP_POLL_INTERVAL = 0.2
"""Seconds between two checks whether the UI asked to stop."""


class _EventFile:
    """Appends events to the file that the UI tails."""

    def __init__(self, path: Path, private: bool) -> None:
        self._out = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w", encoding="utf-8")
        self._private = private
        self._written: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if event["kind"] == "progress":
            now, last = time.monotonic(), event.get("step") is not None and event.get("step") == event.get("steps")
            if not last and now - self._written.get(event["stage"], 0.0) < _PROGRESS_INTERVAL:
                return
            self._written[event["stage"]] = now
        self._out.write(json.dumps(event if self._private else without_private(event)) + "\n")
        self._out.flush()


def _forward_stop(requested: Path, finished: threading.Event) -> None:
    """Interrupt the worker once when the UI asks for it: it then stops cleanly, and the charges of started stages stay."""
    import psutil

    while not finished.wait(_STOP_POLL_INTERVAL):
        if requested.exists() and (children := psutil.Process().children()):
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.send_signal(signal.SIGINT)
            return


def supervise(directory: Path, request: dict[str, Any], run: Callable[..., dict[str, Any]]) -> None:
    """Have `run` (`run_in_child`, or a fake) serve the request; leaves outcome.json in `directory`, and no events."""
    emit = _EventFile(directory / EVENTS, private=directory.is_relative_to(MEMORY))
    finished = threading.Event()
    threading.Thread(target=_forward_stop, args=(directory / STOP, finished), daemon=True).start()
    outcome: Event
    try:
        rest = {key: value for key, value in request.items() if key != "verb"}
        outcome = {"kind": "result", "result": without_private(run(request["verb"], rest, emit))}
    except Exception as error:
        outcome = failure_event(error)
        if (directory / STOP).exists() and outcome["code"] == ExitCode.BUG:
            # Interrupted before it could answer: it had not started.
            outcome = failure_event(Cancelled("Stopped.", "Start the command again to resume."))
    finished.set()
    write_json(directory / OUTCOME, outcome)
    # A UI that has the file open can still read it to its end.
    (directory / EVENTS).unlink(missing_ok=True)


def main() -> int:
    """`python -m localsynth_tui.jobs.supervisor DIRECTORY`, with the request (one JSON object) on stdin."""
    from localsynth.system.network_seal import no_core_dumps

    no_core_dumps()  # a passphrase passes through here
    supervise(Path(sys.argv[1]), json.load(sys.stdin), run_in_child)
    return 0


if __name__ == "__main__":
    sys.exit(main())
