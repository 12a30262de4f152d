"""The base of the records in a workspace: frozen, validated when read, written as a whole."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from localsynth.errors import IntegrityError
from localsynth.system.files import read_json, write_json


class Record(BaseModel):
    """A JSON file of the workspace, or a part of one. A change makes another record."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The record in a file. Raises IntegrityError where there is none."""
        document = read_json(path)
        try:
            return cls.model_validate(document)
        except ValidationError:
            raise IntegrityError(
                f"{path} is damaged: it is not a record of this version.",
                "Restore it from a backup, or start over in a new workspace.",
            ) from None

    def write(self, path: Path) -> None:
        """Replace the file. What is None is left out."""
        document = self.model_dump(mode="json", by_alias=True)
        write_json(path, {key: value for key, value in document.items() if value is not None})
