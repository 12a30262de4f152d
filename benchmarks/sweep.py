"""Utility of DP training under different settings, on a public table: which defaults to ship.

    .venv/bin/python benchmarks/sweep.py TABLE.csv --label COLUMN --text COLUMN [--epsilon 8] [--units 4574] [--held-out 300]
        [--targets v_proj down_proj] [--set train.epochs=2 ...] [--rows 0] [--tokens 64]
        [--description LINE] [--value-description LABEL=WORDS ...] [--guidance 0.3 ...] [--temperature 1] [--words 0.2]
        [--keep ROWS.csv] [--keep-adapter DIRECTORY]

Trains with the product's own loop on rows of the form label + text, the label given (as in a hybrid run, with its true
distribution). Prints one JSON object: held-out perplexity a learned token before and after, the log-likelihood gain from the
label (nats a row), seconds, tokens/s.

With --rows N it also generates N texts for labels and lengths of the original, with each guidance. It gives the F1 of a
classifier (TF-IDF and logistic regression) trained on them and tested on held-out originals, and that of one trained on the
originals. With --words SHARE, that share of epsilon pays for token counts by label, which bias the sampling.

For PUBLIC tables only: nothing is charged, so no ledger protects anything here.
"""

import argparse
import csv
import gzip
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from heldout_perplexity import perplexity

from localsynth.config import SampleConfig, TrainConfig
from localsynth.export.export import build_gguf
from localsynth.llm.adapter import read_adapter
from localsynth.llm.base_models import find_base_model
from localsynth.llm.llama_cpp import Vocabulary
from localsynth.llm.row_text import END, Codec, Encoded
from localsynth.marginals.domain import Domain
from localsynth.privacy.account import Account
from localsynth.privacy.gaussian import rho_for
from localsynth.privacy.noise import SecureRandom
from localsynth.sample.row_plan import RowPlan
from localsynth.sample.sampler import Sampler
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.columns import Category, Record, Schema, Text
from localsynth.schema.conditions import Conditions
from localsynth.system.cpu import default_threads
from localsynth.text_counts.grouping_columns import GroupingColumn
from localsynth.text_counts.logit_bias import LogitBias, comparison_rows, first_bias, refined_bias
from localsynth.text_counts.token_counts import Row, count_tokens
from localsynth.train.device import choose_device, choose_precision
from localsynth.train.loop import train
from localsynth.train.model import LossModel, build_model, set_adapter
from localsynth.train.plan import make_train_plan
from localsynth.train.presets import choose_preset

_DELTA = 1e-5


def read(path: Path, label: str, text: str) -> list[Record]:
    """The table's rows as a label and a text."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        return [{label: row[label], text: row[text]} for row in csv.DictReader(file) if row[text]]


def f1(train_rows: list[Record], test_rows: list[Record], label: str, text: str) -> float:
    """Macro-averaged F1 of TF-IDF + logistic regression; for two labels, that of the rarer one."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.pipeline import make_pipeline

    labels = sorted({str(row[label]) for row in test_rows})
    if len({row[label] for row in train_rows}) < 2:
        return 0.0
    model = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(max_iter=1000, C=10))
    model.fit([row[text] for row in train_rows], [row[label] for row in train_rows])
    found, true = model.predict([row[text] for row in test_rows]), [str(row[label]) for row in test_rows]
    if len(labels) > 2:
        return float(f1_score(true, found, average="macro"))
    rarer = min(labels, key=true.count)
    return float(f1_score(true, found, pos_label=rarer))


