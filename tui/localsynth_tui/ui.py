"""What a screen sees of the app: the open workspace, its job, and where to go from here.

Screens type against `Ui` and never import app.py, so that imports stay acyclic.
"""

from pathlib import Path
from typing import Protocol

from localsynth.errors import LocalsynthError
from localsynth.results.plans import Plan
from localsynth_tui.jobs.client import Job, PlanServer, Request
from localsynth_tui.jobs.model_download import ModelTask
from localsynth_tui.jobs.run_state import RunState
from localsynth_tui.preferences import Preferences


class Ui(Protocol):
    """The app, as far as screens use it; `LocalsynthApp` satisfies it."""

    workspace: Path | None
    """The open workspace."""
    job: Job | None
    """Its long-running work: running, or over and not dismissed."""
    run_state: RunState | None
    """What that work has reported so far."""
    plan: tuple[tuple[str, str], Plan] | None
    """The last plan, with what it is for: the text of the configuration, and the command."""
    plan_server: PlanServer
    max_units: int | None
    """--max-units for jobs on the open workspace."""
    queries: list[str]
    """SQL queries of this session, oldest first."""
    model_task: ModelTask
    preferences: Preferences

    @property
    def job_running(self) -> bool:
        """The open workspace has a job that is not over."""

    async def start(self, request: Request) -> bool:
        """Start a job on the open workspace and show it; False, with a message, where it cannot start."""

    async def open_workspace(self, path: Path) -> bool:
        """Open a workspace; False, with a message, where it is none."""

    async def action_leave(self) -> None:
        """Ask, then quit."""

    def show_status(self) -> None:
        """Update the line under the steps: the workspace and its job."""

    def show_error(self, error: LocalsynthError) -> None:
        """Show an error as a message with what to do."""
