"""A sampling job: from a merged GGUF to rows in synthetic.duckdb, chunk by chunk, never a row lost or doubled.

Knows the store of synthetic rows, not the private one.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from localsynth.config import SampleConfig
from localsynth.errors import Cancelled
from localsynth.events import Emit
from localsynth.sample.engine import Engine, SampleStatistics
from localsynth.sample.surrogates import Surrogates
from localsynth.schema import Record, Schema
from localsynth.store.synthetic import SyntheticStore

__all__ = ["SampleResult", "draw_rows"]


@dataclass(frozen=True)
class SampleResult:
    """What a job did; `rows` counts those it wrote, `total` those of the run in the table."""

    rows: int
    total: int
    seconds: float
    statistics: SampleStatistics


def default_threads() -> int:
    """One thread for each physical core this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def draw_rows(
    *,
    model: Path,
    schema: Schema,
    description: str,
    settings: SampleConfig,
    store: SyntheticStore,
    run: str,
    rows: int,
    emit: Emit,
    should_stop: Callable[[], bool],
) -> SampleResult:
    """Draw rows until the table has `rows` of this run. The table and the run are known to `store` already.

    Each chunk is one transaction. Raises Cancelled between chunks when `should_stop()`; calling again draws what is missing.
    """
    started = time.monotonic()
    present = store.row_count(run)
    if present >= rows:
        return SampleResult(0, present, 0.0, SampleStatistics())
    threads = settings.threads or default_threads()
    sequences = min(settings.sequences or 32, rows - present)
    surrogates = Surrogates(schema, settings.seed)
    chunk: list[Record] = []
    written = 0
    told = 0.0
    with Engine(
        model,
        schema,
        description,
        sequences=sequences,
        threads=threads,
        seed=settings.seed,
        temperature=settings.temperature,
        top_p=settings.top_p,
    ) as engine:
        drawing = time.monotonic()
        for number, learned in engine.rows(range(present, rows)):
            chunk.append(surrogates.complete(number, learned))
            drawn = number + 1
            if len(chunk) == settings.chunk_rows or drawn == rows:
                store.append(run, drawn - len(chunk), chunk)
                written += len(chunk)
                chunk = []
                if should_stop() and drawn < rows:
                    raise Cancelled(f"Stopped after {drawn} of {rows} rows.", "`localsynth sample` draws the rest.")
            now = time.monotonic()
            if now - told > 0.5 or drawn == rows:
                told = now
                statistics = engine.statistics
                rate = statistics.rows / (now - drawing)
                emit(
                    {
                        "kind": "progress",
                        "stage": "sample",
                        "step": drawn,
                        "steps": rows,
                        "rate": statistics.tokens / (now - drawing),
                        "unit": "tokens/s",
                        "seconds_left": (rows - drawn) / rate,
                    }
                )
        statistics = engine.statistics
    return SampleResult(written, present + written, time.monotonic() - started, statistics)
