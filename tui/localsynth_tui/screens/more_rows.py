"""The form for more rows: how many, under which condition, in which proportions, or for which file. Checked as it is typed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import on, work
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.events import Mount
from textual.widgets import Button, Input, Static
from textual.worker import get_current_worker

from localsynth.errors import ConfigError, LocalsynthError
from localsynth_tui.jobs.client import Request
from localsynth_tui.screens.dialogs import InputWindow
from localsynth_tui.text.formatting import plain
from localsynth_tui.workspace.column_form import range_text
from localsynth_tui.workspace.status import schema_of_rows

if TYPE_CHECKING:
    from localsynth.schema.columns import Schema
    from localsynth.schema.conditions import Allowed

_ABOUT = "The finished model generates them at no privacy cost: the guarantee covers the model and all its output."
_DEFAULT = "500"
_FIELDS = {
    "more": ("Number of rows", _DEFAULT),
    "where": ("Condition (SQL; empty: none)", "age >= 65 AND sex = 'F'"),
    "balance": ("Balance over the values of a column (empty: no balance)", "triage    or: sex=F:0.7,M:0.3"),
    "seeds": ("Or: a CSV file with values for some columns; one row per line", "seeds.csv"),
}
"""Of each input: its label and its placeholder."""
_MAX_NAMES = 8


class MoreRows(InputWindow[dict[str, Any]]):
    """The answer is the options of `sample`, or None. Only the public schema is read."""

    TITLE = "More rows"

    def __init__(self, workspace: Path) -> None:
        super().__init__()
        self._workspace = workspace
        self._schema: Schema | None = None
        self._missing: list[str] = []
        """The strings that mean "no value" in the table and in a file of rows."""
        self._options: dict[str, Any] | None = None
        """The present input, or None while it is invalid."""

    def content(self) -> ComposeResult:
        with VerticalScroll(can_focus=False):
            yield Static(Content(_ABOUT))
            for name, (label, placeholder) in _FIELDS.items():
                yield Static(label, classes="label")
                yield Input(placeholder=placeholder, id=name, select_on_focus=False)
            yield Static("Reading the schema …", id="answer")
            yield Static("", id="command")
        yield from self.buttons("Generate", disabled=True)

    @on(Mount)
    @work(thread=True)
    def _load(self) -> None:
        # In a thread: sqlglot, which `_check` needs, takes a while to load.
        import sqlglot  # noqa: F401

        from localsynth.config import load_config

        error, schema = None, None
        try:
            schema = schema_of_rows(self._workspace)
            self._missing = load_config(self._workspace / "localsynth.toml").data.missing
        except LocalsynthError as found:
            error = found
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._loaded, schema, error)

    def _loaded(self, schema: "Schema | None", error: LocalsynthError | None) -> None:
        self._schema = schema
        if error is not None:
            self._show_message(f"{error.message} {error.hint}", wrong=True)
            return
        self._check()

    @on(Input.Changed)
    def _check(self) -> None:
        """Show what is wrong with the input, or its effect."""
        if self._schema is None:
            return
        from localsynth.sample.row_requests import read_row_requests
        from localsynth.schema.where import parse_where

        number, where, balance, seeds = (self.query_one(f"#{name}", Input).value.strip() for name in _FIELDS)
        self._options = None
        try:
            options = _options(number, where, balance, seeds)
            conditions = parse_where(where, self._schema) if where else {}
            requests = read_row_requests(
                self._schema, options.get("where"), options.get("balance"), options.get("seeds"), self._missing
            )
        except LocalsynthError as error:
            self._show_message(f"{error.message} {error.hint}".strip(), wrong=True)
            return
        self._options = options
        texts = [_describe(name, allowed) for name, allowed in conditions.items()]
        text = f"Every new row has {', '.join(texts)}." if texts else _columns_text(self._schema)
        self._show_message(text if requests.rows is None else f"{requests.rows:,} rows to complete. {text}", wrong=False)

    def _show_message(self, text: str, wrong: bool) -> None:
        answer = self.query_one("#answer", Static)
        answer.update(Content(plain(text)))
        answer.set_class(wrong, "error")
        self.query_one("#accept", Button).disabled = self._options is None
        command = "" if self._options is None else Request("sample", self._workspace, self._options).command()
        self.query_one("#command", Static).update(Content(command))

    def action_accept(self) -> None:
        self._check()
        if self._options is not None:
            self.dismiss(self._options)


def _options(number: str, where: str, balance: str, seeds: str) -> dict[str, Any]:
    """The options of `sample`. Raises ConfigError."""
    texts = {"where": where, "balance": balance, "seeds": str(Path(seeds).expanduser()) if seeds else ""}
    conditions = {name: text for name, text in texts.items() if text}
    if seeds:
        if number:
            raise ConfigError("The file sets the number of rows.", "Leave Number of rows empty.")
        return conditions
    text = number.replace(",", "") or _DEFAULT
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError("Number of rows: enter a whole number, such as 500.")
    return {"more": int(text), **conditions}


def _columns_text(schema: "Schema") -> str:
    names = [plain(column.name) for column in schema.learned()]
    return "Columns: " + ", ".join(names[:_MAX_NAMES]) + (", …" if names[_MAX_NAMES:] else "")


def _describe(name: str, allowed: "Allowed") -> str:
    parts = [range_text(piece) for piece in allowed.pieces()] + (["nothing"] if allowed.null else [])
    return f"{plain(name)} {' or '.join(parts)}"
