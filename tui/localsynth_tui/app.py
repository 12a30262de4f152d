"""The terminal UI: from a table to a synthetic one in numbered screens, every action with its twin on the command line.

The app knows which workspace is open and follows its job; the screens (screens/, one file each) show and ask. All long work is in
other processes (runner.py), so that nothing here can block, and closing the UI stops nothing.
"""

import asyncio
import importlib
import traceback
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App, ScreenStackError, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.worker import WorkerFailed

from localsynth.errors import ConfigError, LocalsynthError
from localsynth.events import Event
from localsynth_tui.jobs.client import Job, Planner, Request
from localsynth_tui.jobs.model_download import ModelWork
from localsynth_tui.jobs.run_state import RunState
from localsynth_tui.messages import JobChanged, ModelWorkChanged, WorkspaceChanged
from localsynth_tui.preferences import Preferences
from localsynth_tui.screens.dialogs import Choose
from localsynth_tui.screens.passphrase import PassphraseWindow, is_new
from localsynth_tui.screens.step import StepScreen
from localsynth_tui.themes import THEMES
from localsynth_tui.widgets.steps import STEPS, Steps
from localsynth_tui.workspace.status import Overview, look_at

if TYPE_CHECKING:
    from localsynth_tui.ui import Ui

__all__ = ["LocalsynthApp"]

_LOOK_EVERY = 0.2
_EVENTS_A_LOOK = 500
_WITHOUT_WORKSPACE = ("home", "models")


