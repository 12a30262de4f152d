"""Waits for a pause in typing before something is done, and does it at once when there is no time to wait."""

from collections.abc import Callable

from textual.message_pump import MessagePump
from textual.timer import Timer

__all__ = ["Pause"]


class Pause:
    """Of several things put off, only the last is done."""

    def __init__(self, owner: MessagePump, seconds: float) -> None:
        self._owner, self._seconds = owner, seconds
        self._timer: Timer | None = None
        self._do: Callable[[], None] | None = None

    def put_off(self, do: Callable[[], None]) -> None:
        """Do this when nothing else was put off for a while."""
        self.drop()
        self._do = do
        self._timer = self._owner.set_timer(self._seconds, self.now)

    def drop(self) -> None:
        """Forget what was put off."""
        if self._timer is not None:
            self._timer.stop()
        self._timer, self._do = None, None

    def now(self) -> None:
        """Do what was put off, if anything was."""
        do = self._do
        self.drop()
        if do is not None:
            do()
