"""Atomic writes of files, their hashes, and the user's directories."""

import hashlib
import os
import secrets
from pathlib import Path
from typing import Any

import platformdirs

from localsynth.errors import IntegrityError, ResourceError
from localsynth.system.canonical_json import parse_json


def config_directory() -> Path:
    """The directory of the user's keys, ledger heads and registry.

    It is $LOCALSYNTH_HOME, else the user's configuration directory (~/.config/localsynth).
    """
    home = os.environ.get("LOCALSYNTH_HOME")
    return Path(home) if home else platformdirs.user_config_path("localsynth")


def model_directory() -> Path:
    """The directory of base models: $LOCALSYNTH_MODELS, else ~/.local/share/localsynth/models."""
    models = os.environ.get("LOCALSYNTH_MODELS")
    return Path(models) if models else platformdirs.user_data_path("localsynth") / "models"


def make_private_directory(path: Path) -> None:
    """Make the directory and its missing parents, each with mode 0700 from the first moment. Raises ResourceError.

    `mkdir(parents=True)` would give the parents the mode that the umask leaves.
    """
    try:
        for directory in reversed([path, *path.parents]):
            if not directory.exists():
                directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ResourceError(
            f"Cannot create the directory {path}: {error.strerror}.",
            "Choose a directory you may write to; LOCALSYNTH_HOME names another one for keys.",
        ) from None


def write_file(path: Path, content: bytes | str, mode: int = 0o600) -> None:
    """Write `path` atomically: a temporary file beside it, fsync, rename. Raises ResourceError (disk full, ...)."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ResourceError(
            f"Cannot write {path}: {error.strerror}.",
            "Free some disk space or check the permissions, then start the command again.",
        ) from None


def write_json(path: Path, value: Any) -> None:
    """`write_file` of a JSON document, indented, keys in their order."""
    # Imported here: most commands write none. Python's own encoder takes ten times as long where it indents.
    from pydantic_core import to_json

    write_file(path, to_json(value, indent=1) + b"\n")


def read_json(path: Path) -> Any:
    """The JSON document in `path`. Raises IntegrityError where the file is missing, is not JSON or has a key twice."""
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing.", "Restore it from a backup, or make a new workspace.") from None
    except ValueError as error:
        wrong = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise IntegrityError(f"{path} is damaged: it {wrong}.", "Restore it from a backup, or make a new workspace.") from None


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
