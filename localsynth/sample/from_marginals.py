"""A sampling job on fitted marginals: rows into synthetic.duckdb, chunk by chunk, never a row lost or doubled.

Reads what was released with noise, no private data.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localsynth.conditions import Allowed, Conditions
from localsynth.errors import Cancelled, IntegrityError
from localsynth.events import Emit
from localsynth.marginals.model import MarginalModel
from localsynth.privacy.canonical import parse_json
from localsynth.sample.engine import SampleStatistics
from localsynth.sample.job import SampleResult
from localsynth.sample.surrogates import Surrogates
from localsynth.schema import Record, Schema, conform
from localsynth.store.synthetic import Job, SyntheticStore

__all__ = ["draw_from_marginals", "read_marginals"]

_CHUNK = 2_000
_SPARSE = 50
_MOST_TRIES = 5
_OTHER_ROWS = 1 << 40
"""Where the rows begin that stand in for others: far beyond any row number."""


def read_marginals(path: Path) -> MarginalModel:
    """The fitted marginals in a file. Raises IntegrityError."""
    try:
        tree: Any = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise IntegrityError(f"{path} cannot be read.", "Restore it from a backup, or train again.") from None
    return MarginalModel.from_json(tree)


def draw_from_marginals(
    path: Path,
    schema: Schema,
    seed: int,
    store: SyntheticStore,
    job: Job,
    given: Callable[[int], Conditions],
    emit: Emit,
    should_stop: Callable[[], bool],
) -> SampleResult:
    """Draw the rows of `job` that the table has not yet; see `sample.job.draw_rows`."""
    started = time.monotonic()
    model = read_marginals(path)
    surrogates = Surrogates(schema, seed)
    statistics = SampleStatistics()
    for first in range(job.done, job.rows, _CHUNK):
        numbers = range(first, min(first + _CHUNK, job.rows))
        drawn: dict[int, Record] = {}
        for conditions, places in _by_conditions(numbers, given):
            drawn |= zip(
                places, _rows(model, schema, conditions, [job.first_row + i for i in places], seed, statistics), strict=True
            )
        chunk = [surrogates.complete(job.first_row + i, drawn[i]) for i in numbers]
        store.append(job.number, job.first_row + first, chunk)
        done = numbers[-1] + 1
        seconds = time.monotonic() - started
        emit(
            {
                "kind": "progress",
                "stage": "sample",
                "step": done,
                "steps": job.rows,
                "rate": (done - job.done) / seconds,
                "unit": "rows/s",
                "seconds_left": (job.rows - done) * seconds / (done - job.done),
            }
        )
        if should_stop() and done < job.rows:
            raise Cancelled(f"Stopped after {done} of {job.rows} rows.", "`localsynth sample` draws the rest.")
    statistics.rows = max(0, job.rows - job.done)
    return SampleResult(statistics.rows, time.monotonic() - started, statistics)


def _by_conditions(numbers: range, given: Callable[[int], Conditions]) -> list[tuple[Conditions, list[int]]]:
    groups: dict[tuple[tuple[str, Allowed], ...], list[int]] = {}
    for i in numbers:
        groups.setdefault(tuple(sorted(given(i).items())), []).append(i)
    return [(dict(conditions), places) for conditions, places in groups.items()]


def _rows(
    model: MarginalModel, schema: Schema, conditions: Conditions, places: list[int], seed: int, statistics: SampleStatistics
) -> list[Record]:
    """The rows with these numbers under one condition."""
    span = places[-1] + 1 - places[0]
    if span <= _SPARSE * len(places):
        # Drawing a row takes microseconds, preparing a condition milliseconds: those between are drawn and left.
        every = model.sample(span, seed, conditions, start=places[0])
        rows = [every[place - places[0]] for place in places]
    else:
        rows = [model.sample(1, seed, conditions, start=place)[0] for place in places]

    def holds(row: Record) -> bool:
        return conform(schema, row) == row and all(row[name] in allowed for name, allowed in conditions.items())

    for i, place in enumerate(places):
        for attempt in range(1, _MOST_TRIES):
            if holds(rows[i]):
                break
            statistics.rejected += 1
            rows[i] = model.sample(1, seed, conditions, start=attempt * _OTHER_ROWS + place)[0]
        else:
            if not holds(rows[i]):
                raise IntegrityError(f"Row {place} broke the schema {_MOST_TRIES} times.", "Please report this as a bug.")
    return rows
