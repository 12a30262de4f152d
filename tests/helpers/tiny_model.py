"""Tiny random GGUF models that llama.cpp loads: real architectures and a real byte-level BPE, in a few 100 kB.

They know nothing, but every computation on them is the real one, so two implementations can be compared in milliseconds.
"""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType, TokenType
from numpy.typing import NDArray

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3")

HIDDEN = 64
HEADS = 4
KV_HEADS = 2
FEED_FORWARD = 128
CONTEXT = 512
HOSTILE = "{% compiled %}"

# Gemma 3 lets every sixth layer see the whole context, so it takes six layers to have one.
_LAYERS = {"llama": 2, "qwen2": 2, "qwen3": 2, "gemma3": 6}
# qwen3 and gemma3 choose the size of a head freely; here it is not hidden / heads, to catch code that assumes so.
_HEAD_SIZE = {"llama": 16, "qwen2": 16, "qwen3": 32, "gemma3": 32}

_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_MERGES = [
    *("Ġ t", "Ġ a", "h e", "i n", "r e", "o n", "Ġt he", "e r", "Ġ s", "a t", "Ġ w", "Ġ o", "e n", "Ġ c", "i t", "i s", "a n"),
    *("o r", "e s", "Ġ b", "e d", "Ġ f", "in g", "Ġ p", "o u", "Ġa n", "a l", "a r", "Ġt o", "Ġ m", "Ġo f", "Ġ in", "Ġ d", "Ġ h"),
    *(
        "Ġan d",
        "i c",
        "a s",
        "l e",
        "Ġt h",
        "i on",
        "o m",
        "l l",
        "en t",
        "Ġ n",
        "Ġ l",
        "s t",
        "Ġ re",
        "v e",
        "Ġ e",
        "r o",
        "l y",
    ),
]


def _byte_symbols() -> list[str]:
    """GPT-2's printable stand-in for each of the 256 bytes."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _vocabulary() -> list[str]:
    return [*_SPECIAL, *_byte_symbols(), *(merge.replace(" ", "") for merge in _MERGES)]


def _shapes(architecture: str, tied: bool, words: int) -> dict[str, tuple[int, ...]]:
    """The tensors of the model, with shapes as (outputs, inputs)."""
    head = _HEAD_SIZE[architecture]
    queries, keys = HEADS * head, KV_HEADS * head
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (words, HIDDEN), "output_norm.weight": (HIDDEN,)}
    if not tied:
        shapes["output.weight"] = (words, HIDDEN)
    for layer in range(_LAYERS[architecture]):
        block: dict[str, tuple[int, ...]] = {
            "attn_norm.weight": (HIDDEN,),
            "attn_q.weight": (queries, HIDDEN),
            "attn_k.weight": (keys, HIDDEN),
            "attn_v.weight": (keys, HIDDEN),
            "attn_output.weight": (HIDDEN, queries),
            "ffn_norm.weight": (HIDDEN,),
            "ffn_gate.weight": (FEED_FORWARD, HIDDEN),
            "ffn_up.weight": (FEED_FORWARD, HIDDEN),
            "ffn_down.weight": (HIDDEN, FEED_FORWARD),
        }
        if architecture == "qwen2":
            block |= {"attn_q.bias": (queries,), "attn_k.bias": (keys,), "attn_v.bias": (keys,)}
        if architecture in ("qwen3", "gemma3"):
            block |= {"attn_q_norm.weight": (head,), "attn_k_norm.weight": (head,)}
        if architecture == "gemma3":
            block |= {"post_attention_norm.weight": (HIDDEN,), "post_ffw_norm.weight": (HIDDEN,)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    return shapes


def _weights(name: str, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float32]:
    """Random weights whose logits have a spread of about 2: neither uniform nor one sure token."""
    values = random.standard_normal(shape)
    if name.endswith("norm.weight"):
        values = 1 + 0.2 * values
    elif name.endswith(".bias"):
        values *= 0.3
    elif name in ("token_embd.weight", "output.weight"):
        values *= 2 / np.sqrt(HIDDEN)
    else:
        values *= 1 / np.sqrt(shape[-1])
    return values.astype(np.float32)


def write_tiny_model(
    path: Path,
    *,
    architecture: str = "llama",
    tied: bool = True,
    seed: int = 0,
    quantization: GGMLQuantizationType = GGMLQuantizationType.F32,
    rope_factors: bool = False,
) -> Path:
    """Write a tiny model of `architecture` to `path` and return `path`.

    `tied` leaves `output.weight` out, `quantization` is the type of the matrices, `rope_factors` adds Llama 3's
    `rope_freqs.weight`. BOS is <|im_start|> (1), EOS <|im_end|> (2).
    """
    random = np.random.default_rng(seed)
    tokens = _vocabulary()
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(f"tiny {architecture}")
    writer.add_block_count(_LAYERS[architecture])
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_key_length(_HEAD_SIZE[architecture])
    writer.add_value_length(_HEAD_SIZE[architecture])
    writer.add_rope_dimension_count(_HEAD_SIZE[architecture])
    writer.add_rope_freq_base(1e6 if architecture == "gemma3" else 1e5)
    if architecture == "gemma3":
        writer.add_sliding_window(24)
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(8.0)
    all_f32 = quantization == GGMLQuantizationType.F32
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if all_f32 else gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * len(_SPECIAL) + [TokenType.NORMAL] * (len(tokens) - len(_SPECIAL)))
    writer.add_token_merges(_MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    # A file's chat templates are programs. These end whoever compiles one, so every test on a tiny model would see it.
    writer.add_chat_template([{"name": "default", "template": HOSTILE}, {"name": "tool_use", "template": HOSTILE}])
    for name, shape in _shapes(architecture, tied, len(tokens)).items():
        kind = quantization if len(shape) == 2 else GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(_weights(name, shape, random), kind), raw_dtype=kind)
    if rope_factors:
        factors = np.linspace(1, 8, _HEAD_SIZE[architecture] // 2, dtype=np.float32)
        writer.add_tensor("rope_freqs.weight", factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def random_adapter(path: Path, rank: int = 4, size: float = 0.1, seed: int = 1) -> dict[str, tuple[NDArray[np.float32], ...]]:
    """Random LoRA factors for every linear layer of a tiny model's blocks, by Hugging Face module: (A, B).

    `size` is the spread of B; 0 gives an adapter that changes nothing.
    """
    modules = {
        "self_attn": {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"},
        "mlp": {"gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"},
    }
    random = np.random.default_rng(seed)
    pairs: dict[str, tuple[NDArray[np.float32], ...]] = {}
    shapes = {tensor.name: tuple(reversed(tensor.shape.tolist())) for tensor in gguf.GGUFReader(path).tensors}
    for layer in range(sum(name.endswith("attn_q.weight") for name in shapes)):
        for group, names in modules.items():
            for name, gguf_name in names.items():
                outputs, inputs = shapes[f"blk.{layer}.{gguf_name}.weight"]
                a = random.standard_normal((rank, inputs)) / np.sqrt(inputs)
                b = size * random.standard_normal((outputs, rank))
                pairs[f"model.layers.{layer}.{group}.{name}"] = (a.astype(np.float32), b.astype(np.float32))
    return pairs
