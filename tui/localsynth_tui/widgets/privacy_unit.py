"""The form for the privacy unit: what it is, how many rows it has, their order, and the holdout."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Label, Select, Static

from localsynth.schema.columns import Boolean, Category, Column, Identifier, Surrogate, Text

if TYPE_CHECKING:
    from localsynth.config import Config

_ROW = ":row"
"""The unit `row` as a value of the choice. A colon, since a column may be called "row"."""
_NO_ORDER = ":none"

_ABOUT_UNIT = """\
Who is protected? The guarantee holds for each privacy unit: the result would be almost as likely without it.

One row: right where every row belongs to another person.
All rows with the same …: right where a person can have several rows. Choose the column that identifies the person (a patient \
number), then the maximum number of rows per person. Rows beyond it are left out at random."""

_ABOUT_ORDER = """\
Are a unit's rows ordered in time, like visits? Then choose the column that gives the order: rows are learned and generated as \
sequences. This needs at least 2 rows per unit, and no text columns."""

_ABOUT_HOLDOUT = """\
The holdout is a random part of the units that is not trained on. The report (6) compares with it. 0.1 is a tenth; with 0 the \
report has nothing to compare with."""


class PrivacyUnitForm(VerticalScroll):
    """Shows the answers of a configuration with `show`, and posts `Changed` when one changes."""

    @dataclass
    class Changed(Message):
        """`changes`: keys of localsynth.toml; `identifier`: a learned column that now identifies the unit. Or an `error`."""

        changes: dict[str, Any] | None = None
        error: str = ""
        identifier: str | None = None

    def __init__(self) -> None:
        super().__init__(can_focus=False)
        self._columns: dict[str, Column] = {}

    def compose(self) -> ComposeResult:
        yield Static(Content(_ABOUT_UNIT), classes="text")
        with Horizontal(classes="line"):
            yield Label("Privacy unit")
            yield Select[str]([], id="unit", prompt="…")
        with Horizontal(classes="line", id="max-rows-line"):
            yield Label("Max rows per unit")
            yield Input(id="max_rows", select_on_focus=False)
        yield Static(Content(_ABOUT_ORDER), classes="text", id="about-order")
        with Horizontal(classes="line", id="order-line"):
            yield Label("Order of rows")
            yield Select[str]([], id="order", prompt="…")
        yield Static(Content(_ABOUT_HOLDOUT), classes="text")
        with Horizontal(classes="line"):
            yield Label("Holdout fraction")
            yield Input(id="holdout", select_on_focus=False)

    def show(self, config: "Config") -> None:
        """Show what the configuration says, without posting anything."""
        privacy, order = config.privacy, config.data.sequence_by
        self._columns = {column.name: column for column in config.schema_.columns}
        with self.prevent(Select.Changed, Input.Changed):
            units = [(Content(f"{name}: all rows with the same value"), name) for name in self._columns]
            chosen = _ROW if privacy.unit == "row" else privacy.unit
            _choose(self.query_one("#unit", Select), [(Content("one row"), _ROW), *units], chosen)
            orders = [(Content("none: independent rows"), _NO_ORDER)]
            orders += [(Content(f"by {name!r}"), name) for name in self._orders(privacy.unit)]
            _choose(self.query_one("#order", Select), orders, order or _NO_ORDER)
            self.query_one("#max_rows", Input).value = str(privacy.max_rows_per_unit)
            self.query_one("#holdout", Input).value = f"{privacy.holdout:g}"
        self._show_lines_of_several_rows(privacy.unit != "row")

    def _orders(self, unit: str) -> list[str]:
        unordered = (Text, Category, Boolean, Surrogate)
        return [name for name, column in self._columns.items() if name != unit and not isinstance(column, unordered)]

    def _show_lines_of_several_rows(self, shown: bool) -> None:
        for name in ("#max-rows-line", "#about-order", "#order-line"):
            self.query_one(name).display = shown

    @on(Select.Changed, "#unit")
    @on(Input.Changed, "#max_rows")
    def _unit_changed(self) -> None:
        unit = self.query_one("#unit", Select).value
        if not isinstance(unit, str):
            return
        self._show_lines_of_several_rows(unit != _ROW)
        if unit == _ROW:
            self.post_message(self.Changed({"privacy.unit": "row", "data.sequence_by": None}))
            return
        text = self.query_one("#max_rows", Input).value.strip()
        if not text.isdecimal():
            self.post_message(self.Changed(error="Max rows per unit: enter a whole number, such as 5."))
            return
        learned = not isinstance(self._columns[unit], Identifier | Surrogate)
        changes = {"privacy.unit": unit, "privacy.max_rows_per_unit": int(text)}
        self.post_message(self.Changed(changes, identifier=unit if learned else None))

    @on(Select.Changed, "#order")
    def _order_changed(self, event: Select.Changed) -> None:
        if isinstance(event.value, str):
            self.post_message(self.Changed({"data.sequence_by": None if event.value == _NO_ORDER else event.value}))

    @on(Input.Changed, "#holdout")
    def _holdout_changed(self, event: Input.Changed) -> None:
        try:
            self.post_message(self.Changed({"privacy.holdout": float(event.value)}))
        except ValueError:
            self.post_message(self.Changed(error="Holdout fraction: enter a number from 0 to below 0.9, such as 0.1."))


def _choose(select: "Select[str]", options: list[tuple[Content, str]], value: str) -> None:
    """Offer these and choose `value`, which may be missing where the file was edited by hand."""
    if value not in [option for _, option in options]:
        options = [*options, (Content(f"{value!r}, which is not allowed"), value)]
    select.set_options(options)
    select.value = value
