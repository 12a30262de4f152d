"""Screen 2: what is in the table and who is protected. Changes are checked as they are typed and saved in localsynth.toml."""

from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Checkbox, DataTable, Input, Label, Select, Static, TabbedContent, TabPane

from localsynth.errors import LocalsynthError
from localsynth_tui.column_form import FORM_FIELDS, changes_of, fields_shown, outside_choices, range_text, values_of
from localsynth_tui.command_line import command_line
from localsynth_tui.runner import AnswerError, Request, ask
from localsynth_tui.screens.step import StepScreen
from localsynth_tui.widgets.grid import fill
from localsynth_tui.widgets.pause import Pause
from localsynth_tui.widgets.tick import Tick
from localsynth_tui.words import cell

__all__ = ["DataScreen"]

_PATIENCE = 0.4
_PEOPLE = ("name", "email", "phone", "address")
_NOT_LEARNED = ("identifier", "surrogate")
_ROW = ":row"
"""Stands for the unit `row` in the choice: a column may be called "row", and no name of a column is left out for it."""

_WHO = """\
Who is protected? The promise is made for a "unit": the result would have been almost as likely without it.

One row: right where every row is another person.
Everything with the same …: right where a person can have several rows; choose the column that says whose row it is (a patient \
number). Then say how many rows of one person may be used at most; the others are left out at random."""


_HOLDOUT = """\
Kept apart: each of them is, by a secret coin of its own, not trained on but kept to compare with in the report (Report, 6). \
0.1 is a tenth; with 0 the report has nothing to compare with."""


