"""The report of a finished workspace without differential privacy: no noise, no clipping. For PUBLIC tables only.

    .venv/bin/python benchmarks/without_privacy.py WS DIR [ROWS]

Reads the table, schema and settings of the newest run of WS. Fits the same marginals to exact counts, trains the same model for
the same steps on unclipped gradients, samples as many rows (or ROWS) with the product's own functions, and writes
DIR/report.html and DIR/report.json. The product itself has no such switch. No certificate is made, and WS stays as it is.

The content of DIR protects nobody: never do this with a table that you may not share. Measured bounds and lists stay as they
were. A model that is in DIR already is used as it is.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from localsynth.config import SampleConfig
from localsynth.evaluate.attacks.membership import attack_by_scores
from localsynth.evaluate.likelihood import likelihood_gain
from localsynth.evaluate.report import render_report, report_document
from localsynth.evaluate.tables import evaluate_tables
from localsynth.export.export import build_gguf
from localsynth.llm.base_models import find_base_model
from localsynth.llm.llama_cpp import Embedder, Vocabulary
from localsynth.llm.row_text import Codec
from localsynth.marginals.domain import Domain
from localsynth.marginals.measure import measure_marginals
from localsynth.privacy.noise import RandomSource
from localsynth.sample.candidates import Request
from localsynth.sample.row_plan import RowPlan
from localsynth.sample.sampler import Sampler
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.columns import Record, Schema
from localsynth.store.private import PrivateStore
from localsynth.store.synthetic import SyntheticStore
from localsynth.system.cpu import default_threads
from localsynth.train.loop import train
from localsynth.train.plan import TrainPlan
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import Run, latest_run

_LARGE_RHO = 1e6
"""ρ of a budget that is never used up."""
_ASKED = 250


class NoNoise(RandomSource):
    """Samples batches by a fixed seed, and returns zeros for noise."""

    label = "no noise"

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def random_bytes(self, n: int) -> bytes:
        return self._generator.bytes(n)

    def gaussian(self, n: int) -> np.ndarray:
        return np.zeros(n)


def rows_of(workspace: Workspace, name: Any, schema: Schema) -> list[Record]:
    """The rows of a split as the product sees them."""
    with PrivateStore.open(workspace) as store:
        return [row for unit in store.conformed_units(name, schema) for row in unit]


def trained(run: Run, split: ColumnSplit, rows: list[Record], folder: Path) -> None:
    """The run's model, trained without noise and clipping, as `folder`/model.gguf."""
    settings = run.settings.train
    base = find_base_model(settings.model)
    with Vocabulary(base.path) as vocabulary:
        codec = Codec(split.schema, vocabulary.tokenize, vocabulary.start, "", split.given)
        units = [[codec.encode(split.with_lengths(row))] for row in rows]
    train(
        load_units=lambda: [unit for unit in units if any(unit[0].learned)],
        base=base.path,
        targets=run.model.targets,
        micro_batch_tokens=run.model.micro_batch_tokens,
        plan=replace(TrainPlan(**run.model.plan), noise_multiplier=0.0, max_grad_norm=1e9),
        settings=settings,
        charge_step=lambda: 0.0,
        random=NoNoise(0),
        run_directory=folder,
        emit=lambda event: print(json.dumps(event), file=sys.stderr, flush=True),
        should_stop=lambda: False,
    )
    build_gguf(base.path, folder / "adapter", folder / "model.gguf", "BF16", default_threads(), lambda event: None)


def main() -> None:
    workspace, folder = Workspace.open(Path(sys.argv[1])), Path(sys.argv[2])
    folder.mkdir(exist_ok=True)
    run = latest_run(workspace)
    assert run is not None
    if run.settings.data.sequence_by is not None:
        sys.exit("Not written for sequences.")
    schema = run.effective.schema
    rows, holdout = (rows_of(workspace, name, schema) for name in ("train", "holdout"))
    number = int(sys.argv[3]) if len(sys.argv) > 3 else SyntheticStore(workspace.synthetic_path).row_count()
    split = ColumnSplit(schema, hybrid=run.hybrid)
    sampled: list[Record] = [{}] * number
    if run.hybrid or run.by_marginals:
        domain = Domain.of_schema(split.schema)
        codes = domain.encode([split.with_lengths(row) for row in rows])
        sampled = measure_marginals(domain, codes, _LARGE_RHO, NoNoise(0)).sample(number, 0)
    attacks: list[dict[str, Any]] = []
    embed = None
    if not run.by_marginals:
        base = find_base_model(run.settings.train.model).path
        model = folder / "model.gguf"
        if not model.exists():
            trained(run, split, rows, folder)
        requests = (Request(i, split.for_model(row, {})) for i, row in enumerate(sampled))
        with Sampler(RowPlan(model, "", split.schema, lambda _: {}), SampleConfig()) as sampler:
            sampled = [record for _, record in sampler.rows(requests)]
        order = np.random.default_rng(0).permutation
        asked = [[side[i] for i in order(len(side))[:_ASKED]] for side in (rows, holdout)]
        with_lengths = [[split.with_lengths(row) for row in side] for side in asked]
        scores = [likelihood_gain(base, model, split.schema, "", side, default_threads(), split.given) for side in with_lengths]
        method = f"By how much likelier the trained model finds the row than the base model does, {_ASKED} rows a side."
        attacks = [attack.to_json() for attack in attack_by_scores(*scores, seed=0, subject="the model", method=method)]
        embed = Embedder(base, default_threads())
    learned = [column.name for column in schema.learned()]
    synthetic = [{name: row[name] for name in learned} for row in sampled]
    figures = evaluate_tables(rows, holdout, synthetic, schema, seed=0, embed=embed.embed if embed else None)
    figures["attacks"] += attacks
    (folder / "report.json").write_text(json.dumps(report_document(figures, None, False), indent=1), encoding="utf-8")
    (folder / "report.html").write_text(render_report(figures, None, False), encoding="utf-8")


if __name__ == "__main__":
    main()
