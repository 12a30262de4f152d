"""Screen 3: how much protection, and what it takes. Nothing is spent here before Start is confirmed."""

import textwrap
from dataclasses import replace
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import Key
from textual.widgets import Button, Input, Label, Select, Static

from localsynth.errors import ExitCode, LocalsynthError
from localsynth.presentation import duration
from localsynth_tui.jobs.client import AnswerError, Request
from localsynth_tui.screens.dialogs import Ask
from localsynth_tui.screens.step import StepScreen
from localsynth_tui.text.formatting import bytes_text, epsilon_in_words, plain
from localsynth_tui.widgets.debounce import Pause
from localsynth_tui.workspace.status import Overview, look_at

__all__ = ["PlanScreen"]

_PATIENCE = 0.6
"""Seconds without a change before the plan is made anew."""
_EPSILONS = (0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0)

_CONTROLS: dict[str, tuple[str, str, type]] = {
    "epsilon": ("privacy.epsilon", "Epsilon", float),
    "delta": ("privacy.delta", "Delta", float),
    "size": ("privacy.public_size", "Size, if public", int),
    "epochs": ("train.epochs", "Passes over it", float),
    "rows": ("sample.rows", "Rows to draw", int),
}
"""Of each input: its key in localsynth.toml, its label, its type."""


_MADE_BY = (
    ("as the columns ask", "auto"),
    ("counts and model", "hybrid"),
    ("the model alone", "llm"),
    ("counts alone", "marginals"),
)


