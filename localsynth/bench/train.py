"""Compares a step of DP training with the same step without privacy, with Opacus' ghost clipping and with the machine's limit.

    dp      our step: per-unit gradients from hooks, clipped and summed, noise
    plain   the step of ordinary LoRA on the same model, batch and micro-batches: gradients of the batch, no clipping, no noise
    ghost   Opacus' ghost clipping on PEFT's own layers: two backward passes, no per-example gradients
    limit   the matrix products alone, at the machine's rate (`train.matmul_rate`): 4 operations a token for each weight of the
            layers; for the vocabulary's product only tokens with loss

Rows are texts of the bundled example; nothing private is read. Each variant runs in a separate process, whose memory is measured.
"""

import csv
import logging
import multiprocessing
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.nn import functional as F

from localsynth.config import TrainConfig
from localsynth.events import Emit, note
from localsynth.example.visits import write_example
from localsynth.llm.base_models import BaseModel, find_base_model
from localsynth.llm.llama_cpp import Vocabulary
from localsynth.llm.row_text import Codec, Encoded
from localsynth.privacy.noise import SecureRandom
from localsynth.schema.columns import Schema, Text
from localsynth.train.batches import IGNORE, WIDTH_STEPS, MicroBatch, micro_batches
from localsynth.train.cost import fitting_tokens
from localsynth.train.device import choose_device, choose_precision
from localsynth.train.loop import noisy_mean
from localsynth.train.lora_layer import fuse_adapters
from localsynth.train.matmul_rate import matmul_rate
from localsynth.train.memory import memory_room, peak_memory
from localsynth.train.model import LossModel, adapted_base
from localsynth.train.plan import TrainPlan
from localsynth.train.private_gradients import PrivateGradients

VARIANTS = ("dp", "plain", "ghost")
_NOISE = 1.0
_SCHEMA = Schema(columns=[Text(name="note", max_tokens=64, nullable=False)])


def bench_train(model: str, units: int, steps: int, rounds: int, variants: Sequence[str], emit: Emit) -> dict[str, Any]:
    """Tokens/s and peak memory of the variants, and the ratios of ours to the plain step and to the limit.

    Each of `rounds` rounds runs every variant once, since the speed of a machine drifts; the results are medians over the
    rounds. A run takes one step to warm up, then the median of `steps` steps on the same `units` rows. Takes minutes.
    """
    found: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    context = multiprocessing.get_context("spawn")
    for number in range(rounds):
        for name in variants:
            emit(note(f"Round {number + 1} of {rounds}: {name} ..."))
            # Not a Pool: that starts a new process for ever where each one is killed, for example for memory.
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                found[name].append(pool.submit(_run, name, model, units, steps).result())
    best = {name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()}
    ours, plain = best["dp"], best["plain"]
    for figures in best.values():
        figures["tokens_per_second"] = figures["tokens"] / figures["seconds"]
    base = find_base_model(model)
    device = choose_device("auto")
    precision = choose_precision("auto", device)
    limit = _limit_seconds(base, precision, device, ours["tokens"], ours["learned"])
    return {
        "model": model,
        "device": device,
        "precision": precision,
        "units": units,
        **best,
        "limit": {"seconds": limit, "tokens_per_second": ours["tokens"] / limit},
        "ratio_speed": plain["seconds"] / ours["seconds"],
        "ratio_memory": ours["peak_memory"] / plain["peak_memory"],
        "ratio_matmul": limit / ours["seconds"],
    }


def _limit_seconds(base: BaseModel, precision: str, device: str, tokens: float, learned: float) -> float:
    info = base.info
    rate = matmul_rate(precision, info.embedding_length, info.feed_forward_length, device)
    vocabulary = info.vocab_size * info.embedding_length
    return 4 * ((info.parameters - vocabulary) * tokens + vocabulary * learned) / rate


def _rows(base: BaseModel, units: int) -> list[Encoded]:
    with tempfile.TemporaryDirectory() as directory:
        text = write_example(Path(directory), units).read_text(encoding="utf-8")
    notes = [row["note"] for row in csv.DictReader(text.splitlines())]
    with Vocabulary(base.path) as vocabulary:
        codec = Codec(_SCHEMA, vocabulary.tokenize, vocabulary.start)
        return [codec.encode({"note": note}) for note in notes]


