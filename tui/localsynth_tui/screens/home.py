"""Screen 1: the workspaces with their state, and whether this machine is suitable."""

import asyncio
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Button, DataTable, Static

from localsynth.errors import LocalsynthError
from localsynth_tui.screens.dialogs import Field, Form, Reading
from localsynth_tui.screens.step import StepScreen
from localsynth_tui.text.command_line import command_line
from localsynth_tui.text.formatting import bytes_text, cell
from localsynth_tui.widgets.table import fill
from localsynth_tui.workspace.status import WorkspaceStatus, read_status

_WELCOME = """\
localsynth turns a table you may not share into a synthetic one you may share, on this computer, without a network.

New: choose your table (CSV, Excel, Parquet, DuckDB, SPSS, SAS and more). Nothing is spent before you press Start in step 3.
Demo: a synthetic table of hospital visits, to try it out."""


class HomeScreen(StepScreen):
    """The first screen. It must appear within a second, so threads fill it in afterwards."""

    STEP = "home"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New", id="home.new"),
        Binding("o", "open_other", "Open", id="home.open"),
        Binding("d", "demo", "Demo", id="home.demo"),
        Binding("m", "doctor", "This machine", id="home.doctor"),
        Binding("delete", "forget", "Remove from list", show=False, id="home.forget"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._paths: list[Path] = []
        self._statuses: dict[Path, WorkspaceStatus] = {}
        self._doctor_text = ""

    def content(self) -> ComposeResult:
        yield Static(Content(_WELCOME), id="welcome")
        yield DataTable(cursor_type="row", zebra_stripes=True, id="workspaces")
        with Horizontal(classes="buttons"):
            new = "Make a workspace for your table"
            yield Button("New …", variant="primary", id="new", action="screen.new", tooltip=new)
            yield Button("Open …", action="screen.open_other", tooltip="A workspace that is not in the list")
            yield Button("Demo", action="screen.demo", tooltip="A synthetic table of hospital visits")
        yield Static("This machine: checking …", id="doctor")

    def on_mount(self) -> None:
        table = self.query_one(DataTable)
        self._paths = self._known_workspaces()
        self._fill()
        table.display = bool(self._paths)
        (table if self._paths else self.query_one("#new")).focus()
        self._read_statuses()
        self._examine_machine()

    def commands(self) -> list[tuple[str, str]]:
        return [
            ("Open localsynth", command_line("tui", self.ui.workspace)),
            ("New: a workspace for a table", "localsynth init visits --data visits.csv"),
            ("Demo", "localsynth demo"),
            ("This machine", "localsynth doctor"),
        ]

    def _known_workspaces(self) -> list[Path]:
        here = Path.cwd()
        near = [here, *sorted(path for path in here.iterdir() if path.is_dir())]
        recent = [Path(name) for name in self.ui.preferences.recent]
        found = [path for path in [*recent, *near] if (path / "localsynth.toml").is_file()]
        return list(dict.fromkeys(path.resolve() for path in found))

    # --- filled in by threads ----------------------------------------------------------------------------------------

    @work(thread=True, group="statuses")
    def _read_statuses(self) -> None:
        for path in self._paths:
            self.call_ui(self._show, read_status(path))

    def _show(self, status: WorkspaceStatus) -> None:
        self._statuses[status.path] = status
        self._fill()

    def _fill(self) -> None:
        rows = []
        for path in self._paths:
            status = self._statuses.get(path)
            values = ["…", "", ""]
            if status is not None:
                stage = status.stage + (f": {status.problem}" if status.problem else "")
                epsilon = f"{status.epsilon or 0:g} of {status.target:g}" if status.target is not None else ""
                values = [stage, epsilon, f"{status.rows:,}" if status.rows else ""]
            rows.append([cell(_short(path), 34), *(cell(value) for value in values)])
        names = [cell(name) for name in ("Workspace", "State", "Epsilon reserved", "Rows")]
        fill(self.query_one(DataTable), names, rows, [str(path) for path in self._paths])

    @work(thread=True, group="doctor")
    def _examine_machine(self) -> None:
        from localsynth.presentation import doctor_text
        from localsynth.system.doctor import examine
        from localsynth.system.files import model_directory

        facts = examine(model_directory())
        problems = [finding for finding in facts.findings if finding.level != "ok"]
        if problems:
            count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
            line = f"This machine: {count}. {problems[0].text} {problems[0].fix}  (M: all)"
        else:
            free = bytes_text(facts.memory.available)
            line = f"This machine: ready. {free} of memory free, network seal: {facts.seal[0]}."
        self._doctor_text = doctor_text(facts)
        self.call_ui(lambda: self.query_one("#doctor", Static).update(Content(line.strip())))

    # --- actions -----------------------------------------------------------------------------------------------------

    @on(DataTable.RowSelected)
    def _open_row(self, event: DataTable.RowSelected) -> None:
        self._open(Path(str(event.row_key.value)))

    def _open(self, path: Path) -> None:
        self.run_in_app(self.ui.open_workspace(path))

    def action_new(self) -> None:
        """Make a workspace for a table."""
        from localsynth_tui.screens.new_workspace import NewWorkspace

        self.open_window(NewWorkspace(), self._open)

    def action_open_other(self) -> None:
        """Open a workspace by its path."""
        field = Field("path", "Directory of the workspace", "", "visits")
        text = "A workspace is a directory with a file localsynth.toml."
        form = Form("Open a workspace", text, [field], "Open", lambda answer: answer["path"])
        self.open_window(form, lambda path: self._open(Path(path).expanduser()) if path else None)

    def action_demo(self) -> None:
        """Make the demo's workspace, or open it."""
        self.run_in_app(self._demo())

    async def _demo(self) -> None:
        from localsynth.example.visits import prepare_demo

        root = Path("localsynth-demo")
        try:
            await asyncio.to_thread(prepare_demo, root)
        except LocalsynthError as error:
            self.ui.show_error(error)
            return
        self.notify("A synthetic table of visits to an emergency department. It stands for your private table.")
        await self.ui.open_workspace(root)

    def action_doctor(self) -> None:
        """All facts about this machine."""
        self.app.push_screen(Reading("This machine (localsynth doctor)", self._doctor_text or "Still checking …"))

    def action_forget(self) -> None:
        """Remove the workspace under the cursor from the list; its files stay."""
        table = self.query_one(DataTable)
        if not self._paths:
            return
        path = self._paths.pop(table.cursor_row)
        self._fill()
        preferences = self.ui.preferences
        preferences.recent = [name for name in preferences.recent if name != str(path)]
        try:
            preferences.save()
        except LocalsynthError as error:
            self.ui.show_error(error)


def _short(path: Path) -> str:
    """The path relative to the present or the home directory, where it is inside one."""
    for base, prefix in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path != base and path.is_relative_to(base):
            return prefix + str(path.relative_to(base))
    return str(path)