class LocalsynthApp(App[None]):
    """`workspace` is opened at once where it is given."""

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
        Binding("ctrl+q,ctrl+c", "leave", "Leave", priority=True, key_display="^q", id="leave"),
    ]

    def __init__(self, workspace: Path | None = None) -> None:
        super().__init__()
        self.preferences = Preferences.load()
        self.workspace: Path | None = None
        self.job: Job | None = None
        self.run_state: RunState | None = None
        self.planner = Planner()
        self.plan: tuple[tuple[str, str], dict[str, Any]] | None = None
        """The last plan, with what it is for: the text of the configuration, and the command."""
        self.most_units: int | None = None
        """--max-units for what is started on the open workspace."""
        self.queries: list[str] = []
        """What was asked of the synthetic table in this session."""
        self.model_work = ModelWork(self._model_work_changed)
        self._given = workspace

    async def on_mount(self) -> None:
        for theme in THEMES:
            self.register_theme(theme)
        if self.preferences.theme in self.available_themes:
            self.theme = self.preferences.theme
        self.set_keymap(self.preferences.keymap)
        self.theme_changed_signal.subscribe(self, self._keep_theme)
        await self.push_screen(_screen("home"))
        if self._given is not None:
            await self.open_workspace(self._given)
        self.set_interval(_LOOK_EVERY, self._follow)

    # --- the workspace -----------------------------------------------------------------------------------------------

    async def open_workspace(self, path: Path, step: str | None = None) -> bool:
        """Open a workspace, on the screen where its work goes on; says what is wrong, and returns False, where it is none."""
        if not (path / "localsynth.toml").is_file() and not (path / "erasure.json").is_file():
            self.tell(ConfigError(f"{path} is not a workspace.", "Make one here with New, or choose another directory."))
            return False
        self.workspace = path
        self.plan, self.most_units = None, None
        found = await asyncio.to_thread(look_at, path)
        self._find_job(path, found)
        self.preferences.opened(path)
        self._save_preferences()
        where = "run" if self.job is not None and self.job.running else found.next_step
        await self.action_go(step or where)
        return True

    def _find_job(self, workspace: Path, found: Overview) -> None:
        """Follow the workspace's job, if it has one."""
        self.job, self.run_state = None, None
        try:
            job = Job(workspace)
            if job.exists:
                state = RunState(job.request.verb, found.counts_texts, found.report)
                if (outcome := job.outcome()) is not None:
                    state.end(outcome)
                self.run_state, self.job = state, job
        except LocalsynthError as error:
            self.tell(error)

    async def on_unmount(self) -> None:
        self.model_work.stop()
        await self.planner.close()

    def _model_work_changed(self, over: bool) -> None:
        """In the thread of that work, which may outlive the screens: it is stopped when they are gone already."""
        with suppress(ScreenStackError):
            self.screen.post_message(ModelWorkChanged(over))

    # --- the job -----------------------------------------------------------------------------------------------------

    @property
    def at_work(self) -> bool:
        """The open workspace's job is not over."""
        return self.run_state is not None and self.run_state.outcome is None

    async def start(self, request: Request) -> bool:
        """Start work on the open workspace and show it; False, with a message, where it cannot be.

        Asks for the passphrase of the workspace's key where the work needs it.
        """
        found = await asyncio.to_thread(look_at, request.workspace)
        try:
            new, passphrase = await asyncio.to_thread(is_new, request), None
            if new is not None:
                passphrase = await self.push_screen_wait(PassphraseWindow(request, new))
                if passphrase is None:
                    self.notify("Not started: it needs the passphrase.", severity="warning")
                    return False
            if self.job is not None:
                self.job.dismiss()
            self.job = Job.start(request, passphrase)
        except LocalsynthError as error:
            self.tell(error)
            self._find_job(request.workspace, found)
            return False
        self.run_state = RunState(request.verb, found.counts_texts, found.report)
        await self.planner.close()  # the work needs the memory
        await self.action_go("run")
        return True

    def _follow(self) -> None:
        """Take in what the job has told since the last look: cheap, and never more at once than keeps the keys responsive."""
        job, state = self.job, self.run_state
        if job is None or state is None or state.outcome is not None:
            return
        try:
            outcome = job.outcome()
            # After it: what was told before the end is read before the end is.
            events = job.new_events(_EVENTS_A_LOOK)
        except LocalsynthError as error:
            outcome, events = {"kind": "failed", "code": int(error.exit_code), "message": error.message, "hint": error.hint}, []
        for event in events:
            state.apply(event)
        ended = outcome is not None and not events
        if ended and outcome is not None:
            state.end(outcome)
            self._told_end(outcome)
        if events or ended:
            self.show_status()
            self.screen.post_message(JobChanged(ended))

    def _told_end(self, outcome: Event) -> None:
        assert self.run_state is not None
        if outcome["kind"] == "result":
            self.notify(f"{self.run_state.verb}: finished", severity="information", markup=False)
        else:
            self.notify(outcome["message"], severity="warning", markup=False, timeout=10)

    # --- what every screen shows -------------------------------------------------------------------------------------

    def show_status(self) -> None:
        """The line under the steps: the workspace, and what is at work."""
        for screen in self.screen_stack:
            for steps in screen.query(Steps):
                steps.show(self._status())

    def _status(self) -> str:
        if self.workspace is None:
            return " no workspace open"
        state = self.run_state
        if state is None or state.outcome is not None:
            return f" {self.workspace}"
        stage = state.running
        doing = f": {stage.name}" if stage is not None and stage.name != state.verb else ""
        at = f" {stage.step:,}/{stage.steps:,}" if stage is not None and stage.step is not None and stage.steps else ""
        # First, since a path may be longer than the line.
        return f" ▶ {state.verb}{doing}{at}   {self.workspace}"

    def tell(self, error: LocalsynthError) -> None:
        """An error as a message with what to do."""
        self.notify(error.hint or " ", title=error.message, severity="error", timeout=12, markup=False)

    # --- actions -----------------------------------------------------------------------------------------------------

    async def action_go(self, step: str) -> None:
        """Open a screen. What is being typed is kept by the screen it is on."""
        if self.workspace is None and step not in _WITHOUT_WORKSPACE:
            self.notify("Open a workspace first, or make one (New).", severity="warning")
            return
        if isinstance(self.screen, StepScreen):
            self.screen.settle()
            await self.switch_screen(_screen(step))

    async def action_next_step(self, by: int) -> None:
        """The screen after or before this one."""
        if isinstance(self.screen, StepScreen):
            names = list(STEPS)
            await self.action_go(names[(names.index(self.screen.STEP) + by) % len(names)])

    def action_help(self) -> None:
        """What this screen is for, and its keys."""
        from localsynth_tui.screens.dialogs import Reading

        screen = self.screen
        if isinstance(screen, StepScreen):
            self.push_screen(Reading(f"Help: {STEPS[screen.STEP]}", f"{screen.HELP}\n\n{self._keys()}"))

    def _keys(self) -> str:
        lines = ['Keys (in brackets the name by which tui.json can move it: {"keymap": {"help": "f2"}})', ""]
        shown: dict[str, tuple[list[str], str]] = {}
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if binding.id and binding.description:
                shown.setdefault(binding.id, ([], binding.description))[0].append(self.get_key_display(binding))
        lines += [f"  {', '.join(dict.fromkeys(keys)):<16} {text}  [{name}]" for name, (keys, text) in shown.items()]
        return "\n".join([*lines, "", f"  Settings: {Preferences.path()}"])

    def action_copy_as_command(self) -> None:
        """Show the command lines that do what can be done here; the one that is chosen goes to the clipboard."""
        if not isinstance(self.screen, StepScreen):
            return
        twins = self.screen.twins()
        if len(twins) == 1:
            self._copy(twins[0][1])
        else:
            self.push_screen(Choose("Copy as command", twins), self._copy)

    def _copy(self, command: str | None) -> None:
        if command is not None:
            self.copy_to_clipboard(command)
            self.notify(command, title="Copied, if your terminal allows it:", markup=False, timeout=12)

    async def action_leave(self) -> None:
        """Leave, asking first where work is going on."""
        from localsynth_tui.screens.dialogs import Ask

        if isinstance(self.screen, Ask):
            return
        if not self.at_work:
            text = "Nothing is at work. Everything you set is saved."
            question = Ask("Leave localsynth?", text, [("leave", "Leave"), ("stay", "Stay")])
        else:
            text = "Work is going on in this workspace. It does not need this window: open localsynth again to see how far it is."
            answers = [("leave", "Leave it working"), ("stop", "Stop it and leave"), ("stay", "Stay")]
            question = Ask("Leave localsynth?", text, answers)
        self.push_screen(question, self._left)

    def _left(self, answer: str | None) -> None:
        if answer == "stop" and self.job is not None:
            self.job.stop()
        if answer in ("leave", "stop"):
            if isinstance(self.screen, StepScreen):
                self.screen.settle()
            self.exit()

    def action_erase(self) -> None:
        """Destroy the key of the original rows and remove everything private: says what goes, and asks for the name."""
        from localsynth_tui.screens.erase import EraseWindow

        if self.workspace is None:
            self.notify("Open a workspace first.", severity="warning")
        elif self.at_work:
            self.notify("This workspace is at work: see Run (4). Erase when it is done.", severity="warning")
        else:
            self.push_screen(EraseWindow(self.workspace), self._erase_or_not)

    def _erase_or_not(self, keep_report: bool | None) -> None:
        if keep_report is not None:
            self.run_worker(self._erase(keep_report), group="erase")

    async def _erase(self, keep_report: bool) -> None:
        from localsynth.pipeline.erase import erase
        from localsynth.workspace.paths import Workspace
        from localsynth_tui.screens.dialogs import Reading
        from localsynth_tui.text.erasure import record_text

        assert self.workspace is not None
        try:
            if self.job is not None:
                self.job.dismiss()  # with what it left in memory
            self.job, self.run_state, self.plan = None, None, None
            done = await asyncio.to_thread(erase, Workspace(self.workspace), keep_report)
        except LocalsynthError as error:
            self.tell(error)
            return
        await self.action_go("report")
        self.push_screen(Reading("Erased", record_text(done.record, done.unknown, done.source)))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Every action of this screen and of the app, for the command palette."""
        listed: set[str] = set()
        for active in screen.active_bindings.values():
            binding = active.binding
            if binding.id and binding.description and binding.id not in listed:
                listed.add(binding.id)
                key = self.get_key_display(binding)

                async def run(action: str = binding.action, node: Any = active.node) -> None:
                    await self.run_action(action, default_namespace=node)

                yield SystemCommand(binding.description, f"Key: {key}", run)
        if "report.erase" not in listed:
            yield SystemCommand("Erase the private side …", "Says what goes and what stays, and asks", self.action_erase)
        for theme in THEMES:

            def change(name: str = theme.name) -> None:
                self.theme = name

            yield SystemCommand(f"Theme: {theme.name.removeprefix('localsynth-')}", "Change the colours", change)
        yield SystemCommand("Theme: others", "Choose among all themes", self.action_change_theme)

    def _fatal_error(self) -> None:
        """A bug: where it is, and no more. Textual's own report shows the variables, and with them what is private."""
        error: BaseException | None = self._exception
        if isinstance(error, WorkerFailed):
            error = error.error  # what happened in the worker, not that it did
        places = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-4:]] if error else []
        text = (
            f"A bug in the terminal UI: {type(error).__name__} at {' > '.join(places)}. Please report this line.\n"
            "Work that was begun goes on: start localsynth again to see it."
        )
        self._exit_renderables.append(text)
        self._close_messages_no_wait()

    # --- preferences -------------------------------------------------------------------------------------------------

    def _keep_theme(self, _theme: object) -> None:
        self.preferences.theme = self.theme
        self._save_preferences()

    def _save_preferences(self) -> None:
        try:
            self.preferences.save()
        except LocalsynthError as error:
            self.tell(error)

    def on_workspace_changed(self, _event: WorkspaceChanged) -> None:
        self.plan = None


def _screen(step: str) -> StepScreen:
    """A new screen: each reads what it shows when it opens. Imported when it is needed, so that the first one appears at once."""
    module = importlib.import_module(f"localsynth_tui.screens.{step}")
    screen: StepScreen = getattr(module, f"{step.capitalize()}Screen")()
    return screen


if TYPE_CHECKING:

    def _satisfies(app: LocalsynthApp) -> "Ui":
        """Have mypy check what the screens' cast takes for granted."""
        return app
