"""Base models by name or path: the verified file, and which of its layers can get adapters."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localsynth.system.files import model_directory
from localsynth_models.catalog import GgufInfo, architectures, catalog, local_models, locate, model_info, verify_model


@dataclass(frozen=True)
class BaseModel:
    """A base model whose file matches its recorded SHA-256, if it has one."""

    path: Path
    info: GgufInfo
    targets: list[str]
    """Names of the linear layers that can get LoRA adapters."""


def find_base_model(name_or_path: str) -> BaseModel:
    """The base model of that name, or at that path. Raises ConfigError, IntegrityError, ResourceError."""
    directory = model_directory()
    path = locate(name_or_path, directory)
    if name_or_path in catalog() or name_or_path in local_models(directory):
        verify_model(name_or_path, directory)
    info = model_info(path)
    return BaseModel(path, info, list(architectures()[info.architecture].lora_targets))


def list_base_models() -> list[dict[str, Any]]:
    """All models of the catalogue and those that the user added; `present`: whether the file was fetched."""
    directory = model_directory()
    known = {**catalog(), **local_models(directory)}
    return [
        {
            "name": model.name,
            "architecture": model.architecture,
            "parameters": model.parameters,
            "size": model.size,
            "licence": model.licence,
            "present": (directory / model.file).is_file(),
            "sha256": model.sha256,
        }
        for model in known.values()
    ]
