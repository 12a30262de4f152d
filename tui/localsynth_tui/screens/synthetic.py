"""Screen 5: the synthetic rows: page by page, by SQL, as histograms, into a file; and more of them, which costs no privacy."""

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

__all__ = ["PAGE", "SyntheticScreen", "page_of"]

PAGE = 200
"""Rows on a page; no more than these are in memory, however long the table."""
_ALL = "select * from synthetic"
_FORMATS = (("CSV", "csv"), ("CSV for a spreadsheet", "spreadsheet"), ("Parquet", "parquet"), ("JSON lines", "jsonl"))


def page_of(sql: str, page: int) -> str:
    """The SELECT of one page of `sql`'s rows, and one row more, which tells whether there is another page."""
    # On lines of its own, so that a comment at the end of `sql` ends with it.
    return f"SELECT * FROM (\n{sql.strip().rstrip(';')}\n) LIMIT {PAGE + 1} OFFSET {page * PAGE}"


class SyntheticScreen(StepScreen):
    """Everything is read from synthetic.duckdb in threads; nothing private is here."""

    STEP = "synthetic"
    HELP = f"""\
The synthetic rows. They may be shared under the guarantee that the certificate states (Report, 6); no row is a copy of a \
person's by design, yet what many people share can be read off them.

N and P turn pages of {PAGE} rows. The line at the top takes SQL: one SELECT from the table "synthetic", as

  select kind, count(*) from synthetic group by kind

Up and Down in it bring back earlier questions; an empty line shows all rows again. It cannot change anything.

H shows each column as a histogram: beside the original's where a report was made (Report, 6), else alone. What comes of the \
report is private.

X writes the rows to a file: CSV, Parquet or JSON lines. M draws more rows from the finished model, also such as meet a \
condition, which costs no privacy."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n,pagedown", "page(1)", "Next page", id="rows.next", key_display="n"),
        Binding("p,pageup", "page(-1)", "Previous", id="rows.previous", key_display="p"),
        Binding("slash", "ask", "SQL", id="rows.sql", key_display="/"),
        Binding("h", "histograms", "Columns", id="rows.histograms"),
        Binding("x", "export", "To a file", id="rows.export"),
        Binding("m", "more", "More rows", id="rows.more"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._sql = _ALL
        self._page = 0
        self._more = False
        self._recalled = 0

    @property
    def _root(self) -> Path:
        assert self.ui.workspace is not None
        return self.ui.workspace

    def content(self) -> ComposeResult:
        with Horizontal(id="ask"):
            yield Static("SQL")
            yield Input(placeholder=_ALL, id="sql", select_on_focus=False)
        yield Static("", id="about")
        yield DataTable(zebra_stripes=True, id="grid")
        with VerticalScroll(id="shapes"):
            yield Static("", id="drawn")
        with Horizontal(classes="buttons"):
            yield Button("Previous", id="previous")
            yield Button("Next page", id="next")
            yield Button("Columns", id="histograms")
            yield Button("To a file …", variant="primary", id="export")
            yield Button("More rows …", id="more")

    def on_mount(self) -> None:
        self._turn_to(histograms=False)
        self.query_one(DataTable).focus()
        self._read()

    def command(self) -> str:
        """The question that is shown."""
        return command_line("query", self._root) + " " + _quoted(self._sql)

    def twins(self) -> list[tuple[str, str]]:
        return [
            ("The rows that are shown", self.command()),
            ("To a file", command_line("export-data", self._root, {"format": "csv", "out": "synthetic.csv"})),
            ("More rows", Request("sample", self._root, {"more": 500}).command()),
        ]

    @on(JobChanged)
    def _job_changed(self, event: JobChanged) -> None:
        if event.ended:
            self._count() if self._histograms else self._read()

    # --- pages -------------------------------------------------------------------------------------------------------

    @work(thread=True, exclusive=True)
    def _read(self) -> None:
        from localsynth.store.synthetic import SyntheticStore

        page, sql = self._page, self._sql
        try:
            store = SyntheticStore(self._root / "synthetic.duckdb")
            total = store.row_count()
            columns, rows = store.query(page_of(sql, page))
        except LocalsynthError as error:
            self.back(self._nothing, error)
            return
        self.back(self._show, columns, rows, total)

    def _nothing(self, error: LocalsynthError) -> None:
        text = error.message
        if not (self._root / "synthetic.duckdb").exists():
            text = "There are no synthetic rows yet. Plan (3) starts a run; they are here when it is finished."
        self.query_one("#about", Static).update(Content(text))

    def _show(self, columns: list[str], rows: list[tuple[Any, ...]], total: int) -> None:
        self._more = len(rows) > PAGE
        first = self._page * PAGE
        cells = [[cell(value) for value in row] for row in rows[:PAGE]]
        fill(self.query_one(DataTable), [cell(name, 30) for name in columns], cells, first_number=first + 1)
        last = first + min(len(rows), PAGE)
        of = f" of {total:,}" if self._sql == _ALL else (", and more" if self._more else "")
        shown = f"Rows {first + 1:,} to {last:,}{of}" if rows else "No rows"
        self.query_one("#about", Static).update(Content(f"{shown}. All of them are invented."))
        self.query_one("#next").disabled = not self._more
        self.query_one("#previous").disabled = self._page == 0

    def action_page(self, by: int) -> None:
        """The next page, or the one before."""
        if (by > 0 and self._more) or (by < 0 and self._page > 0):
            self._page += by
            self._turn_to(histograms=False)
            self._read()

    @on(Button.Pressed, "#next")
    def _next(self) -> None:
        self.action_page(1)

    @on(Button.Pressed, "#previous")
    def _previous(self) -> None:
        self.action_page(-1)

    # --- SQL ---------------------------------------------------------------------------------------------------------

    def action_ask(self) -> None:
        """Go to the line for SQL."""
        self.query_one("#sql").focus()

    @on(Input.Submitted, "#sql")
    def _asked(self, event: Input.Submitted) -> None:
        self._sql = event.value.strip() or _ALL
        self._page = 0
        asked = self.ui.queries
        if event.value.strip() and (not asked or asked[-1] != self._sql):
            asked.append(self._sql)
        self._recalled = 0
        self._turn_to(histograms=False)
        self._read()

    def on_key(self, event: Key) -> None:
        """Up and Down in the SQL line go through what was asked before."""
        field, asked = self.query_one("#sql", Input), self.ui.queries
        if self.focused is not field or event.key not in ("up", "down"):
            return
        event.stop()
        self._recalled = max(0, min(len(asked), self._recalled + (1 if event.key == "up" else -1)))
        field.value = asked[-self._recalled] if self._recalled else ""
        field.cursor_position = len(field.value)

    # --- to a file, and more -----------------------------------------------------------------------------------------

    @on(Button.Pressed, "#export")
    def action_export(self) -> None:
        """Write all rows to a file."""
        fields = [
            Field("format", "Format", "csv", options=_FORMATS),
            Field("out", "File", "", "synthetic.csv"),
            Field("replace", "Where the file exists", "no", options=(("leave it alone", "no"), ("replace it", "yes"))),
        ]
        text = "All synthetic rows, in one file. For a spreadsheet: no text is taken for a formula."
        self.app.push_screen(Form("Write the rows to a file", text, fields, "Write", self._export_command), self._export)

    def _export_command(self, answer: dict[str, str]) -> str:
        options = _export_options(answer)
        return command_line("export-data", self._root, {**options, "out": str(options["out"])})

    def _export(self, answer: dict[str, str] | None) -> None:
        if answer is not None:
            self._write(_export_options(answer), self._export_command(answer))

    @work(thread=True)
    def _write(self, options: dict[str, Any], command: str) -> None:
        from localsynth.store.synthetic import SyntheticStore

        flags = (options.get("overwrite", False), options.get("for_spreadsheets", False))
        try:
            rows = SyntheticStore(self._root / "synthetic.duckdb").export(options["format"], options["out"], *flags)
        except LocalsynthError as error:
            self.back(self.tell, error)
            return
        title = f"Wrote {rows:,} rows to {options['out']}"
        self.back(lambda: self.notify(command, title=title, markup=False, timeout=10))

    @on(Button.Pressed, "#more")
    def action_more(self) -> None:
        """Draw more rows from the finished model, such as are asked for."""
        from localsynth_tui.screens.more_rows import MoreRows

        self.app.push_screen(MoreRows(self._root), self._draw)

    def _draw(self, options: dict[str, Any] | None) -> None:
        if options is not None:
            self.hand_over(self.ui.start(Request("sample", self._root, options)))

    # --- histograms --------------------------------------------------------------------------------------------------

    @on(Button.Pressed, "#histograms")
    def action_histograms(self) -> None:
        """Show each column's histogram in the place of the rows, or the rows again."""
        self._turn_to(histograms=not self._histograms)
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

    def _turn_to(self, histograms: bool) -> None:
        self.query_one("#shapes").display, self.query_one("#grid").display = histograms, not histograms
        self.query_one("#histograms", Button).label = "Rows" if histograms else "Columns"

    @work(thread=True, exclusive=True)
    def _count(self) -> None:
        from localsynth.store.synthetic import SyntheticStore
        from localsynth.workspace.paths import Workspace
        from localsynth.workspace.runs import latest_run
        from localsynth_tui.text.histograms import shapes_of_report, shapes_of_rows
        from localsynth_tui.workspace.run_schema import schema_of_rows

        try:
            run = latest_run(Workspace(self._root))
            report = run.directory / "report.json" if run is not None else None
            if report is not None and report.exists():
                shapes = shapes_of_report(report)
                about = "Original and synthetic, from the report. PRIVATE: not under the guarantee."
            else:
                shapes = shapes_of_rows(SyntheticStore(self._root / "synthetic.duckdb"), schema_of_rows(self._root))
                about = "The synthetic rows alone. With a report (6, E) the original stands beside them."
        except LocalsynthError as error:
            self.back(self._nothing, error)
            return
        self.back(self._show_shapes, shapes, about)

    def _show_shapes(self, shapes: list[Any], about: str) -> None:
        from localsynth_tui.text.histograms import draw

        page = self.query_one("#shapes")
        self.query_one("#about", Static).update(Content(about))
        self.query_one("#drawn", Static).update(draw(shapes, page.size.width - 2))


def _export_options(answer: dict[str, str]) -> dict[str, Any]:
    """The options of `export-data` that a form's answer stands for."""
    chosen = answer["format"]
    kind = "csv" if chosen == "spreadsheet" else chosen
    extra = {"overwrite": answer["replace"] == "yes", "for_spreadsheets": chosen == "spreadsheet"}
    out = Path(answer["out"] or f"synthetic.{kind}").expanduser()
    return {"format": kind, "out": out, **{name: True for name, wanted in extra.items() if wanted}}


def _quoted(sql: str) -> str:
    import shlex

    return shlex.quote(sql)
