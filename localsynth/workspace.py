"""Where everything of a workspace lies, and how its files are written.

A workspace is a directory with mode 0700 (see docs/files.md). The keys are elsewhere: in the user's configuration
directory, so that a copied workspace cannot be opened and its ledger cannot be rolled back unseen.
"""

import hashlib
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localsynth.errors import ConfigError, IntegrityError, ResourceError
from localsynth.privacy.canonical import parse_json

__all__ = ["Workspace", "config_directory", "file_sha256", "model_directory", "read_json", "write_file", "write_json"]


def config_directory() -> Path:
    """The user's directory for keys, ledger heads and the registry: $LOCALSYNTH_HOME or ~/.config/localsynth."""
    home = os.environ.get("LOCALSYNTH_HOME")
    if home:
        return Path(home)
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "localsynth"


def model_directory() -> Path:
    """Where base models lie: $LOCALSYNTH_MODELS or ~/.local/share/localsynth/models."""
    own = os.environ.get("LOCALSYNTH_MODELS")
    if own:
        return Path(own)
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "localsynth" / "models"


def write_file(path: Path, content: bytes | str, mode: int = 0o600) -> None:
    """Write `path` whole or not at all: a temporary file beside it, fsync, rename. Raises ResourceError (disk full, ...)."""
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
    """`write_file` of a JSON document, indented, keys in the order given."""
    write_file(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON document in `path`. Raises IntegrityError where the file is missing, is not JSON or has a key twice."""
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing.", "Restore it from a backup, or start over in a new workspace.") from None
    except ValueError as error:
        wrong = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise IntegrityError(
            f"{path} is damaged: it {wrong}.", "Restore it from a backup, or start over in a new workspace."
        ) from None


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Workspace:
    """The paths of one workspace. Nothing is read or made until asked for."""

    root: Path
    passphrase: str | None = field(default=None, repr=False, compare=False)
    """Of the key, where it has one and a person gave it; never written down."""

    @property
    def config_path(self) -> Path:
        return self.root / "localsynth.toml"

    @property
    def identity_path(self) -> Path:
        return self.root / "workspace.json"

    @property
    def schema_path(self) -> Path:
        """The effective schema: every bound declared or measured."""
        return self.root / "schema.json"

    @property
    def private_path(self) -> Path:
        return self.root / "private.duckdb"

    @property
    def ledger_path(self) -> Path:
        return self.root / "ledger.json"

    @property
    def synthetic_path(self) -> Path:
        return self.root / "synthetic.duckdb"

    @property
    def erasure_path(self) -> Path:
        """Says that, and when, the private side was erased; absent before."""
        return self.root / "erasure.json"

    @property
    def runs_path(self) -> Path:
        return self.root / "runs"

    def run_path(self, run_id: str) -> Path:
        return self.runs_path / run_id

    @staticmethod
    def create(root: Path) -> "Workspace":
        """A new, empty workspace. Raises ConfigError where the directory holds anything."""
        workspace = Workspace(root)
        if workspace.config_path.exists():
            raise ConfigError(f"{root} is already a workspace.", "Choose another directory, or remove this one first.")
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise ConfigError(f"{root} exists and is not empty.", "Choose another directory for the workspace.")
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            root.chmod(0o700)
        except OSError as error:
            raise ResourceError(
                f"Cannot make the directory {root}: {error.strerror}.", "Choose a place you may write to."
            ) from None
        write_json(workspace.identity_path, {"id": secrets.token_hex(8)})
        return workspace

    @staticmethod
    def open(root: Path, passphrase: str | None = None) -> "Workspace":
        """An existing workspace, with the passphrase of its key if it is known. Raises ConfigError where there is none."""
        workspace = Workspace(root, passphrase)
        if not workspace.config_path.is_file():
            raise ConfigError(f"{root} is not a workspace.", f"Make one with: localsynth init {root} --data FILE")
        return workspace

    @property
    def id(self) -> str:
        """The workspace's random name, under which its key lies in the configuration directory."""
        return str(read_json(self.identity_path)["id"])

    @property
    def keys_path(self) -> Path:
        """The directory, outside the workspace, of its key and of its ledger's head (mode 0700, made on first use)."""
        path = config_directory() / "workspaces" / self.id
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(
                f"Cannot make {path}: {error.strerror}.", "Set LOCALSYNTH_HOME to a directory you may write to."
            ) from None
        return path
