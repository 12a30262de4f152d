"""Screen 1: the workspaces, how far each has come, and whether this machine is fit for the work."""

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
from localsynth_tui.screens.dialogs import Field, Form
from localsynth_tui.screens.step import StepScreen
from localsynth_tui.text.command_line import command_line
from localsynth_tui.text.formatting import cell
from localsynth_tui.widgets.table import fill
from localsynth_tui.workspace.status import Overview, look_at

__all__ = ["HomeScreen"]

_WELCOME = """\
localsynth turns a table you may not share into a synthetic one you may share, on this computer, without a network.

New: choose your table (CSV, TSV, JSON lines, Parquet, DuckDB). Nothing is spent before you press Start in step 3.
Demo: a made-up table, to see how it goes."""


class HomeScreen(StepScreen):
    """The first screen; it must be there within a second, so everything it tells is found out afterwards, in threads."""

    STEP = "home"
    HELP = """\
A workspace is a directory that holds everything about one table: its description, the encrypted original rows, the record of \
what was spent, the model and the synthetic rows.

Choose one with the arrow keys and press Enter; localsynth opens the screen on which its work goes on. The steps above lead \
from left to right: Data (what is in the table, who is protected), Plan (how much protection, and what it takes), Run, Rows \
(the result), Report (what you can show to others). The keys 1 to 7 open them, or click on them.

"set aside" is the part of the privacy budget (epsilon) that is used up for good, as far as this table is concerned.

Ctrl-P finds every action by name. Y shows the command line that does the same as the screen you are on."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New", id="home.new"),
        Binding("o", "open_other", "Open", id="home.open"),
        Binding("d", "demo", "Demo", id="home.demo"),
        Binding("m", "doctor", "This machine", id="home.doctor"),
        Binding("delete", "forget", "Take off the list", show=False, id="home.forget"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._paths: list[Path] = []
        self._found: dict[Path, Overview] = {}
        self._machine = ""

    def content(self) -> ComposeResult:
        yield Static(Content(_WELCOME), id="welcome")
        yield DataTable(cursor_type="row", zebra_stripes=True, id="workspaces")
        with Horizontal(classes="buttons"):
            yield Button("New …", variant="primary", id="new", tooltip="Make a workspace for a table of yours")
            yield Button("Open …", id="open", tooltip="A workspace that is not in the list")
            yield Button("Demo", id="demo", tooltip="A made-up table")
        yield Static("This machine: looking …", id="doctor")

    def on_mount(self) -> None:
        table = self.query_one(DataTable)
        self._paths = self._known()
        self._fill()
        table.display = bool(self._paths)
        (table if self._paths else self.query_one("#new")).focus()
        self._look()
        self._examine()

    def command(self) -> str:
        """Opening the UI."""
        return command_line("tui", self.ui.workspace)

    def twins(self) -> list[tuple[str, str]]:
        return [
            ("Open localsynth", self.command()),
            ("New: a workspace for a table", "localsynth init visits --data visits.csv"),
            ("Demo", "localsynth demo"),
            ("This machine", "localsynth doctor"),
        ]

    def _known(self) -> list[Path]:
        here = Path.cwd()
        near = [here, *sorted(path for path in here.iterdir() if path.is_dir())]
        recent = [Path(name) for name in self.ui.preferences.recent]
        found = [path for path in [*recent, *near] if (path / "localsynth.toml").is_file()]
        return list(dict.fromkeys(path.resolve() for path in found))

    # --- found out in threads ----------------------------------------------------------------------------------------

    @work(thread=True, group="look")
    def _look(self) -> None:
        for path in self._paths:
            found = look_at(path)
            self.back(self._show, found)

    def _show(self, found: Overview) -> None:
        self._found[found.path] = found
        self._fill()

    def _fill(self) -> None:
        rows = []
        for path in self._paths:
            found = self._found.get(path)
            values = ["…", "", ""]
            if found is not None:
                stage = found.stage + (f": {found.problem}" if found.problem else "")
                epsilon = f"{found.epsilon or 0:g} of {found.target:g}" if found.target is not None else ""
                values = [stage, epsilon, f"{found.rows:,}" if found.rows else ""]
            rows.append([cell(_short(path), 34), *(cell(value) for value in values)])
        names = [cell(name) for name in ("Workspace", "How far", "Epsilon set aside", "Rows")]
        fill(self.query_one(DataTable), names, rows, [str(path) for path in self._paths])

    @work(thread=True, group="doctor")
    def _examine(self) -> None:
        from localsynth.presentation import doctor_text
        from localsynth.system.doctor import examine
        from localsynth.system.files import model_directory

        facts = examine(model_directory())
        findings = facts["findings"]
        bad = [finding for finding in findings if finding["level"] != "ok"]
        if bad:
            line = (
                f"This machine: {len(bad)} thing{'s' if len(bad) > 1 else ''} to know. {bad[0]['text']} {bad[0]['fix']}  (M: all)"
            )
        else:
            line = (
                f"This machine: ready. {facts['memory']['available'] / 2**30:.0f} GiB of memory free, seal: {facts['seal'][0]}."
            )
        self._machine = doctor_text(facts)
        self.back(lambda: self.query_one("#doctor", Static).update(Content(line.strip())))

    # --- actions -----------------------------------------------------------------------------------------------------

    @on(DataTable.RowSelected)
    def _open_row(self, event: DataTable.RowSelected) -> None:
        self._open(Path(str(event.row_key.value)))

    def _open(self, path: Path) -> None:
        self.hand_over(self.ui.open_workspace(path))

    @on(Button.Pressed, "#new")
    def action_new(self) -> None:
        """Make a workspace for a table."""
        from localsynth_tui.screens.new_workspace import NewWorkspace

        self.app.push_screen(NewWorkspace(), self._made)

    def _made(self, answer: Path | None) -> None:
        if answer is not None:
            self._open(answer)

    @on(Button.Pressed, "#open")
    def action_open_other(self) -> None:
        """Open a workspace by its path."""
        field = Field("path", "Directory of the workspace", "", "visits")
        form = Form("Open a workspace", "A workspace is a directory with a file localsynth.toml.", [field], "Open")
        self.app.push_screen(form, self._opened)

    def _opened(self, answer: dict[str, str] | None) -> None:
        if answer and answer["path"]:
            self._open(Path(answer["path"]).expanduser())

    @on(Button.Pressed, "#demo")
    def action_demo(self) -> None:
        """Make the demo's workspace, or go on with it."""
        self.hand_over(self._demo())

    async def _demo(self) -> None:
        from localsynth.example.demo import prepare_demo

        root = Path("localsynth-demo")
        try:
            await asyncio.to_thread(prepare_demo, root, lambda _text: None)
        except LocalsynthError as error:
            self.tell(error)
            return
        self.notify("A table of visits to an emergency department, all invented. It plays the private one.")
        await self.ui.open_workspace(root)

    def action_doctor(self) -> None:
        """Everything about this machine."""
        from localsynth_tui.screens.dialogs import Reading

        self.app.push_screen(Reading("This machine (localsynth doctor)", self._machine or "Still looking …"))

    def action_forget(self) -> None:
        """Take the workspace under the cursor off the list; its files stay."""
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
            self.tell(error)


def _short(path: Path) -> str:
    """Relative to here or to the home directory where it is below one."""
    for base, prefix in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path != base and path.is_relative_to(base):
            return prefix + str(path.relative_to(base))
    return str(path)