def _run(name: str, model: str, units: int, steps: int) -> dict[str, float]:
    """One variant in this process: seconds of its median step, tokens and learned tokens of a step, peak memory in bytes."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    base, settings = find_base_model(model), TrainConfig()
    rows = _rows(base, units)
    device = choose_device("auto")
    precision = choose_precision("auto", device)
    lengths = [len(row.tokens) for row in rows]
    mean, longest, room = statistics.mean(lengths), max(lengths), memory_room(device)
    tokens = fitting_tokens(base.info, base.targets, settings, precision, device, mean, longest, units, room)
    micros = micro_batches([[row] for row in rows], tokens, step=WIDTH_STEPS[device])
    adapted = adapted_base(base.path, settings.rank, settings.alpha, base.targets, precision, device, seed=0)
    step = {"dp": _dp_step, "plain": _plain_step, "ghost": _ghost_step}[name](adapted, units)
    seconds = []
    for _ in range(1 + steps):
        begun = time.perf_counter()
        step([micro.to(device) for micro in micros])
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return {
        "seconds": statistics.median(seconds[1:]),
        "tokens": float(sum(len(row.tokens) for row in rows)),
        "learned": float(sum(int((micro.targets != IGNORE).sum()) for micro in micros)),
        "peak_memory": float(peak_memory(device)),
    }


Step = Callable[[list[MicroBatch]], None]


def _dp_step(adapted: PeftModel, units: int) -> Step:
    fuse_adapters(adapted)
    private, random = PrivateGradients(LossModel(adapted), 1.0), SecureRandom()
    optimizer = torch.optim.AdamW(private.weights, lr=1e-3, weight_decay=0.0)
    plan = TrainPlan(units, units, 1.0, 1, 0, _NOISE, 1.0)

    def step(batch: list[MicroBatch]) -> None:
        total = private.new_sum()
        for micro in batch:
            private.add(total, micro)
        for weight, gradient in zip(private.weights, private.split(noisy_mean(total, plan, random)), strict=True):
            weight.grad = gradient
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


class _PlainLora(nn.Module):
    """A frozen linear layer with its adapter in the base's number format, left to autograd: the fastest plain LoRA we know."""

    def __init__(self, layer: LoraLayer) -> None:
        super().__init__()
        self.base, self.scale = layer.base_layer, layer.scaling["default"]
        self.a, self.b = layer.lora_A["default"].weight, layer.lora_B["default"].weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = F.linear(x, self.a.to(x.dtype))
        y: torch.Tensor = self.base(x) + F.linear(inner, self.b.to(x.dtype)) * self.scale
        return y


def _plain_step(adapted: PeftModel, units: int) -> Step:
    root = adapted.base_model.model
    for name, layer in list(root.named_modules()):
        if isinstance(layer, LoraLayer):
            parent, _, own = name.rpartition(".")
            setattr(root.get_submodule(parent), own, _PlainLora(layer))
    module = LossModel(adapted)
    weights = module.weights
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.0)

    def step(batch: list[MicroBatch]) -> None:
        for micro in batch:
            (module(micro) / units).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _ghost_step(adapted: PeftModel, units: int) -> Step:
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    class PerExample(nn.Module):
        """The loss of each example, as ghost clipping needs it: (examples,)."""

        def __init__(self) -> None:
            super().__init__()
            self.adapted = adapted

        def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            model = self.adapted.base_model.model
            hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state
            learned = targets != IGNORE
            logits = F.linear(hidden[learned], model.lm_head.weight).float()
            losses = F.cross_entropy(logits, targets[learned], reduction="none")
            example = torch.arange(len(tokens), device=tokens.device)[:, None].expand_as(targets)[learned]
            return torch.zeros(len(tokens), device=tokens.device).index_add_(0, example, losses)

    ghost = GradSampleModuleFastGradientClipping(
        PerExample(), batch_first=True, loss_reduction="sum", max_grad_norm=1.0, use_ghost_clipping=True
    )

    def padded(batch: list[MicroBatch]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for micro in batch:
            for group in micro.groups:
                places = slice(group.start, group.end)
                yield micro.tokens[places].view(group.rows, -1), micro.targets[places].view(group.rows, -1)

    weights = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer, random = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.0), SecureRandom()

    def step(batch: list[MicroBatch]) -> None:
        total = [torch.zeros_like(weight) for weight in weights]
        for tokens, targets in padded(batch):
            losses = ghost(tokens, targets)
            losses.sum().backward(retain_graph=True)
            for weight in weights:
                weight.grad = None
            factors = ghost.get_clipping_coef().detach()
            ghost.disable_hooks()
            (factors * losses).sum().backward()
            ghost.enable_hooks()
            for accumulated, weight in zip(total, weights, strict=True):
                assert weight.grad is not None
                accumulated += weight.grad
                weight.grad = None
        for weight, summed in zip(weights, total, strict=True):
            noise = torch.from_numpy(random.gaussian(summed.numel())).reshape(summed.shape)
            weight.grad = ((summed.double().cpu() + _NOISE * noise) / units).float().to(summed.device)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
