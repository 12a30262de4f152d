"""The paths of a workspace.

A workspace is a directory with mode 0700 (see docs/files.md). Its keys are in the user's
configuration directory, so that a copied workspace cannot be opened and its ledger cannot be
rolled back unnoticed.
"""

import secrets
from pathlib import Path

from localsynth.errors import ConfigError, ResourceError
from localsynth.system.files import config_directory, make_private_directory, read_json, write_json


class Workspace:
    """The paths of one workspace. Creating the object reads and writes nothing."""

    def __init__(self, root: Path, passphrase: str | None = None) -> None:
        self.root = root
        self.passphrase = passphrase
        """The passphrase of the key, if there is one; never stored."""
        self.config_path = root / "localsynth.toml"
        self.identity_path = root / "workspace.json"
        self.schema_path = root / "schema.json"
        """The effective schema: every bound declared or measured."""
        self.private_path = root / "private.duckdb"
        self.ledger_path = root / "ledger.json"
        self.synthetic_path = root / "synthetic.duckdb"
        self.erasure_path = root / "erasure.json"
        """Records that, and when, the private data was erased; absent before."""
        self.runs_path = root / "runs"

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
        make_private_directory(root)
        try:
            root.chmod(0o700)  # where it existed
        except OSError as error:
            raise ResourceError(
                f"Cannot change the mode of {root}: {error.strerror}.", "Choose a directory of your own."
            ) from None
        write_json(workspace.identity_path, {"id": secrets.token_hex(8)})
        return workspace

    @staticmethod
    def open(root: Path, passphrase: str | None = None) -> "Workspace":
        """An existing workspace, with the passphrase of its key if it is known. Raises ConfigError where there is none."""
        workspace = Workspace(root, passphrase)
        if not workspace.config_path.is_file():
            raise ConfigError(f"{root} is not a workspace.", f"Create one with: localsynth init {root} --data FILE")
        return workspace

    @property
    def id(self) -> str:
        """The workspace's random id, under which its key is stored in the configuration directory."""
        return str(read_json(self.identity_path)["id"])

    @property
    def keys_path(self) -> Path:
        """The directory, outside the workspace, of its key and its ledger's head (mode 0700, created on first use)."""
        path = config_directory() / "workspaces" / self.id
        make_private_directory(path)
        return path
