"""Screen 3: how much protection, and its cost in time and accuracy. Nothing is spent before Start is confirmed."""

import textwrap
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import Key
from textual.widgets import Button, Input, Label, Select, Static

from localsynth.errors import ExitCode, LocalsynthError
from localsynth.presentation import duration, risk_sentences, sweep_text
from localsynth.results.plans import Plan, Sweep
from localsynth.worker import WorkerError
from localsynth_tui.jobs.client import Request
from localsynth_tui.screens.dialogs import Ask, Reading
from localsynth_tui.screens.step import StepScreen
from localsynth_tui.text.formatting import bytes_text, epsilon_sentence, plain
from localsynth_tui.ui import Ui
from localsynth_tui.widgets.debounce import Debounce
from localsynth_tui.workspace.status import WorkspaceStatus, read_status

if TYPE_CHECKING:
    from localsynth.config import Config

_SAVE_DELAY = 0.6
"""Seconds without a change before it is saved and the plan is updated."""
_EPSILONS = (0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0)

_CONTROLS: dict[str, tuple[str, str, type, str]] = {
    "epsilon": ("privacy.epsilon", "Epsilon", float, "4"),
    "delta": ("privacy.delta", "Delta", float, ""),
    "size": ("privacy.public_size", "Public size", int, "measured"),
    "epochs": ("train.epochs", "Epochs", float, "4"),
    "rows": ("sample.rows", "Rows", int, "like the original"),
}
"""Of each input: its key in localsynth.toml, its label, its type, its placeholder."""

_SYNTHESIZERS = (("automatic", "auto"), ("hybrid", "hybrid"), ("LLM", "llm"), ("DP marginals", "marginals"))


class SweepWindow(Reading):
    """What several epsilons buy, as soon as it is calculated."""

    def __init__(self, request: Request) -> None:
        super().__init__("What epsilon buys", "Calculating … (some ten seconds)")
        self._request = request

    @work
    async def on_mount(self) -> None:
        try:
            text = sweep_text(await cast(Ui, self.app).plan_server.plan(Sweep, self._request))
        except WorkerError as error:
            text = f"{error.message} {error.hint}"
        self.query_one(Static).update(Content(text))


