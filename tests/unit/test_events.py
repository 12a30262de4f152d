"""What may be kept of an event, and what depends on the rows."""

import json
from pathlib import Path
from typing import Any

import pytest

from localsynth.errors import ResourceError
from localsynth.events import Event, Recorder, for_the_record, mark_private

STEP: Event = {
    "kind": "progress",
    "stage": "train",
    "step": 3,
    "steps": 9,
    "epsilon": 1.5,
    "rate": 248.0,
    "unit": "tokens/s",
    "seconds_left": 12.0,
    "memory": 2**31,
    "private": {"loss": 2.5, "clipped": 0.5},
}


def test_speed_time_and_memory_of_a_step_are_private() -> None:
    marked = mark_private(STEP)
    assert set(marked) == {"kind", "stage", "step", "steps", "epsilon", "private"}
    moved = {key: STEP[key] for key in ("rate", "unit", "seconds_left", "memory")}
    assert marked["private"] == {**moved, "loss": 2.5, "clipped": 0.5}
    assert STEP["rate"] == 248.0 and set(STEP["private"]) == {"loss", "clipped"}, "the event itself stays"


@pytest.mark.parametrize(
    "event",
    [{"kind": "warning", "text": "w"}, {"kind": "stage_started", "stage": "train"}, {"kind": "stage_done", "stage": "train"}],
)
def test_mark_private_leaves_other_events_unchanged(event: Event) -> None:
    assert mark_private(event) == event


def test_the_record_has_no_epsilon_of_a_training_step() -> None:
    assert for_the_record(STEP) == {"kind": "progress", "stage": "train", "step": 3, "steps": 9}
    done: dict[str, Any] = {"kind": "stage_done", "stage": "train", "epsilon": 3.5}
    assert for_the_record(done) == done
    later: dict[str, Any] = {"kind": "progress", "stage": "sample", "step": 1, "steps": 2, "epsilon": 3.5}
    assert for_the_record(later) == later


def test_the_record_gets_only_public_keys(tmp_path: Path) -> None:
    seen: list[Event] = []
    record = Recorder(tmp_path / "events.jsonl", seen.append)
    for event in (mark_private(STEP), {"kind": "note", "private": {"text": "some rows"}}, {"kind": "warning", "text": "w"}):
        record(event)
    assert len(seen) == 3
    (line,) = (tmp_path / "events.jsonl").read_text().splitlines()
    assert json.loads(line) == {"kind": "progress", "stage": "train", "step": 3, "steps": 9}


def test_a_record_that_cannot_be_written_is_named(tmp_path):
    """A full disk takes no line, and its error names no file by itself."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    record = Recorder(Path("/dev/full"), lambda event: None)
    with pytest.raises(ResourceError, match="/dev/full: No space left"):
        record({"kind": "stage_started", "stage": "train"})
