"""The public schema of the synthetic rows: the effective one of the newest run."""

from pathlib import Path

from localsynth.errors import ConfigError
from localsynth.schema.columns import Schema

__all__ = ["schema_of_rows"]


def schema_of_rows(root: Path) -> Schema:
    """The effective schema of the workspace's newest run. Raises ConfigError where there is none, IntegrityError."""
    from localsynth.workspace.paths import Workspace
    from localsynth.workspace.runs import latest_run

    run = latest_run(Workspace(root))
    if run is None:
        raise ConfigError("There is no run yet to generate rows from.", "Start one in Plan (3).")
    return run.effective.schema
