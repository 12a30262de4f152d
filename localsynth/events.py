"""What a running stage tells the outside: one stream of events, the same for the command line and the terminal UI.

An event is a flat JSON object with `kind` and, except for `note` and `warning`, `stage`:

    stage_started  stage
    progress       stage, work?, step, steps, epsilon?, rate?, unit?, seconds_left?, memory?, device?, private?
    stage_done     stage, seconds, and what the stage reports (rows, paths, ...)
    note, warning  text, or private with the text in it
    failed         code, message, hint           (last line of a child process that could not go on)

`private` holds what depends on the original rows: loss, clipped share, the number of rows; in training also rate,
seconds_left and memory, since a step takes as long as the rows drawn for it. It is shown to the person at the screen and must
not be kept. `for_the_record` is the only way an event reaches a file, and lets through a fixed list of keys.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localsynth.errors import ResourceError

__all__ = ["Emit", "Event", "Recorder", "for_the_record", "mark_private"]

Event = dict[str, Any]
Emit = Callable[[Event], None]

_RECORDED_KINDS = {"stage_started", "progress", "stage_done"}
_RECORDED_KEYS = ("kind", "stage", "step", "steps", "epsilon", "seal")
_OF_THE_ROWS = ("rate", "unit", "seconds_left", "memory")


def mark_private(event: Event) -> Event:
    """The event with speed, time left and memory under `private`: for stages in which these depend on the original rows."""
    if event["kind"] != "progress":
        return event
    public = {key: value for key, value in event.items() if key not in _OF_THE_ROWS}
    moved = {key: event[key] for key in _OF_THE_ROWS if key in event}
    return {**public, "private": {**moved, **event.get("private", {})}}


def for_the_record(event: Event) -> Event | None:
    """The part of an event that may be written to `events.jsonl`: stage, step, ε and seal only; None to keep nothing.

    Without the ε of a training step: it is worked out anew every few seconds, so the steps at which it changes would tell how
    long each one took.
    """
    if event.get("kind") not in _RECORDED_KINDS:
        return None
    clocked = event["kind"] == "progress" and event.get("stage") == "train"
    return {key: event[key] for key in _RECORDED_KEYS if key in event and not (clocked and key == "epsilon")}


class Recorder:
    """Passes events on and appends their recordable part to a JSON-lines file, without the time: steps' durations are private.

    A call raises ResourceError where the file cannot be written.
    """

    def __init__(self, path: Path, forward: Emit) -> None:
        self._path = path
        self._forward = forward

    def __call__(self, event: Event) -> None:
        self._forward(event)
        kept = for_the_record(event)
        if kept is not None:
            try:
                with self._path.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(kept) + "\n")
            except OSError as error:
                raise ResourceError(
                    f"Cannot write {self._path}: {error.strerror}.",
                    "Free some disk space or check the permissions, then start the command again.",
                ) from None
