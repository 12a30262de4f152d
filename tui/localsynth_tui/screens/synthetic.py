"""Screen 5: the synthetic rows in pages, by SQL, as histograms or in a file; and more rows, at no privacy cost."""

import shlex
from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.events import Key
from textual.widgets import Button, DataTable, Input, Static

from localsynth.errors import LocalsynthError
from localsynth_tui.jobs.client import Request
from localsynth_tui.messages import JobChanged
from localsynth_tui.screens.dialogs import Field, Form
from localsynth_tui.screens.step import StepScreen
from localsynth_tui.text.command_line import command_line
from localsynth_tui.text.formatting import cell
from localsynth_tui.widgets.table import fill
from localsynth_tui.workspace.status import schema_of_rows

PAGE = 200
"""Rows of a page: only these are in memory."""
_ALL = "select * from synthetic"
_FORMATS = (
    ("CSV", "csv"),
    ("CSV for a spreadsheet", "spreadsheet"),
    ("Excel", "excel"),
    ("Parquet", "parquet"),
    ("Arrow", "arrow"),
    ("JSON lines", "jsonl"),
    ("SPSS", "spss"),
    ("Stata", "stata"),
    ("DuckDB", "duckdb"),
)
_SUFFIXES = {"excel": "xlsx", "spss": "sav", "stata": "dta"}


def page_of(sql: str, page: int) -> str:
    """The SELECT of one page of a query, and of one more row, which shows whether there is another page."""
    # On separate lines, so that a comment at the end of `sql` ends there.
    return f"SELECT * FROM (\n{sql.strip().rstrip(';')}\n) LIMIT {PAGE + 1} OFFSET {page * PAGE}"


