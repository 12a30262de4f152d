"""A new workspace for a source file, with a schema guessed from its rows."""

from pathlib import Path
from typing import Any

from localsynth.config import data_config, render_config
from localsynth.events import Emit, note
from localsynth.schema.columns import Column
from localsynth.system.files import write_file
from localsynth.workspace.paths import Workspace

_WIDE = 200
"""Columns from which progress is shown."""


def initialise(root: Path, data: dict[str, Any], emit: Emit, passphrase: str | None = None) -> dict[str, Any]:
    """A new workspace for a source file, with a schema guessed from its rows. Makes nothing where the file is unusable.

    With a passphrase, the key is made at once and wrapped by it.
    """
    from localsynth.ingest.infer import infer_schema
    from localsynth.ingest.sources.open import open_source
    from localsynth.store.key import change_passphrase

    source_config = data_config({**data, "source": str(Path(data["source"]).expanduser().absolute())})
    source = open_source(source_config)

    def progress(step: int, steps: int) -> None:
        if steps >= _WIDE:
            emit({"kind": "progress", "stage": "init", "work": "columns", "step": step, "steps": steps})

    schema, notes = infer_schema(source, source_config.missing, progress)
    workspace = Workspace.create(root)
    if passphrase is not None:
        change_passphrase(workspace, passphrase)
    write_file(workspace.config_path, render_config(source_config, schema, str(root)))
    for text in notes:
        emit(note(text))
    columns = [_shown(column) for column in schema.columns]
    return {"workspace": str(root), "config": str(workspace.config_path), "columns": columns}


def _shown(column: Column) -> dict[str, str]:
    form = getattr(column, "format", None)
    return {"name": column.name, "kind": column.kind, **({} if form is None else {"format": form})}