def label_gain(model: LossModel, right: list[Encoded], wrong: list[Encoded]) -> float:
    """By how many nats a text is likelier on its own label than on another one, on average: 0 where the label says nothing."""

    def loss(rows: list[Encoded]) -> float:
        with torch.no_grad():
            micros = model.micro_batches([[row] for row in rows], 1024)
            return sum(float(model(micro.to(model.weights[0].device))) for micro in micros)

    return (loss(wrong) - loss(right)) / len(right)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("table", type=Path)
    parser.add_argument("--label", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--units", type=int, default=4574)
    parser.add_argument("--held-out", type=int, default=300, help="rows that the perplexity is measured on")
    parser.add_argument(
        "--targets", nargs="+", help="the layers that get an adapter, by name; as the product chooses unless given"
    )
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--description", default="")
    parser.add_argument("--value-description", action="append", default=[], metavar="LABEL=WORDS")
    parser.add_argument("--guidance", type=float, nargs="+", default=[SampleConfig().guidance])
    parser.add_argument("--temperature", type=float, default=SampleConfig().temperature)
    parser.add_argument("--words", type=float, default=0.0, metavar="SHARE", help="of epsilon, for token counts by label")
    parser.add_argument("--keep", type=Path, help="write the rows of the last guidance here as CSV")
    parser.add_argument("--keep-adapter", type=Path, help="keep the adapter here")
    arguments = parser.parse_args()
    settings: dict[str, Any] = {}
    for assignment in arguments.settings:
        key, _, value = assignment.removeprefix("train.").partition("=")
        try:
            settings[key] = json.loads(value)
        except json.JSONDecodeError:
            settings[key] = value
    config = TrainConfig(**settings)

    rows = read(arguments.table, arguments.label, arguments.text)
    shuffled = [rows[i] for i in np.random.default_rng(arguments.seed).permutation(len(rows))]
    test, original = shuffled[:1000], shuffled[1000 : 1000 + arguments.units]
    label, text = arguments.label, arguments.text
    labels = sorted({str(row[label]) for row in rows})
    descriptions = dict(pair.split("=", 1) for pair in arguments.value_description)
    schema = Schema(
        columns=[
            Category(name=label, values=labels, descriptions=descriptions, nullable=False),
            Text(name=text, max_tokens=arguments.tokens, nullable=False),
        ]
    )
    split = ColumnSplit(schema, hybrid=True)
    base = find_base_model(config.model)
    with Vocabulary(base.path) as vocabulary:
        codec = Codec(split.schema, vocabulary.tokenize, vocabulary.start, arguments.description, split.given)
        units = [[codec.encode(split.with_lengths(row))] for row in original]
        held_out = [codec.encode(split.with_lengths(row)) for row in test[: arguments.held_out]]
        others = {each: [other for other in labels if other != each] for each in labels}
        random = np.random.default_rng(arguments.seed)
        swapped = [{**row, label: str(random.choice(others[str(row[label])]))} for row in test[: arguments.held_out]]
        mislabelled = [codec.encode(split.with_lengths(row)) for row in swapped]
    left = 1 - arguments.words
    plan = make_train_plan(config, len(units), Account(left * arguments.epsilon, left * _DELTA).noise)
    targets = arguments.targets or choose_preset(plan).among(base.targets)
    result: dict[str, Any] = {
        "settings": settings,
        "targets": targets,
        "epsilon": arguments.epsilon,
        "units": len(units),
        "steps": plan.steps,
        "batch": plan.batch_size,
        "noise_multiplier": round(plan.noise_multiplier, 3),
    }
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory)
        rate = 0.0

        def emit(event: dict[str, Any]) -> None:
            nonlocal rate
            rate = event.get("rate", rate)

        trained = train(
            load_units=lambda: units,
            base=base.path,
            targets=targets,
            micro_batch_tokens=config.micro_batch_tokens or (1024 if choose_device(config.device) == "cpu" else 8192),
            plan=plan,
            settings=config,
            charge_step=lambda: 0.0,
            random=SecureRandom(),
            run_directory=run,
            emit=emit,
            should_stop=lambda: False,
        )
        result |= {"train_seconds": round(trained.seconds), "tokens_per_second": round(rate)}
        result["peak_memory_mib"] = round(trained.peak_memory_bytes / 2**20)
        adapter = read_adapter(run / "adapter")
        device = choose_device(config.device)
        precision = choose_precision(config.precision, device)
        model = build_model(base.path, adapter.rank, int(adapter.alpha), targets, precision, device, seed=0)
        result["perplexity_base"] = round(perplexity(model, held_out), 2)
        set_adapter(model, adapter.pairs)
        result["perplexity"] = round(perplexity(model, held_out), 2)
        result["label_gain"] = round(label_gain(model, held_out, mislabelled), 3)
        del model
        if arguments.rows:
            result["generated"] = generate(arguments, run, base.path, split, original, test)
        if arguments.keep_adapter:
            shutil.copytree(run / "adapter", arguments.keep_adapter)
    print(json.dumps(result), flush=True)


