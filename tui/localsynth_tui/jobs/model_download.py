"""Downloads, adds and verifies base models in a thread: one task at a time, which continues when the Models screen is left."""

import threading
import time
from collections.abc import Callable

from localsynth.errors import Cancelled, LocalsynthError
from localsynth.presentation import duration
from localsynth_tui.text.formatting import bar, plain

_BAR_WIDTH = 20
_PROGRESS_INTERVAL = 0.2
"""Seconds between two progress messages."""


class ModelTask:
    """`message` is the progress or the result; `changed` is called, in the thread, when it changes."""

    def __init__(self, changed: Callable[[bool], None]) -> None:
        """`changed` is passed whether the task is over."""
        self.message = ""
        self._changed = changed
        self._thread: threading.Thread | None = None
        self.busy = False
        """A task is running."""
        self._stop = threading.Event()

    def begin(self, title: str, work: Callable[[Callable[[int, int], None]], str]) -> None:
        """Start `work`, which reports (bytes present, bytes expected) and returns the final message."""
        self.message = f"{title} …"
        self.busy = True
        self._stop.clear()
        # A daemon: leaving the app does not wait for it. `stop` makes it clean up.
        self._thread = threading.Thread(target=self._run, args=(title, work), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask it to stop; waits a moment for it to remove partial files."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2)

    def _run(self, title: str, work: Callable[[Callable[[int, int], None]], str]) -> None:

        began = shown = time.monotonic()

        def progress(here: int, expected: int) -> None:
            nonlocal shown
            if self._stop.is_set():
                raise Cancelled(f"{title}: stopped.", "The partial file was removed. Start again at any time.")
            if time.monotonic() - shown < _PROGRESS_INTERVAL:
                return
            shown = time.monotonic()
            if not expected:
                self._show(f"{title}: {here / 1e6:.0f} MB", over=False)
                return
            left = (time.monotonic() - began) * (expected - here) / here if here else 0
            text = f"{title}: {bar(here / expected, _BAR_WIDTH)} {here / 1e6:.0f} of {expected / 1e6:.0f} MB"
            self._show(text + (f", {duration(left)} left" if here else ""), over=False)

        try:
            message = work(progress)
        except LocalsynthError as error:
            message = f"✗ {error.message} {error.hint}"
        except Exception as error:
            message = f"✗ A bug: {type(error).__name__}. Please report this line."
        self._show(message, over=True)

    def _show(self, text: str, over: bool) -> None:
        self.message, self.busy = plain(text), not over
        self._changed(over)
