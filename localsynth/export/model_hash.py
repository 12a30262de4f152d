"""The hash of a model: its tensors and all its metadata, except what localsynth adds to the file afterwards.

The certificate holds this hash and travels inside the same GGUF, so keys beginning with `localsynth.` are left out (of which
`localsynth.verify.file` allows no other); so are the file's counts and offsets, and the order of keys and tensors.
"""

import hashlib
import json
from pathlib import Path

from localsynth.errors import IntegrityError

__all__ = ["OWN_PREFIX", "model_hash"]

OWN_PREFIX = "localsynth."

_HEADER = {"GGUF.version", "GGUF.tensor_count", "GGUF.kv_count"}
"""The reader's names for the file's header, which is no metadata (a real field of that name it refuses)."""


def model_hash(path: Path) -> str:
    """SHA-256, in hex, over name, type, shape and raw data of each tensor and key, types and raw value of each metadata field.

    Tensors are streamed, so memory use is small. Raises IntegrityError where `path` is not a GGUF file.
    """
    import gguf
    import numpy as np

    try:
        reader = gguf.GGUFReader(path, "r")
    except (OSError, ValueError, IndexError, KeyError):
        raise IntegrityError(f"{path} is not a complete GGUF file.", "Copy it again from its source.") from None
    digest = hashlib.sha256()

    def add(header: list[object], length: int) -> None:
        # The length in the header separates the parts: no byte can move from one to the next unnoticed.
        digest.update(json.dumps([*header, length], separators=(",", ":")).encode("ascii") + b"\n")

    for name, field in sorted(reader.fields.items()):
        if not name.startswith(OWN_PREFIX) and name not in _HEADER:
            value = b"".join(part.tobytes() for part in field.parts)
            add(["field", name], len(value))
            digest.update(value)
    for tensor in sorted(reader.tensors, key=lambda tensor: str(tensor.name)):
        shape = [int(size) for size in tensor.shape]
        add(["tensor", str(tensor.name), int(tensor.tensor_type), shape], int(tensor.n_bytes))
        digest.update(np.ascontiguousarray(tensor.data).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
