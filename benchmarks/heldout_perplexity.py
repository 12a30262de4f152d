"""Perplexity of held-out rows under the base model and under the trained adapter of a workspace's newest run.

    .venv/bin/python benchmarks/heldout_perplexity.py WORKSPACE [ROWS]

Reads the private store: the figures are for the person at the screen, not covered by the guarantee. Perplexity is per learned
token (values and the line breaks that end them).
"""

import math
import sys
from pathlib import Path

import torch

from localsynth.config import load_config
from localsynth.llm.adapter import read_adapter
from localsynth.llm.base_models import find_base_model
from localsynth.llm.llama_cpp import Vocabulary
from localsynth.llm.row_text import Codec, Encoded
from localsynth.store.private import PrivateStore
from localsynth.train.device import choose_precision
from localsynth.train.model import LossModel, build_model, set_adapter
from localsynth.workspace.effective_schema import finished_ingest
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import latest_run


def perplexity(model: LossModel, rows: list[Encoded]) -> float:
    """exp of the mean loss a learned token."""
    loss, tokens = 0.0, 0
    with torch.no_grad():
        for micro in model.micro_batches([[row] for row in rows], 1024):
            loss += float(model(micro.to(model.weights[0].device)))
            tokens += int((micro.targets >= 0).sum())
    return math.exp(loss / tokens)


def main() -> None:
    workspace = Workspace.open(Path(sys.argv[1]))
    wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    config = load_config(workspace.config_path)
    effective, run = finished_ingest(workspace).effective, latest_run(workspace)
    assert run is not None
    base = find_base_model(config.train.model)
    with PrivateStore.open(workspace) as store, Vocabulary(base.path) as vocabulary:
        codec = Codec(effective.schema, vocabulary.tokenize, vocabulary.start, config.data.description)
        units = store.conformed_units("holdout", effective.schema)
        rows = [codec.encode(row) for unit in units for row in unit][:wanted]
    adapter = read_adapter(run.directory / "adapter")
    precision = choose_precision(config.train.precision, "cpu")
    model = build_model(base.path, adapter.rank, int(adapter.alpha), run.model.targets, precision, "cpu", seed=0)
    before = perplexity(model, rows)
    set_adapter(model, adapter.pairs)
    after = perplexity(model, rows)
    print(f"held-out rows {len(rows)}: perplexity a token {before:.2f} (base) -> {after:.2f} (trained)")


if __name__ == "__main__":
    main()
