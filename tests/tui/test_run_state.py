"""The stages and figures of the Run screen, from events."""

import re
from pathlib import Path

import pytest

from localsynth_tui.jobs.run_state import STAGES, RunState, stages_of

STARTS = [{"kind": "stage_started", "stage": stage} for stage in STAGES]
"""Every stage of a run that has all six, in the order in which the pipeline starts them."""


def statuses(state):
    return {stage.name: stage.status for stage in state.stages}


def test_stages_are_those_of_the_pipeline():
    pipeline = Path(__file__).parents[2] / "localsynth" / "pipeline"
    sources = "".join(path.read_text(encoding="utf-8") for path in pipeline.glob("*.py"))
    assert {*STAGES, "audit"} == set(re.findall(r'stage_started\("(\w+)"', sources))


def test_no_stage_is_done_before_it_began():
    state = RunState("run", counts_texts=True, report=True)
    for place, event in enumerate(STARTS):
        state.apply(event)
        expected = ["done"] * place + ["running"] + ["waiting"] * (len(STAGES) - place - 1)
        assert list(statuses(state).values()) == expected, event["stage"]
        state.apply({"kind": "stage_done", "stage": event["stage"]})


def test_unknown_stage_leaves_later_stages_waiting():
    state = RunState("run", report=True)
    for event in STARTS[:3]:
        state.apply(event)
        state.apply({**event, "kind": "stage_done"})
    state.apply({"kind": "stage_started", "stage": "new"})
    assert statuses(state) == {
        "ingest": "done",
        "train": "done",
        "export": "done",
        "new": "running",
        "sample": "waiting",
        "evaluate": "waiting",
    }


def test_resumed_run_shows_earlier_stages_as_done():
    state = RunState("run", counts_texts=True)
    state.apply({"kind": "stage_started", "stage": "sample"})
    assert list(statuses(state).values()) == ["done"] * 4 + ["running"]


@pytest.mark.parametrize(
    ("verb", "counts_texts", "report", "left_out"),
    [
        ("run", True, True, set()),
        ("run", False, True, {"count_texts"}),
        ("run", True, False, {"evaluate"}),
        ("rehearse", True, True, {"evaluate"}),
    ],
)
def test_run_lists_only_its_own_stages(verb, counts_texts, report, left_out):
    assert set(STAGES) - set(stages_of(verb, counts_texts, report)) == left_out


def test_single_stage_is_listed_alone():
    assert stages_of("evaluate", counts_texts=True, report=True) == ("evaluate",)


def test_work_of_a_stage_is_reported_separately():
    state = RunState("run", report=True)
    progress = {"kind": "progress", "stage": "train", "step": 1, "steps": 100}
    state.apply({**progress, "work": "marginals", "rate": 1.0, "unit": "tables/s"})
    assert state.stages[1].work == "marginals" and state.unit == "tables/s" and state.device is None
    state.apply({**progress, "rate": 300.0, "unit": "tokens/s", "device": "cuda, nf4"})
    assert state.stages[1].work is None and state.unit == "tokens/s" and state.device == "cuda, nf4"
    assert state.speed.points == [(1.0, 300.0)], "a curve is of one thing"
    state.apply({"kind": "stage_started", "stage": "sample"})
    assert state.device is None