def generate(
    arguments: argparse.Namespace, run: Path, base: Path, split: ColumnSplit, original: list[Record], test: list[Record]
) -> list[dict[str, Any]]:
    """Texts for the labels and lengths of originals, and how well a filter learns from them, for each guidance."""
    build_gguf(base, run / "adapter", run / "model.gguf", "BF16", default_threads(), lambda event: None)
    chosen = [original[i % len(original)] for i in range(arguments.rows)]
    results = []
    for guidance in arguments.guidance:
        begun = time.monotonic()

        def write(rows: list[Record], seed: int, bias: LogitBias | None, guidance: float = guidance) -> list[Record]:
            random = np.random.default_rng(seed)

            def contrast(index: int, given: Conditions) -> Record:
                return split.contrast_row(given, original[int(random.integers(len(original)))], random)

            plan = RowPlan(
                run / "model.gguf",
                arguments.description,
                split.schema,
                lambda i: split.for_model(split.with_lengths(rows[i]), {}),
                contrast=contrast,
                hybrid=True,
                bias=bias,
            )
            settings = SampleConfig(seed=seed, temperature=arguments.temperature, guidance=guidance)
            with Sampler(plan, settings) as sampler:
                return [record for _, record in sampler.rows(map(plan.request, range(len(rows))))]

        bias = logit_bias(arguments, run, split, original, write) if arguments.words else None
        synthetic = write(chosen, arguments.seed, bias)
        real, same, found = (
            f1(rows, test, arguments.label, arguments.text) for rows in (original, original[: arguments.rows], synthetic)
        )
        results.append(
            {
                "guidance": guidance,
                "rows": len(synthetic),
                "seconds": round(time.monotonic() - begun),
                "f1_original": round(real, 3),
                "f1_original_same_size": round(same, 3),
                "f1_synthetic": round(found, 3),
                "ratio": round(found / real, 3),
            }
        )
    if arguments.keep:
        with arguments.keep.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [arguments.label, arguments.text], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(synthetic)
    return results


def logit_bias(
    arguments: argparse.Namespace,
    run: Path,
    split: ColumnSplit,
    original: list[Record],
    write: Callable[[list[Record], int, LogitBias | None], list[Record]],
) -> LogitBias:
    """The tokens counted by label, and compared twice with what `write` makes of as many rows of each label."""
    label, schema = arguments.label, split.schema
    attribute = next(each for each in Domain.of_schema(schema).attributes if each.name == label)
    column = GroupingColumn(attribute, tuple(range(attribute.size)))
    labels = sorted({str(row[label]) for row in original})
    each = max(1, comparison_rows(len(original)) // len(labels))
    compared = [row for value in labels for row in [row for row in original if row[label] == value][:each]]
    rho = rho_for(arguments.words * arguments.epsilon, arguments.words * _DELTA)
    with Vocabulary(run / "model.gguf") as vocabulary:
        codec = Codec(schema, vocabulary.tokenize, vocabulary.start, arguments.description)
        end = vocabulary.tokenize(END)[-1]

        def tokens(rows: list[Record]) -> list[Row]:
            return [(row, np.unique(codec.encode_value(codec.fields[-1], row[arguments.text]))) for row in rows]

        noisy = count_tokens([column], tokens(original), vocabulary.size, rho, 1, SecureRandom())
        first = first_bias(noisy, [tokens(write(compared, arguments.seed + 1, None))], end)
        return LogitBias(refined_bias(first, [tokens(write(compared, arguments.seed + 2, LogitBias(first)))], end))


if __name__ == "__main__":
    main()
