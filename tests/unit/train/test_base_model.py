"""The torch base model computes what llama.cpp computes from the same file, and refuses what it would get wrong."""

import socket
import struct
from itertools import groupby

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType

from localsynth.errors import ConfigError, IntegrityError, ResourceError
from localsynth.export.verify import mean_kl, probe_tokens
from localsynth.llm.base_models import find_base_model
from localsynth.llm.gguf_file import GgufFile, Tensor, string_field, uint32_field, write_gguf
from localsynth.llm.llama_cpp import sequence_logits
from localsynth.train import base_model
from localsynth.train.base_model import BaseWeights, load_base_model
from tests.helpers.tiny_model import ARCHITECTURES


def torch_logits(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float().numpy()


def changed(path, out, fields=None, without=(), extra=()):
    """A copy of a GGUF file with other metadata, fewer tensors, or more (of zeros)."""
    source = GgufFile(path)
    tensors = [tensor for tensor in source.tensors.values() if tensor.name not in without] + list(extra)

    def content(tensor):
        return [source.raw(tensor.name)] if tensor.name in source.tensors else [np.zeros(tensor.size, np.uint8)]

    write_gguf(out, {**source.fields, **(fields or {})}, tensors, content)
    return out


@pytest.mark.parametrize(
    ("architecture", "variant"),
    [
        *((architecture, {}) for architecture in ARCHITECTURES),
        *((architecture, {"tied": False, "quantization": GGMLQuantizationType.F16}) for architecture in ARCHITECTURES),
        ("llama", {"rope_factors": True}),
    ],
)
def test_logits_are_those_of_llama_cpp(tiny_model, architecture, variant):
    path = tiny_model(architecture=architecture, **variant)
    tokens = probe_tokens(path)[:120]  # well past gemma3's window of 24
    ours, theirs = torch_logits(load_base_model(path, "fp32"), tokens), sequence_logits(path, tokens)
    assert np.abs(ours - theirs).max() < 0.02  # llama.cpp keeps keys and values in F16
    assert mean_kl(ours, theirs) < 5e-6


def test_quantized_tensors_are_read(tiny_model):
    path = tiny_model(quantization=GGMLQuantizationType.Q8_0)
    tokens = probe_tokens(path)[:60]
    assert mean_kl(torch_logits(load_base_model(path, "fp32"), tokens), sequence_logits(path, tokens)) < 5e-3


def test_linear_rope_scaling_is_followed(tiny_model, tmp_path):
    fields = {"llama.rope.scaling.type": string_field("linear"), "llama.rope.scaling.factor": struct.pack("<If", 6, 4.0)}
    path = changed(tiny_model(), tmp_path / "scaled.gguf", fields)
    tokens = probe_tokens(path)[:120]
    scaled, plain = (torch_logits(load_base_model(file, "fp32"), tokens) for file in (path, tiny_model()))
    theirs = sequence_logits(path, tokens)
    assert mean_kl(scaled, theirs) < 5e-6 < 1e-3 < mean_kl(plain, theirs)


def test_bf16_stays_close_and_keeps_its_rotation_in_float32(tiny_model):
    path = tiny_model()
    tokens = probe_tokens(path)[:60]
    model = load_base_model(path, "bf16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert mean_kl(torch_logits(load_base_model(path, "fp32"), tokens), torch_logits(model, tokens)) < 3e-3


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])  # without and with biases
def test_nf4_quantizes_the_linear_layers_of_the_blocks_only(tiny_model, architecture):
    from bitsandbytes.nn import Linear4bit

    path = tiny_model(architecture=architecture)
    tokens = probe_tokens(path)[:60]
    model = load_base_model(path, "nf4")
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert [type(module) is Linear4bit for module in linear] == [True] * 14 + [False]  # the last is the output layer
    assert all(module.weight.quant_state.nested for module in linear[:-1])  # type: ignore[attr-defined]
    assert model.model.embed_tokens.weight.dtype == torch.bfloat16
    assert mean_kl(torch_logits(load_base_model(path, "fp32"), tokens), torch_logits(model, tokens)) < 0.4


@pytest.mark.parametrize("precision", ["nf4", "bf16"])
def test_heap_is_trimmed_after_each_converted_block(tiny_model, monkeypatch, precision):
    read, events = BaseWeights.tensor, []

    def watched(weights, name, dtype):
        events.append(name.split(".")[2] if name.startswith("model.layers.") else "other")
        return read(weights, name, dtype)

    monkeypatch.setattr(BaseWeights, "tensor", watched)
    monkeypatch.setattr(base_model, "trim_heap", lambda: events.append("trimmed"))
    load_base_model(tiny_model(tied=False), precision)
    assert [event for event, _ in groupby(events)] == ["other", "0", "trimmed", "1", "trimmed", "other"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_everything_is_frozen_on_a_real_device_and_tied(tiny_model, architecture):
    model = load_base_model(tiny_model(architecture=architecture), "fp32")
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(value.is_meta for value in [*model.parameters(), *model.buffers()])
    assert model.lm_head.weight is model.model.embed_tokens.weight
    untied = load_base_model(tiny_model(architecture=architecture, tied=False), "fp32")
    assert untied.lm_head.weight.data_ptr() != untied.model.embed_tokens.weight.data_ptr()


def test_loading_opens_no_socket(tiny_model, monkeypatch):
    def refuse(*_arguments, **_options):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    load_base_model(tiny_model(seed=3), "fp32")


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"fields": {"general.architecture": string_field("mamba")}}, ConfigError, "llama, qwen2, qwen3, gemma3"),
        ({"fields": {"llama.rope.scaling.type": string_field("yarn")}}, ConfigError, "yarn"),
        ({"fields": {"llama.rope.dimension_count": uint32_field(8)}}, ConfigError, "part of each head"),
        ({"fields": {"llama.attention.head_count_kv": struct.pack("<IIQ2I", 9, 4, 2, 2, 1)}}, ConfigError, "differs between"),
        ({"fields": {"llama.feed_forward_length": uint32_field(96)}}, IntegrityError, "wrong shape"),
        ({"without": ["blk.1.ffn_up.weight"]}, IntegrityError, "blk.1.ffn_up.weight"),
        ({"without": ["token_embd.weight"]}, IntegrityError, "no weights"),
        ({"extra": [Tensor("blk.0.ffn_gate_inp.weight", (4, 64), GGMLQuantizationType.F32)]}, ConfigError, "ffn_gate_inp"),
        ({"extra": [Tensor("blk.0.attn_q.bias", (64,), GGMLQuantizationType.F32)]}, ConfigError, "attn_q.bias"),
    ],
)
def test_what_is_not_supported_is_refused(tiny_model, tmp_path, change, error, says):
    path = changed(tiny_model(), tmp_path / "other.gguf", **change)
    with pytest.raises(error) as caught:
        load_base_model(path, "fp32")
    assert says in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.model
def test_the_real_model_computes_what_llama_cpp_computes():
    try:
        path = find_base_model("smollm2-135m-instruct").path
    except ResourceError as error:
        pytest.skip(f"{error.message} {error.hint}")
    tokens = probe_tokens(path)
    # llama.cpp also quantizes the activations that it multiplies with Q4_1 weights
    assert mean_kl(torch_logits(load_base_model(path, "fp32"), tokens), sequence_logits(path, tokens)) < 1e-2
