"""The process between the engine and the screen: it outlives the terminal UI, so that work goes on when that closes or crashes.

    terminal UI ── starts ──▶ keeper (own session) ── engine.run_in_child ──▶ the engine's sealed process
    terminal UI ◀─ tails ──── events, outcome.json, in a directory in memory ─┘

The UI can be closed and opened again at any moment; the engine's process ends in good order where the keeper is killed (its
pipe breaks, and it stops before the next step).

Why a file in /dev/shm: events hold what depends on the original rows (loss, speed), to be shown and not kept. That file
system is memory, so nothing reaches the disk (unless the system swaps, as it may swap the memory of any program); it takes
no socket or pipe that someone has to serve, and a reader that comes late, or stops reading, disturbs nobody. The directory
has mode 0700, the file 0600, and the keeper removes the events when the work is over; the outcome holds nothing private.
Where there is no /dev/shm, private parts are left out of the file, so that none can come to lie on a disk.
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

from localsynth.errors import ExitCode, LocalsynthError
from localsynth.events import Event
from localsynth.system.files import write_json

__all__ = ["EVENTS", "MEMORY", "OUTCOME", "STOP", "keep", "without_private"]

MEMORY = Path("/dev/shm")
EVENTS, OUTCOME, STOP = "events", "outcome.json", "stop"

_EVENTS_APART = 0.1
"""Progress is written at most this often (seconds) for a stage: nobody sees more, and a long run stays small in memory."""
_LOOK_AGAIN = 0.2


def without_private(value: Any) -> Any:
    """`value` (of JSON) without anything under a key `private`, at whatever depth."""
    if isinstance(value, dict):
        return {key: without_private(inner) for key, inner in value.items() if key != "private"}
    return [without_private(inner) for inner in value] if isinstance(value, list) else value


class _EventFile:
    """Appends events to the file that the UI tails."""

    def __init__(self, path: Path, private: bool) -> None:
        self._out = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w", encoding="utf-8")
        self._private = private
        self._written: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if event["kind"] == "progress":
            now, last = time.monotonic(), event.get("step") is not None and event.get("step") == event.get("steps")
            if not last and now - self._written.get(event["stage"], 0.0) < _EVENTS_APART:
                return
            self._written[event["stage"]] = now
        self._out.write(json.dumps(event if self._private else without_private(event)) + "\n")
        self._out.flush()


def _pass_on_a_stop(wanted: Path, finished: threading.Event) -> None:
    """Interrupt the engine's process, once, when the UI asks for it: it then ends in good order, and what began stays charged."""
    import psutil

    while not finished.wait(_LOOK_AGAIN):
        if wanted.exists() and (children := psutil.Process().children()):
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.send_signal(signal.SIGINT)
            return


def keep(directory: Path, request: dict[str, Any], run: Callable[..., dict[str, Any]]) -> None:
    """Have `run` (`run_in_child`, or a stand-in) serve the request; leaves outcome.json in `directory`, and no events."""
    emit = _EventFile(directory / EVENTS, private=directory.is_relative_to(MEMORY))
    finished = threading.Event()
    threading.Thread(target=_pass_on_a_stop, args=(directory / STOP, finished), daemon=True).start()
    outcome: Event
    try:
        rest = {key: value for key, value in request.items() if key != "verb"}
        outcome = {"kind": "result", "result": without_private(run(request["verb"], rest, emit))}
    except LocalsynthError as error:
        outcome = {"kind": "failed", "code": int(error.exit_code), "message": error.message, "hint": error.hint}
        if (directory / STOP).exists() and error.exit_code == ExitCode.BUG:
            # Interrupted before it could answer: it had not begun.
            outcome |= {"code": int(ExitCode.CANCELLED), "message": "Stopped.", "hint": "Start the command again to go on."}
    except Exception as error:
        hint = "Please report this line. What was finished before is kept."
        outcome = {"kind": "failed", "code": int(ExitCode.BUG), "message": f"A bug: {type(error).__name__}.", "hint": hint}
    finished.set()
    write_json(directory / OUTCOME, outcome)
    # A UI that has the file open reads it to its end all the same.
    (directory / EVENTS).unlink(missing_ok=True)


def main() -> int:
    """`python -m localsynth_tui.jobs.supervisor DIRECTORY`, with the request (one JSON object) on stdin."""
    from localsynth.system.network_seal import no_core_dumps
    from localsynth.worker import run_in_child

    no_core_dumps()  # a passphrase passes through here
    keep(Path(sys.argv[1]), json.load(sys.stdin), run_in_child)
    return 0


if __name__ == "__main__":
    sys.exit(main())