class PlanScreen(StepScreen):
    """Controls on the left, what they come to on the right. Valid changes are saved in localsynth.toml as they are made."""

    STEP = "plan"
    HELP = """\
Epsilon says how much the result may depend on any one person (or row): at 1 any outcome is at most 2.7 times as likely with \
them as without, at 8 about 3,000 times. Smaller protects more and keeps less detail. Up and Down in the field step through \
common values. If you do not know what to choose, keep 4 for a first plan and look at the warnings.

Delta is the small chance by which that may fail; left empty, localsynth chooses one far below one in the size of the table. \
Size: how many people (units) the table has, only if that is public knowledge; else it is measured, at a small cost.

Units, at most: uses about so many, each kept by its own secret coin, where the table is larger than you have time for. It is \
not saved, but goes along with Try and Start.

Made by: noisy counts of columns and pairs of columns are best for categories, numbers and dates, and done in seconds; only the \
language model writes texts. Where there are both, the counts make the other columns and the model writes texts to go with them.

Try does everything on made-up rows: it shows the form of the result, the time and the memory, and spends nothing. Do it first.

Start is the one real run. It asks before it begins. What it spends is never given back, not even when it is stopped: but a \
stopped run goes on within the same budget. "Kernel's seal only" refuses to read \
anything where the kernel itself does not cut the work off from the network (Home, M says what this machine can)."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "rehearse", "Try (rehearse)", id="plan.rehearse"),
        Binding("s", "start", "Start …", id="plan.start"),
        Binding("f", "force", "Go past the size warning", show=False, id="plan.force"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._text = ""
        self._unsaved = Pause(self, _PATIENCE)
        self._found: Overview | None = None
        self._force = False
        self._unit = "row"
        self._order: str | None = None
        self._filled = False

    def content(self) -> ComposeResult:
        with Horizontal(id="plan"):
            with Vertical(id="controls"):
                for name, (_, label, _) in _CONTROLS.items():
                    with Horizontal():
                        yield Label(label)
                        yield Input(id=name, select_on_focus=False)
                with Horizontal():
                    yield Label("Units, at most")
                    yield Input(placeholder="all", id="most", select_on_focus=False)
                with Horizontal():
                    yield Label("Made by")
                    yield Select(_MADE_BY, id="made-by", allow_blank=False)
                with Horizontal(id="base"):
                    yield Label("Base model")
                    yield Select[str]([], id="model", prompt="…")
            yield Static("…", id="figures")
        with VerticalScroll(id="say", can_focus=False):
            yield Static("", id="wrong", classes="error")
            yield Static("", id="meaning")
            yield Static("", id="warnings", classes="warning")
        with Horizontal(classes="buttons"):
            yield Button("Try it on made-up rows", id="rehearse", tooltip="localsynth rehearse: spends nothing")
            yield Button("Start …", variant="primary", id="start", tooltip="localsynth run: asks first")

    def on_mount(self) -> None:
        self._load()

    def settle(self) -> None:
        """Save what was typed last."""
        self._unsaved.now()

    def command(self) -> str:
        """The run that Start begins."""
        return self._request("run").command()

    def twins(self) -> list[tuple[str, str]]:
        return [
            ("Start", self.command()),
            ("Try it on made-up rows", self._request("rehearse").command()),
            ("The plan", self._request("plan").command()),
        ]

    def _request(self, verb: str) -> Request:
        assert self.ui.workspace is not None
        options: dict[str, Any] = {"force": True} if self._force else {}
        if self.ui.most_units is not None:
            options["max_units"] = self.ui.most_units
        if verb == "run" and self._found is not None and self._found.finished:
            options["again"] = True
        return Request(verb, self.ui.workspace, options)

    # --- the file and the controls -----------------------------------------------------------------------------------

    @work(thread=True, exclusive=True, group="load")
    def _load(self) -> None:
        from localsynth.config import parse_config
        from localsynth.llm.base_models import list_base_models

        assert self.ui.workspace is not None
        path = self.ui.workspace / "localsynth.toml"
        try:
            text = path.read_text(encoding="utf-8")
            config, models = parse_config(text, path.name), list_base_models()
        except LocalsynthError as error:
            self.back(self._wrong, f"{error.message} {error.hint}")
            return
        except OSError as error:
            self.back(self._wrong, f"{path} cannot be read: {error.strerror}.")
            return
        self._found = look_at(self.ui.workspace)
        self._text, self._unit = text, config.privacy.unit
        self._order = config.data.sequence_by
        values = {
            "epsilon": config.privacy.epsilon,
            "delta": config.privacy.delta,
            "size": config.privacy.public_size,
            "epochs": config.train.epochs,
            "rows": config.sample.rows,
        }
        names = {model["name"]: model["present"] for model in models}
        names.setdefault(config.train.model, True)
        options = [(name + ("" if here else "  (not here: Models, 7)"), name) for name, here in names.items()]
        self.back(self._fill, values, options, config.train, config.delta())

    def _fill(self, values: dict[str, Any], models: list[tuple[str, str]], train: Any, delta: float) -> None:
        hints = {
            "delta": f"by itself: {delta:.0e}",
            "size": "no: measure it",
            "rows": "as the original",
            "epsilon": "4",
            "epochs": "4",
        }
        with self.prevent(Input.Changed, Select.Changed):
            for name, value in values.items():
                field = self.query_one(f"#{name}", Input)
                field.placeholder = hints[name]
                field.value = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
            self.query_one("#most", Input).value = "" if self.ui.most_units is None else str(self.ui.most_units)
            self.query_one("#made-by", Select).value = train.synthesizer
            select = self.query_one("#model", Select)
            select.set_options([(Content(label), name) for label, name in models])
            select.value = train.model
        self._filled = True
        if self._found is not None and self._found.finished:
            self.query_one("#start", Button).label = "Run again … (charged again)"
        elif self._found is not None and self._found.unfinished:
            self.query_one("#start", Button).label = "Go on with the run …"
        self._mean()
        if (planned := self._planned()) is not None:
            self._show(planned)
        else:
            self._plan()

    @on(Input.Changed)
    @on(Select.Changed)
    def _changed(self) -> None:
        if not self._filled:
            return  # not a choice: the controls are being made
        self._wrong("")
        self._unsaved.drop()
        changes = self._changes()
        most = self.query_one("#most", Input).value.strip().replace(",", "")
        if changes is None:
            return
        if most and (not most.isdecimal() or int(most) < 1):
            self._wrong("Units, at most: give a whole number, or leave it empty for all.")
            return
        self.ui.most_units = int(most) if most else None
        self.query_one("#figures", Static).update(Content("…"))
        self._unsaved.put_off(lambda: self._save(changes))
        self._mean()

    def _changes(self) -> dict[str, Any] | None:
        """What the controls say; None, with a message, where one cannot be read."""
        changes: dict[str, Any] = {}
        for name, (key, label, kind) in _CONTROLS.items():
            text = self.query_one(f"#{name}", Input).value.strip().replace(",", "")
            try:
                changes[key] = kind(text) if text else None
            except ValueError:
                example = "a whole number" if kind is int else "a number, as 4 or 1e-6"
                self._wrong(f"{label}: give {example}.")
                return None
        for key in ("privacy.epsilon", "train.epochs"):
            if changes[key] is None:
                self._wrong("Epsilon and the passes over the table cannot be left empty.")
                return None
        for name, key in (("#model", "train.model"), ("#made-by", "train.synthesizer")):
            chosen = self.query_one(name, Select).value
            if isinstance(chosen, str):
                changes[key] = chosen
        return changes

    def _save(self, changes: dict[str, Any]) -> None:
        from localsynth_tui.workspace.config_file import save, with_keys

        assert self.ui.workspace is not None
        path = self.ui.workspace / "localsynth.toml"
        try:
            text, _ = with_keys(self._text, _differing(self._text, changes), path.name)
            save(path, text, self._text)
        except LocalsynthError as error:
            self._wrong(f"{error.message} {error.hint}")
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
            now = float(field.value)
        except ValueError:
            now = 4.0
        above = [value for value in _EPSILONS if value > now]
        below = [value for value in _EPSILONS if value < now]
        chosen = (above or [now])[0] if event.key == "up" else (below or [now])[-1]
        field.value = f"{chosen:g}"

    # --- the plan ----------------------------------------------------------------------------------------------------

    @work(group="plan", exclusive=True)
    async def _plan(self) -> None:
        asked = self._asked()
        self.query_one("#figures", Static).update(Content("reckoning … (the first time takes longest)"))
        try:
            planned = await self.ui.planner.plan(self._request("plan"))
        except AnswerError as error:
            self.query_one("#figures", Static).update(Content("no plan"))
            past = "  Or go past this warning: F." if error.exit_code == ExitCode.BUDGET and not self._force else ""
            self._wrong(f"{error.message} {error.hint}{past}")
            return
        if asked == self._asked():
            self.ui.plan = (asked, planned)
            self._show(planned)

    def _asked(self) -> tuple[str, str]:
        """What a plan depends on: the file, and what goes along as an option."""
        return self._text, self._request("plan").command()

    def _planned(self) -> dict[str, Any] | None:
        """The last plan, if it is for what is asked now."""
        return self.ui.plan[1] if self.ui.plan is not None and self.ui.plan[0] == self._asked() else None

    def _show(self, planned: dict[str, Any]) -> None:
        self.query_one("#figures", Static).update(Content(figures_text(planned, self._order)))
        self.query_one("#base").display = planned["synthesizer"] != "marginals"
        warnings = "\n".join(f"! {plain(warning)}" for warning in planned["warnings"])
        self.query_one("#warnings", Static).update(Content(warnings))

    def _mean(self) -> None:
        try:
            epsilon = float(self.query_one("#epsilon", Input).value)
            sentence = epsilon_in_words(epsilon, self._unit) if 0 < epsilon <= 100 else ""
        except ValueError:
            sentence = ""
        self.query_one("#meaning", Static).update(Content(sentence))

    def _wrong(self, text: str) -> None:
        shown = self.query_one("#wrong", Static)
        shown.update(Content(text))
        shown.display = bool(text)

    # --- actions -----------------------------------------------------------------------------------------------------

    def action_force(self) -> None:
        """Plan and run although there are too few units: --force."""
        self._force = not self._force
        self.notify("Past the size warning: " + ("yes (--force)" if self._force else "no"))
        self._wrong("")
        self._plan()

    @on(Button.Pressed, "#rehearse")
    def action_rehearse(self) -> None:
        """Everything on made-up rows; spends nothing."""
        if self.ui.at_work:
            self.notify("This workspace is at work: see Run (4).", severity="warning")
            return
        self.hand_over(self.ui.start(self._request("rehearse")))

    @on(Button.Pressed, "#start")
    def action_start(self) -> None:
        """Say what will be spent, ask, and begin."""
        if self.ui.at_work:
            self.notify("This workspace is at work: see Run (4).", severity="warning")
            return
        planned = self._planned()
        if planned is None:
            self.notify("Wait until the plan is made, then start.", severity="warning")
            return
        answers = [("no", "Not yet"), ("start", "Spend it and start"), ("kernel", "Start, kernel's seal only")]
        self.app.push_screen(Ask("Start the real run?", self._what_it_costs(planned), answers), self._confirmed)

    def _what_it_costs(self, planned: dict[str, Any]) -> str:
        found, epsilon = self._found, planned["epsilon"]
        lines = [
            f"This sets aside epsilon {epsilon['total']:g} (delta {planned['delta']['total']:.1g}) for good: {_shares(epsilon)}.",
            f"It takes about {duration(sum(planned['seconds'].values()))} and {bytes_text(planned['memory_bytes'])} of memory.",
        ]
        if found is not None and found.unfinished:
            lines = [f"Run {found.run} goes on within the budget that it has: {found.epsilon or 0:g} is set aside already."]
        if found is not None and found.finished:
            lines.append(f"THE LAST RUN IS FINISHED. Another one is charged on top: so far {found.epsilon or 0:g} is set aside.")
        lines += [f"! {plain(warning)}" for warning in planned["warnings"]]
        lines.append("\nStopping does not give it back. It can be stopped and gone on with at any time.")
        return "\n".join(lines)

    def _confirmed(self, answer: str | None) -> None:
        if answer in ("start", "kernel"):
            self.hand_over(self.ui.start(replace(self._request("run"), require_seal="kernel" if answer == "kernel" else None)))


def _differing(text: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Only what the file does not say already, by itself or by leaving it out: a default is not written into it."""
    from localsynth.config import parse_config

    config = parse_config(text, "localsynth.toml")
    return {
        key: value for key, value in changes.items() if getattr(getattr(config, key.split(".")[0]), key.split(".")[1]) != value
    }


