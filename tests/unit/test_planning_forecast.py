"""What training takes, as foretold: from the model's sizes, beside what was measured."""

from pathlib import Path
from typing import Any

import pytest
import torch
from localsynth_models.catalog import GgufInfo, model_info

from localsynth.base_models import BaseModel
from localsynth.codec import Encoded
from localsynth.config import Config, DataConfig, PrivacyConfig, TrainConfig
from localsynth.planning import forecast, kept_activations, trained_parameters, training_memory, training_rate
from localsynth.schema import Schema, Text
from localsynth.train.model import build_prompt_model, model_to_train

SMALL = GgufInfo(
    architecture="llama",
    name="SmolLM2 135M",
    parameters=134_515_008,
    context_length=8192,
    embedding_length=576,
    block_count=30,
    head_count=9,
    head_count_kv=3,
    feed_forward_length=1536,
    vocab_size=49152,
    tensor_types={},
    file_type="Q4_1",
    size_bytes=98 * 10**6,
)
MIB = 2**20
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.mark.parametrize(
    ("method", "targets"),
    [("lora", TARGETS), ("lora", ["v_proj", "down_proj"]), *(("lora", [each]) for each in TARGETS), ("prompt", [])],
)
def test_the_trained_numbers_are_those_of_the_model(method: Any, targets: list[str], tiny_model: Any) -> None:
    settings = TrainConfig(method=method, prompt_tokens=5)
    model = model_to_train(tiny_model(), targets, settings, "fp32", "cpu", seed=0)
    assert trained_parameters(model_info(tiny_model()), targets, settings) == sum(weight.numel() for weight in model.weights)


def test_the_kept_activations_are_those_of_the_model(tiny_model: Any) -> None:
    model, info = build_prompt_model(tiny_model(), 4, "fp32", "cpu", seed=0), model_info(tiny_model())
    row = Encoded(list(range(1, 61)), [False] + [True] * 59)
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
    ("precision", "positions", "rows", "batch", "measured"),
    [
        ("fp32", 256, 1, 18, 1430),
        ("fp32", 1024, 1, 75, 2526),
        ("bf16", 256, 1, 18, 1042),
        ("bf16", 256, 4, 4, 1021),
        ("bf16", 1024, 1, 75, 1709),
        ("bf16", 2048, 1, 90, 2357),
    ],
)
def test_memory_is_what_was_measured(precision: str, positions: int, rows: int, batch: int, measured: int) -> None:
    """Peaks in MiB of fresh processes, rows of 8 to 60 tokens (docs/performance.md)."""
    settings = TrainConfig(micro_batch_tokens=positions)
    foretold = training_memory(SMALL, TARGETS, settings, precision, 34 * rows, 60, batch) / MIB
    assert foretold == pytest.approx(measured, rel=0.15)


def test_a_unit_larger_than_a_micro_batch_takes_what_it_needs() -> None:
    settings = TrainConfig(micro_batch_tokens=1024)
    large = training_memory(SMALL, TARGETS, settings, "fp32", 4096, 60, 64)
    whole = training_memory(SMALL, TARGETS, TrainConfig(micro_batch_tokens=4096), "fp32", 4096, 60, 64)
    assert large == pytest.approx(whole, rel=0.05)


@pytest.mark.parametrize(("precision", "matmul_rate", "measured"), [("fp32", 375e9, 326), ("bf16", 1.35e12, 800)])
def test_speed_is_what_was_measured(precision: str, matmul_rate: float, measured: int) -> None:
    """Two cores with nothing beside it (docs/experiments.md)."""
    assert training_rate(SMALL, precision, matmul_rate, 40, cores=2) == pytest.approx(measured, rel=0.15)


def foretell(path: Path, train: TrainConfig, float32_rate: float = 1e11) -> dict[str, Any]:
    config = Config(
        data=DataConfig(source="t.csv"),
        schema=Schema(columns=[Text(name="note", max_tokens=50)]),
        privacy=PrivacyConfig(public_size=1000),
        train=train,
    )
    base = BaseModel(path, model_info(path), TARGETS)
    return forecast(config, base, config.schema_, 1000, 900, 1000, 1e11, float32_rate, "fp32")


def test_a_soft_prompt_is_computed_with_each_row(tiny_model: Any) -> None:
    lora = foretell(tiny_model(), TrainConfig())
    prompt = foretell(tiny_model(), TrainConfig(method="prompt", prompt_tokens=512))
    assert prompt["tokens_per_row"] == lora["tokens_per_row"], "what is written has no prompt in it"
    assert prompt["seconds"]["train"] > (512 + lora["tokens_per_row"]) / lora["tokens_per_row"] * lora["seconds"]["train"]


def test_sampling_is_reckoned_from_the_float32_rate(tiny_model: Any) -> None:
    slow, fast = (foretell(tiny_model(), TrainConfig(), rate)["seconds"] for rate in (1e10, 1e11))
    assert slow["sample"] == pytest.approx(10 * fast["sample"]) and slow["train"] == fast["train"]
