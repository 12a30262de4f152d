"""The window that makes a workspace for a table: `localsynth init`."""

import csv
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.events import Mount
from textual.widgets import DirectoryTree, Input, Select, Static

from localsynth.errors import LocalsynthError
from localsynth.ingest.sources.open import SUFFIXES
from localsynth_tui.jobs.client import Request, ask
from localsynth_tui.screens.dialogs import Window
from localsynth_tui.screens.passphrase import agreed_passphrase
from localsynth_tui.text.formatting import plain

_TABLE_SUFFIXES = {*SUFFIXES, ".gz"}
_HEADERS = (("detect", "detect"), ("column names", "names"), ("a row", "row"))
"""Choices of what the first line of the file is: (label, value)."""


class _Tables(DirectoryTree):
    """Directories, and files that can contain a table."""

    def filter_paths(self, paths: Iterable[Path]) -> Iterable[Path]:
        return [
            path for path in paths if not path.name.startswith(".") and (path.is_dir() or path.suffix.lower() in _TABLE_SUFFIXES)
        ]


class NewWorkspace(Window[Path]):
    """The answer is the new workspace."""

    TITLE = "New workspace"
    STYLE = "dialog wide tall"

    def content(self) -> ComposeResult:
        yield Static("Table: type its path, or choose it below", classes="label")
        yield Input(placeholder="visits.csv", id="source")
        yield _Tables(Path.cwd(), id="files")
        yield Static("First line, strings for missing values, table name (DuckDB)", classes="label")
        with Horizontal(id="read-as"):
            yield Select(_HEADERS, value="detect", allow_blank=False, id="header")
            yield Input(placeholder="none; or: ?, NA", id="missing", select_on_focus=False)
            yield Input(placeholder="the only one", id="table", select_on_focus=False)
        yield Static("Workspace: a new directory", classes="label")
        yield Input(placeholder="visits", id="workspace")
        yield Static("Passphrase for the key of the original rows (optional), twice", classes="label")
        with Horizontal(id="secret"):
            yield Input(password=True, placeholder="none", id="passphrase", select_on_focus=False)
            yield Input(password=True, placeholder="repeat it", id="second", select_on_focus=False)
        yield Static("", id="command")
        yield Static("", id="answer")
        yield from self.buttons("Create")

    @on(DirectoryTree.FileSelected)
    def _chosen(self, event: DirectoryTree.FileSelected) -> None:
        path = event.path.relative_to(Path.cwd()) if event.path.is_relative_to(Path.cwd()) else event.path
        self.query_one("#source", Input).value = str(path)
        self.query_one("#workspace", Input).focus()

    @on(Input.Changed, "#source")
    def _name_it(self, event: Input.Changed) -> None:
        """Propose the table's name for the workspace, in the present directory."""
        self.query_one("#workspace", Input).placeholder = Path(event.value).name.split(".")[0] or "visits"

    @on(Mount)
    @on(Input.Changed)
    @on(Select.Changed)
    def _show_command(self) -> None:
        self.query_one("#command", Static).update(Content(plain(self._command())))

    def _command(self) -> str:
        """The equivalent `localsynth init`. It prompts for the passphrase, which is never an argument."""
        source = self.query_one("#source", Input).value.strip() or "visits.csv"
        words = ["localsynth", "init", str(self._root()), "--data", source]
        data = self._read_as()
        if "table" in data:
            words += ["--table", data["table"]]
        for text in data.get("missing", [""])[1:]:
            words += ["--missing", text]
        if "header" in data:
            words.append("--header" if data["header"] else "--no-header")
        if self.query_one("#passphrase", Input).value:
            words.append("--passphrase")
        return shlex.join(words)

    def _root(self) -> Path:
        field = self.query_one("#workspace", Input)
        return Path(field.value.strip() or field.placeholder).expanduser()

    def _read_as(self) -> dict[str, Any]:
        """The settings for reading the file that differ from the defaults."""
        data: dict[str, Any] = {}
        header = self.query_one("#header", Select).value
        if header in ("names", "row"):
            data["header"] = header == "names"
        if missing := self.query_one("#missing", Input).value.strip():
            data["missing"] = ["", *(text.strip() for text in next(csv.reader([missing])))]
        if table := self.query_one("#table", Input).value.strip():
            data["table"] = table
        return data

    @on(Input.Submitted, "#source")
    def _next(self) -> None:
        self.query_one("#workspace", Input).focus()

    @on(Input.Submitted, "#workspace")
    @on(Input.Submitted, "#second")
    def action_accept(self) -> None:
        """Make the workspace, or show what is missing."""
        source = self.query_one("#source", Input).value.strip()
        if not source:
            self._show_message("Enter the path of your table first.")
            return
        first, second = (self.query_one(f"#{name}", Input).value for name in ("passphrase", "second"))
        try:
            passphrase = agreed_passphrase(first, second) if first or second else None
        except LocalsynthError as error:
            self._show_message(f"{error.message} {error.hint}")
            return
        self._show_message("Reading the first rows, to infer the kinds of the columns …")
        self._init({"source": str(Path(source).expanduser()), **self._read_as()}, self._root(), passphrase)

    @on(Input.Submitted, "#passphrase")
    def _go_to_second(self) -> None:
        self.query_one("#second", Input).focus()

    @work(exclusive=True)
    async def _init(self, data: dict[str, Any], root: Path, passphrase: str | None) -> None:
        try:
            await ask(Request("init", root, data=data), passphrase=passphrase)
        except LocalsynthError as error:
            self._show_message(f"{error.message} {error.hint}")
            return
        self.dismiss(root)

    def _show_message(self, text: str) -> None:
        self.query_one("#answer", Static).update(Content(text))