class DataScreen(StepScreen):
    """The table of columns, a form for the one under the cursor, the privacy unit, and the first rows."""

    STEP = "data"
    HELP = """\
localsynth guessed what each column is from the first rows. Go through them with the arrow keys, correct what is wrong in the \
fields below the table (Tab goes there), and then tick "I have checked this".

A range or a list of values that you leave open is measured, which costs a part of epsilon. If you know it from public sources \
(a code book), type it: that costs nothing. Never copy it from the table: that would be a leak nobody sees.

Names, e-mail addresses, telephone numbers, addresses: kind surrogate, never learned, invented anew. Keys: kind identifier, \
numbered anew. A column marked "!" looks like one of these and is learned all the same: change its kind.

Everything is saved in localsynth.toml as you type, and its comments stay."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "tab('columns')", "Columns", id="data.columns"),
        Binding("w", "tab('who')", "Who is protected", id="data.who"),
        Binding("p", "tab('rows')", "First rows", id="data.rows"),
        Binding("k", "confirm", "I have checked this", show=False, id="data.confirm"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._text = ""
        self._config: Any = None
        self._effective: dict[str, Any] = {}
        self._looks: dict[str, str] = {}
        self._unsaved = Pause(self, _PATIENCE)

    @property
    def _path(self) -> Path:
        assert self.ui.workspace is not None
        return self.ui.workspace / "localsynth.toml"

    def content(self) -> ComposeResult:
        from localsynth_tui.config_file import KINDS

        with TabbedContent(initial="columns"):
            with TabPane("Columns", id="columns"):
                yield DataTable(cursor_type="row", zebra_stripes=True, id="table")
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
            with TabPane("Who is protected", id="who"), VerticalScroll(can_focus=False):
                yield Static(Content(_WHO), classes="text")
                with Horizontal(classes="line"):
                    yield Label("Protected is")
                    yield Select[str]([], id="unit", prompt="…")
                with Horizontal(classes="line", id="most"):
                    yield Label("Rows of one, at most")
                    yield Input(id="max_rows", select_on_focus=False)
                yield Static(Content(_HOLDOUT), classes="text")
                with Horizontal(classes="line"):
                    yield Label("Share kept apart")
                    yield Input(id="holdout", select_on_focus=False)
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

    def action_tab(self, tab: str) -> None:
        """Open one of the tabs, with the focus where one works."""
        self.query_one(TabbedContent).active = tab
        self.query_one({"columns": "#table", "who": "#unit", "rows": "#preview"}[tab]).focus()

    # --- reading -----------------------------------------------------------------------------------------------------

    @work(thread=True, exclusive=True, group="load")
    def _load(self) -> None:
        from localsynth.config import parse_config
        from localsynth.workspace import read_json

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
        with self.prevent(Select.Changed, Input.Changed, Checkbox.Changed):
            self.query_one("#confirmed", Checkbox).value = self._config.schema_.confirmed
            privacy = self._config.privacy
            units = [(Content(f"everything with the same {c.name!r}"), c.name) for c in self._config.schema_.columns]
            choice = self.query_one("#unit", Select)
            choice.set_options([(Content("one row"), _ROW), *units])
            choice.value = _ROW if privacy.unit == "row" else privacy.unit
            self.query_one("#max_rows", Input).value = str(privacy.max_rows_per_unit)
            self.query_one("#most").display = privacy.unit != "row"
            self.query_one("#holdout", Input).value = f"{privacy.holdout:g}"
        self._show_column()
        if self._effective:
            self._say("This table has been read in: changes here need a new workspace, or ingest with --again (charged again).")
        if self.focused is None:
            self.query_one("#table").focus()

    def _cells(self, column: Any, measured: Any) -> list[Text]:
        look = self._looks.get(column.name)
        flag = ""
        if look in (*_PEOPLE, "identifier") and column.kind not in _NOT_LEARNED:
            flag = "! looks like a key" if look == "identifier" else f"! looks like a person's {look}"
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
            cell(flag or origin, 30),
        ]

    @work(exclusive=True, group="preview")
    async def _preview(self) -> None:
        try:
            found = await ask(Request("preview", self._path.parent), module="localsynth_tui.preview")
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
        self._looks = found["looks"]
        if self._config is not None:
            # Not the form: something may have been typed there meanwhile.
            self._fill_table()

    # --- the column under the cursor ---------------------------------------------------------------------------------

    def _column(self) -> Any:
        table = self.query_one("#table", DataTable)
        if self._config is None or not table.row_count:
            return None
        return self._config.schema_.columns[table.cursor_row]

    @on(DataTable.RowHighlighted, "#table")
    def _show_column(self) -> None:
        column = self._column()
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

    @on(Select.Changed, "#unit")
    @on(Input.Changed, "#max_rows")
    def _unit_changed(self) -> None:
        unit = self.query_one("#unit", Select).value
        if not isinstance(unit, str):
            return
        self.query_one("#most").display = unit != _ROW
        changes: dict[str, Any] = {"privacy.unit": "row" if unit == _ROW else unit}
        if unit != _ROW:
            text = self.query_one("#max_rows", Input).value.strip()
            if not text.isdecimal():
                self._unsaved.drop()
                self._say("Rows of one, at most: give a whole number, as 5.")
                return
            changes["privacy.max_rows_per_unit"] = int(text)
        self._later("keys", "", changes)

    @on(Input.Changed, "#holdout")
    def _holdout_changed(self, event: Input.Changed) -> None:
        try:
            share = float(event.value)
        except ValueError:
            self._unsaved.drop()
            self._say("Share kept apart: give a number from 0 to below 0.9, as 0.1.")
            return
        self._later("keys", "", {"privacy.holdout": share})

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
        from localsynth_tui.config_file import with_column, with_keys

        self._unsaved.drop()
        before = self._text
        try:
            edit = with_column(before, name, _bare(changes), self._path.name) if what == "column" else None
            text, config = edit or with_keys(before, changes, self._path.name)
        except LocalsynthError as error:
            self._say(error.message)
            return
        self._say("")
        self._unsaved.put_off(lambda: self._save(text, config, before))

    def _save(self, text: str, config: Any, before: str) -> None:
        from localsynth_tui.config_file import save

        try:
            save(self._path, text, before)
        except LocalsynthError as error:
            self._say(f"{error.message} {error.hint}")
            return
        self._text, self._config = text, config
        self.ui.plan = None
        self._fill_table()

    def _fill_table(self) -> None:
        """The table of columns alone: the form may be typed in."""
        from localsynth.schema import Schema

        measured = {c.name: c for c in Schema.model_validate(self._effective["schema"]).columns} if self._effective else {}
        columns = self._config.schema_.columns
        names = [cell(name) for name in ("Column", "Kind", "Values", "Empty", "Known from")]
        rows = [self._cells(column, measured.get(column.name)) for column in columns]
        with self.prevent(DataTable.RowHighlighted):
            fill(self.query_one("#table", DataTable), names, rows, [column.name for column in columns])

    def _say(self, text: str) -> None:
        said = self.query_one("#said", Static)
        said.update(Content(text))
        said.display = bool(text)


def _field(name: str) -> ComposeResult:
    label, hint = FORM_FIELDS[name]
    yield Label(label, id=f"label-{name}")
    yield Input(placeholder=hint, id=name, select_on_focus=False)


def _bare(changes: dict[str, Any]) -> dict[str, Any]:
    """Without what says the default: `nullable = true` need not be written."""
    learned = changes.get("kind") not in _NOT_LEARNED
    return {**changes, "nullable": None if changes["nullable"] == learned else changes["nullable"]}
