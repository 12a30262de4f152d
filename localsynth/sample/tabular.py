"""Rows drawn from fitted marginals: a whole sampling job, or the structured columns of rows whose texts a model writes.

Reads what was released with noise, no private data.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from localsynth.errors import Cancelled, IntegrityError
from localsynth.events import Emit
from localsynth.marginals.model import MarginalModel
from localsynth.marginals.sequence_model import SequenceModel
from localsynth.sample.job import SampleResult
from localsynth.sample.sampler import SampleStatistics
from localsynth.sample.surrogates import Surrogates
from localsynth.schema.column_split import Writing
from localsynth.schema.columns import Record, Schema, Text, conform
from localsynth.schema.conditions import Allowed, Conditions
from localsynth.schema.feasible import FeasibleSet
from localsynth.store.synthetic import Job, SyntheticStore
from localsynth.system import random_streams
from localsynth.system.canonical_json import parse_json

__all__ = ["conditions_from_marginals", "draw_from_marginals", "first_rows", "others_from_marginals", "read_marginals"]

_MOST_BYTES = 64 * 2**20
"""Of a file of marginals; the largest that `measure_marginals` makes has about a fifth of that."""
_CHUNK = 2_000
_MOST_TRIES = 20
"""Draws of one row before it is mended. Where one row in four keeps the constraints, one in 300 is mended."""


def read_marginals(path: Path) -> MarginalModel | SequenceModel:
    """The fitted marginals in a file, of single rows or of sequences. Raises IntegrityError."""
    if path.is_file() and path.stat().st_size > _MOST_BYTES:
        raise IntegrityError(f"{path} is too large for a file of marginals.", "Restore it from a backup, or train again.")
    try:
        tree: Any = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise IntegrityError(f"{path} cannot be read.", "Restore it from a backup, or train again.") from None
    if isinstance(tree, dict) and "sequence" in tree:
        return SequenceModel.from_json(tree)
    return MarginalModel.from_json(tree)


def draw_from_marginals(
    path: Path,
    surrogates: Surrogates,
    store: SyntheticStore,
    job: Job,
    given: Callable[[int], Conditions],
    emit: Emit,
    should_stop: Callable[[], bool],
) -> SampleResult:
    """Draw the rows of `job` that the table has not yet; see `sample.job.draw_rows`."""
    started = time.monotonic()
    model = read_marginals(path)
    statistics = SampleStatistics()
    if isinstance(model, SequenceModel):
        chunk_of = _sequences(model, surrogates, job)
    else:
        chunk_of = _single_rows(model, surrogates, job, given, statistics)
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
            raise Cancelled(f"Stopped after {done} of {job.rows} rows.", "`localsynth sample` draws the rest.")
    statistics.rows = max(0, job.rows - job.done)
    return SampleResult(statistics.rows, time.monotonic() - started, statistics)


def _single_rows(
    model: MarginalModel, surrogates: Surrogates, job: Job, given: Callable[[int], Conditions], statistics: SampleStatistics
) -> Callable[[range], list[Record]]:
    """Makes the rows of a job with these numbers (from 0), each by itself."""

    def chunk(numbers: range) -> list[Record]:
        drawn = _drawn(model, surrogates.schema, numbers, job.first_row, given, surrogates.seed, statistics)
        return [surrogates.complete(job.first_row + i, drawn[i]) for i in numbers]

    return chunk


def _sequences(model: SequenceModel, surrogates: Surrogates, job: Job) -> Callable[[range], list[Record]]:
    """Makes the next rows of a job, from the first one that is missing on; those before it are drawn again and left.

    A job begins with a unit of its own: a number below `first_row` may be that of an earlier job's unit, and none other is.
    """
    rows = model.rows(surrogates.seed, first_unit=job.first_row, start=job.done, constraints=surrogates.schema.constraints)

    def chunk(numbers: range) -> list[Record]:
        result = []
        for number, (unit, row) in zip(numbers, rows):  # noqa: B905 - the rows have no end
            if conform(surrogates.schema, row) != row:
                raise IntegrityError(f"Row {job.first_row + number} breaks the schema.", "Please report this as a bug.")
            result.append(surrogates.complete(job.first_row + number, row, unit))
        return result

    return chunk


def conditions_from_marginals(
    path: Path, schema: Schema, seed: int, job: Job, given: Callable[[int], Conditions]
) -> Callable[[int], Conditions]:
    """For the i-th row of `job`, what the model is given: the structured values drawn for it, under what is asked of it."""
    writing = Writing(schema)
    row = _rows_in_order(path, writing, seed, job, lambda i: writing.for_marginals(given(i)))
    return lambda i: writing.for_model(row(i), given(i))


def others_from_marginals(path: Path, schema: Schema, seed: int, job: Job) -> Callable[[int, Conditions], Record]:
    """For the i-th row of `job` and what the model is given in it, the values that guidance tells its texts apart from.

    They come from a row drawn like any other, whatever was asked for. See `Writing.told_apart`.
    """
    writing = Writing(schema)
    other = _rows_in_order(path, writing, seed, job, lambda i: {}, contrast=True)

    def of_row(i: int, row: Conditions) -> Record:
        return writing.told_apart(row, other(i), random_streams.contrast_values(seed, job.first_row + i))

    return of_row


def _rows_in_order(
    path: Path, writing: Writing, seed: int, job: Job, given: Callable[[int], Conditions], *, contrast: bool = False
) -> Callable[[int], Record]:
    """The structured part of the i-th row of a job, or of the row it is contrasted with; to be asked for in order."""
    model, structured = _for_a_model(path, writing)
    drawn: dict[int, Record] = {}

    def row(i: int) -> Record:
        if i not in drawn:
            drawn.clear()  # those before are done with
            numbers = range(i, min(i + _CHUNK, job.rows))
            asked = dict(zip(numbers, map(given, numbers), strict=True))
            drawn.update(
                _drawn(model, structured, numbers, job.first_row, asked.__getitem__, seed, SampleStatistics(), contrast=contrast)
            )
        return drawn[i]

    return row


def first_rows(path: Path, schema: Schema, seed: int, rows: int) -> list[Record]:
    """What the first rows of a new table will be, but for the texts that a model is still to write."""
    model, structured = _for_a_model(path, Writing(schema))
    drawn = _drawn(model, structured, range(rows), 0, lambda number: {}, seed, SampleStatistics())
    surrogates = Surrogates(Schema(columns=[c for c in schema.columns if not isinstance(c, Text)]), seed)
    return [surrogates.complete(i, drawn[i]) for i in range(rows)]


def _for_a_model(path: Path, writing: Writing) -> tuple[MarginalModel, Schema]:
    """The marginals of rows whose texts a model writes, and the columns that they give."""
    model = read_marginals(path)
    if isinstance(model, SequenceModel):
        raise IntegrityError(f"{path} holds sequences, and the model writes single rows.", "Restore it from a backup.")
    given = [column for column in writing.schema.columns if column.name in writing.given]
    return model, writing.schema.model_copy(update={"columns": given})


def _drawn(
    model: MarginalModel,
    schema: Schema,
    numbers: range,
    first_row: int,
    given: Callable[[int], Conditions],
    seed: int,
    statistics: SampleStatistics,
    *,
    contrast: bool = False,
) -> dict[int, Record]:
    """Structured rows by their number in the job, whose first row is row `first_row` of the table."""
    drawn: dict[int, Record] = {}
    for conditions, places in _by_conditions(numbers, given):
        rows = _rows(model, schema, conditions, [first_row + i for i in places], seed, statistics, contrast)
        drawn |= zip(places, rows, strict=True)
    return drawn


def _by_conditions(numbers: range, given: Callable[[int], Conditions]) -> list[tuple[Conditions, list[int]]]:
    groups: dict[tuple[tuple[str, Allowed], ...], list[int]] = {}
    for i in numbers:
        groups.setdefault(tuple(sorted(given(i).items())), []).append(i)
    return [(dict(conditions), places) for conditions, places in groups.items()]


def _rows(
    model: MarginalModel,
    schema: Schema,
    conditions: Conditions,
    places: list[int],
    seed: int,
    statistics: SampleStatistics,
    contrast: bool,
) -> list[Record]:
    """The rows with these numbers under one condition.

    A row that breaks a constraint is drawn again, as a whole: what is kept then follows the model's distribution given that
    the constraints hold. Where they hold too seldom for that, the last row is mended (`_mended`).
    """
    drawer = model.drawer(seed, conditions, contrast=contrast)
    rows = drawer.rows(places)

    def holds(row: Record) -> bool:
        return conform(schema, row) == row and all(row[name] in allowed for name, allowed in conditions.items())

    broken = [i for i, row in enumerate(rows) if not holds(row)]
    for attempt in range(1, _MOST_TRIES):
        if not broken:
            return rows
        statistics.rejected += len(broken)
        again = drawer.rows([places[i] for i in broken], attempt)
        for i, row in zip(broken, again, strict=True):
            rows[i] = row
        broken = [i for i in broken if not holds(rows[i])]
    feasible = FeasibleSet(schema)
    example = feasible.witness(conditions) if broken and feasible else None
    for i in broken:
        if example is not None:
            statistics.rejected += 1
            random = random_streams.row_repair(seed, places[i], contrast=contrast)
            rows[i] = _mended(model, feasible, rows[i], conditions, example, random)
        if not holds(rows[i]):
            raise IntegrityError(f"Row {places[i]} broke the schema {_MOST_TRIES} times.", "Please report this as a bug.")
    return rows


def _mended(
    model: MarginalModel, feasible: FeasibleSet, row: Record, conditions: Conditions, example: Record, random: np.random.Generator
) -> Record:
    """A row that keeps the constraints, from one that does not.

    Column after column is kept where it may be, else drawn given the rest from the values that it may have. Where that ends
    nowhere, the columns that constraints are about are those of an example.
    """
    settled: Record = {name: value for name, value in row.items() if name not in feasible.names}
    mended = dict(row)
    for name in feasible.names:
        allowed = feasible.of_column(name, settled, conditions)
        if allowed.empty:
            return {**row, **example}
        if mended[name] not in allowed:
            mended[name] = model.redraw(name, model.groups_of(mended), allowed, random.random(3))
        settled[name] = mended[name]
    return mended if feasible.satisfied(mended) else {**row, **example}
