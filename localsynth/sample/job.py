"""A sampling job: from a merged GGUF to rows in synthetic.duckdb, chunk by chunk, never a row lost or doubled.

Knows the store of synthetic rows, not the private one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from localsynth.config import SampleConfig
from localsynth.errors import Cancelled
from localsynth.events import Emit
from localsynth.llm.llama_cpp import ALL_LAYERS, gpu_offload
from localsynth.sample.sampler import Engine, Request, SampleStatistics
from localsynth.sample.surrogates import Surrogates
from localsynth.schema.columns import Record, Schema, Text
from localsynth.schema.conditions import Conditions
from localsynth.store.synthetic import Job, SyntheticStore
from localsynth.system.cpu import default_threads
from localsynth.text_counts.logit_bias import LogitBias

__all__ = ["SampleResult", "draw_rows", "engine_for"]

_BETWEEN_CHUNKS = 1.0
"""Seconds from one transaction to the next, at least."""


@dataclass(frozen=True)
class SampleResult:
    """What a job did; `rows` counts those it wrote."""

    rows: int
    seconds: float
    statistics: SampleStatistics


def engine_for(
    model: Path,
    seen: Schema,
    description: str,
    settings: SampleConfig,
    *,
    most: int,
    hybrid: bool,
    guided: bool,
    bias: LogitBias | None,
) -> Engine:
    """An engine with the user's `settings`, for `most` rows or fewer. With `hybrid` the model writes texts to what is given."""
    return Engine(
        model,
        seen,
        description,
        sequences=settings.sequences,
        most=max(most, settings.candidates),
        threads=settings.threads or default_threads(),
        seed=settings.seed,
        temperature=settings.temperature,
        top_p=settings.top_p,
        gpu_layers=settings.gpu_layers if settings.gpu_layers is not None else ALL_LAYERS if gpu_offload() else 0,
        candidates=settings.candidates,
        guidance=settings.guidance if guided else 0.0,
        bias=bias,
        nulls_given=hybrid,
    )


def draw_rows(
    *,
    model: Path,
    schema: Schema,
    seen: Schema,
    description: str,
    settings: SampleConfig,
    store: SyntheticStore,
    job: Job,
    given: Callable[[int], Conditions],
    hybrid: bool,
    other: Callable[[int, Conditions], Record] | None,
    bias: LogitBias | None,
    emit: Emit,
    should_stop: Callable[[], bool],
) -> SampleResult:
    """Draw the rows of `job` that the table has not yet. `given(i)` are the conditions of the job's i-th row, asked for in order;
    `other(i, given(i))`, with guidance, the values that it is to be told apart from.

    `seen` is the schema as the model knows it: with the columns of `schema` that are learned, and perhaps others. With `hybrid`
    it writes only texts, and `given(i)` says which are empty. A `bias` corrects the
    tokens that texts are written with.
    Each chunk is one transaction. Raises Cancelled between chunks when `should_stop()`; calling again draws what is missing.
    """
    started = time.monotonic()
    if job.done >= job.rows:
        return SampleResult(0, 0.0, SampleStatistics())
    missing = range(job.done, job.rows)
    texts = [column.name for column in schema.learned() if isinstance(column, Text)]
    checks = any(name in given(job.done) for name in texts)
    surrogates = Surrogates(schema, settings.seed)
    with engine_for(
        model,
        seen,
        description,
        settings,
        most=len(missing),
        hybrid=hybrid,
        guided=other is not None,
        bias=bias,
    ) as engine:
        emit({"kind": "note", "text": f"Sampling on {engine.device}, {engine.sequences} rows side by side."})
        for i in missing if checks else ():
            engine.check(Request(job.first_row + i, given(i)))

        def request(i: int) -> Request:
            row = given(i)
            return Request(job.first_row + i, row, other(i, row) if other is not None else None)

        chunk: list[Record] = []
        drawing = written_at = told = time.monotonic()
        written = 0
        for number, learned in engine.rows(map(request, missing)):
            chunk.append(surrogates.complete(number, learned))
            drawn = number - job.first_row + 1
            now = time.monotonic()
            # A transaction takes 40 ms, so rows that come quickly are written by the second and not by the hundred.
            full = len(chunk) >= settings.chunk_rows and now - written_at >= _BETWEEN_CHUNKS
            if full or drawn == job.rows:
                store.append(job.number, number + 1 - len(chunk), chunk)
                written, chunk, written_at = written + len(chunk), [], now
                if should_stop() and drawn < job.rows:
                    raise Cancelled(f"Stopped after {drawn} of {job.rows} rows.", "`localsynth sample` draws the rest.")
            if now - told > 0.5 or drawn == job.rows:
                told = now
                statistics = engine.statistics
                emit(
                    {
                        "kind": "progress",
                        "stage": "sample",
                        "step": drawn,
                        "steps": job.rows,
                        "rate": statistics.tokens / (now - drawing),
                        "unit": "tokens/s",
                        "device": engine.device,
                        "seconds_left": _seconds_left(now - drawing, drawn - job.done, len(missing), engine.sequences),
                    }
                )
        return SampleResult(written, time.monotonic() - started, engine.statistics)


def _seconds_left(seconds: float, drawn: int, rows: int, side_by_side: int) -> float | None:
    """What the rest of `rows` will take, when `drawn` of them took so long; None while too few are finished to tell.

    Rows being written count as half written: the first to be finished says how long a row takes, not how often one comes.
    """
    if drawn < min(side_by_side, rows) / 2:
        return None
    half_written = min(side_by_side, rows - drawn) / 2
    return seconds * (rows - drawn - half_written) / (drawn + half_written)
