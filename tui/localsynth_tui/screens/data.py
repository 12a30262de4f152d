"""Screen 2: the columns and the privacy unit. Changes are checked as they are typed and saved in localsynth.toml."""

import shlex
from collections.abc import Callable
from typing import Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Checkbox, DataTable, Input, Label, Select, Static, TabbedContent, TabPane

from localsynth.config import Config
from localsynth.errors import ConfigError, LocalsynthError
from localsynth.schema.columns import Column, Schema
from localsynth.system.files import read_json
from localsynth.worker import WorkerError
from localsynth_tui.jobs.client import Request, ask
from localsynth_tui.screens.step import StepScreen
from localsynth_tui.text.command_line import command_line
from localsynth_tui.text.formatting import cell, plain
from localsynth_tui.text.pii_hints import PiiHint, flag, treatment
from localsynth_tui.widgets.debounce import Debounce
from localsynth_tui.widgets.privacy_unit import PrivacyUnitForm
from localsynth_tui.widgets.table import fill
from localsynth_tui.workspace.column_form import FORM_FIELDS, changes_of, fields_shown, outside_choices, range_text, values_of
from localsynth_tui.workspace.config_file import KINDS, read, save, with_column, with_column_back, with_keys, without_column

_SAVE_DELAY = 0.4
"""Seconds without a change before it is saved."""
_SURROGATES = ("name", "email", "phone", "address", "ip", "ipv6")
_REASONS = {
    "category": "values that repeat, or have few words.",
    "integer": "all values are whole numbers.",
    "number": "all values are numbers.",
    "boolean": "there are two values, such as yes and no.",
    "date": "all values are days.",
    "datetime": "all values are dates with times.",
    "time": "all values are times of day.",
    "text": "values have words, and few repeat.",
    "identifier": "it looks like a key.",
    "surrogate": "it looks like what identifies a person.",
}
_MEASURED_TOO = ("step", "common")
"""Inputs of what is found with a measured range."""
_NOT_LEARNED = ("identifier", "surrogate", "derived")


class _SignCheckbox(Checkbox):
    """`[✓]` or `[ ]`: its state by a sign, not by colour alone."""

    @property
    def _button(self) -> Content:
        return Content("[✓]" if self.value else "[ ]")


