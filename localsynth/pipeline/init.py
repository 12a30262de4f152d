"""The schema of a source, inferred from its rows, and a new workspace for it."""

from pathlib import Path
from typing import Any

from localsynth.config import DataConfig, data_config, render_config
from localsynth.events import Emit, note
from localsynth.schema.columns import Column, Schema
from localsynth.system.files import write_file
from localsynth.workspace.paths import Workspace

_WIDE = 200
"""Columns from which progress is shown."""


def initialise(root: Path, data: dict[str, Any], emit: Emit, passphrase: str | None = None) -> dict[str, Any]:
    """A new workspace for a source file, with a schema inferred from its rows. Makes nothing where the file is unusable.

    With a passphrase, the key is made at once and wrapped by it.
    """
    source, schema, notes = _inferred(data, None, emit)
    workspace = new_workspace(root, render_config(source, schema, str(root)), passphrase)
    for text in notes:
        emit(note(text))
    columns = [_shown(column) for column in schema.columns]
    return {"workspace": str(root), "config": str(workspace.config_path), "columns": columns}


def new_workspace(root: Path, config: str, passphrase: str | None = None) -> Workspace:
    """A new workspace with the text of its configuration; with a passphrase, its key is made and wrapped. Raises ConfigError."""
    from localsynth.store.key import change_passphrase

    workspace = Workspace.create(root)
    if passphrase is not None:
        change_passphrase(workspace, passphrase)
    write_file(workspace.config_path, config)
    return workspace


def infer(data: dict[str, Any], frame: str | None, emit: Emit) -> dict[str, Any]:
    """The configuration of a source with its schema, as JSON, and what a person should know of them. Makes nothing.

    `frame`: the path of a data frame's file in memory, which `data` then only stands for.
    """
    source, schema, notes = _inferred(data, frame, emit)
    return {"data": source.model_dump(exclude_unset=True), "schema": schema.model_dump(mode="json"), "notes": notes}


def _inferred(data: dict[str, Any], frame: str | None, emit: Emit) -> tuple[DataConfig, Schema, list[str]]:
    from localsynth.ingest.infer import infer_schema
    from localsynth.ingest.sources.open import open_source

    named = data["source"] if frame else str(Path(data["source"]).expanduser().absolute())
    source_config = data_config({**data, "source": named})
    source = open_source(source_config, frame)

    def progress(step: int, steps: int) -> None:
        if steps >= _WIDE:
            emit({"kind": "progress", "stage": "init", "work": "columns", "step": step, "steps": steps})

    return source_config, *infer_schema(source, source_config.missing, progress)


def _shown(column: Column) -> dict[str, str]:
    form = getattr(column, "format", None)
    return {"name": column.name, "kind": column.kind, **({} if form is None else {"format": form})}
