"""Sampling from fitted marginals: a whole job, or the structured columns of rows whose texts the language model generates.

Reads what was released with noise, no private data.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localsynth.errors import Cancelled, IntegrityError
from localsynth.events import Emit
from localsynth.marginals.model import MarginalModel
from localsynth.marginals.sample_sequences import sample_rows
from localsynth.marginals.sequence_model import SequenceModel
from localsynth.sample.job import SampleResult
from localsynth.sample.sampler import SampleStatistics
from localsynth.sample.structured_rows import StructuredRows
from localsynth.sample.surrogates import Surrogates
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.columns import Record, Schema, Text, conform
from localsynth.schema.conditions import Conditions
from localsynth.store.synthetic import Job, SyntheticStore
from localsynth.system import random_streams
from localsynth.system.canonical_json import parse_json

__all__ = ["conditions_from_marginals", "contrasts_from_marginals", "first_rows", "generate_from_marginals", "read_marginals"]

_MAX_BYTES = 64 * 2**20
"""Of a file of marginals; the largest that `measure_marginals` makes has about a fifth of that."""
_CHUNK = 2_000
"""Rows of a transaction."""


def read_marginals(path: Path) -> MarginalModel | SequenceModel:
    """The fitted marginals in a file, of single rows or of sequences. Raises IntegrityError."""
    if path.is_file() and path.stat().st_size > _MAX_BYTES:
        raise IntegrityError(f"{path} is too large for a file of marginals.", "Restore it from a backup, or train again.")
    try:
        tree: Any = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise IntegrityError(f"{path} cannot be read.", "Restore it from a backup, or train again.") from None
    if isinstance(tree, dict) and "sequence" in tree:
        return SequenceModel.from_json(tree)
    return MarginalModel.from_json(tree)


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
            raise Cancelled(f"Stopped after {done} of {job.rows} rows.", "`localsynth sample` generates the rest.")
    statistics = SampleStatistics(rows=max(0, job.rows - job.done), rejected=single.rejected if single is not None else 0)
    return SampleResult(statistics.rows, time.monotonic() - started, statistics)


def _single_rows(
    structured: StructuredRows, surrogates: Surrogates, job: Job, conditions: Callable[[int], Conditions]
) -> Callable[[range], list[Record]]:
    """Generates the rows of a job with these numbers (from 0), independently of each other."""

    def chunk(numbers: range) -> list[Record]:
        first = job.first_row
        rows = structured.rows([first + i for i in numbers], lambda number: conditions(number - first))
        return [surrogates.complete(number, rows[number]) for number in sorted(rows)]

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


def conditions_from_marginals(
    path: Path, schema: Schema, seed: int, job: Job, conditions: Callable[[int], Conditions]
) -> Callable[[int], Conditions]:
    """For the i-th row of `job`, the conditions for the model: the structured values sampled for it, and what is requested."""
    split = ColumnSplit(schema, hybrid=True)
    row = _rows_in_order(path, split, seed, job, lambda i: split.for_marginals(conditions(i)))
    return lambda i: split.for_model(row(i), conditions(i))


def contrasts_from_marginals(path: Path, schema: Schema, seed: int, job: Job) -> Callable[[int, Conditions], Record]:
    """For the i-th row of `job` and its conditions, the values that guidance contrasts its texts with.

    They come from a row sampled without conditions. See `ColumnSplit.contrast_row`.
    """
    split = ColumnSplit(schema, hybrid=True)
    other = _rows_in_order(path, split, seed, job, lambda i: {}, contrast=True)

    def of_row(i: int, row: Conditions) -> Record:
        return split.contrast_row(row, other(i), random_streams.contrast_values(seed, job.first_row + i))

    return of_row


def _rows_in_order(
    path: Path, split: ColumnSplit, seed: int, job: Job, conditions: Callable[[int], Conditions], *, contrast: bool = False
) -> Callable[[int], Record]:
    """The structured columns of a job's i-th row, or of the row it is contrasted with; to be asked for in ascending order."""
    structured = _beside_texts(path, split, seed, contrast=contrast)
    first = job.first_row
    rows: dict[int, Record] = {}

    def row(i: int) -> Record:
        if first + i not in rows:
            rows.clear()  # earlier rows are not needed again
            numbers = range(first + i, first + min(i + _CHUNK, job.rows))
            rows.update(structured.rows(numbers, lambda number: conditions(number - first)))
        return rows[first + i]

    return row


def first_rows(path: Path, schema: Schema, seed: int, rows: int) -> list[Record]:
    """The first rows of a new table, without the texts that a model has yet to generate."""
    structured = _beside_texts(path, ColumnSplit(schema, hybrid=True), seed).rows(range(rows), lambda number: {})
    surrogates = Surrogates(Schema(columns=[c for c in schema.columns if not isinstance(c, Text)]), seed)
    return [surrogates.complete(i, structured[i]) for i in range(rows)]


def _beside_texts(path: Path, split: ColumnSplit, seed: int, *, contrast: bool = False) -> StructuredRows:
    """What generates the structured columns of rows whose texts a model generates. Raises IntegrityError."""
    model = read_marginals(path)
    if isinstance(model, SequenceModel):
        raise IntegrityError(f"{path} holds sequences, and the model generates single rows.", "Restore it from a backup.")
    given = [column for column in split.schema.columns if column.name in split.given]
    return StructuredRows(model, split.schema.model_copy(update={"columns": given}), seed, contrast=contrast)
