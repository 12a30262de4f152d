"""Which GGUF tensor is which Hugging Face parameter, and how its layout differs. Numpy and `gguf` only, no torch.

Two layouts differ, both made by llama.cpp's convert_hf_to_gguf.py:
- llama: the rows of the query and key projections are permuted within each head, because llama.cpp rotates neighbouring
  pairs where Hugging Face rotates halves (`LlamaModel.permute`).
- gemma3: the RMSNorm weights are stored with 1 added (`Gemma3Model.norm_shift`).
"""

from functools import cache
from typing import Any

import numpy as np
from gguf import MODEL_ARCH, get_tensor_name_map
from numpy.typing import NDArray

from localsynth.errors import ConfigError

ARCHITECTURES = {"llama": MODEL_ARCH.LLAMA, "qwen2": MODEL_ARCH.QWEN2, "qwen3": MODEL_ARCH.QWEN3, "gemma3": MODEL_ARCH.GEMMA3}
"""GGUF's `general.architecture` values that localsynth can train (Mistral calls itself llama)."""


def check_architecture(architecture: Any) -> str:
    """`architecture` if it is one that localsynth knows, else ConfigError with the list."""
    if architecture not in ARCHITECTURES:
        raise ConfigError(
            f"The model's architecture {architecture!r} is not supported.",
            f"Choose a model of one of: {', '.join(ARCHITECTURES)}.",
        )
    return str(architecture)


@cache
def _names(architecture: str, n_blocks: int) -> Any:
    return get_tensor_name_map(ARCHITECTURES[architecture], n_blocks)


def tensor_name(architecture: str, n_blocks: int, hf_name: str) -> str:
    """The GGUF tensor of a Hugging Face parameter, e.g. "model.layers.0.self_attn.q_proj.weight" is "blk.0.attn_q.weight".

    Raises KeyError where the architecture has no such parameter.
    """
    module, _, suffix = hf_name.rpartition(".")
    found = _names(architecture, n_blocks).get_name(module)
    if found is None or suffix not in ("weight", "bias"):
        raise KeyError(hf_name)
    return f"{found}.{suffix}"


def _heads(architecture: str, name: str, n_head: int, n_head_kv: int) -> int | None:
    """How many heads' rows are permuted in a tensor; None where none are."""
    if architecture != "llama" or not name.endswith((".weight", ".bias")):
        return None
    return {"attn_q": n_head, "attn_k": n_head_kv}.get(name.split(".")[-2])


def _norm_shift(architecture: str, name: str) -> float:
    return 1.0 if architecture == "gemma3" and name.endswith("norm.weight") else 0.0


def moves_rows(architecture: str, name: str) -> bool:
    """Whether the layouts of a tensor differ in the order of rows, so that only the whole of it can be converted."""
    return _heads(architecture, name, 1, 1) is not None


def to_hf_layout(architecture: str, name: str, array: NDArray[np.float32], n_head: int, n_head_kv: int) -> NDArray[np.float32]:
    """A GGUF tensor's values, of any trailing shape, in the layout that transformers expects. `name` is the GGUF name."""
    if (heads := _heads(architecture, name, n_head, n_head_kv)) is not None:
        return array.reshape(heads, -1, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
    return array - np.float32(_norm_shift(architecture, name)) if _norm_shift(architecture, name) else array


def from_hf_layout(architecture: str, name: str, array: NDArray[np.float32], n_head: int, n_head_kv: int) -> NDArray[np.float32]:
    """The inverse of `to_hf_layout`. For q and k it permutes rows, so it may be applied to LoRA's B as well."""
    if (heads := _heads(architecture, name, n_head, n_head_kv)) is not None:
        return array.reshape(heads, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
    return array + np.float32(_norm_shift(architecture, name)) if _norm_shift(architecture, name) else array
