"""Names and layouts of tensors, against llama.cpp's own rule written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localsynth.errors import ConfigError
from localsynth.llm.gguf_tensors import ARCHITECTURES, check_architecture, from_hf_layout, moves_rows, tensor_name, to_hf_layout


@pytest.mark.parametrize(
    ("architecture", "hf_name", "name"),
    [
        ("llama", "model.embed_tokens.weight", "token_embd.weight"),
        ("llama", "lm_head.weight", "output.weight"),
        ("llama", "model.norm.weight", "output_norm.weight"),
        ("llama", "model.layers.11.self_attn.q_proj.weight", "blk.11.attn_q.weight"),
        ("llama", "model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight"),
        ("qwen2", "model.layers.0.self_attn.v_proj.bias", "blk.0.attn_v.bias"),
        ("qwen3", "model.layers.0.self_attn.k_norm.weight", "blk.0.attn_k_norm.weight"),
        ("gemma3", "model.layers.0.post_attention_layernorm.weight", "blk.0.post_attention_norm.weight"),
        ("gemma3", "model.layers.0.pre_feedforward_layernorm.weight", "blk.0.ffn_norm.weight"),
    ],
)
def test_names(architecture, hf_name, name):
    assert tensor_name(architecture, 12, hf_name) == name


@pytest.mark.parametrize(
    "hf_name", ["model.layers.12.self_attn.q_proj.weight", "model.layers.0.self_attn.q_norm.weight", "lm_head"]
)
def test_unknown_names(hf_name):
    with pytest.raises(KeyError):
        tensor_name("llama", 12, hf_name)


def test_unknown_architectures_are_refused_with_the_list():
    assert check_architecture("qwen3") == "qwen3"
    for other in ("mamba", None):
        with pytest.raises(ConfigError) as caught:
            check_architecture(other)
        assert all(name in caught.value.hint for name in ARCHITECTURES)


def test_llama_rows_interleave_the_halves_of_each_head():
    heads = np.array([[0], [1], [2], [3], [10], [11], [12], [13]], np.float32)  # two heads of four rows
    stored = from_hf_layout("llama", "blk.0.attn_q.weight", heads, 2, 1)
    assert stored[:, 0].tolist() == [0, 2, 1, 3, 10, 12, 11, 13]
    one = from_hf_layout("llama", "blk.0.attn_k.weight", heads, 2, 1)  # as one head of eight
    assert one[:, 0].tolist() == [0, 10, 1, 11, 2, 12, 3, 13]


def test_only_what_differs_is_changed():
    values = np.arange(8, dtype=np.float32).reshape(8, 1)
    same = [("llama", "blk.0.attn_v.weight"), ("qwen2", "blk.0.attn_q.weight"), ("llama", "blk.0.attn_norm.weight")]
    for architecture, name in same:
        assert not moves_rows(architecture, name)
        assert from_hf_layout(architecture, name, values, 2, 1) is values
    assert moves_rows("llama", "blk.0.attn_q.weight") and moves_rows("llama", "blk.0.attn_k.weight")
    assert to_hf_layout("gemma3", "blk.0.attn_q_norm.weight", values, 2, 1)[:, 0].tolist() == list(range(-1, 7))


@given(
    st.sampled_from(sorted(ARCHITECTURES)),
    st.sampled_from(
        ["blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_q.bias", "blk.0.attn_norm.weight", "output.weight"]
    ),
    st.sampled_from([(1, 1), (4, 2), (6, 3)]),
    st.integers(1, 4),
    st.sampled_from([(), (3,), (2, 2)]),
)
def test_there_and_back_again(architecture, name, heads, half, rest):
    rows = (heads[0] if "attn_q" in name else heads[1]) * 2 * half
    values = np.arange(rows * int(np.prod(rest)), dtype=np.float32).reshape(rows, *rest)
    stored = from_hf_layout(architecture, name, values, *heads)
    np.testing.assert_array_equal(to_hf_layout(architecture, name, stored, *heads), values)
