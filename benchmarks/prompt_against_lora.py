"""Prompt tuning against LoRA at the same epsilon, on a public table: parameters, time, held-out perplexity.

    .venv/bin/python benchmarks/prompt_against_lora.py sms_spam.csv.gz --text text [--epsilon 8] [--units 4574]
        [--held-out 200] [--prompt-tokens 16] [--prompt-rate 0.03 [0.1 ...]] [--no-lora] [--set epochs=2 ...]

Prompt tuning (Lester et al. 2021, arXiv:2104.08691) learns a few embeddings before each row. The product has only LoRA: no GGUF
file can hold a learned prompt. Both are trained here by DP-SGD on the texts alone, with the product's batches, clipped
gradients, noise and schedule. Prints one JSON object a training: LoRA, then the prompt at each learning rate of `--prompt-rate`
(0.03 was as good as 0.1 and 0.3, docs/lab/adapters.md). `--set` holds for all.
For PUBLIC tables only: nothing is charged, so nothing here is protected.
"""

import argparse
import csv
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from heldout_perplexity import perplexity
from peft import PromptTuningConfig, PromptTuningInit, TaskType, get_peft_model
from torch import nn

from localsynth.config import TrainConfig
from localsynth.llm.base_models import find_base_model
from localsynth.llm.llama_cpp import Vocabulary
from localsynth.llm.row_text import Codec, Encoded
from localsynth.privacy.account import Account
from localsynth.privacy.noise import SecureRandom
from localsynth.schema.columns import Schema, Text
from localsynth.train.base_model import load_base_model
from localsynth.train.batches import MicroBatch, poisson_batch
from localsynth.train.device import choose_precision
from localsynth.train.loop import learning_rate, noisy_mean
from localsynth.train.memory import peak_memory
from localsynth.train.model import LossModel, build_model
from localsynth.train.plan import TrainPlan, make_train_plan
from localsynth.train.presets import choose_preset
from localsynth.train.private_gradients import PrivateGradients

_MICRO_BATCH_TOKENS = 1024


class PromptModel(LossModel):
    """The product's loss over rows that begin with `len(prompt)` placeholders, which get the learned embeddings."""

    @property
    def language_model(self) -> Any:
        """The transformers model inside."""
        return self.adapted.base_model

    @property
    def prompt(self) -> nn.Parameter:
        """The learned embeddings, (tokens, width), float32."""
        (weight,) = self.weights
        return weight

    def forward(self, micro: MicroBatch) -> torch.Tensor:
        """As `LossModel.forward`; the placeholders carry no loss."""

        def with_prompt(module: nn.Module, inputs: Any, known: torch.Tensor) -> torch.Tensor:
            # A copy for each row, so that each has a gradient of its own.
            shape = (len(micro.unit), -1, -1)
            copies = self.prompt.detach().to(known.dtype).expand(shape).clone().requires_grad_(torch.is_grad_enabled())
            if copies.requires_grad:
                copies.register_hook(lambda gradient: self.unit_gradients.put(0, gradient.float()))
            starts = [group.start + group.width * row for group in micro.groups for row in range(group.rows)]
            places = torch.tensor(starts)[:, None] + torch.arange(len(self.prompt))
            return known.index_put((places.flatten(),), copies.flatten(0, 1))

        hook = self.language_model.model.embed_tokens.register_forward_hook(with_prompt)
        try:
            return super().forward(micro)
        finally:
            hook.remove()


def build_prompt_model(base: Path, tokens: int, precision: Any, seed: int) -> PromptModel:
    """A `PromptModel` of the GGUF `base`; its prompt begins as embeddings of `tokens` tokens sampled with the public `seed`."""
    torch.manual_seed(seed)
    settings = PromptTuningConfig(
        task_type=TaskType.CAUSAL_LM, num_virtual_tokens=tokens, prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB
    )
    return PromptModel(get_peft_model(load_base_model(base, precision, "cpu"), settings))


def with_placeholders(row: Encoded, tokens: int) -> Encoded:
    """The row behind as many placeholders."""
    return Encoded([0] * tokens + row.tokens, [False] * tokens + row.learned)


def train(model: LossModel, units: list[list[Encoded]], plan: TrainPlan, settings: TrainConfig) -> None:
    """DP-SGD as in `localsynth.train.loop`, without ledger and checkpoints."""
    private, random = PrivateGradients(model, plan.max_grad_norm), SecureRandom()
    optimizer = torch.optim.AdamW(private.weights, lr=settings.learning_rate, weight_decay=0.0)
    for step in range(plan.steps):
        total = private.new_sum()
        batch = [units[i] for i in poisson_batch(random, len(units), plan.sample_rate)]
        for micro in private.micro_batches(batch, _MICRO_BATCH_TOKENS):
            private.add(total, micro)
        for weight, gradient in zip(private.weights, private.split(noisy_mean(total, plan, random)), strict=True):
            weight.grad = gradient
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, plan.steps, settings.learning_rate)
        optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("table", type=Path)
    parser.add_argument("--text", required=True)
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--units", type=int, default=4574)
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--prompt-tokens", type=int, default=16)
    parser.add_argument("--prompt-rate", type=float, nargs="*", default=[0.03])
    parser.add_argument("--no-lora", action="store_true")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    shared = {key: json.loads(value) for key, _, value in (setting.partition("=") for setting in arguments.settings)}

    opened = gzip.open if arguments.table.suffix == ".gz" else open
    with opened(arguments.table, "rt", encoding="utf-8") as file:
        texts = [row[arguments.text] for row in csv.DictReader(file) if row[arguments.text]]
    texts = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]
    base = find_base_model(TrainConfig.model_validate(shared).model)
    schema = Schema(columns=[Text(name="text", max_tokens=64, nullable=False)])
    with Vocabulary(base.path) as vocabulary:
        codec = Codec(schema, vocabulary.tokenize, vocabulary.start)
        encoded = [codec.encode({"text": text}) for text in texts[: arguments.held_out + arguments.units]]
    precision = choose_precision("auto", "cpu")

    trainings: list[tuple[str, dict[str, Any]]] = [] if arguments.no_lora else [("lora", {})]
    trainings += [("prompt", {"learning_rate": rate}) for rate in arguments.prompt_rate]
    for method, own in trainings:
        config = TrainConfig.model_validate(shared | own)
        rows = [with_placeholders(row, arguments.prompt_tokens) for row in encoded] if method == "prompt" else encoded
        held_out, units = rows[: arguments.held_out], [[row] for row in rows[arguments.held_out :]]
        plan = make_train_plan(config, len(units), Account(arguments.epsilon, 1e-5).noise)
        targets = choose_preset(plan).among(base.targets)
        model = (
            build_prompt_model(base.path, arguments.prompt_tokens, precision, seed=plan.steps)
            if method == "prompt"
            else build_model(base.path, config.rank, config.alpha, targets, precision, "cpu", seed=plan.steps)
        )
        untrained, begun = perplexity(model, held_out), time.monotonic()
        train(model, units, plan, config)
        figures = {
            "method": method,
            "parameters": sum(weight.numel() for weight in model.weights),
            "epsilon": arguments.epsilon,
            "units": len(units),
            "steps": plan.steps,
            "batch": plan.batch_size,
            "noise_multiplier": round(plan.noise_multiplier, 3),
            "learning_rate": config.learning_rate,
            "seconds": round(time.monotonic() - begun, 1),
            "peak_memory_gib": round(peak_memory("cpu") / 2**30, 2),
            "perplexity_untrained": round(untrained, 1),
            "perplexity": round(perplexity(model, held_out), 1),
        }
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