class SyntheticScreen(StepScreen):
    """Reads synthetic.duckdb in threads. The rows are not private."""

    STEP = "synthetic"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n,pagedown", "page(1)", "Next page", id="rows.next", key_display="n"),
        Binding("p,pageup", "page(-1)", "Previous", id="rows.previous", key_display="p"),
        Binding("slash", "ask", "SQL", id="rows.sql", key_display="/"),
        Binding("h", "histograms", "Histograms", id="rows.histograms"),
        Binding("x", "export", "Export", id="rows.export"),
        Binding("m", "more", "More rows", id="rows.more"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._sql = _ALL
        self._page = 0
        self._more = False
        self._recalled = 0

    def content(self) -> ComposeResult:
        with Horizontal(id="ask"):
            yield Static("SQL")
            yield Input(placeholder=_ALL, id="sql", select_on_focus=False)
        yield Static("", id="about")
        yield DataTable(zebra_stripes=True, id="grid")
        with VerticalScroll(id="shapes"):
            yield Static("", id="drawn")
        with Horizontal(classes="buttons"):
            yield Button("Previous", id="previous", action="screen.page(-1)")
            yield Button("Next page", id="next", action="screen.page(1)")
            yield Button("Histograms", id="histograms", action="screen.histograms")
            yield Button("Export …", variant="primary", action="screen.export")
            yield Button("More rows …", action="screen.more")

    def on_mount(self) -> None:
        self._show_histograms(False)
        self.query_one(DataTable).focus()
        self._read()

    def commands(self) -> list[tuple[str, str]]:
        return [
            ("The rows shown", f"{command_line('query', self.workspace)} {shlex.quote(self._sql)}"),
            ("Export to a file", command_line("export-data", self.workspace, {"format": "csv", "out": "synthetic.csv"})),
            ("More rows", Request("sample", self.workspace, {"more": 500}).command()),
        ]

    @on(JobChanged)
    def _job_changed(self, event: JobChanged) -> None:
        if event.over:
            self._count() if self._histograms else self._read()

    # --- pages -------------------------------------------------------------------------------------------------------

    @work(thread=True, exclusive=True)
    def _read(self) -> None:
        from localsynth.store.synthetic import SyntheticStore

        page, sql = self._page, self._sql
        try:
            store = SyntheticStore(self.workspace / "synthetic.duckdb")
            total = store.row_count()
            columns, rows = store.query(page_of(sql, page))
        except LocalsynthError as error:
            self.call_ui(self._show_problem, error)
            return
        self.call_ui(self._show, columns, rows, total)

    def _show_problem(self, error: LocalsynthError) -> None:
        text = error.message
        if not (self.workspace / "synthetic.duckdb").exists():
            text = "There are no synthetic rows yet. Plan (3) starts a run, which generates them."
        self.query_one("#about", Static).update(Content(text))

    def _show(self, columns: list[str], rows: list[tuple[Any, ...]], total: int) -> None:
        self._more = len(rows) > PAGE
        first = self._page * PAGE
        cells = [[cell(value) for value in row] for row in rows[:PAGE]]
        fill(self.query_one(DataTable), [cell(name, 30) for name in columns], cells, first_number=first + 1)
        last = first + min(len(rows), PAGE)
        total_text = f" of {total:,}" if self._sql == _ALL else (", and more" if self._more else "")
        shown = f"Rows {first + 1:,} to {last:,}{total_text}" if rows else "No rows"
        self.query_one("#about", Static).update(Content(f"{shown}. All rows are synthetic."))
        self.query_one("#next").disabled = not self._more
        self.query_one("#previous").disabled = self._page == 0

    def action_page(self, by: int) -> None:
        """Turn pages forward or back."""
        if (by > 0 and self._more) or (by < 0 and self._page > 0):
            self._page += by
            self._show_histograms(False)
            self._read()

    # --- SQL ---------------------------------------------------------------------------------------------------------

    def action_ask(self) -> None:
        """Go to the line for SQL."""
        self.query_one("#sql").focus()

    @on(Input.Submitted, "#sql")
    def _query(self, event: Input.Submitted) -> None:
        self._sql = event.value.strip() or _ALL
        self._page = 0
        queries = self.ui.queries
        if event.value.strip() and (not queries or queries[-1] != self._sql):
            queries.append(self._sql)
        self._recalled = 0
        self._show_histograms(False)
        self._read()

    def on_key(self, event: Key) -> None:
        """Up and Down in the SQL line recall earlier queries."""
        field, queries = self.query_one("#sql", Input), self.ui.queries
        if self.focused is not field or event.key not in ("up", "down"):
            return
        event.stop()
        self._recalled = max(0, min(len(queries), self._recalled + (1 if event.key == "up" else -1)))
        field.value = queries[-self._recalled] if self._recalled else ""
        field.cursor_position = len(field.value)

    # --- export, and more rows -----------------------------------------------------------------------------------------

    def action_export(self) -> None:
        """Write all rows to a file."""
        fields = [
            Field("format", "Format", "csv", options=_FORMATS),
            Field("out", "File", "", "synthetic.csv"),
            Field("replace", "If the file exists", "no", options=(("keep it", "no"), ("replace it", "yes"))),
        ]
        text = "All synthetic rows in one file. The spreadsheet format keeps texts from being read as formulas."
        self.open_window(Form("Export the rows", text, fields, "Export", _export_options, self._export_command), self._export)

    def _export_command(self, options: dict[str, Any]) -> str:
        return command_line("export-data", self.workspace, options)

    @work(thread=True)
    def _export(self, options: dict[str, Any]) -> None:
        from localsynth.pipeline.export_table import export_table
        from localsynth.workspace.paths import Workspace

        file_format, out, overwrite, for_spreadsheets = options.values()
        try:
            rows = export_table(Workspace.open(self.workspace), file_format, out, overwrite, for_spreadsheets)["rows"]
        except LocalsynthError as error:
            self.call_ui(self.ui.show_error, error)
            return
        title = f"Wrote {rows:,} rows to {out}"
        self.call_ui(lambda: self.notify(self._export_command(options), title=title, markup=False, timeout=10))

    def action_more(self) -> None:
        """Generate more rows from the finished model."""
        from localsynth_tui.screens.more_rows import MoreRows

        self.open_window(MoreRows(self.workspace), lambda options: self.start(Request("sample", self.workspace, options)))

    # --- histograms --------------------------------------------------------------------------------------------------

    def action_histograms(self) -> None:
        """Show histograms of the columns instead of the rows, or the rows again."""
        self._show_histograms(not self._histograms)
        if self._histograms:
            self.query_one("#about", Static).update("Counting …")
            self.query_one("#shapes").focus()
            self._count()
        else:
            self.query_one("#grid").focus()
            self._read()

    @property
    def _histograms(self) -> bool:
        return bool(self.query_one("#shapes").display)

    def _show_histograms(self, shown: bool) -> None:
        self.query_one("#shapes").display, self.query_one("#grid").display = shown, not shown
        self.query_one("#histograms", Button).label = "Rows" if shown else "Histograms"

    @work(thread=True, exclusive=True)
    def _count(self) -> None:
        from localsynth.store.synthetic import SyntheticStore
        from localsynth.workspace.paths import Workspace
        from localsynth.workspace.runs import latest_run
        from localsynth_tui.text.histograms import shapes_of_report, shapes_of_rows

        try:
            run = latest_run(Workspace(self.workspace))
            report = run.directory / "report.json" if run is not None else None
            if report is not None and report.exists():
                shapes = shapes_of_report(report)
                about = "Original and synthetic, from the report. PRIVATE: not under the guarantee."
            else:
                shapes = shapes_of_rows(SyntheticStore(self.workspace / "synthetic.duckdb"), schema_of_rows(self.workspace))
                about = "The synthetic rows only. With a report (6, E) the original is shown beside them."
        except LocalsynthError as error:
            self.call_ui(self._show_problem, error)
            return
        self.call_ui(self._show_shapes, shapes, about)

    def _show_shapes(self, shapes: list[Any], about: str) -> None:
        from localsynth_tui.text.histograms import draw

        page = self.query_one("#shapes")
        self.query_one("#about", Static).update(Content(about))
        self.query_one("#drawn", Static).update(draw(shapes, page.size.width - 2))


def _export_options(answer: dict[str, str]) -> dict[str, Any]:
    """The options of `export-data` for a form's answer."""
    spreadsheet = answer["format"] == "spreadsheet"
    kind = "csv" if spreadsheet else answer["format"]
    out = Path(answer["out"] or f"synthetic.{_SUFFIXES.get(kind, kind)}").expanduser()
    return {"format": kind, "out": out, "overwrite": answer["replace"] == "yes", "for_spreadsheets": spreadsheet}
