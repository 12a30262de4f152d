"""The key of the hashes by which a workspace recognises what it must not tell: the source's path, a file of rows."""

import secrets

from localsynth.system.files import write_file
from localsynth.workspace.paths import Workspace


def hash_secret(workspace: Workspace) -> bytes:
    """The workspace's secret, stored outside of it and made on first use. Raises ResourceError.

    Without it, a path or a small file could be found from its hash by trying.
    """
    path = workspace.keys_path / "hash-secret"
    if not path.exists():
        write_file(path, secrets.token_hex(32))
    return path.read_bytes()
