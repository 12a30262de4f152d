"""Delays an action until typing pauses; the action can also be run at once."""

from collections.abc import Callable

from textual.message_pump import MessagePump
from textual.timer import Timer


class Debounce:
    """Of several scheduled actions, only the last is run."""

    def __init__(self, owner: MessagePump, seconds: float) -> None:
        self._owner, self._seconds = owner, seconds
        self._timer: Timer | None = None
        self._action: Callable[[], None] | None = None

    def schedule(self, action: Callable[[], None]) -> None:
        """Run `action` after `seconds`, unless another one is scheduled meanwhile."""
        self.cancel()
        self._action = action
        self._timer = self._owner.set_timer(self._seconds, self.flush)

    def cancel(self) -> None:
        """Drop the scheduled action."""
        if self._timer is not None:
            self._timer.stop()
        self._timer, self._action = None, None

    def flush(self) -> None:
        """Run the scheduled action now, if there is one."""
        action = self._action
        self.cancel()
        if action is not None:
            action()
