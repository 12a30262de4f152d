"""Verify on public texts that the exported GGUF computes what was trained, before anything is sampled from it.

The reference is computed in torch, in float32, from the base model and the adapter; llama.cpp computes the same texts from
the exported file. A wrong scale, a wrong permutation or a damaged quantization shows as a divergence. Blocks of the
reference are loaded and freed one after another, so this needs the memory of one block, not of the model.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from localsynth.errors import IntegrityError
from localsynth.llm.adapter import Adapter
from localsynth.llm.llama_cpp import Vocabulary, sequence_logits
from localsynth.train.base_model import BaseWeights

KL_LIMITS = {"F16": 1e-3, "BF16": 5e-3, "Q8_0": 2.5e-2, "Q6_K": 6e-2, "Q5_K_M": 0.35, "Q4_K_M": 0.35, "Q4_0": 1.5}
"""The largest accepted mean KL divergence, in nats a token, from the reference to a file of each quantization type.

About five times the values of SmolLM2-135M with an adapter: 6e-6, 5e-3, 1.3e-2, 7e-2, 7e-2, 0.36. Quantization harms small
models most. The F16 file is always verified, so these limits need not catch a wrong merge, only a failed quantization."""

PROBES = (
    "The ferry leaves the harbour at seven and reaches the island before noon, unless the wind turns.",
    "name: Table lamp\nprice: 24.90\nin_stock: true\nadded: 2021-03-14",
    "Thank you for your message. We have opened a ticket and will reply within two working days.",
    "def area(width: float, height: float) -> float:\n    return width * height",
    "age: 41\nsex: female\nvisits: 3\ndiagnosis: seasonal allergy\nnote: Came in with sneezing, sleeps well.",
    "Water boils at 100 degrees Celsius at sea level; on a mountain it boils sooner.",
    "Der Zug nach Wien fährt heute von Gleis 9. Le musée est fermé le lundi. ¿Dónde está la biblioteca?",
    "amount: -120.00\ncurrency: EUR\ncategory: groceries\nmemo: weekly shopping",
    "Once upon a time a fox asked the river why it hurried, and the river, being young, did not know.",
)
"""Texts written for this purpose: nothing private, and diverse enough to involve every layer."""

_MAX_TOKENS = 384
# Two correct implementations differ as much (F16 cache against float32), so a smaller shift cannot be verified.
_NOISE = 1e-4
# llama.cpp rounds activations for quantized weights: 3e-3 was measured for Q4_1. A misread model differs by nats.
_BASE_LIMIT = 0.1


def probe_tokens(path: Path) -> list[int]:
    """The probes as one sequence of at most 384 tokens of the model in `path`."""
    with Vocabulary(path) as vocabulary:
        return (vocabulary.start + vocabulary.tokenize("\n\n".join(PROBES)))[:_MAX_TOKENS]


def mean_kl(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The mean over rows of KL(softmax(reference) || softmax(other)), in nats, for two arrays of logits (tokens, vocabulary)."""
    total = 0.0
    with np.errstate(invalid="ignore"):  # a damaged model may compute NaN; then the result is NaN
        for p_logits, q_logits in zip(reference, other, strict=True):
            p, q = (logits - np.logaddexp.reduce(logits) for logits in np.stack([p_logits, q_logits]).astype(np.float64))
            total += float(np.sum(np.exp(p) * (p - q)))
    return total / len(reference)


