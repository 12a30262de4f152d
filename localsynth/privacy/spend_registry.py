"""The ε that all workspaces of this user spent on the same source file, since their costs add up.

`registry.json` is stored beside the keys. It holds the file's SHA-256, never its name or
content. It is used for warnings only.
"""

from dataclasses import dataclass
from typing import Any

from localsynth.errors import IntegrityError
from localsynth.privacy.ledger import exclusive
from localsynth.system.files import config_directory, make_private_directory, read_json, write_json


@dataclass(frozen=True)
class RegistryTotal:
    """The ε that each workspace spent on one source file, and their sum."""

    workspaces: dict[str, float]
    epsilon: float


def _read() -> dict[str, Any]:
    path = config_directory() / "registry.json"
    if not path.exists():
        return {"format": 1, "sources": {}}
    registry = read_json(path)
    if not isinstance(registry, dict) or not isinstance(registry.get("sources"), dict):
        raise IntegrityError(f"{path} is damaged: it is not the registry of spends.", "Restore it from a backup, or remove it.")
    return registry


def register_spend(source_sha256: str, workspace_id: str, epsilon: float) -> None:
    """Record the total ε that this workspace has spent on that file; a smaller total than before is ignored.

    Raises IntegrityError, ResourceError.
    """
    path = config_directory() / "registry.json"
    make_private_directory(path.parent)
    with exclusive(path):
        registry = _read()
        spends = registry["sources"].setdefault(source_sha256, {})
        spends[workspace_id] = max(epsilon, spends.get(workspace_id, 0.0))
        write_json(path, registry)


def registry_total(source_sha256: str) -> RegistryTotal:
    """The spends of all workspaces on that file. Raises IntegrityError."""
    spends = {str(name): float(epsilon) for name, epsilon in _read()["sources"].get(source_sha256, {}).items()}
    return RegistryTotal(spends, sum(spends.values()))
