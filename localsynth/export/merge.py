"""Merge an adapter into its base model, GGUF in and GGUF out, a few rows of one tensor at a time.

Metadata, tokenizer and chat template of the base are copied byte for byte. Knows nothing about torch or llama.cpp.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, LlamaFileType
from numpy.typing import NDArray

from localsynth.errors import IntegrityError
from localsynth.llm.adapter import Adapter, read_adapter
from localsynth.llm.gguf_file import GgufFile, Tensor, data_size, string_field, uint32_field, write_gguf
from localsynth.llm.gguf_tensors import check_architecture, from_hf_layout, tensor_name

_OURS = "localsynth."
Delta = tuple[NDArray[np.float32], NDArray[np.float32]]


def _merged_kind(tensor: Tensor) -> GGMLQuantizationType:
    """Matrices in F16, norms and biases in F32: what llama.cpp's own converter writes, and its quantizer expects."""
    return GGMLQuantizationType.F16 if len(tensor.shape) > 1 else GGMLQuantizationType.F32


def _merged_tensors(base: GgufFile) -> list[Tensor]:
    return [Tensor(tensor.name, tensor.shape, _merged_kind(tensor)) for tensor in base.tensors.values()]


def merged_size(base: Path) -> int:
    """Bytes that `merge_adapter` will write for this base model, to within its metadata's own size."""
    return data_size(_merged_tensors(GgufFile(base)))


def _deltas(base: GgufFile, adapter: Adapter) -> dict[str, Delta]:
    """For each adapted GGUF tensor (scale·B in the rows' order of the file, A): their product is added to it."""
    architecture = check_architecture(base.value("general.architecture"))
    blocks, heads = base.value(f"{architecture}.block_count"), base.value(f"{architecture}.attention.head_count")
    heads_kv = base.value(f"{architecture}.attention.head_count_kv", heads)
    deltas: dict[str, Delta] = {}
    for module, (a, b) in adapter.pairs.items():
        try:
            name = tensor_name(architecture, blocks, f"{module}.weight")
            shape = base.tensors[name].shape
        except KeyError:
            raise IntegrityError(
                f"The adapter changes {module}, which {base.path} does not have.", "Use the base model that it was trained on."
            ) from None
        if shape != (b.shape[0], a.shape[1]):
            raise IntegrityError(
                f"The adapter's {module} is {b.shape[0]} x {a.shape[1]}, and {name} in {base.path} is not.",
                "Use the base model that it was trained on.",
            )
        deltas[name] = (from_hf_layout(architecture, name, np.float32(adapter.scale) * b, heads, heads_kv), a)
    return deltas


def _merged_rows(base: GgufFile, tensor: Tensor, delta: Delta | None) -> Iterator[NDArray[Any]]:
    dtype = np.float16 if tensor.kind == GGMLQuantizationType.F16 else np.float32
    for rows, values in base.chunks(tensor.name):
        if delta is not None:
            b, a = delta
            values += b[rows] @ a
        with np.errstate(over="ignore"):
            result = values.astype(dtype)
        if not np.isfinite(result).all():
            raise IntegrityError(
                f"The merged {tensor.name} has values too large for {tensor.kind.name}.",
                "Train again with a lower learning rate or a smaller max_grad_norm.",
            )
        yield result


def merge_adapter(base: Path, adapter: Path | Adapter, out: Path, metadata: Mapping[str, str]) -> None:
    """Write `out`: the model `base` with scale·B·A of `adapter` (or of its directory) added, in F16, and norms in F32.

    `metadata` is added as strings under keys that begin with "localsynth."; those of the base are left out, since its certificate
    is another model's. A tied output layer stays tied. `out` appears whole or not at all. Raises IntegrityError (the adapter does
    not fit the base), ConfigError, ResourceError.
    """
    source = GgufFile(base)
    deltas = _deltas(source, adapter if isinstance(adapter, Adapter) else read_adapter(adapter))
    fields = _with_metadata({key: raw for key, raw in source.fields.items() if not key.startswith(_OURS)}, metadata) | {
        "general.file_type": uint32_field(LlamaFileType.MOSTLY_F16),
        "general.quantization_version": uint32_field(GGML_QUANT_VERSION),
    }
    write_gguf(out, fields, _merged_tensors(source), lambda tensor: _merged_rows(source, tensor, deltas.get(tensor.name)))


def _with_metadata(fields: Mapping[str, bytes], metadata: Mapping[str, str]) -> dict[str, bytes]:
    if foreign := [key for key in metadata if not key.startswith(_OURS)]:
        raise ValueError(f"{foreign[0]} is not a key of localsynth: these begin with {_OURS}")
    kept = {key: raw for key, raw in fields.items() if key not in metadata}
    return kept | {key: string_field(text) for key, text in metadata.items()}


def set_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Put "localsynth." strings behind the other keys of a GGUF file of any quantization, whose bytes stay as they are.

    The file is replaced whole or not at all. Raises IntegrityError, ResourceError.
    """
    source = GgufFile(path)
    fields = _with_metadata(source.fields, metadata)
    write_gguf(path, fields, list(source.tensors.values()), lambda tensor: [source.raw(tensor.name)])
