"""A sampling job from fitted marginals alone: rows, or sequences of rows.

Reads what was released with noise, no private data.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from localsynth.errors import Cancelled, IntegrityError
from localsynth.events import Emit, progress
from localsynth.marginals.file import read_marginals
from localsynth.marginals.model import records_of
from localsynth.marginals.sample_sequences import sample_rows
from localsynth.marginals.sequence_model import SequenceModel
from localsynth.sample.job import SampleResult
from localsynth.sample.sampler import SampleStatistics
from localsynth.sample.structured_rows import StructuredRows
from localsynth.sample.surrogates import Surrogates
from localsynth.schema.columns import Record, conform
from localsynth.schema.conditions import Conditions
from localsynth.store.column_batch import ColumnBatch
from localsynth.store.synthetic import Job, SyntheticStore

_CHUNK = 100_000
"""Rows of a transaction."""


def generate_from_marginals(
    path: Path,
    surrogates: Surrogates,
    store: SyntheticStore,
    job: Job,
    conditions: Callable[[int], Conditions],
    emit: Emit,
    should_stop: Callable[[], bool],
) -> SampleResult:
    """Generate the rows of `job` that the table does not have yet; see `sample.job.generate_rows`."""
    started = time.monotonic()
    model = read_marginals(path)
    single = None
    chunk_of: Callable[[range], Sequence[Record] | ColumnBatch]
    if isinstance(model, SequenceModel):
        chunk_of = _sequences(model, surrogates, job)
    else:
        single = StructuredRows(model, surrogates.schema, surrogates.seed)
        chunk_of = _single_rows(single, surrogates, job, conditions)
    for first in range(job.done, job.rows, _CHUNK):
        numbers = range(first, min(first + _CHUNK, job.rows))
        chunk = chunk_of(numbers)
        store.append(job.number, job.first_row + first, chunk)
        done = numbers[-1] + 1
        seconds = time.monotonic() - started
        emit(
            {
                **progress("sample", done, job.rows, "rows/s"),
                "rate": (done - job.done) / seconds,
                "seconds_left": (job.rows - done) * seconds / (done - job.done),
            }
        )
        if should_stop() and done < job.rows:
            raise Cancelled(f"Stopped after {done} of {job.rows} rows.", "`localsynth sample` generates the rest.")
    statistics = SampleStatistics(rows=max(0, job.rows - job.done), rejected=single.rejected if single is not None else 0)
    return SampleResult(statistics.rows, time.monotonic() - started, statistics)


def rows_by_marginals(path: Path, surrogates: Surrogates, job: Job, conditions: Callable[[int], Conditions]) -> Iterator[Record]:
    """All rows of `job`, as `generate_from_marginals` writes them. Raises IntegrityError where `path` holds no marginals."""
    model = read_marginals(path)
    if isinstance(model, SequenceModel):
        sequences = _sequences(model, surrogates, job)
        for first in range(0, job.rows, _CHUNK):
            yield from sequences(range(first, min(first + _CHUNK, job.rows)))
        return
    structured = StructuredRows(model, surrogates.schema, surrogates.seed)
    for first in range(job.first_row, job.first_row + job.rows, _CHUNK):
        numbers = range(first, min(first + _CHUNK, job.first_row + job.rows))
        for number, row in structured.rows(numbers, lambda number: conditions(number - job.first_row)).items():
            yield surrogates.complete(number, row)


def _single_rows(
    structured: StructuredRows, surrogates: Surrogates, job: Job, conditions: Callable[[int], Conditions]
) -> Callable[[range], ColumnBatch]:
    """Generates the rows of a job with these numbers (from 0), independently of each other."""
    schema = surrogates.schema
    needed = [attribute for attribute in structured.attributes if attribute.name in surrogates.needs]

    def chunk(places: range) -> ColumnBatch:
        numbers = range(job.first_row + places.start, job.first_row + places.stop)
        ordinals = structured.ordinals(numbers, lambda number: conditions(number - job.first_row))
        others = surrogates.columns(numbers, records_of(needed, ordinals) if needed else [{}] * len(numbers))
        return ColumnBatch(schema, ordinals, others)

    return chunk


def _sequences(model: SequenceModel, surrogates: Surrogates, job: Job) -> Callable[[range], list[Record]]:
    """Generates the next rows of a job, from the first missing one on.

    A job begins with a new unit, of number `first_row`: the units of earlier jobs have smaller numbers.
    """
    rows = sample_rows(model, surrogates.seed, job.first_row, job.done, surrogates.schema.constraints)

    def chunk(numbers: range) -> list[Record]:
        result = []
        for number, (unit, row) in zip(numbers, rows):  # noqa: B905 - the rows are endless
            if conform(surrogates.schema, row) != row:
                raise IntegrityError(f"Row {job.first_row + number} violates the schema.", "Please report this as a bug.")
            result.append(surrogates.complete(job.first_row + number, row, unit))
        return result

    return chunk
