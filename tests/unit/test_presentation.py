"""What a terminal shows and a file must not keep."""

import io
from typing import Any

import pytest

from localsynth import presentation
from localsynth.cli.narrator import Narrator
from localsynth.events import Event, mark_private

STEP: Event = {
    "kind": "progress",
    "stage": "train",
    "step": 13,
    "steps": 13,
    "epsilon": 7.6821,
    "rate": 248.4,
    "unit": "tokens/s",
    "seconds_left": 300.0,
    "memory": 3 * 2**30,
    "private": {"loss": 2.5, "clipped": 0.25},
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(stream: io.StringIO, *events: Event) -> str:
    narrator = Narrator(stream)
    for event in events:
        narrator(event)
    narrator.close()
    return stream.getvalue()


def test_a_file_shows_step_and_epsilon_of_training_only() -> None:
    assert told(io.StringIO(), mark_private(STEP)) == "train  13/13  ε spent 7.682\n"


def test_a_terminal_shows_everything_in_its_place() -> None:
    line = told(Terminal(), mark_private(STEP))
    assert line.endswith(
        "train  13/13  248 tokens/s  ε spent 7.682  5 min left  3.0 GiB  [private, for your eyes: loss 2.5, clipped 0.25]\n"
    )


def test_what_does_not_depend_on_the_rows_is_shown_in_a_file_too() -> None:
    step: dict[str, Any] = {**STEP, "stage": "sample", "private": {}}
    assert told(io.StringIO(), step) == "sample  13/13  248 tokens/s  ε spent 7.682  5 min left  3.0 GiB\n"


def test_the_number_of_rows_read_is_for_the_terminal() -> None:
    reading: Event = {"kind": "progress", "stage": "ingest", "unit": "rows", "private": {"rows": 4321}}
    assert told(io.StringIO(), reading) == "ingest  rows\n"
    assert "rows 4.32e+03" in told(Terminal(), reading)


@pytest.mark.parametrize("kind", ["note", "warning"])
def test_a_private_note_is_for_the_terminal(kind: str) -> None:
    private: Event = {"kind": kind, "private": {"text": "Some rows have none."}}
    assert told(io.StringIO(), private) == ""
    assert told(Terminal(), private) == f"{kind}: Some rows have none.\n"
    assert told(io.StringIO(), {"kind": kind, "text": "Public."}) == f"{kind}: Public.\n"


def test_the_work_of_a_stage_is_named() -> None:
    counting: Event = {"kind": "progress", "stage": "train", "work": "marginals", "step": 100, "steps": 100}
    assert told(io.StringIO(), counting, counting) == "train: marginals  100/100\n"


def test_lines_in_a_file_are_seconds_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 101.0, 111.0])
    monkeypatch.setattr(presentation.time, "monotonic", lambda: next(now))
    steps = [mark_private({**STEP, "step": step}) for step in (1, 2, 3)]
    assert told(io.StringIO(), *steps).splitlines() == ["train  1/13  ε spent 7.682", "train  3/13  ε spent 7.682"]


@pytest.mark.parametrize(("synthesizer", "steps"), [("marginals", False), ("hybrid", True), ("llm", True)])
def test_a_plan_names_steps_only_where_there_are_some(synthesizer: str, steps: bool) -> None:
    plan = {
        "units": 9, "units_origin": "declared", "training_units": 8, "synthesizer": synthesizer, "steps": 1, "batch_size": 8,
        "epsilon": {"total": 1.0, "schema": 0.0, "marginals": 1.0, "train": 0.0, "selection": 0.0}, "delta": {"total": 1e-6},
        "reserve_steps": 0, "noise_multiplier": 1.4, "seconds": {"train": 1.0, "export": 1.0, "sample": 1.0}, "rows_wanted": 8,
        "adapters": {"preset": "few", "layers": ["v_proj", "down_proj"], "measured": "some table"}, "device": "cuda",
        "micro_batch_tokens": 2048, "precision": "fp64", "memory_bytes": 1, "disk_bytes": 1, "free_disk_bytes": 1,
        "to_be_measured": [], "warnings": [],
    }  # fmt: skip
    text = presentation.plan_text(plan)
    assert ("steps" in text) == steps and "noise multiplier  1.400" in text
    assert ("on v, down (preset by the noise, measured with some table)" in text) == steps
    assert ("2,048 tokens, on the GPU" in text) == steps
    without = presentation.plan_text({**plan, "adapters": {"preset": "few", "layers": [], "measured": "some table"}})
    assert "adapters" not in without, "as with a soft prompt"
