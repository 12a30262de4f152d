"""Screen 2: what is in the table and who is protected. Changes are checked as they are typed and saved in localsynth.toml."""

import shlex
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Checkbox, DataTable, Input, Label, Select, Static, TabbedContent, TabPane

from localsynth.errors import ConfigError, LocalsynthError
from localsynth_tui.jobs.client import AnswerError, Request, ask
from localsynth_tui.screens.step import StepScreen
from localsynth_tui.text.command_line import command_line
from localsynth_tui.text.formatting import cell
from localsynth_tui.text.pii_hints import Look, fate, flag
from localsynth_tui.widgets.checkbox import Tick
from localsynth_tui.widgets.debounce import Pause
from localsynth_tui.widgets.privacy_unit import Who
from localsynth_tui.widgets.table import fill
from localsynth_tui.workspace.column_form import FORM_FIELDS, changes_of, fields_shown, outside_choices, range_text, values_of

__all__ = ["DataScreen"]

_PATIENCE = 0.4
_PEOPLE = ("name", "email", "phone", "address")
_NOT_LEARNED = ("identifier", "surrogate")


class DataScreen(StepScreen):
    """The table of columns, a form for the one under the cursor, the privacy unit, and the first rows."""

    STEP = "data"
    HELP = """\
localsynth guessed what each column is from the first rows. Go through them with the arrow keys, correct what is wrong in the \
fields below the table (Tab goes there), and then tick "I have checked this".

A range or a list of values that you leave open is measured, which costs a part of epsilon. If you know it from public sources \
(a code book), type it: that costs nothing. Never copy it from the table: that would be a leak nobody sees. Where texts go with \
codes, say in words what these stand for (J45 = asthma): the model cannot know.

Names, e-mail addresses, telephone numbers, addresses: kind surrogate, never learned, invented anew. Keys: kind identifier, \
numbered anew. A column marked "!" looks like one of these, or tells of persons in another way; the lines below the table say \
what will happen to it. L leaves a column out of the table altogether, or takes it in again.

Who is protected (W) also asks whether the rows of one follow each other: then they are learned as sequences.

Everything is saved in localsynth.toml as you type, and its comments stay."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "tab('columns')", "Columns", id="data.columns"),
        Binding("w", "tab('who')", "Protected", id="data.who"),
        Binding("p", "tab('rows')", "First rows", id="data.rows"),
        Binding("l", "leave_out", "Leave out", id="data.leave-out"),
        Binding("k", "confirm", "I have checked this", show=False, id="data.confirm"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._text = ""
        self._config: Any = None
        self._effective: dict[str, Any] = {}
        self._looks: dict[str, Look] = {}
        self._source: dict[str, dict[str, Any]] = {}
        """Every column of the source as it is guessed to be, in its order; empty until the first rows are read."""
        self._notes: dict[str, str] = {}
        self._unsaved = Pause(self, _PATIENCE)

    @property
    def _path(self) -> Path:
        assert self.ui.workspace is not None
        return self.ui.workspace / "localsynth.toml"

    def content(self) -> ComposeResult:
        from localsynth_tui.workspace.config_file import KINDS

        with TabbedContent(initial="columns"):
            with TabPane("Columns", id="columns"):
                yield DataTable(cursor_type="row", zebra_stripes=True, id="table")
                yield Static("", id="fate")
                with Vertical(id="form"):
                    with Horizontal():
                        yield Label("", id="which")
                        yield Select([(kind, kind) for kind in KINDS], id="kind", allow_blank=False)
                        yield Select([(f"an invented {sort}", sort) for sort in _PEOPLE], id="of", allow_blank=False)
                        yield Tick("may be empty", id="nullable")
                    with Horizontal():
                        for name in FORM_FIELDS:
                            if name != "other":
                                yield from _field(name)
                    with Horizontal(id="beyond"):
                        yield Label("All others become")
                        yield Select[str]([], id="outside", prompt="…")
                        yield from _field("other")
                    yield Tick("I have checked kinds, decimals, what may be empty, and text lengths", id="confirmed")
            with TabPane("Who is protected", id="who"):
                yield Who()
            with TabPane("First rows (private)", id="rows"):
                yield Static("Reading the first rows …", id="about-rows")
                yield DataTable(zebra_stripes=True, cursor_type="none", id="preview")
        yield Static("", id="said", classes="error")

    def on_mount(self) -> None:
        self._load()
        self._preview()

    def command(self) -> str:
        """The file is what a person on the command line edits."""
        return command_line("plan", self.ui.workspace)

    def twins(self) -> list[tuple[str, str]]:
        return [
            ("See what the file, as it is now, comes to", self.command()),
            ("What this screen edits (any editor will do)", f"nano {shlex.quote(str(self._path))}"),
            ("Read the table in, and measure what is open", command_line("ingest", self.ui.workspace)),
        ]

    def action_tab(self, tab: str) -> None:
        """Open one of the tabs, with the focus where one works."""
        self.query_one(TabbedContent).active = tab
        self.query_one({"columns": "#table", "who": "#unit", "rows": "#preview"}[tab]).focus()

    # --- reading -----------------------------------------------------------------------------------------------------

    @work(thread=True, exclusive=True, group="load")
    def _load(self) -> None:
        from localsynth.config import parse_config
        from localsynth.system.files import read_json

        try:
            text = self._path.read_text(encoding="utf-8")
            config = parse_config(text, self._path.name)
            schema_path = self._path.with_name("schema.json")
            effective = read_json(schema_path) if schema_path.exists() else {}
        except LocalsynthError as error:
            self.back(self._say, f"{error.message} {error.hint}")
            return
        except OSError as error:
            self.back(self._say, f"{self._path} cannot be read: {error.strerror}.")
            return
        self._text, self._config, self._effective = text, config, effective
        self.back(self._fill)

    def _fill(self) -> None:
        self._fill_table()
        with self.prevent(Checkbox.Changed):
            self.query_one("#confirmed", Checkbox).value = self._config.schema_.confirmed
        self.query_one(Who).show(self._config)
        self._show_column()
        if self._effective:
            self._say("This table has been read in: changes here need a new workspace, or ingest with --again (charged again).")
        if self.focused is None:
            self.query_one("#table").focus()

    def _cells(self, column: Any, measured: Any) -> list[Text]:
        flagged = flag(column, self._looks.get(column.name))
        if column.kind in _NOT_LEARNED or column.kind in ("boolean", "text"):
            origin = "checked" if self._config.schema_.confirmed else "guessed"
        elif not column.unmeasured():
            origin = "declared"
        elif measured is not None and not measured.unmeasured():
            origin, column = "measured", measured
        else:
            origin = "to be measured"
        return [
            cell(column.name, 20),
            cell(column.kind, 11),
            cell(range_text(column), 30),
            cell("yes" if column.nullable else "no"),
            cell(flagged or origin, 34),
        ]

    @work(exclusive=True, group="preview")
    async def _preview(self) -> None:
        try:
            found = await ask(Request("preview", self._path.parent), module="localsynth_tui.jobs.preview_server")
        except AnswerError as error:
            text = Content(f"{error.message} {error.hint}")
            self._call_if_here(lambda: self.query_one("#about-rows", Static).update(text))
            return
        self._call_if_here(self._show_preview, found)

    def _show_preview(self, found: dict[str, Any]) -> None:
        about = self.query_one("#about-rows", Static)
        rows = [[cell(value, 40) for value in row] for row in found["rows"]]
        fill(self.query_one("#preview", DataTable), [cell(name, 24) for name in found["columns"]], rows)
        about.update(
            Content(f"The first {len(found['rows'])} rows of the original table. PRIVATE: on this screen only, kept nowhere.")
        )
        self._looks = {name: Look(*look) for name, look in found["looks"].items()}
        self._source, self._notes = {column["name"]: column for column in found["schema"]}, found["notes"]
        if self._config is not None:
            # Not the form: something may have been typed there meanwhile.
            self._fill_table()
            self._tell_fate()

    # --- the column under the cursor ---------------------------------------------------------------------------------

    def _left_out(self) -> list[str]:
        """The columns of the source that are not used; those of a workspace whose source cannot be read are not known."""
        used = {column.name for column in self._config.schema_.columns}
        return [name for name in self._source if name not in used]

    def _under_cursor(self) -> str | None:
        """The column under the cursor, used or left out."""
        table = self.query_one("#table", DataTable)
        if self._config is None or not table.row_count:
            return None
        names = [*(column.name for column in self._config.schema_.columns), *self._left_out()]
        return names[table.cursor_row] if table.cursor_row < len(names) else None

    def _column(self) -> Any:
        """The column under the cursor, where it is used."""
        name = self._under_cursor()
        return (
            next((column for column in self._config.schema_.columns if column.name == name), None) if name is not None else None
        )

    @on(DataTable.RowHighlighted, "#table")
    def _show_column(self) -> None:
        column = self._column()
        self._tell_fate()
        self.query_one("#form").disabled = column is None
        if column is None:
            return
        with self.prevent(Select.Changed, Input.Changed, Checkbox.Changed):
            self.query_one("#which", Label).update(cell(column.name, 16))
            self.query_one("#kind", Select).value = column.kind
            self.query_one("#nullable", Checkbox).value = column.nullable
            self.query_one("#of", Select).value = getattr(column, "of", "name")
            for name, value in values_of(column).items():
                self.query_one(f"#{name}", Input).value = value
            self._arrange(column.kind, getattr(column, "outside", None))

    def _tell_fate(self) -> None:
        """What will happen to the column under the cursor."""
        name, column = self._under_cursor(), self._column()
        text = ""
        if column is not None:
            note = self._notes.get(column.name, "")
            text = fate(column, self._looks.get(column.name), self._config.privacy.unit, self._made_by(), note)
        elif name is not None:
            text = "Left out: not read in, and not in the synthetic table. L takes it in again, as it was guessed to be."
        self.query_one("#fate", Static).update(Content(text))

    def _made_by(self) -> str:
        from localsynth.planning.budgets import synthesizer_of

        try:
            return synthesizer_of(self._config)
        except LocalsynthError:
            return str(self._config.train.synthesizer)

    def action_leave_out(self) -> None:
        """Leave the column under the cursor out of the table, or take it in again."""
        from localsynth_tui.workspace.config_file import with_column_back, without_column

        name, column = self._under_cursor(), self._column()
        if name is None:
            return
        self.settle()
        before = self._text
        try:
            if column is not None:
                if not self._source:
                    raise ConfigError("The first rows are not read yet.", "Wait a moment, then try again.")
                text, config = without_column(before, name, self._path.name)
            else:
                text, config = with_column_back(before, self._source[name], list(self._source), self._path.name)
        except LocalsynthError as error:
            self.tell(error)
            return
        self._save(text, config, before)
        self._fill()

    def _arrange(self, kind: str, outside: str | None = None) -> None:
        choices = outside_choices(kind)
        self.query_one("#beyond").display = bool(choices)
        if choices:
            select = self.query_one("#outside", Select)
            select.set_options(choices)
            select.value = outside or choices[0][1]
        shown = fields_shown(kind)
        for name in FORM_FIELDS:
            self.query_one(f"#{name}").display = self.query_one(f"#label-{name}").display = name in shown
        self.query_one("#of").display = kind == "surrogate"

    @on(Select.Changed, "#kind")
    def _kind_chosen(self) -> None:
        column = self._column()
        kind = str(self.query_one("#kind", Select).value)
        if column is not None and kind != column.kind:
            with self.prevent(Input.Changed, Select.Changed):
                for name in FORM_FIELDS:
                    self.query_one(f"#{name}", Input).value = ""
                self._arrange(kind)
            self._column_changed()

    @on(Select.Changed, "#of")
    @on(Select.Changed, "#outside")
    @on(Checkbox.Changed, "#nullable")
    @on(Input.Changed, "#form Input")
    def _column_changed(self) -> None:
        column = self._column()
        if column is None:
            return
        kind = str(self.query_one("#kind", Select).value)
        try:
            changes = changes_of(kind, {name: self.query_one(f"#{name}", Input).value for name in FORM_FIELDS})
        except LocalsynthError as error:
            self._unsaved.drop()
            self._say(error.message)
            return
        changes |= {"kind": kind, "nullable": self.query_one("#nullable", Checkbox).value}
        if choices := outside_choices(kind):
            outside = self.query_one("#outside", Select).value
            # The default need not be written.
            changes["outside"] = None if outside == choices[0][1] or not isinstance(outside, str) else outside
        if kind == "surrogate":
            changes["of"] = str(self.query_one("#of", Select).value)
        if kind != column.kind and kind in _NOT_LEARNED:
            changes["nullable"] = False
        self._later("column", column.name, changes)

    # --- who is protected --------------------------------------------------------------------------------------------

    @on(Who.Changed)
    def _who_changed(self, event: Who.Changed) -> None:
        if event.changes is None:
            self._unsaved.drop()
            self._say(event.wrong)
            return
        self._later("unit" if event.identifier else "keys", event.identifier or "", event.changes)

    def action_confirm(self) -> None:
        """Tick, or take back, that the schema was checked."""
        self.query_one("#confirmed", Checkbox).toggle()

    @on(Checkbox.Changed, "#confirmed")
    def _confirmed(self, event: Checkbox.Changed) -> None:
        self._later("keys", "", {"schema.confirmed": event.value})
        if event.value:
            self.notify("Next: who is protected (W), then the plan (3).")

    # --- saving ------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Save what was typed last."""
        self._unsaved.now()

    def _later(self, what: str, name: str, changes: dict[str, Any]) -> None:
        """Check at once, save when nothing is typed for a moment."""
        self._unsaved.drop()
        before = self._text
        try:
            text, config = _edited(before, what, name, changes, self._path.name)
        except LocalsynthError as error:
            self._say(error.message)
            return
        self._say("")
        self._unsaved.put_off(lambda: self._save(text, config, before, of_the_unit=name if what == "unit" else None))

    def _save(self, text: str, config: Any, before: str, of_the_unit: str | None = None) -> None:
        from localsynth.planning.budgets import synthesizer_of
        from localsynth_tui.workspace.config_file import save

        try:
            save(self._path, text, before)
        except LocalsynthError as error:
            self._say(f"{error.message} {error.hint}")
            return
        self._text, self._config = text, config
        self._say("")
        self.ui.plan = None
        self._fill_table()
        self._tell_fate()
        if of_the_unit is not None:
            self.query_one(Who).show(config)
            said = "It says whose row it is: numbered anew, and no longer learned (kind identifier)."
            self.notify(said, title=of_the_unit, markup=False)
        try:
            synthesizer_of(config)
        except LocalsynthError as error:
            # Saved, since the way to what fits may go through what does not; a run would refuse it.
            self._say(f"! A run would refuse this. {error.message} {error.hint}")

    def _fill_table(self) -> None:
        """The table of columns alone: the form may be typed in."""
        from localsynth.schema.columns import Schema

        measured = {c.name: c for c in Schema.model_validate(self._effective["schema"]).columns} if self._effective else {}
        columns = self._config.schema_.columns
        names = [cell(name) for name in ("Column", "Kind", "Values", "Empty", "Known from")]
        rows = [self._cells(column, measured.get(column.name)) for column in columns]
        left_out = self._left_out()
        rows += [[cell(name, 20), cell("–"), cell("left out"), cell(""), cell("L takes it in again")] for name in left_out]
        with self.prevent(DataTable.RowHighlighted):
            fill(self.query_one("#table", DataTable), names, rows, [*(column.name for column in columns), *left_out])

    def _say(self, text: str) -> None:
        said = self.query_one("#said", Static)
        said.update(Content(text))
        said.display = bool(text)


def _edited(text: str, what: str, name: str, changes: dict[str, Any], where: str) -> tuple[str, Any]:
    """The file's text with a change of a column, of keys, or of keys and of the column that says whose row it is."""
    from localsynth_tui.workspace.config_file import with_column, with_keys

    if what == "column":
        return with_column(text, name, _bare(changes), where)
    if what == "unit":
        text, _ = with_column(text, name, {"kind": "identifier", "nullable": None}, where)
    return with_keys(text, changes, where)


def _field(name: str) -> ComposeResult:
    label, hint = FORM_FIELDS[name]
    yield Label(label, id=f"label-{name}")
    yield Input(placeholder=hint, id=name, select_on_focus=False)


def _bare(changes: dict[str, Any]) -> dict[str, Any]:
    """Without what says the default: `nullable = true` need not be written."""
    learned = changes.get("kind") not in _NOT_LEARNED
    return {**changes, "nullable": None if changes["nullable"] == learned else changes["nullable"]}
