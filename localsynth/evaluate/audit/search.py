"""Canaries with an ordinary prefix and an improbable ending, searched for in the rows of a model trained on them.

Unlike the rest of the audit this tests the product: a model trained at the run's own learning rate, merged and sampled from.
Some canaries are inserted among ordinary random rows, as many are withheld. There are two questions, after Carlini et al.
2019, "The Secret Sharer" (arXiv:1802.08232). Is an inserted ending in the generated rows? Is it likelier to the model than
the withheld ones (its exposure)? The second detects far less than it takes to generate a whole ending.
"""

import math
from pathlib import Path

import numpy as np

from localsynth.config import SampleConfig
from localsynth.evaluate.audit.canaries import canary_units
from localsynth.evaluate.audit.outcome import exposures, written_endings
from localsynth.evaluate.audit.training import AuditedTraining
from localsynth.evaluate.likelihood import likelihood_gain
from localsynth.events import progress
from localsynth.export.merge import merge_adapter
from localsynth.llm.llama_cpp import Vocabulary
from localsynth.llm.row_text import Codec
from localsynth.results.audit import AuditSearch
from localsynth.sample.row_plan import RowPlan
from localsynth.sample.sampler import Sampler
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.columns import Record, Schema
from localsynth.schema.conditions import Conditions
from localsynth.schema.random_rows import random_rows
from localsynth.system.cpu import default_threads

_INSERTED = 40
_ORDINARY = 3
"""Ordinary rows to each inserted canary."""


def search_endings(
    *,
    schema: Schema,
    split: ColumnSplit,
    description: str,
    rows_per_unit: int,
    training: AuditedTraining,
    directory: Path,
    rows: int,
    sampling: SampleConfig,
) -> AuditSearch:
    """Train on canaries among ordinary rows in `directory`, generate `rows` rows with the merged model and search them.

    `sampling` are the settings of the rows. In a hybrid the model generates only texts, here for ordinary random rows. The
    schema must have a text column. Raises what training and merging raise.
    """
    base = training.base
    seeds = training.random.integers(2**31, 2).tolist()
    units, endings = canary_units(schema, 2 * _INSERTED, rows_per_unit, seeds[0])
    ordinary = list(random_rows(schema, max(rows, _ORDINARY * _INSERTED), "row", 1, seeds[1]))
    units = [[split.with_lengths(row) for row in unit] for unit in units]
    ordinary = [split.with_lengths(row) for row in ordinary]

    with Vocabulary(base) as vocabulary:
        codec = Codec(split.schema, vocabulary.tokenize, vocabulary.start, description, split.given)
        learned = [*units[:_INSERTED], *([row] for row in ordinary[: _ORDINARY * _INSERTED])]
        encoded = [[codec.encode(row) for row in unit] for unit in learned]
    # A row without a text has nothing to teach where only texts are written.
    encoded = [[row for row in unit if any(row.learned)] for unit in encoded]
    training.train(encoded, directory)
    model = directory / "model.F16.gguf"
    merge_adapter(base, directory / "adapter", model, {})
    threads = sampling.threads or default_threads()
    gains = likelihood_gain(base, model, split.schema, description, [unit[0] for unit in units], threads, split.given).tolist()

    def contrast(index: int, row: Conditions) -> Record:
        return split.contrast_row(row, ordinary[index - 1], np.random.default_rng([seeds[0], index]))

    row_plan = RowPlan(
        model,
        description,
        split.schema,
        lambda i: split.for_model(ordinary[i], {}),
        contrast=contrast if split.hybrid else None,
        hybrid=split.hybrid,
    )
    generated: list[Record] = []
    with Sampler(row_plan, sampling, rows) as sampler:
        for number, record in sampler.rows(map(row_plan.request, range(rows))):
            generated.append(record)
            training.emit(progress("audit", number + 1, rows, "rows searched"))
    exposed = exposures(gains[:_INSERTED], gains[_INSERTED:])
    found = written_endings(endings[:_INSERTED], generated)
    return AuditSearch(
        inserted=_INSERTED,
        withheld=_INSERTED,
        rows=rows,
        found=found,
        exposure=float(np.median(exposed)),
        highest=math.log2(_INSERTED + 1),
        share_at_most=None if found else min(1.0, 3 / rows),
    )
