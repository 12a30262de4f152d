"""Follows a workspace's job: finds it, and reads its events into a `RunState`."""

from pathlib import Path

from localsynth.errors import LocalsynthError
from localsynth.events import Event
from localsynth.worker import failure_event
from localsynth_tui.jobs.client import Job
from localsynth_tui.jobs.run_state import RunState

__all__ = ["find_job", "read_job"]


def find_job(workspace: Path, counts_texts: bool, report: bool) -> tuple[Job, RunState] | tuple[None, None]:
    """The workspace's job and its state so far, if there is one. Raises LocalsynthError.

    `counts_texts` and `report` say which stages a run of the workspace has.
    """
    job = Job(workspace)
    if not job.exists:
        return None, None
    state = RunState(job.request.verb, counts_texts, report)
    if (outcome := job.outcome()) is not None:
        state.end(outcome)
    return job, state


def read_job(job: Job, state: RunState, limit: int) -> bool:
    """Apply at most `limit` new events to `state`, and then the outcome; returns whether anything is new."""
    events: list[Event] = []
    try:
        # The outcome first: events that were written before it are then still read before it is applied.
        outcome = job.outcome()
        events = job.new_events(limit)
    except LocalsynthError as error:
        outcome = failure_event(error)
    for event in events:
        state.apply(event)
    if outcome is not None and not events:
        state.end(outcome)
        return True
    return bool(events)
