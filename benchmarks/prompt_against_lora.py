"""A soft prompt beside LoRA at the same epsilon, on a public table: parameters, time, held-out perplexity.

    .venv/bin/python benchmarks/prompt_against_lora.py sms_spam.csv.gz --text text [--epsilon 8] [--units 4574]
        [--held-out 200] [--prompt-rate 0.03 [0.1 ...]] [--no-lora] [--set epochs=2 ...]

Trains with the product's own loop on the texts alone and evaluates with torch. Prints one JSON object a training: LoRA, then
the prompt at each of `--prompt-rate`, its learning rates (0.03 was as good as 0.1 and 0.3, docs/lab/adapters.md). `--set` holds
for all. For PUBLIC tables only: nothing is charged, so nothing here is protected.
"""

import argparse
import csv
import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from heldout_perplexity import perplexity

from localsynth.config import TrainConfig
from localsynth.llm.base_models import find_base_model
from localsynth.llm.llama_cpp import Vocabulary
from localsynth.llm.row_text import Codec
from localsynth.privacy.noise import SecureRandom
from localsynth.schema.columns import Schema, Text
from localsynth.train.loop import train
from localsynth.train.model import choose_precision, model_to_train, trained_model
from localsynth.train.plan import make_train_plan
from localsynth.train.presets import choose_preset


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("table", type=Path)
    parser.add_argument("--text", required=True)
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--units", type=int, default=4574)
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--prompt-rate", type=float, nargs="*", default=[0.03])
    parser.add_argument("--no-lora", action="store_true")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    shared = {key: json.loads(value) for key, _, value in (setting.partition("=") for setting in arguments.settings)}

    opened = gzip.open if arguments.table.suffix == ".gz" else open
    with opened(arguments.table, "rt", encoding="utf-8") as file:
        texts = [row[arguments.text] for row in csv.DictReader(file) if row[arguments.text]]
    texts = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]
    base = find_base_model(TrainConfig().model)
    schema = Schema(columns=[Text(name="text", max_tokens=64, nullable=False)])
    with Vocabulary(base.path) as vocabulary:
        codec = Codec(schema, vocabulary.tokenize, vocabulary.start)
        rows = [codec.encode({"text": text}) for text in texts[: arguments.held_out + arguments.units]]
    held_out, units = rows[: arguments.held_out], [[row] for row in rows[arguments.held_out :]]
    precision = choose_precision("auto", "cpu")

    trainings: list[dict[str, Any]] = [] if arguments.no_lora else [{"method": "lora"}]
    trainings += [{"method": "prompt", "learning_rate": rate} for rate in arguments.prompt_rate]
    for own in trainings:
        config = TrainConfig.model_validate(shared | own)
        plan = make_train_plan(config, len(units), arguments.epsilon, 1e-5)
        targets = choose_preset(plan).among(base.targets)
        fresh = model_to_train(base.path, targets, config, precision, "cpu", seed=plan.steps)
        untrained = perplexity(fresh, held_out)
        parameters = sum(weight.numel() for weight in fresh.parameters() if weight.requires_grad)
        del fresh
        with tempfile.TemporaryDirectory() as directory:
            result = train(
                units=units,
                base=base.path,
                targets=targets,
                micro_batch_tokens=1024,
                plan=plan,
                settings=config,
                charge_step=lambda: 0.0,
                random=SecureRandom(),
                run_directory=Path(directory),
                emit=lambda event: None,
                should_stop=lambda: False,
            )
            model = trained_model(base.path, targets, config, Path(directory) / "adapter", precision, "cpu")
        figures = {
            "method": config.method,
            "parameters": parameters,
            "epsilon": arguments.epsilon,
            "units": len(units),
            "steps": plan.steps,
            "batch": plan.batch_size,
            "noise_multiplier": round(plan.noise_multiplier, 3),
            "learning_rate": config.learning_rate,
            "seconds": round(result.seconds, 1),
            "peak_memory_gib": round(result.peak_memory_bytes / 2**30, 2),
            "perplexity_untrained": round(untrained, 1),
            "perplexity": round(perplexity(model, held_out), 1),
        }
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