_STAGES = {"schema": "schema", "marginals": "counts", "train": "model", "text_counts": "texts"}
_BY = {"hybrid": "counts; texts by the model", "llm": "the language model alone", "marginals": "noisy counts, no text"}
_WIDTH = 39
"""Of the figures, in 80 columns."""


def _shares(epsilon: dict[str, float]) -> str:
    """What each part gets of it."""
    return ", ".join(f"{name} {epsilon[stage]:g}" for stage, name in _STAGES.items() if epsilon[stage])


def figures_text(planned: dict[str, Any], order: str | None = None) -> str:
    """The plan's figures, one a line; `order`: the column that orders the rows of a unit, where they are sequences."""
    seconds, counted = planned["seconds"], planned["synthesizer"] == "marginals"
    short = " — NOT ENOUGH" if planned["disk_bytes"] > planned["free_disk_bytes"] else ""
    lines = [
        f"Made by  {_BY[planned['synthesizer']]}",
        f"Units    {planned['units']:,} ({planned['units_origin']})",
        f"Epsilon  {planned['epsilon']['total']:g}: {_shares(planned['epsilon'])}",
        f"Noise    {planned['noise_multiplier']:.2f} times " + ("a unit's part, over all" if counted else "the clipping norm"),
    ]
    if not counted:
        lines.append(f"Steps    {planned['steps']:,} of about {planned['batch_size']:,} units")
        layers = planned["adapters"]["layers"]
        names = ", ".join(name.removesuffix("_proj") for name in layers)
        lines.append(f"Adapters on {names if len(layers) < 4 else 'all layers'} of each block")
    lines += [
        f"Time     {duration(sum(seconds.values()))}: {'count' if counted else 'train'} {duration(seconds['train'])},",
        f"         export {duration(seconds['export'])}, {planned['rows_wanted']:,} rows {duration(seconds['sample'])}",
        f"Memory   {bytes_text(planned['memory_bytes'])} ({planned['precision']})",
        f"Disk     {bytes_text(planned['disk_bytes'])} of {bytes_text(planned['free_disk_bytes'])} free{short}",
    ]
    if order is not None:
        lines.append(f"Order    sequences, by {plain(order)}")
    if planned["to_be_measured"]:
        open_fields = planned["to_be_measured"]
        more = f" and {len(open_fields) - 2} more" if open_fields[2:] else ""
        lines.append(f"Measured {', '.join(plain(name) for name in open_fields[:2])}{more}")
    return "\n".join(textwrap.fill(line, _WIDTH, subsequent_indent=" " * 9, replace_whitespace=False) for line in lines)
