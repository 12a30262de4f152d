"""The window before the private side is erased: what is erased, what stays, and the workspace's name to type."""

from pathlib import Path

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.events import Mount
from textual.widgets import Button, Input, Select, Static
from textual.worker import get_current_worker

from localsynth_tui.screens.dialogs import InputWindow
from localsynth_tui.text.command_line import command_line
from localsynth_tui.text.erasure import before_text

_REPORTS = (("erase them, too", "erase"), ("keep them (--keep-report)", "keep"))


class EraseWindow(InputWindow[bool]):
    """The answer is whether to keep the reports; None: erase nothing."""

    TITLE = "Erase the private side?"
    STYLE = "dialog wide"
    AUTO_FOCUS = "#name"

    def __init__(self, workspace: Path) -> None:
        super().__init__()
        self._workspace = workspace
        self._name_to_type = workspace.resolve().name

    def content(self) -> ComposeResult:
        with VerticalScroll(id="what"):
            yield Static("Reading …", id="goes")
        yield Static("The reports, which contain figures of the original", classes="label")
        yield Select(_REPORTS, value="erase", id="report", allow_blank=False)
        about_name = f"This cannot be undone. To erase, type the workspace's name: {self._name_to_type}"
        yield Static(Content(about_name), classes="label")
        yield Input(id="name", select_on_focus=False)
        yield Static("", id="command", classes="label")
        with Horizontal(classes="buttons"):
            yield Button("Erase nothing", variant="primary", id="cancel", action="screen.dismiss")
            yield Button("Erase for good", variant="error", id="accept", action="screen.accept", disabled=True)

    @property
    def _keep_report(self) -> bool:
        return self.query_one("#report", Select).value == "keep"

    @on(Mount)
    @on(Select.Changed)
    def _show(self) -> None:
        command = command_line("erase", self._workspace, {"keep_report": self._keep_report})
        self.query_one("#command", Static).update(Content(command))
        self._list_files(self._keep_report)

    @work(thread=True, exclusive=True)
    def _list_files(self, keep_report: bool) -> None:
        from localsynth.pipeline.erase import what_goes
        from localsynth.workspace.paths import Workspace

        text = before_text(what_goes(Workspace(self._workspace), keep_report))
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(lambda: self.query_one("#goes", Static).update(Content(text)))

    @on(Input.Changed, "#name")
    def _typed(self) -> None:
        self.query_one("#accept", Button).disabled = not self._name_typed

    @property
    def _name_typed(self) -> bool:
        return self.query_one("#name", Input).value.strip() == self._name_to_type

    def action_accept(self) -> None:
        if self._name_typed:
            self.dismiss(self._keep_report)
