"""The window that asks before the private side is erased: what goes, what stays, what is out of reach; the name is typed."""

from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Select, Static
from textual.worker import get_current_worker

from localsynth_tui.text.command_line import command_line
from localsynth_tui.text.erasure import before_text

__all__ = ["EraseWindow"]


class EraseWindow(ModalScreen[bool | None]):
    """The answer is whether the reports are to be kept; None: erase nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Close", id="erase.close")]

    def __init__(self, workspace: Path) -> None:
        super().__init__()
        self._workspace = workspace
        self._wanted = workspace.resolve().name

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide") as window:
            window.border_title = "Erase the private side?"
            with VerticalScroll(id="what"):
                yield Static("Looking …", id="goes")
            yield Static("The reports, which quote the original's figures", classes="label")
            yield Select([("go, too", "go"), ("stay (--keep-report)", "stay")], value="go", id="report", allow_blank=False)
            yield Static(Content(f"This cannot be undone. To erase, type the workspace's name: {self._wanted}"), classes="label")
            yield Input(id="name", select_on_focus=False)
            yield Static("", id="twin", classes="label")
            with Horizontal(classes="buttons"):
                yield Button("Erase nothing", variant="primary", id="cancel")
                yield Button("Erase for good", variant="error", id="accept", disabled=True)

    def on_mount(self) -> None:
        self.query_one("#name").focus()
        self._show()

    @property
    def _keep_report(self) -> bool:
        return self.query_one("#report", Select).value == "stay"

    @on(Select.Changed)
    def _show(self) -> None:
        command = command_line("erase", self._workspace, {"keep_report": self._keep_report})
        self.query_one("#twin", Static).update(Content(command))
        self._look(self._keep_report)

    @work(thread=True, exclusive=True)
    def _look(self, keep_report: bool) -> None:
        from localsynth.pipeline.erase import what_goes
        from localsynth.workspace.paths import Workspace

        text = before_text(what_goes(Workspace(self._workspace), keep_report))
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(lambda: self.query_one("#goes", Static).update(Content(text)))

    @on(Input.Changed, "#name")
    def _typed(self) -> None:
        self.query_one("#accept", Button).disabled = not self._named

    @property
    def _named(self) -> bool:
        return self.query_one("#name", Input).value.strip() == self._wanted

    @on(Input.Submitted, "#name")
    @on(Button.Pressed, "#accept")
    def _accepted(self) -> None:
        if self._named:
            self.dismiss(self._keep_report)

    @on(Button.Pressed, "#cancel")
    def _cancelled(self) -> None:
        self.dismiss(None)
