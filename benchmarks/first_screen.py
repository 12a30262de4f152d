"""Start-up time of the terminal UI, and its response to keys among many events: `python benchmarks/first_screen.py [ROUNDS]`.

`localsynth` and a minimal Textual app start in turn in a terminal. The time is from the start
of the process until a word of the first screen arrives. Then 10,000 events arrive at once, and
the longest wait of a key press is measured. Seconds depend on the machine and its load; the
ratio to the minimal app depends less on them.
"""

import asyncio
import json
import os
import pty
import select
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SMALLEST = """
from textual.app import App
from textual.widgets import Static

class Smallest(App):
    def compose(self):
        yield Static("turns")

Smallest().run()
"""
WAITED_FOR = b"turns"
EVENTS = 10_000


def seconds_to_first_screen(command: list[str], surroundings: dict[str, str]) -> float:
    """Seconds from the start of the process until the word arrives on the terminal."""
    ours, theirs = pty.openpty()
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=surroundings, start_new_session=True)
    os.close(theirs)
    seen = b""
    try:
        while WAITED_FOR not in seen:
            if not select.select([ours], [], [], 30)[0]:
                raise SystemExit(f"{command[-1]!r} showed nothing")
            seen += os.read(ours, 65536)
        return time.perf_counter() - begun
    finally:
        process.kill()
        process.wait()
        os.close(ours)


async def longest_wait_among_events() -> tuple[float, float]:
    """(longest seconds for a key press, total seconds) while 10,000 events arrive."""
    from localsynth_tui.app import LocalsynthApp
    from localsynth_tui.jobs.client import Job
    from localsynth_tui.jobs.run_state import RunState

    app = LocalsynthApp()
    waiting = [
        {
            "kind": "progress",
            "stage": "train",
            "step": i,
            "steps": EVENTS,
            "epsilon": 1.0,
            "private": {"rate": 300.0, "loss": 1.0},
        }
        for i in range(EVENTS)
    ]
    result = {"kind": "failed", "code": 5, "message": "The end.", "hint": ""}

    class FakeJob(Job):
        def __init__(self) -> None:
            self.workspace = Path("none")

        @property
        def exists(self) -> bool:
            return False

        @property
        def stopping(self) -> bool:
            return False

        def outcome(self):
            return None if waiting else result

        def new_events(self, limit=1000):
            return [waiting.pop(0) for _ in range(min(limit, len(waiting)))]

    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.workspace, app.job, app.run_state = Path("none"), FakeJob(), RunState("run")
        await app.action_go("run")
        begun, longest = time.perf_counter(), 0.0
        while app.job_running:
            pressed = time.perf_counter()
            await pilot.press("tab")
            longest = max(longest, time.perf_counter() - pressed)
        return longest, time.perf_counter() - begun


def main() -> None:
    """Print the figures as JSON."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory() as home:
        surroundings = {**os.environ, "LOCALSYNTH_HOME": home, "TERM": "xterm-256color"}
        os.environ["LOCALSYNTH_HOME"] = home
        os.chdir(home)
        commands = {"localsynth": [sys.executable, "-m", "localsynth.start"], "smallest": [sys.executable, "-c", SMALLEST]}
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                times[name].append(seconds_to_first_screen(command, surroundings))
        longest, whole = asyncio.run(longest_wait_among_events())
        os.chdir("/")
    medians = {name: statistics.median(found) for name, found in times.items()}
    figures = {
        "rounds": rounds,
        "seconds_median": round(medians["localsynth"], 3),
        "seconds_most": round(max(times["localsynth"]), 3),
        "smallest_app_seconds_median": round(medians["smallest"], 3),
        "ratio": round(medians["localsynth"] / medians["smallest"], 2),
        "events": EVENTS,
        "longest_wait_for_a_key_seconds": round(longest, 3),
        "seconds_for_all_events": round(whole, 2),
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
