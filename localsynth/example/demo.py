"""Prepares the demo's workspace: the bundled synthetic table of emergency visits with its declared schema."""

from collections.abc import Callable
from pathlib import Path

from localsynth.example.visits import example_config, write_example
from localsynth.system.files import write_file
from localsynth.workspace.paths import Workspace

__all__ = ["prepare_demo"]


def prepare_demo(root: Path, say: Callable[[str], None]) -> None:
    """Make the workspace unless it exists, so that an interrupted demo resumes."""
    workspace = Workspace(root)
    if workspace.config_path.exists():
        say(f"Resuming the demo in {root}.")
        return
    Workspace.create(root)
    source = write_example(root.with_name(root.name + "-source"))
    write_file(workspace.config_path, example_config(source, str(root)))
    say(f"Made {source}: synthetic visits to an emergency department. They stand in for the private table.")