class DataScreen(StepScreen):
    """The table of columns, a form for the one under the cursor, the privacy unit, and the first rows."""

    STEP = "data"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "tab('columns')", "Columns", id="data.columns"),
        Binding("w", "tab('unit')", "Privacy unit", id="data.unit"),
        Binding("p", "tab('rows')", "First rows", id="data.rows"),
        Binding("l", "exclude", "Exclude", id="data.exclude"),
        Binding("k", "confirm", "I have checked this", show=False, id="data.confirm"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._text = ""
        self._config: Config | None = None
        self._effective: dict[str, Any] = {}
        self._hints: dict[str, PiiHint] = {}
        self._source: dict[str, dict[str, Any]] = {}
        """Every column of the source as inferred, in its order; empty until the first rows are read."""
        self._notes: dict[str, str] = {}
        self._examples: dict[str, list[str]] = {}
        self._warnings: dict[str, str] = {}
        self._pending = Debounce(self, _SAVE_DELAY)

    def content(self) -> ComposeResult:
        with TabbedContent(initial="columns"):
            with TabPane("Columns", id="columns"):
                yield DataTable(cursor_type="row", zebra_stripes=True, id="table")
                yield Static("", id="treatment")
                with Vertical(id="form"):
                    with Horizontal():
                        yield Label("", id="column-name")
                        yield Select([(kind, kind) for kind in KINDS], id="kind", allow_blank=False)
                        yield Select([(f"a fake {kind}", kind) for kind in _SURROGATES], id="of", allow_blank=False)
                        yield _SignCheckbox("may be empty", id="nullable")
                    with Horizontal():
                        for name in FORM_FIELDS:
                            if name not in ("other", *_MEASURED_TOO):
                                yield from _field(name)
                    with Horizontal(id="outside-line"):
                        yield Label("", id="label-outside")
                        yield Select[str]([], id="outside", prompt="…")
                        yield from _field("other")
                    with Horizontal(id="measured-line"):
                        for name in _MEASURED_TOO:
                            yield from _field(name)
                    yield _SignCheckbox(
                        "I have checked this: kinds, decimals, formats, empty values, text lengths", id="confirmed"
                    )
            with TabPane("Privacy unit", id="unit-tab"):
                yield PrivacyUnitForm()
            with TabPane("First rows (private)", id="rows"):
                yield Static("Reading the first rows …", id="about-rows")
                yield DataTable(zebra_stripes=True, cursor_type="none", id="preview")
        yield Static("", id="message", classes="error")

    def on_mount(self) -> None:
        self._load()
        self._preview()

    def commands(self) -> list[tuple[str, str]]:
        return [
            ("Show the plan for the file as it is", command_line("plan", self.workspace)),
            ("Edit the file of this screen (with any editor)", f"nano {shlex.quote(str(self.config_path))}"),
            ("Ingest the table, and measure what is open", command_line("ingest", self.workspace)),
        ]

    def action_leave_field(self) -> None:
        """From a field back to the table of columns, where the arrow keys choose the next one."""
        if self.query_one(TabbedContent).active == "columns":
            self.query_one("#table").focus()
        else:
            super().action_leave_field()

    def action_tab(self, tab: str) -> None:
        """Open one of the tabs, with the focus on its main widget."""
        pane, focus = {"columns": ("columns", "#table"), "unit": ("unit-tab", "#unit"), "rows": ("rows", "#preview")}[tab]
        self.query_one(TabbedContent).active = pane
        self.query_one(focus).focus()

    # --- reading -----------------------------------------------------------------------------------------------------

    @work(thread=True, exclusive=True, group="load")
    def _load(self) -> None:
        try:
            text, config = read(self.config_path)
            schema_path = self.config_path.with_name("schema.json")
            effective = read_json(schema_path) if schema_path.exists() else {}
        except LocalsynthError as error:
            self.call_ui(self._show_message, f"{error.message} {error.hint}")
            return
        self._text, self._config, self._effective = text, config, effective
        self.call_ui(self._fill)

    def _fill(self) -> None:
        assert self._config is not None
        self._fill_table()
        with self.prevent(Checkbox.Changed):
            self.query_one("#confirmed", Checkbox).value = self._config.schema_.confirmed
        self.query_one(PrivacyUnitForm).show(self._config)
        self._show_column()
        if self._effective:
            self._show_message("The table is ingested: changes need a new workspace, or ingest with --again (charged again).")
        if self.focused is None:
            self.query_one("#table").focus()

    def _cells(self, column: Column, measured: Column | None, confirmed: bool) -> list[Text]:
        assert self._config is not None
        flagged = flag(column, self._hints.get(column.name), self._config.privacy.unit)
        if column.kind in _NOT_LEARNED or column.kind in ("boolean", "text"):
            source = "checked" if confirmed else "inferred"
        elif not column.unmeasured():
            source = "declared"
        elif measured is not None and not measured.unmeasured():
            source, column = "measured", measured
        else:
            needed = self._warnings.get(column.name, "to be measured").partition(":")[0]
            source = f"! {needed}" if self._config.privacy.public_size and column.name in self._warnings else needed
        return [
            cell(column.name, 20),
            cell(column.kind, 11),
            cell(range_text(column), 30),
            cell("yes" if column.nullable else "no"),
            cell(flagged or source, 34),
            cell(self._examples_of(column.name), 30),
        ]

    def _examples_of(self, name: str) -> str:
        return " · ".join(self._examples.get(name, []))

    @work(exclusive=True, group="preview")
    async def _preview(self) -> None:
        try:
            found = await ask(Request("preview", self.workspace), module="localsynth_tui.jobs.preview_server")
        except WorkerError as error:
            text = Content(f"{error.message} {error.hint}")
            self._call_if_mounted(lambda: self.query_one("#about-rows", Static).update(text))
            return
        self._call_if_mounted(self._show_preview, found)

    def _show_preview(self, found: dict[str, Any]) -> None:
        about = self.query_one("#about-rows", Static)
        rows = [[cell(value, 40) for value in row] for row in found["rows"]]
        fill(self.query_one("#preview", DataTable), [cell(name, 24) for name in found["columns"]], rows)
        about.update(
            Content(f"The first {len(found['rows'])} rows of the original table. PRIVATE: shown here only, stored nowhere.")
        )
        self._hints = {name: PiiHint(*hint) for name, hint in found["hints"].items()}
        self._source, self._notes = {column["name"]: column for column in found["schema"]}, found["notes"]
        self._examples, self._warnings = found["examples"], found["warnings"]
        if self._config is not None:
            # Not the form: the user may have typed there meanwhile.
            self._fill_table()
            self._show_treatment()

    # --- the column under the cursor ---------------------------------------------------------------------------------

    def _used(self) -> list[Column]:
        return [] if self._config is None else self._config.schema_.columns

    def _excluded(self) -> list[str]:
        """The columns of the source that are not used; none where the source cannot be read."""
        used = {column.name for column in self._used()}
        return [name for name in self._source if name not in used]

    def _under_cursor(self) -> str | None:
        """The column under the cursor, used or excluded."""
        table = self.query_one("#table", DataTable)
        if self._config is None or not table.row_count:
            return None
        names = [*(column.name for column in self._used()), *self._excluded()]
        return names[table.cursor_row] if table.cursor_row < len(names) else None

    def _column(self) -> Column | None:
        """The column under the cursor, where it is used."""
        name = self._under_cursor()
        return next((column for column in self._used() if column.name == name), None)

    @on(DataTable.RowHighlighted, "#table")
    def _show_column(self) -> None:
        column = self._column()
        self._show_treatment()
        self.query_one("#form").disabled = column is None
        if column is None:
            return
        with self.prevent(Select.Changed, Input.Changed, Checkbox.Changed):
            self.query_one("#column-name", Label).update(cell(column.name, 16))
            self.query_one("#kind", Select).value = column.kind
            self.query_one("#nullable", Checkbox).value = column.nullable
            self.query_one("#of", Select).value = getattr(column, "of", "name")
            for name, value in values_of(column).items():
                self.query_one(f"#{name}", Input).value = value
            self._arrange(column.kind, getattr(column, "outside", None))

    def _show_treatment(self) -> None:
        """How the column under the cursor is treated."""
        name, column = self._under_cursor(), self._column()
        text = ""
        if column is not None and self._config is not None:
            inferred = self._source.get(column.name, {}).get("kind")
            note = self._notes.get(column.name) or (_REASONS.get(column.kind, "") if inferred == column.kind else "")
            hint, measured = self._hints.get(column.name), self._warnings.get(column.name, "")
            text = treatment(column, hint, self._config.privacy.unit, _synthesizer(self._config), note, measured)
        elif name is not None:
            text = "Excluded: not ingested, and not in the synthetic table. L includes it again, as inferred."
        if name is not None and (examples := self._examples_of(name)):
            text = f"Private examples: {plain(examples)[:200]}\n{text}"
        self.query_one("#treatment", Static).update(Content(text))

    def action_exclude(self) -> None:
        """Exclude the column under the cursor from the table, or include it again."""
        name, column = self._under_cursor(), self._column()
        if name is None:
            return
        self.save_pending()
        before = self._text
        try:
            if column is not None:
                if not self._source:
                    raise ConfigError("The first rows are not read yet.", "Wait a moment, then try again.")
                text, config = without_column(before, name, self.config_path.name)
            else:
                text, config = with_column_back(before, self._source[name], list(self._source), self.config_path.name)
        except LocalsynthError as error:
            self.ui.show_error(error)
            return
        self._save(text, config, before)
        self._fill()

    def _arrange(self, kind: str, outside: str | None = None) -> None:
        choices = outside_choices(kind)
        self.query_one("#outside-line").display = bool(choices)
        self.query_one("#label-outside", Label).update(f"Out-of-{'list' if kind == 'category' else 'range'} values")
        if choices:
            select = self.query_one("#outside", Select)
            select.set_options(choices)
            select.value = outside or choices[0][1]
        shown = fields_shown(kind)
        for name in FORM_FIELDS:
            self.query_one(f"#{name}").display = self.query_one(f"#label-{name}").display = name in shown
        self.query_one("#measured-line").display = "common" in shown
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
            self._pending.cancel()
            self._show_message(error.message)
            return
        changes |= {"kind": kind, "nullable": self.query_one("#nullable", Checkbox).value}
        if choices := outside_choices(kind):
            outside = self.query_one("#outside", Select).value
            # The default is not written to the file.
            changes["outside"] = None if outside == choices[0][1] or not isinstance(outside, str) else outside
        if kind == "surrogate":
            changes["of"] = str(self.query_one("#of", Select).value)
        usual = KINDS[kind].model_fields["nullable"].default
        if kind != column.kind and kind in _NOT_LEARNED:
            changes["nullable"] = usual
        # What is the default of the kind is not written.
        if changes["nullable"] == usual:
            changes["nullable"] = None
        self._save_later(lambda text: with_column(text, column.name, changes, self.config_path.name))

    # --- the privacy unit --------------------------------------------------------------------------------------------

    @on(PrivacyUnitForm.Changed)
    def _unit_changed(self, event: PrivacyUnitForm.Changed) -> None:
        if event.changes is None:
            self._pending.cancel()
            self._show_message(event.error)
            return
        self._save_later(lambda text: self._with_unit(text, event), event.identifier)

    def _with_unit(self, text: str, event: PrivacyUnitForm.Changed) -> tuple[str, Config]:
        if event.identifier is not None:
            text, _ = with_column(text, event.identifier, {"kind": "identifier", "nullable": None}, self.config_path.name)
        return with_keys(text, event.changes or {}, self.config_path.name)

    def action_confirm(self) -> None:
        """Check or uncheck the box that the schema was checked."""
        self.query_one(TabbedContent).active = "columns"
        self.query_one("#confirmed", Checkbox).toggle()

    @on(Checkbox.Changed, "#confirmed")
    def _confirmed(self, event: Checkbox.Changed) -> None:
        self._save_later(lambda text: with_keys(text, {"schema.confirmed": event.value}, self.config_path.name))
        if event.value:
            self.notify("Next: the privacy unit (W), then the plan (3).")

    # --- saving ------------------------------------------------------------------------------------------------------

    def save_pending(self) -> None:
        self._pending.flush()

    def _save_later(self, edit: Callable[[str], tuple[str, Config]], new_unit: str | None = None) -> None:
        """Check a change at once, and save it when typing pauses."""
        self._pending.cancel()
        before = self._text
        try:
            text, config = edit(before)
        except LocalsynthError as error:
            self._show_message(error.message)
            return
        self._show_message("")
        self._pending.schedule(lambda: self._save(text, config, before, new_unit))

    def _save(self, text: str, config: Config, before: str, new_unit: str | None = None) -> None:
        try:
            save(self.config_path, text, before)
        except LocalsynthError as error:
            self._show_message(f"{error.message} {error.hint}")
            return
        self._text, self._config = text, config
        self._show_message("")
        self.ui.plan = None
        self._fill_table()
        self._show_treatment()
        if new_unit is not None:
            self.query_one(PrivacyUnitForm).show(config)
            text = "This column is now the privacy unit: no longer learned, and replaced by new numbers (kind identifier)."
            self.notify(text, title=new_unit, markup=False)
        try:
            _ = config.synthesizer
        except LocalsynthError as error:
            # Saved all the same: a valid configuration may need several edits.
            self._show_message(f"! A run would refuse this. {error.message} {error.hint}")

    def _fill_table(self) -> None:
        """Update the table of columns, and not the form: the user may be typing there."""
        measured = {c.name: c for c in Schema.model_validate(self._effective["schema"]).columns} if self._effective else {}
        confirmed = self._config is not None and self._config.schema_.confirmed
        names = [cell(name) for name in ("Column", "Kind", "Values", "Empty", "Source", "Private examples")]
        columns, excluded = self._used(), self._excluded()
        rows = [self._cells(column, measured.get(column.name), confirmed) for column in columns]
        rows += [
            [*map(cell, (name, "–", "excluded", "", "L includes it again")), cell(self._examples_of(name), 30)]
            for name in excluded
        ]
        with self.prevent(DataTable.RowHighlighted):
            fill(self.query_one("#table", DataTable), names, rows, [*(column.name for column in columns), *excluded])

    def _show_message(self, text: str) -> None:
        message = self.query_one("#message", Static)
        message.update(Content(text))
        message.display = bool(text)


def _synthesizer(config: Config) -> str:
    try:
        return config.synthesizer
    except LocalsynthError:
        return str(config.train.synthesizer)


def _field(name: str) -> ComposeResult:
    label, hint = FORM_FIELDS[name]
    yield Label(label, id=f"label-{name}")
    yield Input(placeholder=hint, id=name, select_on_focus=False)
