"""What every numbered screen has: the line of steps, a footer, help, and its equivalent commands."""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widgets import Footer
from textual.worker import get_current_worker

from localsynth_tui.jobs.client import Request
from localsynth_tui.screens.dialogs import Answer, Window
from localsynth_tui.ui import Ui
from localsynth_tui.widgets.steps import Steps


class StepScreen(Screen[None]):
    """Subclasses set `STEP`, and yield their widgets in `content`. Their help is in help/STEP.txt."""

    STEP: ClassVar[str]

    AUTO_FOCUS = ""
    """No field has the focus at first: single keys are commands until one is chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave_field", "Leave the field", show=False, id="leave-field")]

    def compose(self) -> ComposeResult:
        yield Steps(self.STEP)
        with Vertical(id="content"):
            yield from self.content()
        yield Footer(show_command_palette=True)

    def content(self) -> ComposeResult:
        """The widgets between the steps and the footer."""
        raise NotImplementedError

    @property
    def ui(self) -> Ui:
        """The app."""
        return cast(Ui, self.app)

    @property
    def workspace(self) -> Path:
        """The open workspace, on screens that need one."""
        assert self.ui.workspace is not None
        return self.ui.workspace

    @property
    def config_path(self) -> Path:
        """The path of its localsynth.toml."""
        return self.workspace / "localsynth.toml"

    @property
    def help_text(self) -> str:
        """What the screen is for and how to use it, in a few sentences."""
        return (files("localsynth_tui") / "help" / f"{self.STEP}.txt").read_text(encoding="utf-8")

    def save_pending(self) -> None:
        """Save changes that wait for a pause in typing: called before the screen is left."""

    def commands(self) -> list[tuple[str, str]]:
        """(description, equivalent command) of each action here; the first is that of what the screen shows."""
        raise NotImplementedError

    def on_screen_resume(self) -> None:
        """Update the status line."""
        self.ui.show_status()

    def run_in_app(self, work: Coroutine[Any, Any, object]) -> None:
        """Run in a worker of the app what may switch screens: a worker of this screen would end together with it."""
        self.app.run_worker(work, group="app")

    def action_leave_field(self) -> None:
        """Take the focus off a field, so that single keys are commands again."""
        self.set_focus(None)

    def call_ui(self, callback: Callable[..., object], *arguments: object) -> None:
        """From a thread: call `callback` in the UI, unless the screen was left meanwhile."""
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._call_if_mounted, callback, *arguments)

    def _call_if_mounted(self, callback: Callable[..., object], *arguments: object) -> None:
        # A screen that is being removed loses its widgets before its workers.
        with suppress(NoMatches):
            callback(*arguments)

    def open_window(self, window: Window[Answer], then: Callable[[Answer], object]) -> None:
        """Open a window, and call `then` with its answer unless it is closed without one."""

        def answered(answer: Answer | None) -> None:
            if answer is not None:
                then(answer)

        self.app.push_screen(window, answered)

    def start(self, request: Request) -> None:
        """Start a job and show it."""
        self.run_in_app(self.ui.start(request))

    def refused_while_running(self) -> bool:
        """Whether a job is running; then a message says so."""
        if self.ui.job_running:
            self.notify("A job is running in this workspace: see Run (4).", severity="warning")
        return self.ui.job_running
