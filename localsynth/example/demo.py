"""Prepares the demo's workspace: the bundled, made-up table of emergency visits with its declared schema."""

from collections.abc import Callable
from pathlib import Path

from localsynth.example.visits import example_config, write_example
from localsynth.system.files import write_file
from localsynth.workspace.paths import Workspace

__all__ = ["prepare_demo"]


def prepare_demo(root: Path, say: Callable[[str], None]) -> None:
    """Make the workspace unless it is there already, so that an interrupted demo goes on."""
    workspace = Workspace(root)
    if workspace.config_path.exists():
        say(f"Going on with the demo in {root}.")
        return
    Workspace.create(root)
    source = write_example(root.with_name(root.name + "-source"))
    write_file(workspace.config_path, example_config(source, str(root)))
    say(f"Made {source}: visits to an emergency department, all invented. They play the private table.")
