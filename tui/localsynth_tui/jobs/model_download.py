"""Fetching, adding and checking base models in a thread of the app's: one at a time, and on when the Models screen is left."""

import threading
import time
from collections.abc import Callable

from localsynth.errors import Cancelled, LocalsynthError
from localsynth.presentation import duration
from localsynth_tui.text.formatting import bar, plain

__all__ = ["ModelWork"]

_BAR = 20
_TOLD_APART = 0.2
"""Seconds between two words on how far it is."""


class ModelWork:
    """`said` is how far it is, or what came of it; `changed` is called, in the thread, when that changes."""

    def __init__(self, changed: Callable[[bool], None]) -> None:
        """`changed` gets whether it is over."""
        self.said = ""
        self._changed = changed
        self._thread: threading.Thread | None = None
        self.busy = False
        """Something is going on."""
        self._stop = threading.Event()

    def begin(self, doing: str, work: Callable[[Callable[[int, int], None]], str]) -> None:
        """Have `work`, which is given a place to tell (bytes here, bytes expected), done; its result is said at the end."""
        self.said = f"{doing} …"
        self.busy = True
        self._stop.clear()
        # A daemon: leaving the app waits for nobody. `stop` makes it clean up.
        self._thread = threading.Thread(target=self._do, args=(doing, work), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; waits a moment for it to remove what it had begun."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2)

    def _do(self, doing: str, work: Callable[[Callable[[int, int], None]], str]) -> None:
        from localsynth.llm.base_models import model_errors

        began = told = time.monotonic()

        def progress(here: int, expected: int) -> None:
            nonlocal told
            if self._stop.is_set():
                raise Cancelled(f"{doing}: stopped.", "Nothing of it is left; begin again when you like.")
            if time.monotonic() - told < _TOLD_APART:
                return
            told = time.monotonic()
            if not expected:
                self._say(f"{doing}: {here / 1e6:.0f} MB", over=False)
                return
            left = (time.monotonic() - began) * (expected - here) / here if here else 0
            text = f"{doing}: {bar(here / expected, _BAR)} {here / 1e6:.0f} of {expected / 1e6:.0f} MB"
            self._say(text + (f", {duration(left)} left" if here else ""), over=False)

        try:
            with model_errors():
                said = work(progress)
        except LocalsynthError as error:
            said = f"✗ {error.message} {error.hint}"
        except Exception as error:
            said = f"✗ A bug: {type(error).__name__}. Please report this line."
        self._say(said, over=True)

    def _say(self, text: str, over: bool) -> None:
        self.said, self.busy = plain(text), not over
        self._changed(over)