def reference_logits(base: Path, adapter: Adapter, tokens: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The logits in float32 of (the base model, the base model with the adapter), each of shape (len(tokens), vocabulary).

    Raises IntegrityError where the adapter does not fit the base, ConfigError where the base is not supported.
    """
    weights = BaseWeights(base)
    model = weights.skeleton(torch.float32)
    _apply_to_second(model, adapter)
    inner = model.model
    parts = {"model.embed_tokens": inner.embed_tokens, "model.norm": inner.norm, "lm_head": model.lm_head}
    parts |= {f"model.layers.{number}": layer for number, layer in enumerate(inner.layers)}
    for prefix, part in parts.items():
        part.register_forward_pre_hook(lambda part, _inputs, prefix=prefix: weights.fill(part, prefix, torch.float32, "cpu"))
        part.register_forward_hook(lambda part, _inputs, _output: _forget(part))
    with torch.no_grad():
        before, after = model(torch.tensor([list(tokens)] * 2)).logits.numpy()
    return before, after


def _apply_to_second(model: nn.Module, adapter: Adapter) -> None:
    """Apply the adapter to the second sequence of a batch only, so that one pass over the weights gives both results."""

    def hook(a: torch.Tensor, b: torch.Tensor) -> Callable[[nn.Module, tuple[torch.Tensor], torch.Tensor], None]:
        def add(_module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            output[1] += adapter.scale * (inputs[0][1] @ a.T @ b.T)

        return add

    modules = dict(model.named_modules())
    for name, (a, b) in adapter.pairs.items():
        linear = modules.get(name)
        if not isinstance(linear, nn.Linear) or (linear.out_features, linear.in_features) != (b.shape[0], a.shape[1]):
            raise IntegrityError(
                f"The adapter changes {name}, which the base model does not have.", "Use the base it was trained on."
            )
        linear.register_forward_hook(hook(torch.from_numpy(a), torch.from_numpy(b)))


def _forget(part: nn.Module) -> None:
    """Free a part's parameters; its buffers stay."""
    for inner in part.modules():
        for leaf, parameter in list(inner.named_parameters(recurse=False)):
            setattr(inner, leaf, nn.Parameter(parameter.to("meta"), requires_grad=False))


def verify_export(reference: NDArray[np.float32], path: Path, quantization: str, tokens: Sequence[int]) -> float:
    """The mean KL from `reference` (see `reference_logits`) to what llama.cpp computes from `path` on the same tokens.

    Raises IntegrityError where it is above the limit of the quantization type.
    """
    kl = mean_kl(reference, sequence_logits(path, tokens))
    if not kl <= KL_LIMITS[quantization]:
        raise IntegrityError(
            f"The exported {quantization} model does not compute what was trained: its divergence on public texts is {kl:.2g}"
            f" nats a token, and at most {KL_LIMITS[quantization]:g} is accepted.",
            'Try a larger quantization type (sample.quantization = "Q8_0"); if that fails too, report it.',
        )
    return kl


def verify_base(path: Path) -> float:
    """The mean KL between torch and llama.cpp on an untrained base model, before anything is spent on training it.

    Raises IntegrityError where they differ: localsynth misreads the file, and the export would fail after the training.
    """
    tokens = probe_tokens(path)
    reference, _ = reference_logits(path, Adapter(rank=1, alpha=1, pairs={}), tokens)
    kl = mean_kl(reference, sequence_logits(path, tokens))
    if not kl <= _BASE_LIMIT:
        raise IntegrityError(
            f"torch and llama.cpp disagree about {path.name}: their outputs diverge by {kl:.2g} nats a token.",
            "localsynth does not support this model. Choose another base model.",
        )
    return kl


def check_adapter_arrived(base: NDArray[np.float32], reference: NDArray[np.float32], merged_kl: float, adapter: Adapter) -> float:
    """The shift KL(base || reference) caused by training. Raises IntegrityError where the merged F16 file did not follow it.

    `merged_kl` is the divergence of that file from the reference: it must be small compared with the shift; otherwise the
    file may be the base model. A nonzero adapter must cause a shift.
    """
    shift = mean_kl(base, reference)
    if shift <= 0 and not adapter.is_zero():
        raise IntegrityError("The adapter does not change the model's output.", "Train again; if that fails too, report it.")
    if shift > _NOISE and merged_kl > shift / 2:
        raise IntegrityError(
            "The exported model lacks the training: it is as far from the trained model as the base model is.",
            "Export again; if that fails too, report it.",
        )
    return shift
