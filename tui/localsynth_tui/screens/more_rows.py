"""The window that asks for more rows: how many, under which condition, in which shares or to complete which file's. Checked as it
is typed."""

from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static
from textual.worker import get_current_worker

from localsynth.errors import ConfigError, LocalsynthError
from localsynth_tui.jobs.client import Request
from localsynth_tui.text.formatting import plain
from localsynth_tui.workspace.column_form import range_text

__all__ = ["MoreRows"]

_ABOUT = "The finished model writes them. That costs no privacy: the guarantee covers the model and all that comes of it."
_DEFAULT = "500"
_MOST_NAMES = 8


class MoreRows(ModalScreen[dict[str, Any] | None]):
    """The answer is the options of `sample`, or None. Nothing but the public schema is read."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Close", id="more.close")]

    def __init__(self, workspace: Path) -> None:
        super().__init__()
        self._workspace = workspace
        self._schema: Any = None
        self._missing: list[str] = []
        """The strings that mean "no value" in the table, and in a file of rows."""
        self._parse_where: Any = None
        self._read_requests: Any = None
        self._options: dict[str, Any] | None = None
        """What was typed, as far as it holds; None while it does not."""

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as window:
            window.border_title = "More rows"
            with VerticalScroll(can_focus=False):
                yield Static(Content(_ABOUT))
                yield Static("How many more", classes="label")
                yield Input(placeholder=_DEFAULT, id="more", select_on_focus=False)
                yield Static("Only rows where (an SQL condition; empty: any)", classes="label")
                yield Input(placeholder="age >= 65 AND sex = 'F'", id="where", select_on_focus=False)
                yield Static("Shared out over the values of a column (empty: as the model does)", classes="label")
                yield Input(placeholder="triage    or: sex=F:0.7,M:0.3", id="balance", select_on_focus=False)
                yield Static("Or: complete the rows of a CSV file that has some of the columns", classes="label")
                yield Input(placeholder="seeds.csv", id="seeds", select_on_focus=False)
                yield Static("Reading the schema …", id="answer")
                yield Static("", id="twin")
            with Horizontal(classes="buttons"):
                yield Button("Draw them", variant="primary", id="accept", disabled=True)
                yield Button("Cancel", id="cancel")

    def on_mount(self) -> None:
        self._load()

    @work(thread=True)
    def _load(self) -> None:
        # In a thread: sqlglot, which parse_where uses, takes a while to load.
        import sqlglot  # noqa: F401

        from localsynth.config import load_config
        from localsynth.sample.row_requests import read_row_requests
        from localsynth.schema.where import parse_where
        from localsynth_tui.workspace.run_schema import schema_of_rows

        self._parse_where, self._read_requests = parse_where, read_row_requests
        error, schema = None, None
        try:
            schema = schema_of_rows(self._workspace)
            self._missing = load_config(self._workspace / "localsynth.toml").data.missing
        except LocalsynthError as found:
            error = found
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._loaded, schema, error)

    def _loaded(self, schema: Any, error: LocalsynthError | None) -> None:
        self._schema = schema
        if error is not None:
            self._say(f"{error.message} {error.hint}", wrong=True)
            return
        self._check()

    @on(Input.Changed)
    def _check(self) -> None:
        """Say what is wrong with what stands there, or what it comes to."""
        if self._schema is None:
            return
        names = ("more", "where", "balance", "seeds")
        number, where, balance, seeds = (self.query_one(f"#{name}", Input).value.strip() for name in names)
        self._options = None
        try:
            options = _options(number, where, balance, seeds)
            conditions = self._parse_where(where, self._schema) if where else {}
            given = (options.get(name) for name in ("where", "balance", "seeds"))
            requests = self._read_requests(self._schema, *given, self._missing)
        except LocalsynthError as error:
            self._say(f"{error.message} {error.hint}".strip(), wrong=True)
            return
        self._options = options
        met = [_in_words(name, allowed) for name, allowed in conditions.items()]
        said = "Every new row has " + ", ".join(met) + "." if met else self._columns()
        self._say(said if requests.rows is None else f"{requests.rows:,} rows are completed. {said}", wrong=False)

    def _columns(self) -> str:
        names = [plain(column.name) for column in self._schema.learned()]
        return "Columns: " + ", ".join(names[:_MOST_NAMES]) + (", …" if names[_MOST_NAMES:] else "")

    def _say(self, text: str, wrong: bool) -> None:
        answer = self.query_one("#answer", Static)
        answer.update(Content(plain(text)))
        answer.set_class(wrong, "error")
        self.query_one("#accept", Button).disabled = self._options is None
        command = "" if self._options is None else Request("sample", self._workspace, self._options).command()
        self.query_one("#twin", Static).update(Content(command))

    @on(Input.Submitted)
    def _next(self, event: Input.Submitted) -> None:
        if event.input is self.query(Input).last():
            self._accepted()
        else:
            self.focus_next()

    @on(Button.Pressed, "#accept")
    def _accepted(self) -> None:
        self._check()
        if self._options is not None:
            self.dismiss(self._options)

    @on(Button.Pressed, "#cancel")
    def _cancelled(self) -> None:
        self.dismiss(None)


def _options(number: str, where: str, balance: str, seeds: str) -> dict[str, Any]:
    """The options of `sample`. Raises ConfigError."""
    asked = {"where": where, "balance": balance, "seeds": str(Path(seeds).expanduser()) if seeds else ""}
    conditions = {name: text for name, text in asked.items() if text}
    if seeds:
        if number:
            raise ConfigError("The file says itself how many rows there are.", "Leave how many more empty.")
        return conditions
    text = number.replace(",", "") or _DEFAULT
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError("How many more: give a whole number, as 500.")
    return {"more": int(text), **conditions}


def _in_words(name: str, allowed: Any) -> str:
    parts = [range_text(piece) for piece in allowed.pieces()] + (["nothing"] if allowed.null else [])
    return f"{plain(name)} {' or '.join(parts)}"
