"""The key of private.duckdb, and a DuckDB connection that can open an encrypted file offline.

DuckDB writes encrypted files (AES-GCM) only with OpenSSL, which its httpfs extension carries. The extension comes from
an installed wheel and is loaded by path: nothing is ever downloaded.
"""

import re
import secrets
from pathlib import Path

import duckdb

from localsynth.errors import IntegrityError, ResourceError
from localsynth.workspace import Workspace, write_file

__all__ = ["attach", "connect", "key_path", "make_key", "read_key"]

_KEY_BYTES = 32
_MEMORY = "1GB"


def key_path(workspace: Workspace) -> Path:
    """Where the key of a workspace's private data lies. Without this file the data cannot be read by anyone."""
    return workspace.keys_path / "private.key"


def make_key(workspace: Workspace) -> str:
    """The workspace's key, made (32 random bytes, hex, mode 0600) where there is none yet."""
    path = key_path(workspace)
    if not path.exists():
        write_file(path, secrets.token_hex(_KEY_BYTES) + "\n", mode=0o600)
    return read_key(workspace)


def read_key(workspace: Workspace) -> str:
    """The workspace's key in hex. Raises IntegrityError where it is missing or is not a key."""
    path = key_path(workspace)
    try:
        key = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise IntegrityError(
            f"The key of the private data is missing: {path}.",
            "The data was erased, or the workspace comes from another machine or user: remove private.duckdb and run "
            "`localsynth ingest`; what was measured stands and is not charged again.",
        ) from None
    except (OSError, UnicodeDecodeError):
        raise IntegrityError(f"The key of the private data cannot be read: {path}.", "Check its permissions.") from None
    if not re.fullmatch(rf"[0-9a-f]{{{2 * _KEY_BYTES}}}", key):
        raise IntegrityError(
            f"{path} does not hold a key.",
            "Restore it from a backup, or remove it and private.duckdb and run `localsynth ingest`.",
        )
    return key


def _extension() -> Path:
    try:
        import duckdb_extension_httpfs
    except ImportError:
        found: list[Path] = []
    else:
        found = sorted(Path(duckdb_extension_httpfs.__file__).parent.glob(f"extensions/v{duckdb.__version__}/*.duckdb_extension"))
    if not found:
        raise ResourceError(
            f"The encryption module for DuckDB {duckdb.__version__} is not installed.",
            f"Install it: pip install duckdb-extension-httpfs=={duckdb.__version__}",
        )
    return found[0]


def connect(spill: Path | None = None, memory: str = _MEMORY) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that can attach encrypted files and fetches nothing.

    What does not fit in `memory` goes to encrypted files under the directory `spill`; without one it is an error.
    """
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "memory_limit": memory,
            "python_enable_replacements": False,
            "temp_directory": "" if spill is None else str(spill),
            "temp_file_encryption": True,
        },
    )
    connection.execute(f"LOAD '{_literal(str(_extension()))}'")
    return connection


def attach(connection: duckdb.DuckDBPyConnection, path: Path, key: str, read_only: bool) -> None:
    """Attach the encrypted file `path` as the catalog `private`. Raises duckdb.Error."""
    mode = ", READ_ONLY" if read_only else ""
    connection.execute(f"ATTACH '{_literal(str(path))}' AS private (ENCRYPTION_KEY '{key}', ENCRYPTION_CIPHER 'GCM'{mode})")


def _literal(text: str) -> str:
    return text.replace("'", "''")
