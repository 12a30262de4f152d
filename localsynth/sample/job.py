"""A sampling job: from a merged GGUF to rows in synthetic.duckdb, chunk by chunk, with no row lost or doubled.

Knows the store of synthetic rows, not the private one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from localsynth.config import SampleConfig
from localsynth.errors import Cancelled
from localsynth.events import Emit, note, progress
from localsynth.sample.candidates import Request
from localsynth.sample.row_plan import RowPlan
from localsynth.sample.sampler import Sampler, SampleStatistics
from localsynth.sample.surrogates import Surrogates
from localsynth.schema.columns import Record, Text
from localsynth.store.synthetic import Job, SyntheticStore

_MIN_SECONDS_BETWEEN_CHUNKS = 1.0
"""A transaction takes 40 ms. So rows that come quickly are written once a second, and not once a hundred rows."""
_SECONDS_BETWEEN_EVENTS = 0.5


@dataclass(frozen=True)
class SampleResult:
    """The outcome of a job; `rows` counts those it wrote."""

    rows: int
    seconds: float
    statistics: SampleStatistics


def generate_rows(
    plan: RowPlan,
    settings: SampleConfig,
    surrogates: Surrogates,
    store: SyntheticStore,
    job: Job,
    emit: Emit,
    should_stop: Callable[[], bool],
) -> SampleResult:
    """Generate the rows of `job` that are still missing from the table.

    Each chunk is one transaction. Raises Cancelled between chunks when `should_stop()`; another call generates the rest.
    """
    started = time.monotonic()
    if job.done >= job.rows:
        return SampleResult(0, 0.0, SampleStatistics())
    missing = range(job.done, job.rows)
    texts = [column.name for column in surrogates.schema.learned() if isinstance(column, Text)]
    checks = any(name in plan.conditions(job.done) for name in texts)
    with Sampler(plan, settings, len(missing)) as sampler:
        emit(note(f"Sampling on {sampler.device}, batch size {sampler.batch_size}."))
        for i in missing if checks else ():
            sampler.check(Request(job.first_row + i, plan.conditions(i)))
        chunk: list[Record] = []
        begun = written_at = emitted_at = time.monotonic()
        written = 0
        for number, learned in sampler.rows(map(plan.request, missing)):
            chunk.append(surrogates.complete(number, learned))
            done = number - job.first_row + 1
            now = time.monotonic()
            full = len(chunk) >= settings.chunk_rows and now - written_at >= _MIN_SECONDS_BETWEEN_CHUNKS
            if full or done == job.rows:
                store.append(job.number, number + 1 - len(chunk), chunk)
                written, chunk, written_at = written + len(chunk), [], now
                if should_stop() and done < job.rows:
                    raise Cancelled(f"Stopped after {done} of {job.rows} rows.", "`localsynth sample` generates the rest.")
            if now - emitted_at > _SECONDS_BETWEEN_EVENTS or done == job.rows:
                emitted_at = now
                emit(
                    {
                        **progress("sample", done, job.rows, "tokens/s"),
                        "rate": sampler.statistics.tokens / (now - begun),
                        "device": sampler.device,
                        "seconds_left": _seconds_left(now - begun, done - job.done, len(missing), sampler.batch_size),
                    }
                )
        return SampleResult(written, time.monotonic() - started, sampler.statistics)


def _seconds_left(seconds: float, done: int, rows: int, batch_size: int) -> float | None:
    """Estimated seconds for the rest of `rows`, where `done` of them took `seconds`; None while too few are done.

    Rows in the batch count as half done: the first row to be finished tells how long a row takes, not how often one comes.
    """
    if done < min(batch_size, rows) / 2:
        return None
    half_done = min(batch_size, rows - done) / 2
    return seconds * (rows - done - half_done) / (done + half_done)
