"""Which rows a language model is to generate, and what it is given for each: made once for a sampling job.

Reads what was released with noise, no private data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from localsynth.config import SampleConfig
from localsynth.marginals.file import read_single_rows
from localsynth.marginals.model import MarginalModel
from localsynth.sample.candidates import Request
from localsynth.sample.structured_rows import StructuredRows
from localsynth.sample.surrogates import Surrogates
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.columns import Record, Schema, Text
from localsynth.schema.conditions import Conditions
from localsynth.system import random_streams
from localsynth.text_counts.logit_bias import LogitBias

_CHUNK = 2_000


@dataclass(frozen=True)
class RowPlan:
    """How a model generates a job's rows. Their indices count from 0, and are asked for in ascending order.

    model        the merged GGUF
    description  the public line before each row, as in training
    schema       the columns that the model was trained on
    conditions   of each row
    first_row    the number of the row with index 0: random numbers depend on it
    contrast     with guidance, the contrast row's values for a row with these conditions
    hybrid       whether the model generates only texts; the conditions then say which are null
    bias         of the tokens of texts
    """

    model: Path
    description: str
    schema: Schema
    conditions: Callable[[int], Conditions]
    first_row: int = 0
    contrast: Callable[[int, Conditions], Record] | None = None
    hybrid: bool = False
    bias: LogitBias | None = None

    def request(self, index: int) -> Request:
        """The request for a row."""
        conditions = self.conditions(index)
        contrast = self.contrast(index, conditions) if self.contrast is not None else None
        return Request(self.first_row + index, conditions, contrast)


def plan_rows(
    model: Path,
    description: str,
    split: ColumnSplit,
    marginals: Path,
    settings: SampleConfig,
    numbers: range,
    conditions: Callable[[int], Conditions],
    bias: LogitBias | None,
) -> RowPlan:
    """The plan for rows with these numbers, under the conditions requested of each.

    In a hybrid their structured values, and those of their contrast rows, come from the `marginals` in a file. A contrast
    row is sampled without conditions. Raises IntegrityError where the file is damaged.
    """
    if not split.hybrid:
        return RowPlan(model, description, split.schema, conditions, numbers.start, bias=bias)
    fitted = read_single_rows(marginals)
    row = _rows_in_order(_beside_texts(fitted, split, settings.seed), numbers, lambda i: split.for_marginals(conditions(i)))
    other = _rows_in_order(_beside_texts(fitted, split, settings.seed, contrast=True), numbers, lambda i: {})

    def contrast(index: int, row: Conditions) -> Record:
        return split.contrast_row(row, other(index), random_streams.contrast_values(settings.seed, numbers[index]))

    return RowPlan(
        model,
        description,
        split.schema,
        lambda i: split.for_model(row(i), conditions(i)),
        numbers.start,
        contrast if settings.guidance else None,
        hybrid=True,
        bias=bias,
    )


def first_rows(marginals: Path, schema: Schema, seed: int, rows: int) -> list[Record]:
    """The first rows of a hybrid's new table, without the texts that a model has yet to generate."""
    fitted, split = read_single_rows(marginals), ColumnSplit(schema, hybrid=True)
    structured = _beside_texts(fitted, split, seed).rows(range(rows), lambda number: {})
    surrogates = Surrogates(Schema(columns=[c for c in schema.columns if not isinstance(c, Text)]), seed)
    return [surrogates.complete(i, structured[i]) for i in range(rows)]


def _beside_texts(fitted: MarginalModel, split: ColumnSplit, seed: int, *, contrast: bool = False) -> StructuredRows:
    """What generates the structured columns of rows whose texts a model generates."""
    given = [column for column in split.schema.columns if column.name in split.given]
    return StructuredRows(fitted, split.schema.model_copy(update={"columns": given}), seed, contrast=contrast)


def _rows_in_order(
    structured: StructuredRows, numbers: range, conditions: Callable[[int], Conditions]
) -> Callable[[int], Record]:
    """The structured columns of the row with an index, to be asked for in ascending order."""
    rows: dict[int, Record] = {}

    def row(index: int) -> Record:
        number = numbers[index]
        if number not in rows:
            rows.clear()  # earlier rows are not needed again
            rows.update(structured.rows(numbers[index : index + _CHUNK], lambda number: conditions(number - numbers.start)))
        return rows[number]

    return row
