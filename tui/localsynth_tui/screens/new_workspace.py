"""A window to choose a table and make a workspace for it: `localsynth init`."""

import csv
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, DirectoryTree, Input, Select, Static

from localsynth.errors import LocalsynthError
from localsynth_tui.jobs.client import Request, ask
from localsynth_tui.screens.passphrase import agreed
from localsynth_tui.text.formatting import plain

__all__ = ["NewWorkspace"]

_TABLES = {".csv", ".txt", ".tsv", ".tab", ".jsonl", ".ndjson", ".parquet", ".duckdb", ".db", ".gz"}


_HEADERS = (("find out", "look"), ("names the columns", "names"), ("is a row", "rows"))


class _Tables(DirectoryTree):
    """Directories, and files that can hold a table."""

    def filter_paths(self, paths: Iterable[Path]) -> Iterable[Path]:
        return [path for path in paths if not path.name.startswith(".") and (path.is_dir() or path.suffix.lower() in _TABLES)]


class NewWorkspace(ModalScreen[Path | None]):
    """The answer is the workspace that was made, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Close", id="new.close")]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide tall") as window:
            window.border_title = "A workspace for your table"
            yield Static("The table: type its path, or choose it below", classes="label")
            yield Input(placeholder="visits.csv", id="source")
            yield _Tables(Path.cwd(), id="files")
            yield Static('How it is read: first line, signs for "no value", table (DuckDB)', classes="label")
            with Horizontal(id="read-as"):
                yield Select(_HEADERS, value="look", allow_blank=False, id="header")
                yield Input(placeholder="none; or: ?, NA", id="missing", select_on_focus=False)
                yield Input(placeholder="its only one", id="table", select_on_focus=False)
            yield Static("The workspace: a new directory", classes="label")
            yield Input(placeholder="visits", id="workspace")
            yield Static("A passphrase for the original rows' key, if you want one: twice", classes="label")
            with Horizontal(id="secret"):
                yield Input(password=True, placeholder="none", id="passphrase", select_on_focus=False)
                yield Input(password=True, placeholder="the same again", id="second", select_on_focus=False)
            yield Static("", id="twin")
            yield Static("", id="answer")
            with Horizontal(classes="buttons"):
                yield Button("Make it", variant="primary", id="make")
                yield Button("Cancel", id="cancel")

    @on(DirectoryTree.FileSelected)
    def _chosen(self, event: DirectoryTree.FileSelected) -> None:
        path = event.path.relative_to(Path.cwd()) if event.path.is_relative_to(Path.cwd()) else event.path
        self.query_one("#source", Input).value = str(path)
        self.query_one("#workspace", Input).focus()

    @on(Input.Changed, "#source")
    def _name_it(self, event: Input.Changed) -> None:
        """The workspace is called as the table, beside where one stands, until the user says otherwise."""
        workspace = self.query_one("#workspace", Input)
        stem = Path(event.value).name.split(".")[0]
        workspace.placeholder = stem or "visits"

    def on_mount(self) -> None:
        self._show_twin()

    @on(Input.Changed)
    @on(Select.Changed)
    def _show_twin(self) -> None:
        self.query_one("#twin", Static).update(Content(plain(self._command())))

    def _command(self) -> str:
        """`localsynth init` with what stands in the window; the passphrase is asked for there, and never in it."""
        words = [
            "localsynth",
            "init",
            str(self._root()),
            "--data",
            self.query_one("#source", Input).value.strip() or "visits.csv",
        ]
        data = self._read_as()
        if "table" in data:
            words += ["--table", data["table"]]
        for sign in data.get("missing", [""])[1:]:
            words += ["--missing", sign]
        if "header" in data:
            words.append("--header" if data["header"] else "--no-header")
        if self.query_one("#passphrase", Input).value:
            words.append("--passphrase")
        return shlex.join(words)

    def _root(self) -> Path:
        field = self.query_one("#workspace", Input)
        return Path(field.value.strip() or field.placeholder).expanduser()

    def _read_as(self) -> dict[str, Any]:
        """How the file is to be read, as far as that was said."""
        data: dict[str, Any] = {}
        header = self.query_one("#header", Select).value
        if header in ("names", "rows"):
            data["header"] = header == "names"
        if missing := self.query_one("#missing", Input).value.strip():
            data["missing"] = ["", *(sign.strip() for sign in next(csv.reader([missing])))]
        if table := self.query_one("#table", Input).value.strip():
            data["table"] = table
        return data

    @on(Input.Submitted, "#source")
    def _next(self) -> None:
        self.query_one("#workspace", Input).focus()

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, "#make")
    @on(Input.Submitted, "#workspace")
    @on(Input.Submitted, "#second")
    def _make(self) -> None:
        source = self.query_one("#source", Input).value.strip()
        if not source:
            self._say("Give the path of your table first.")
            return
        first, second = (self.query_one(f"#{name}", Input).value for name in ("passphrase", "second"))
        try:
            passphrase = agreed(first, second) if first or second else None
        except LocalsynthError as error:
            self._say(f"{error.message} {error.hint}")
            return
        self._say("Reading the first rows, to guess what the columns are …")
        self._init({"source": str(Path(source).expanduser()), **self._read_as()}, self._root(), passphrase)

    @on(Input.Submitted, "#passphrase")
    def _again(self) -> None:
        self.query_one("#second", Input).focus()

    @work(exclusive=True)
    async def _init(self, data: dict[str, Any], root: Path, passphrase: str | None) -> None:
        try:
            await ask(Request("init", root, data=data), passphrase=passphrase)
        except LocalsynthError as error:
            self._say(f"{error.message} {error.hint}")
            return
        self.dismiss(root)

    def _say(self, text: str) -> None:
        self.query_one("#answer", Static).update(Content(text))