class PlanScreen(StepScreen):
    """Settings on the left, the plan on the right. Valid changes are saved in localsynth.toml as they are made."""

    STEP = "plan"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "rehearse", "Rehearse", id="plan.rehearse"),
        Binding("s", "start", "Start …", id="plan.start"),
        Binding("c", "compare", "Compare epsilons", id="plan.compare"),
        Binding("f", "force", "Override size warning", show=False, id="plan.force"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._text = ""
        self._pending = Debounce(self, _SAVE_DELAY)
        self._workspace_status: WorkspaceStatus | None = None
        self._force = False
        self._unit = "row"
        self._order: str | None = None
        self._filled = False

    def content(self) -> ComposeResult:
        with Horizontal(id="plan"):
            with Vertical(id="controls"):
                for name, (_, label, _, placeholder) in _CONTROLS.items():
                    with Horizontal():
                        yield Label(label)
                        yield Input(placeholder=placeholder, id=name, select_on_focus=False)
                with Horizontal():
                    yield Label("Max units")
                    yield Input(placeholder="all", id="max-units", select_on_focus=False)
                with Horizontal():
                    yield Label("Synthesizer")
                    yield Select(_SYNTHESIZERS, id="synthesizer", allow_blank=False)
                with Horizontal(id="base"):
                    yield Label("Base model")
                    yield Select[str]([], id="model", prompt="…")
            yield Static("…", id="figures")
        with VerticalScroll(id="messages", can_focus=False):
            yield Static("", id="error", classes="error")
            yield Static("", id="guarantee")
            yield Static("", id="warnings", classes="warning")
            yield Static("", id="risks")
        with Horizontal(classes="buttons"):
            rehearse, start = "localsynth rehearse: spends nothing", "localsynth run: asks first"
            yield Button("Rehearse on random rows", action="screen.rehearse", tooltip=rehearse)
            yield Button("Start …", variant="primary", id="start", action="screen.start", tooltip=start)

    def on_mount(self) -> None:
        self._load()

    def save_pending(self) -> None:
        """Save the last change at once."""
        self._pending.flush()

    def commands(self) -> list[tuple[str, str]]:
        return [
            ("Start", self._request("run").command()),
            ("Rehearse on random rows", self._request("rehearse").command()),
            ("The plan", self._request("plan").command()),
            ("Compare epsilons", self._sweep_request().command()),
        ]

    def _request(self, verb: str) -> Request:
        options: dict[str, Any] = {"force": True} if self._force else {}
        if self.ui.max_units is not None:
            options["max_units"] = self.ui.max_units
        if verb == "run" and self._workspace_status is not None and self._workspace_status.finished:
            options["again"] = True
        return Request(verb, self.workspace, options)

    def _sweep_request(self) -> Request:
        request = self._request("plan")
        return replace(request, options={**request.options, "sweep": True})

    # --- the file and the controls -----------------------------------------------------------------------------------

    @work(thread=True, exclusive=True, group="load")
    def _load(self) -> None:
        from localsynth.llm.base_models import list_base_models
        from localsynth_tui.workspace.config_file import read

        try:
            text, config = read(self.config_path)
            models = list_base_models()
        except LocalsynthError as error:
            self.call_ui(self._show_error, f"{error.message} {error.hint}")
            return
        self._workspace_status = read_status(self.workspace)
        self._text, self._unit = text, config.privacy.unit
        self._order = config.data.sequence_by
        names = {model["name"]: model["present"] for model in models}
        names.setdefault(config.train.model, True)
        options = [(name + ("" if here else "  (not installed: Models, 7)"), name) for name, here in names.items()]
        self.call_ui(self._fill, config, options)

    def _fill(self, config: "Config", models: list[tuple[str, str]]) -> None:
        with self.prevent(Input.Changed, Select.Changed):
            for name, (key, *_) in _CONTROLS.items():
                value = attrgetter(key)(config)
                text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
                self.query_one(f"#{name}", Input).value = text
            self.query_one("#delta", Input).placeholder = f"automatic: {config.privacy.resolved_delta:.0e}"
            self.query_one("#max-units", Input).value = "" if self.ui.max_units is None else str(self.ui.max_units)
            self.query_one("#synthesizer", Select).value = config.train.synthesizer
            select = self.query_one("#model", Select)
            select.set_options([(Content(label), name) for label, name in models])
            select.value = config.train.model
        self._filled = True
        if self._workspace_status is not None and self._workspace_status.finished:
            self.query_one("#start", Button).label = "Run again … (charged again)"
        elif self._workspace_status is not None and self._workspace_status.unfinished:
            self.query_one("#start", Button).label = "Resume the run …"
        self._show_guarantee()
        if (planned := self._planned()) is not None:
            self._show(planned)
        else:
            self._plan()

    @on(Input.Changed)
    @on(Select.Changed)
    def _changed(self) -> None:
        if not self._filled:
            return  # not a user's choice: the controls are being filled
        self._show_error("")
        self._pending.cancel()
        changes = self._changes()
        max_units = self.query_one("#max-units", Input).value.strip().replace(",", "")
        if changes is None:
            return
        if max_units and (not max_units.isdecimal() or int(max_units) < 1):
            self._show_error("Max units: enter a whole number, or leave it empty for all.")
            return
        self.ui.max_units = int(max_units) if max_units else None
        self.query_one("#figures", Static).update(Content("…"))
        self.query_one("#risks", Static).update(Content(""))
        self._pending.schedule(lambda: self._save(changes))
        self._show_guarantee()

    def _changes(self) -> dict[str, Any] | None:
        """The values of the controls; None, with a message, where one is invalid."""
        changes: dict[str, Any] = {}
        for name, (key, label, kind, _) in _CONTROLS.items():
            text = self.query_one(f"#{name}", Input).value.strip().replace(",", "")
            try:
                changes[key] = kind(text) if text else None
            except ValueError:
                example = "a whole number" if kind is int else "a number, such as 4 or 1e-6"
                self._show_error(f"{label}: enter {example}.")
                return None
        for key in ("privacy.epsilon", "train.epochs"):
            if changes[key] is None:
                self._show_error("Epsilon and Epochs cannot be left empty.")
                return None
        for name, key in (("#model", "train.model"), ("#synthesizer", "train.synthesizer")):
            chosen = self.query_one(name, Select).value
            if isinstance(chosen, str):
                changes[key] = chosen
        return changes

    def _save(self, changes: dict[str, Any]) -> None:
        from localsynth_tui.workspace.config_file import save, with_keys

        try:
            text, _ = with_keys(self._text, _differing(self._text, changes), self.config_path.name)
            save(self.config_path, text, self._text)
        except LocalsynthError as error:
            self._show_error(f"{error.message} {error.hint}")
            return
        self._text = text
        self._plan()

    def on_key(self, event: Key) -> None:
        """Up and Down in the field of epsilon step through common values."""
        field = self.query_one("#epsilon", Input)
        if self.focused is not field or event.key not in ("up", "down"):
            return
        event.stop()
        try:
            current = float(field.value)
        except ValueError:
            current = 4.0
        above = [value for value in _EPSILONS if value > current]
        below = [value for value in _EPSILONS if value < current]
        chosen = (above or [current])[0] if event.key == "up" else (below or [current])[-1]
        field.value = f"{chosen:g}"

    # --- the plan ----------------------------------------------------------------------------------------------------

    @work(group="plan", exclusive=True)
    async def _plan(self) -> None:
        inputs = self._inputs()
        self.query_one("#figures", Static).update(Content("Estimating … (slow the first time)"))
        try:
            planned = await self.ui.plan_server.plan(Plan, self._request("plan"))
        except WorkerError as error:
            self.query_one("#figures", Static).update(Content("No plan."))
            override = "  Or override this warning: F." if error.exit_code == ExitCode.BUDGET and not self._force else ""
            self._show_error(f"{error.message} {error.hint}{override}")
            return
        if inputs == self._inputs():
            self.ui.plan = (inputs, planned)
            self._show(planned)

    def _inputs(self) -> tuple[str, str]:
        """The inputs of a plan: the file and the options."""
        return self._text, self._request("plan").command()

    def _planned(self) -> Plan | None:
        """The last plan, if its inputs are the present ones."""
        return self.ui.plan[1] if self.ui.plan is not None and self.ui.plan[0] == self._inputs() else None

    def _show(self, planned: Plan) -> None:
        self.query_one("#figures", Static).update(Content(figures_text(planned, self._order)))
        self.query_one("#risks", Static).update(Content("\n".join(risk_sentences(planned.risks))))
        self.query_one("#base").display = planned.synthesizer != "marginals"
        warnings = "\n".join(f"! {plain(warning)}" for warning in planned.warnings)
        self.query_one("#warnings", Static).update(Content(warnings))

    def _show_guarantee(self) -> None:
        try:
            epsilon = float(self.query_one("#epsilon", Input).value)
            sentence = epsilon_sentence(epsilon, self._unit) if 0 < epsilon <= 100 else ""
        except ValueError:
            sentence = ""
        self.query_one("#guarantee", Static).update(Content(sentence))

    def _show_error(self, text: str) -> None:
        shown = self.query_one("#error", Static)
        shown.update(Content(text))
        shown.display = bool(text)

    # --- actions -----------------------------------------------------------------------------------------------------

    def action_force(self) -> None:
        """Plan and run with too few units all the same: --force."""
        self._force = not self._force
        self.notify("Override size warning: " + ("yes (--force)" if self._force else "no"))
        self._show_error("")
        self._plan()

    def action_compare(self) -> None:
        """Show what several epsilons buy."""
        self.save_pending()
        self.app.push_screen(SweepWindow(self._sweep_request()))

    def action_rehearse(self) -> None:
        """Run everything on random rows; spends nothing."""
        if not self.refused_while_running():
            self.start(self._request("rehearse"))

    def action_start(self) -> None:
        """Show the cost, ask, and start."""
        if self.refused_while_running():
            return
        planned = self._planned()
        if planned is None:
            self.notify("Wait for the plan, then start.", severity="warning")
            return
        answers = [("no", "Not yet"), ("start", "Spend and start"), ("kernel", "Start, kernel seal only")]
        self.open_window(Ask("Start the real run?", self._cost_text(planned), answers), self._confirmed)

    def _cost_text(self, planned: Plan) -> str:
        status, epsilon = self._workspace_status, planned.epsilon
        lines = [
            f"This reserves epsilon {epsilon['total']:g} ({_shares(epsilon)}), delta {planned.delta:.1g}. It is not refundable.",
            f"It takes about {duration(sum(planned.seconds.values()))} and {bytes_text(planned.memory_bytes)} of memory.",
        ]
        if status is not None and status.unfinished:
            lines = [f"Run {status.run} resumes within its budget: epsilon {status.epsilon or 0:g} is reserved already."]
        if status is not None and status.finished:
            lines.append(
                f"THE LAST RUN IS FINISHED. Another one is charged on top of epsilon {status.epsilon or 0:g} reserved so far."
            )
        lines += [f"! {plain(warning)}" for warning in planned.warnings]
        lines.append("\nYou can stop and resume the run at any time. Stopping refunds nothing.")
        return "\n".join(lines)

    def _confirmed(self, answer: str) -> None:
        if answer != "no":
            self.start(replace(self._request("run"), require_seal="kernel" if answer == "kernel" else None))


def _differing(text: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The changes that differ from the file and its defaults: a default is not written to it."""
    from localsynth.config import parse_config

    config = parse_config(text, "localsynth.toml")
    return {key: value for key, value in changes.items() if attrgetter(key)(config) != value}


_PARTS = {"schema": "schema", "marginals": "marginals", "train": "LLM", "text_counts": "texts"}
_SYNTHESIZER_TEXTS = {"hybrid": "hybrid (marginals + LLM)", "llm": "LLM", "marginals": "DP marginals"}
_WIDTH = 39
"""Characters of a line of figures, in a terminal of 80 columns."""


def _shares(epsilon: dict[str, float]) -> str:
    """The epsilon of each part."""
    return "alone " + ", ".join(f"{name} {epsilon[stage]:.3g}" for stage, name in _PARTS.items() if stage in epsilon)


def figures_text(planned: Plan, order: str | None = None) -> str:
    """The plan's figures, one a line; `order`: the column that orders the rows of a unit, where they are sequences."""
    seconds, adapters = planned.seconds, planned.adapters
    short = " (NOT ENOUGH)" if planned.disk_bytes > planned.free_disk_bytes else ""
    lines = [
        f"Synthesizer {_SYNTHESIZER_TEXTS[planned.synthesizer]}",
        f"Units       {planned.units:,} ({planned.units_origin})",
        f"Epsilon     {planned.epsilon['total']:g}: {_shares(planned.epsilon)}",
        f"Noise       {planned.noise_multiplier:.2f} × {'total sensitivity' if adapters is None else 'clipping norm'}",
    ]
    if adapters is not None:
        lines.append(f"Steps       {planned.steps:,} of about {planned.batch_size:,} units")
        names = ", ".join(name.removesuffix("_proj") for name in adapters.layers)
        lines.append(f"Adapters    {names if len(adapters.layers) < 4 else 'all layers'} of each block")
    lines += [
        f"Time        {duration(sum(seconds.values()))}: "
        f"{'marginals' if adapters is None else 'train'} {duration(seconds['train'])}, "
        f"export {duration(seconds['export'])}, {planned.rows_wanted:,} rows {duration(seconds['sample'])}",
        f"Memory      {bytes_text(planned.memory_bytes)} ({planned.precision})",
        f"Disk        {bytes_text(planned.disk_bytes)} of {bytes_text(planned.free_disk_bytes)} free{short}",
    ]
    if order is not None:
        lines.append(f"Order       sequences by {plain(order)}")
    if planned.to_be_measured:
        open_fields = planned.to_be_measured
        more = f" and {len(open_fields) - 2} more" if open_fields[2:] else ""
        lines.append(f"Measured    {', '.join(plain(name) for name in open_fields[:2])}{more}")
    return "\n".join(textwrap.fill(line, _WIDTH, subsequent_indent=" " * 12, replace_whitespace=False) for line in lines)
