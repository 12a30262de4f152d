"""The trained adapter as files: `adapter.safetensors` with the LoRA factors, `adapter.json` with what they mean.

The keys are "<Hugging Face module>.lora_A" (rank x inputs) and "<...>.lora_B" (outputs x rank), float32. An adapted layer
computes W x + (alpha / rank) B A x.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localsynth.errors import IntegrityError, ResourceError
from localsynth.system.files import read_json, write_file, write_json

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Adapter:
    """LoRA factors by Hugging Face module name: (A of shape (rank, inputs), B of shape (outputs, rank))."""

    rank: int
    alpha: float
    pairs: Mapping[str, Pair]

    @property
    def scale(self) -> float:
        """The factor of B·A: alpha / rank (Hu et al. 2021, arXiv:2106.09685, section 4.1)."""
        return self.alpha / self.rank

    def is_zero(self) -> bool:
        """Whether the adapter changes nothing, as before training."""
        return all(not np.any(a) or not np.any(b) for a, b in self.pairs.values())


def write_adapter(directory: Path, pairs: Mapping[str, Pair], rank: int, alpha: float) -> None:
    """Write an adapter into `directory` (created if missing). Raises ResourceError."""
    from safetensors.numpy import save

    tensors = {}
    for module, (a, b) in pairs.items():
        tensors[f"{module}.lora_A"] = a
        tensors[f"{module}.lora_B"] = b
    targets = sorted({module.rpartition(".")[2] for module in pairs})
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"Cannot create {directory}: {error.strerror}.", "Check the permissions.") from None
    content = save({name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()})
    write_file(directory / "adapter.safetensors", content)
    write_json(directory / "adapter.json", {"rank": rank, "alpha": alpha, "targets": targets})


def read_adapter(directory: Path) -> Adapter:
    """The adapter that `write_adapter` wrote. Raises IntegrityError where a file is missing or does not match."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = directory / "adapter.safetensors"
    damaged = IntegrityError(f"The adapter in {directory} is damaged.", "Train again, or restore the directory from a backup.")
    facts: Any = read_json(directory / "adapter.json")
    try:
        tensors = load(path.read_bytes())
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing.", "Train again, or restore it from a backup.") from None
    except (SafetensorError, ValueError):
        raise damaged from None
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise IntegrityError(
            f"The adapter in {directory} holds numbers that are not finite.", "Train with a lower learning rate."
        )
    try:
        rank, alpha = int(facts["rank"]), float(facts["alpha"])
    except (KeyError, TypeError, ValueError):
        raise damaged from None
    modules = {key.removesuffix(".lora_A") for key in tensors if key.endswith(".lora_A")}
    if set(tensors) != {f"{module}.lora_{part}" for module in modules for part in "AB"} or rank < 1:
        raise damaged
    pairs = {module: (tensors[f"{module}.lora_A"], tensors[f"{module}.lora_B"]) for module in sorted(modules)}
    for a, b in pairs.values():
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != rank or b.shape[1] != rank:
            raise damaged
    return Adapter(rank, alpha, pairs)
