"""The terminal UI: numbered screens from a private table to a synthetic one, each action with its equivalent command.

The app knows the open workspace and follows its job. The screens (screens/, one file each)
show state and ask questions. Long-running work is in other processes (jobs/), so nothing
here blocks, and closing the UI stops nothing.
"""

import asyncio
import importlib
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App, ScreenStackError, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.worker import WorkerFailed

from localsynth.errors import ConfigError, LocalsynthError
from localsynth.events import Event
from localsynth.results.plans import Plan
from localsynth.worker import failure_event
from localsynth_tui.app_text import bug_text, keys_text, status_line
from localsynth_tui.jobs.client import Job, PlanServer, Request
from localsynth_tui.jobs.model_download import ModelTask
from localsynth_tui.jobs.run_state import RunState
from localsynth_tui.messages import JobChanged, ModelTaskChanged
from localsynth_tui.preferences import Preferences
from localsynth_tui.screens.dialogs import Ask, Choose, Reading
from localsynth_tui.screens.erase import EraseWindow
from localsynth_tui.screens.passphrase import PassphraseWindow, needs_new_passphrase
from localsynth_tui.screens.step import StepScreen
from localsynth_tui.themes import THEMES
from localsynth_tui.widgets.steps import STEPS, Steps
from localsynth_tui.workspace.status import WorkspaceStatus, read_status

if TYPE_CHECKING:
    from localsynth_tui.ui import Ui

_POLL_INTERVAL = 0.2
_MAX_EVENTS_PER_POLL = 500
_NEED_NO_WORKSPACE = ("home", "models")


