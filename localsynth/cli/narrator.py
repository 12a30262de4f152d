"""Events as lines on standard error."""

import time
from typing import Any, TextIO

from localsynth.events import Event
from localsynth.presentation import duration, printable

_LINES = 20
"""Progress lines of a stage where stderr is a file. By steps, not by time: how long a step takes depends on the private rows."""
_FIXED_PLACE = ("rate", "unit", "seconds_left", "memory")


class Narrator:
    """Prints a stream of events: one changing line on a terminal, some lines a stage in a file.

    What depends on the original rows (`private` in an event) is printed on a terminal only: a file would keep it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._line_is_open = False
        self._last = 0.0
        self._share: tuple[Any, ...] = ()
        self._printed = ""

    def __call__(self, event: Event) -> None:
        kind = event["kind"]
        if kind == "stage_started":
            self._say(f"{event['stage']}: started (network seal: {event.get('seal', 'none')})")
        elif kind == "progress":
            self._progress(event)
        elif kind == "stage_done":
            self._say(f"{event['stage']}: done")
        elif kind in ("note", "warning") and (text := event.get("text") or self._private(event).get("text")):
            self._say(f"{kind}: {text}")

    def _private(self, event: Event) -> dict[str, Any]:
        return dict(event.get("private") or {}) if self._live else {}

    def _is_due(self, event: Event) -> bool:
        now = time.monotonic()
        last_step = event.get("step") is not None and event.get("step") == event.get("steps")
        if now - self._last < 0.1 and not last_step:
            return False
        self._last = now
        return True

    def _has_come_far(self, event: Event) -> bool:
        if not event.get("steps"):
            return False
        # `unit` also names the part of a long step, and how much of it is done.
        share = _LINES * event["step"] // event["steps"]
        before, self._share = self._share, (event["stage"], event.get("work"), event.get("unit"), share)
        return self._share != before

    def _progress(self, event: Event) -> None:
        if not (self._is_due(event) if self._live else self._has_come_far(event)):
            return
        private = self._private(event)
        # Speed, time left and memory have fixed places, whether they are private (in training) or not.
        known: dict[str, Any] = {**event, **{key: private.pop(key) for key in _FIXED_PLACE if key in private}}
        parts = [f"{event['stage']}: {event['work']}" if "work" in event else event["stage"]]
        if event.get("steps"):
            parts.append(f"{event['step']:,}/{event['steps']:,}")
        if known.get("rate") is not None:
            parts.append(f"{known['rate']:,.0f} {known.get('unit', '')}")
        elif known.get("unit"):
            parts.append(known["unit"])
        if event.get("epsilon") is not None:
            parts.append(f"ε spent {event['epsilon']:.3f}")
        if known.get("seconds_left") is not None:
            parts.append(f"{duration(known['seconds_left'])} left")
        if known.get("memory"):
            parts.append(f"{known['memory'] / 2**30:.1f} GiB")
        if private:
            shown = ", ".join(f"{name} {value:,.3g}" for name, value in private.items())
            parts.append(f"[private, not stored: {shown}]")
        text = printable("  ".join(parts))
        if text == self._printed:  # the last step of some work, and the event that its result is kept
            return
        self._printed = text
        if self._live:
            self._stream.write(f"\r\x1b[K{text}")
            self._line_is_open = True
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def _say(self, text: str) -> None:
        self.close()
        self._stream.write(printable(text) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """End the changing line."""
        if self._line_is_open:
            self._stream.write("\n")
            self._stream.flush()
            self._line_is_open = False
