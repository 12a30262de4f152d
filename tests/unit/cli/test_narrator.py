"""What the command line prints of events: what a terminal shows and a file must not keep."""

import io
import itertools
from typing import Any

import pytest

from localsynth.cli import narrator
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


def printed(stream: io.StringIO, *events: Event) -> str:
    narrate = Narrator(stream)
    for event in events:
        narrate(event)
    narrate.close()
    return stream.getvalue()


def test_a_file_gets_only_step_and_epsilon_of_training() -> None:
    assert printed(io.StringIO(), mark_private(STEP)) == "train  13/13  ε spent 7.682\n"


def test_a_terminal_shows_private_figures_too() -> None:
    line = printed(Terminal(), mark_private(STEP))
    assert line.endswith(
        "train  13/13  248 tokens/s  ε spent 7.682  5 min left  3.0 GiB  [private, not stored: loss 2.5, clipped 0.25]\n"
    )


def test_a_file_gets_the_public_figures_of_sampling() -> None:
    step: dict[str, Any] = {**STEP, "stage": "sample", "private": {}}
    assert printed(io.StringIO(), step) == "sample  13/13  248 tokens/s  ε spent 7.682  5 min left  3.0 GiB\n"


def test_only_a_terminal_shows_the_number_of_rows_read() -> None:
    reading: Event = {"kind": "progress", "stage": "ingest", "unit": "rows", "private": {"rows": 4321}}
    assert printed(io.StringIO(), reading, reading) == "", "the number of lines would tell how long it took"
    assert "rows 4.32e+03" in printed(Terminal(), reading)


@pytest.mark.parametrize("kind", ["note", "warning"])
def test_only_a_terminal_shows_a_private_note(kind: str) -> None:
    private: Event = {"kind": kind, "private": {"text": "Some rows have none."}}
    assert printed(io.StringIO(), private) == ""
    assert printed(Terminal(), private) == f"{kind}: Some rows have none.\n"
    assert printed(io.StringIO(), {"kind": kind, "text": "Public."}) == f"{kind}: Public.\n"


def test_progress_names_the_work_of_a_stage() -> None:
    counting: Event = {"kind": "progress", "stage": "train", "work": "marginals", "step": 100, "steps": 100}
    assert printed(io.StringIO(), counting, counting) == "train: marginals  100/100\n"


def test_a_file_gets_the_progress_within_a_long_step() -> None:
    parts = [{"kind": "progress", "stage": "evaluate", "step": 12, "steps": 13, "unit": f"texts: {p}%"} for p in (5, 5, 10)]
    assert printed(io.StringIO(), *parts) == "evaluate  12/13  texts: 5%\nevaluate  12/13  texts: 10%\n"


def test_progress_lines_in_a_file_do_not_tell_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a step takes depends on the private rows in its batch."""
    steps = [mark_private({**STEP, "step": step, "steps": 200}) for step in range(1, 201)]
    outputs = []
    for seconds in (0.01, 7.0, 100.0):
        now = itertools.count(100.0, seconds)
        monkeypatch.setattr(narrator.time, "monotonic", lambda now=now: next(now))
        outputs.append(printed(io.StringIO(), *steps).splitlines())
    assert outputs[0] == outputs[1] == outputs[2]
    assert [line.split()[1] for line in outputs[0]] == ["1/200", *(f"{step}/200" for step in range(10, 201, 10))]