class LocalsynthApp(App[None]):
    """`workspace` is opened at start where it is given."""

    TITLE = "localsynth"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(number), f"go('{step}')", f"Go to {title}", show=False, id=f"step.{step}")
            for number, (step, title) in enumerate(STEPS.items(), 1)
        ),
        Binding("ctrl+n", "next_step(1)", "Next screen", show=False, priority=True, id="step.next"),
        Binding("ctrl+b", "next_step(-1)", "Previous screen", show=False, priority=True, id="step.previous"),
        Binding("f1,question_mark", "help", "Help", key_display="?", id="help"),
        Binding("y", "copy_as_command", "Copy as command", show=False, id="copy-as-command"),
        Binding("ctrl+q,ctrl+c", "leave", "Quit", priority=True, key_display="^q", id="leave"),
    ]

    def __init__(self, workspace: Path | None = None) -> None:
        super().__init__()
        self.preferences = Preferences.load()
        self.workspace: Path | None = None
        self.job: Job | None = None
        self.run_state: RunState | None = None
        self.plan_server = PlanServer()
        self.plan: tuple[tuple[str, str], Plan] | None = None
        self.max_units: int | None = None
        self.queries: list[str] = []
        self.model_task = ModelTask(self._model_task_changed)
        self._initial_workspace = workspace
        # Before the styles are first applied: a later change would apply all of them again.
        for theme in THEMES:
            self.register_theme(theme)
        if self.preferences.theme in self.available_themes:
            self.theme = self.preferences.theme

    async def on_mount(self) -> None:
        self.set_keymap(self.preferences.keymap)
        self.theme_changed_signal.subscribe(self, self._save_theme)
        await self.push_screen(_screen("home"))
        if self._initial_workspace is not None:
            await self.open_workspace(self._initial_workspace)
        self.set_interval(_POLL_INTERVAL, self._poll_job)

    async def on_unmount(self) -> None:
        self.model_task.stop()
        await self.plan_server.close()

    # --- the workspace -----------------------------------------------------------------------------------------------

    async def open_workspace(self, path: Path) -> bool:
        """Open a workspace on the screen of its next step; False, with a message, where it is none."""
        if not (path / "localsynth.toml").is_file() and not (path / "erasure.json").is_file():
            self.show_error(ConfigError(f"{path} is not a workspace.", "Make one here with New, or choose another directory."))
            return False
        self.workspace = path
        self.plan, self.max_units = None, None
        status = await asyncio.to_thread(read_status, path)
        self._find_job(path, status)
        self.preferences.opened(path)
        self._save_preferences()
        await self.action_go("run" if self.job is not None and self.job.running else status.next_step)
        return True

    def _model_task_changed(self, over: bool) -> None:
        """Called in the task's thread, which may outlive the screens: it is stopped when they are closed."""
        with suppress(ScreenStackError):
            self.screen.post_message(ModelTaskChanged(over))

    # --- the job -----------------------------------------------------------------------------------------------------

    @property
    def job_running(self) -> bool:
        """The open workspace has a job that is not over."""
        return self.run_state is not None and self.run_state.outcome is None

    async def start(self, request: Request) -> bool:
        """Start a job on the open workspace and show it; False, with a message, where it cannot start.

        Asks for the passphrase of the workspace's key where the job needs it.
        """
        status = await asyncio.to_thread(read_status, request.workspace)
        try:
            new, passphrase = await asyncio.to_thread(needs_new_passphrase, request), None
            if new is not None:
                passphrase = await self.push_screen_wait(PassphraseWindow(request, new))
                if passphrase is None:
                    self.notify("Not started: the passphrase is needed.", severity="warning")
                    return False
            self.dismiss_job()
            self.job = Job.start(request, passphrase)
        except LocalsynthError as error:
            self.show_error(error)
            self._find_job(request.workspace, status)
            return False
        self.run_state = RunState(request.verb, status.counts_texts, status.report)
        await self.plan_server.close()  # the job needs the memory
        await self.action_go("run")
        return True

    def dismiss_job(self) -> None:
        """Forget a job that is over, and remove its files from memory."""
        if self.job is not None:
            self.job.dismiss()
        self.job, self.run_state = None, None

    def _find_job(self, workspace: Path, status: WorkspaceStatus) -> None:
        self.job, self.run_state = None, None
        try:
            job = Job(workspace)
            if job.exists:
                state = RunState(job.request.verb, status.counts_texts, status.report)
                if (outcome := job.outcome()) is not None:
                    state.end(outcome)
                self.job, self.run_state = job, state
        except LocalsynthError as error:
            self.show_error(error)

    def _poll_job(self) -> None:
        job, state = self.job, self.run_state
        if job is None or state is None or state.outcome is not None:
            return
        events: list[Event] = []
        try:
            # The outcome first: events that were written before it are then still read before it is applied.
            outcome = job.outcome()
            events = job.new_events(_MAX_EVENTS_PER_POLL)
        except LocalsynthError as error:
            outcome = failure_event(error)
        for event in events:
            state.apply(event)
        over = outcome is not None and not events
        if outcome is not None and over:
            state.end(outcome)
            if outcome["kind"] == "result":
                self.notify(f"{state.verb}: finished", severity="information", markup=False)
            else:
                self.notify(outcome["message"], severity="warning", markup=False, timeout=10)
        if events or over:
            self.show_status()
            self.screen.post_message(JobChanged(over))

    # --- what every screen shows -------------------------------------------------------------------------------------

    def show_status(self) -> None:
        """Update the line under the steps: the workspace and its job."""
        text = status_line(self.workspace, self.run_state)
        for screen in self.screen_stack:
            for steps in screen.query(Steps):
                steps.show(text)

    def show_error(self, error: LocalsynthError) -> None:
        """Show an error as a message with what to do."""
        self.notify(error.hint or " ", title=error.message, severity="error", timeout=12, markup=False)

    # --- actions -----------------------------------------------------------------------------------------------------

    async def action_go(self, step: str) -> None:
        """Open a screen. What was typed last on the present one is saved first."""
        if self.workspace is None and step not in _NEED_NO_WORKSPACE:
            self.notify("Open a workspace first, or make one (New).", severity="warning")
            return
        if isinstance(self.screen, StepScreen):
            self.screen.save_pending()
            await self.switch_screen(_screen(step))

    async def action_next_step(self, by: int) -> None:
        """The screen after or before this one."""
        if isinstance(self.screen, StepScreen):
            names = list(STEPS)
            await self.action_go(names[(names.index(self.screen.STEP) + by) % len(names)])

    def action_help(self) -> None:
        """What this screen is for, and its keys."""
        screen = self.screen
        if isinstance(screen, StepScreen):
            keys = keys_text([active.binding for active in screen.active_bindings.values()], self.get_key_display)
            self.push_screen(Reading(f"Help: {STEPS[screen.STEP]}", f"{screen.help_text}\n{keys}"))

    def action_copy_as_command(self) -> None:
        """Show the equivalent commands of this screen, and copy one to the clipboard."""
        if not isinstance(self.screen, StepScreen):
            return
        commands = self.screen.commands()
        if len(commands) == 1:
            self._copy(commands[0][1])
        else:
            self.push_screen(Choose("Copy as command", commands), self._copy)

    def _copy(self, command: str | None) -> None:
        if command is not None:
            self.copy_to_clipboard(command)
            self.notify(command, title="Copied, if your terminal allows it:", markup=False, timeout=12)

    async def action_leave(self) -> None:
        """Quit, after a question."""
        if isinstance(self.screen, Ask):
            return
        text = "No job is running. Everything you set is saved."
        answers = [("leave", "Quit"), ("stay", "Stay")]
        if self.job_running:
            text = "A job is running in this workspace. It does not need this window: open localsynth again to see its progress."
            answers = [("leave", "Quit, keep it running"), ("stop", "Stop it and quit"), ("stay", "Stay")]
        self.push_screen(Ask("Quit localsynth?", text, answers), self._leave)

    def _leave(self, answer: str | None) -> None:
        if answer == "stop" and self.job is not None:
            self.job.stop()
        if answer in ("leave", "stop"):
            if isinstance(self.screen, StepScreen):
                self.screen.save_pending()
            self.exit()

    def action_erase(self) -> None:
        """Ask, then destroy the key of the original rows and remove everything private."""
        if self.workspace is None:
            self.notify("Open a workspace first.", severity="warning")
        elif self.job_running:
            self.notify("A job is running in this workspace: see Run (4). Erase when it is over.", severity="warning")
        else:
            self.push_screen(EraseWindow(self.workspace), self._erase)

    def _erase(self, keep_report: bool | None) -> None:
        if keep_report is not None and self.workspace is not None:
            self.run_worker(self._erase_private_side(self.workspace, keep_report), group="erase")

    async def _erase_private_side(self, workspace: Path, keep_report: bool) -> None:
        from localsynth.pipeline.erase import erase
        from localsynth.workspace.paths import Workspace
        from localsynth_tui.text.erasure import record_text

        self.dismiss_job()
        self.plan = None
        try:
            done = await asyncio.to_thread(erase, Workspace(workspace), keep_report)
        except LocalsynthError as error:
            self.show_error(error)
            return
        await self.action_go("report")
        self.push_screen(Reading("Erased", record_text(done.record, done.unknown, done.source)))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Every action of this screen and of the app, for the command palette."""
        listed: set[str] = set()
        for node, binding, *_ in screen.active_bindings.values():
            if binding.id and binding.description and binding.id not in listed:
                listed.add(binding.id)
                run = partial(self.run_action, binding.action, node)
                yield SystemCommand(binding.description, f"Key: {self.get_key_display(binding)}", run)
        if "report.erase" not in listed:
            yield SystemCommand("Erase the private side …", "Shows what is erased and what stays, then asks", self.action_erase)
        for theme in THEMES:
            change = partial(setattr, self, "theme", theme.name)
            yield SystemCommand(f"Theme: {theme.name.removeprefix('localsynth-')}", "Change the colours", change)
        yield SystemCommand("Theme: others", "Choose among all themes", self.action_change_theme)

    def _fatal_error(self) -> None:
        """Report where a bug is, and no more. Textual's own report shows variables, and with them private values."""
        error: BaseException | None = self._exception
        if isinstance(error, WorkerFailed):
            error = error.error  # what happened in the worker, not that it did
        self._exit_renderables.append(bug_text(error))
        self._close_messages_no_wait()

    # --- preferences -------------------------------------------------------------------------------------------------

    def _save_theme(self, _theme: object) -> None:
        self.preferences.theme = self.theme
        self._save_preferences()

    def _save_preferences(self) -> None:
        try:
            self.preferences.save()
        except LocalsynthError as error:
            self.show_error(error)


def _screen(step: str) -> StepScreen:
    """A new screen, which reads what it shows when it opens. Imported on demand, so that the first one appears at once."""
    module = importlib.import_module(f"localsynth_tui.screens.{step}")
    screen: StepScreen = getattr(module, f"{step.capitalize()}Screen")()
    return screen


if TYPE_CHECKING:

    def _satisfies(app: LocalsynthApp) -> "Ui":
        """Have mypy check what the screens' cast takes for granted."""
        return app
