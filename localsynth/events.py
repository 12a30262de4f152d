"""What a running stage reports: one stream of events, the same for the command line and the terminal UI.

    stage_started  stage, seal
    progress       stage, work?, step?, steps?, epsilon?, rate?, unit?, seconds_left?, memory?, device?, private?
    stage_done     stage, epsilon?, steps?
    note, warning  text, or private with the text in it
    result         result                  (the last event of a worker that succeeded)
    failed         code, message, hint     (the last event of a worker that failed)

`private` holds what depends on the original rows: loss, clipped share, the number of rows; in training also rate,
seconds_left and memory, because the duration of a step depends on the rows in its batch. It is shown to the person at the
screen and must not be stored. `for_the_record` is the only way an event reaches a file; it lets through a fixed list of
keys.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Required, TypedDict

from localsynth.errors import ResourceError


class Event(TypedDict, total=False):
    """One event: a flat JSON object. Which keys it has depends on its kind."""

    kind: Required[Literal["stage_started", "progress", "stage_done", "note", "warning", "result", "failed"]]
    stage: str
    seal: str
    """The network isolation of the process."""
    work: str
    """A part of a stage that is named apart, as "marginals"."""
    step: int
    steps: int
    """How many steps there are."""
    epsilon: float
    """ε spent so far, by all runs of the workspace."""
    rate: float | None
    """How fast the work goes, in `unit`."""
    unit: str
    seconds_left: float | None
    memory: int
    """Bytes in use."""
    device: str
    private: dict[str, Any]
    text: str
    code: int
    """An exit code."""
    message: str
    hint: str
    result: Any


Emit = Callable[[Event], None]

_RECORDED_KINDS = {"stage_started", "progress", "stage_done"}
_RECORDED_KEYS = ("kind", "stage", "step", "steps", "epsilon", "seal")
_PRIVATE_IN_TRAINING = ("rate", "unit", "seconds_left", "memory")


def stage_started(stage: str, seal: str) -> Event:
    return {"kind": "stage_started", "stage": stage, "seal": seal}


def progress(stage: str, step: int, steps: int, unit: str | None = None) -> Event:
    """`step` of `steps` are done; `unit` says of what."""
    event: Event = {"kind": "progress", "stage": stage, "step": step, "steps": steps}
    if unit is not None:
        event["unit"] = unit
    return event


def stage_done(stage: str) -> Event:
    return {"kind": "stage_done", "stage": stage}


def note(text: str) -> Event:
    return {"kind": "note", "text": text}


def private_note(text: str) -> Event:
    """A note that depends on the original rows, for the screen only."""
    return {"kind": "note", "private": {"text": text}}


def warning(text: str) -> Event:
    return {"kind": "warning", "text": text}


def as_stage(event: Event, stage: str) -> Event:
    """The event as another stage's, which spends nothing and so has no ε."""
    renamed = event.copy()
    renamed["stage"] = stage
    renamed.pop("epsilon", None)
    return renamed


def mark_private(event: Event) -> Event:
    """The event with speed, time left and memory under `private`: for stages in which these depend on the original rows."""
    if event["kind"] != "progress":
        return event
    marked = event.copy()
    private = {key: marked.pop(key) for key in _PRIVATE_IN_TRAINING if key in marked}  # type: ignore[misc]
    marked["private"] = {**private, **event.get("private", {})}
    return marked


def for_the_record(event: Event) -> dict[str, Any] | None:
    """The part of an event that may be written to `events.jsonl`: stage, step, ε and seal; None to write nothing.

    The ε of a training step is left out: it lags by some steps, and the ledger has every charge.
    """
    if event.get("kind") not in _RECORDED_KINDS:
        return None
    kept = {key: value for key, value in event.items() if key in _RECORDED_KEYS}
    if event["kind"] == "progress" and event.get("stage") == "train":
        kept.pop("epsilon", None)
    return kept


class Recorder:
    """Passes events on and appends their recordable part to a JSON-lines file.

    No times are written: the duration of a step is private. A call raises ResourceError where the file cannot be written.
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
