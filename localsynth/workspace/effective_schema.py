"""`schema.json` as the later stages read it: the effective schema and the public size of the table."""

from dataclasses import dataclass
from typing import Any

from localsynth.errors import ConfigError
from localsynth.schema.columns import Schema
from localsynth.system.files import read_json
from localsynth.workspace.paths import Workspace

__all__ = ["Effective", "effective_of", "read_effective"]


@dataclass(frozen=True)
class Effective:
    """`schema.json`: the schema with nothing left open, and the public size of the table that was kept."""

    schema: Schema
    units: int
    """Units in the source, declared or measured."""
    keep_probability: float
    holdout: float
    size_measured: bool

    @property
    def kept_units(self) -> int:
        """Expected units kept, training and holdout together."""
        return max(1, round(self.units * self.keep_probability))

    @property
    def training_units(self) -> int:
        """Expected units to train on."""
        return max(1, round(self.kept_units * (1 - self.holdout)))


def read_effective(workspace: Workspace) -> Effective:
    """The effective schema of a finished ingest. Raises ConfigError where there is none."""
    document = read_json(workspace.schema_path) if workspace.schema_path.exists() else {}
    if not document.get("complete"):
        raise ConfigError(f"{workspace.root} holds no ingested table.", f"Read it first: localsynth ingest {workspace.root}")
    return effective_of(document)


def effective_of(document: dict[str, Any]) -> Effective:
    return Effective(
        Schema.model_validate(document["schema"]),
        document["size"]["units"],
        document["keep_probability"],
        document["holdout"],
        document["size"]["origin"] == "measured",
    )
