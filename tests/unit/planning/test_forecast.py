"""Estimates of training from the model's sizes, against measurements."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from localsynth.config import Config, DataConfig, PrivacyConfig, SampleConfig, TrainConfig
from localsynth.llm.base_models import BaseModel
from localsynth.llm.row_text import Encoded
from localsynth.planning.forecast import Machine, Size, forecast
from localsynth.results.plans import Plan
from localsynth.schema.columns import Category, Schema, Text
from localsynth.train.cost import (
    Device,
    fitting_tokens,
    kept_activations,
    resumed_micro_batch_tokens,
    trained_parameters,
    training_memory,
    training_rate,
)
from localsynth.train.model import build_model
from localsynth_models.catalog import GgufInfo, model_info

SMALL = GgufInfo(
    architecture="llama",
    parameters=134_515_008,
    context_length=8192,
    embedding_length=576,
    block_count=30,
    head_count=9,
    head_count_kv=3,
    feed_forward_length=1536,
    vocab_size=49152,
    size_bytes=98 * 10**6,
)
# Random weights in the shape of Llama 3.1 8B.
LARGE = replace(
    SMALL,
    parameters=8_030_261_248,
    embedding_length=4096,
    block_count=32,
    head_count=32,
    head_count_kv=8,
    feed_forward_length=14336,
    vocab_size=128256,
)
MIB = 2**20
FEW = ["v_proj", "down_proj"]
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.mark.parametrize("targets", [TARGETS, ["v_proj", "down_proj"], *([each] for each in TARGETS)], ids=str)
def test_trained_parameters_against_the_model(targets: list[str], tiny_model: Any) -> None:
    settings = TrainConfig()
    model = build_model(tiny_model(), settings.rank, settings.alpha, targets, "fp32", "cpu", seed=0)
    assert trained_parameters(model_info(tiny_model()), targets, settings) == sum(weight.numel() for weight in model.weights)


def test_kept_activations_against_the_model(tiny_model: Any) -> None:
    model, info = build_model(tiny_model(), 1, 1, ["q_proj"], "fp32", "cpu", seed=0), model_info(tiny_model())
    # As if something below were trained, so that the first block keeps as much as the others.
    model.language_model.model.embed_tokens.register_forward_hook(lambda module, given, out: out.detach().requires_grad_())
    row = Encoded(list(range(1, 65)), [False] + [True] * 63)
    (micro,) = model.micro_batches([[row]] * 4, 256)
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter) and (256 in tensor.shape or tensor.dim() == 3):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model(micro)
    assert loss.requires_grad
    # Not of a block: the last norm and the rotary tables.
    once = info.embedding_length + 2 * info.embedding_length // info.head_count
    assert sum(kept.values()) / 4 / 256 == pytest.approx(kept_activations(info, 64) + once, rel=0.01)


@pytest.mark.parametrize(
    ("precision", "positions", "rows", "measured"),
    [
        ("fp32", 256, 1, 1502),
        ("fp32", 1024, 1, 2869),
        ("bf16", 256, 1, 1077),
        ("bf16", 256, 4, 1057),
        ("bf16", 1024, 1, 1965),
        ("bf16", 2048, 1, 3093),
    ],
)
def test_memory_estimate_against_measurement(precision: str, positions: int, rows: int, measured: int) -> None:
    """Peaks in MiB of fresh processes, rows of 8 to 60 tokens (docs/performance.md)."""
    estimated = training_memory(SMALL, TARGETS, TrainConfig(), precision, "cpu", positions, 34 * rows, 60) / MIB
    assert estimated == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize(
    ("info", "targets", "precision", "tokens", "unit", "longest", "measured"),
    [
        (SMALL, FEW, "nf4", 1024, 34, 60, 758 * MIB),
        (SMALL, FEW, "bf16", 4096, 34, 60, 2300 * MIB),
        (SMALL, FEW, "fp32", 4096, 34, 60, 4287 * MIB),
        (SMALL, FEW, "bf16", 8192, 72, 110, 4422 * MIB),
        (SMALL, FEW, "bf16", 8192, 41, 60, 4094 * MIB),
        (SMALL, TARGETS, "bf16", 16384, 72, 119, 10558 * MIB),
        (LARGE, FEW, "nf4", 512, 512, 512, 8.437e9),
        (LARGE, FEW, "nf4", 1024, 512, 512, 10.877e9),
        (LARGE, FEW, "nf4", 2048, 512, 512, 15.757e9),
    ],
)
def test_gpu_memory_estimate_against_measurement(
    info: GgufInfo, targets: list[str], precision: str, tokens: int, unit: int, longest: int, measured: float
) -> None:
    """On an H100 (docs/performance.md)."""
    estimated = training_memory(info, targets, TrainConfig(), precision, "cuda", tokens, unit, longest)
    assert estimated == pytest.approx(measured, rel=0.07)


def test_memory_of_a_unit_larger_than_a_micro_batch() -> None:
    large, whole = (training_memory(SMALL, FEW, TrainConfig(), "fp32", "cpu", n, 4096, 60) for n in (1024, 4096))
    assert large == pytest.approx(whole, rel=0.05)


@pytest.mark.parametrize(("room", "fits"), [(80e9, 8192), (24e9, 2048), (12e9, 1024), (10e9, 512), (1e9, 64)])
def test_micro_batch_is_as_large_as_fits(room: float, fits: int) -> None:
    """Of an 8B model on cards of several sizes."""
    tokens = fitting_tokens(LARGE, FEW, TrainConfig(), "nf4", "cuda", 512, 512, 500, room)
    assert tokens == fits
    if tokens > 64:
        assert training_memory(LARGE, FEW, TrainConfig(), "nf4", "cuda", tokens, 512, 512) <= room


@pytest.mark.parametrize(
    ("device", "set_to", "batch", "tokens"),
    [
        ("cpu", None, 500, 1024),
        ("cpu", None, 5, 1024),
        ("cuda", None, 5, 1024),
        ("cuda", None, 100, 8192),
        ("cuda", 300, 100, 300),
    ],
)
def test_micro_batch_is_at_most_a_batch_or_the_setting(device: Device, set_to: int | None, batch: int, tokens: int) -> None:
    train = TrainConfig(micro_batch_tokens=set_to)
    assert fitting_tokens(SMALL, FEW, train, "bf16", device, 50, 60, batch, room=80e9) == tokens


@pytest.mark.parametrize(
    ("set_to", "recorded", "device", "tokens"),
    [
        (None, 16384, "cuda", 16384),
        (None, 16384, "cpu", 1024),
        (None, 512, "cuda", 512),
        (256, 16384, "cuda", 256),
        (4096, 64, "cpu", 64),
    ],
)
def test_resumed_run_never_increases_the_micro_batch(set_to: int | None, recorded: int, device: Device, tokens: int) -> None:
    assert resumed_micro_batch_tokens(TrainConfig(micro_batch_tokens=set_to), recorded, device) == tokens


@pytest.mark.parametrize(("precision", "matmul_rate", "measured"), [("fp32", 375e9, 326), ("bf16", 1.35e12, 800)])
def test_rate_estimate_against_measurement(precision: str, matmul_rate: float, measured: int) -> None:
    """Two cores with nothing beside it (docs/lab/training-speed.md)."""
    assert training_rate(SMALL, precision, "cpu", 1024, matmul_rate, 40, cores=2) == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize(("tokens", "measured"), [(512, 1728), (1024, 3086), (2048, 5917)])
def test_rate_of_a_gpu_bound_by_kernel_launches(tokens: int, measured: int) -> None:
    """An 8B model on an H100 (docs/performance.md), whose products alone, at 600 TFLOP/s, would allow 18,700."""
    assert training_rate(LARGE, "nf4", "cuda", tokens, 6e14, 512, cores=8) == pytest.approx(measured, rel=0.15)


def estimate(path: Path, train: TrainConfig, float32_rate: float = 1e11) -> Plan:
    config = Config(
        data=DataConfig(source="t.csv"),
        schema=Schema(columns=[Text(name="note", max_tokens=50)]),
        privacy=PrivacyConfig(public_size=1000),
        train=train,
    )
    base = BaseModel(path, model_info(path), TARGETS)
    return forecast(config, base, config.schema_, Size(1000, 900, 1000), Machine(1e11, float32_rate, "fp32", "cpu", 8e9))


def test_sampling_is_estimated_from_the_float32_rate(tiny_model: Any) -> None:
    slow, fast = (estimate(tiny_model(), TrainConfig(), rate).seconds for rate in (1e10, 1e11))
    assert slow["sample"] == pytest.approx(10 * fast["sample"]) and slow["train"] == fast["train"]


def test_guidance_reads_each_row_twice(tiny_model: Any) -> None:
    path = tiny_model()
    columns = [Category(name="kind", values=["a", "b"]), Text(name="note", max_tokens=50)]
    seconds = []
    for guidance in (0.0, 0.3):
        config = Config(
            data=DataConfig(source="t.csv"),
            schema=Schema(columns=columns),
            privacy=PrivacyConfig(public_size=1000),
            sample=SampleConfig(guidance=guidance),
        )
        base = BaseModel(path, model_info(path), TARGETS)
        told = forecast(config, base, config.schema_, Size(1000, 900, 1000), Machine(1e11, 1e11, "fp32", "cpu", 8e9))
        assert told.synthesizer == "hybrid"
        seconds.append(told.seconds)
    assert seconds[1]["sample"] == pytest.approx(2 * seconds[0]["sample"]) and seconds[1]["train"] == seconds[0]["train"]
