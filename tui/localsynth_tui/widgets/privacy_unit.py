"""The tab that asks in words who is protected, in which order the rows of one come, and how many units are kept apart."""

from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Label, Select, Static

from localsynth.schema.columns import Boolean, Category, Column, Identifier, Surrogate, Text

__all__ = ["Who"]

_ROW = ":row"
"""Stands for the unit `row` in the choice: a column may be called "row", and no name of a column is left out for it."""
_NO_ORDER = ":none"

_WHO = """\
Who is protected? The promise is made for a "unit": the result would have been almost as likely without it.

One row: right where every row is another person.
Everything with the same …: right where a person can have several rows; choose the column that says whose row it is (a patient \
number). Then say how many rows of one person may be used at most; the others are left out at random."""

_ORDER = """\
Do the rows of one follow each other, as visits do? Then choose the column that says when: each one's rows are learned and drawn \
as a sequence. That takes 2 rows of one or more, and no texts."""

_HOLDOUT = """\
Kept apart: a share of them, each by a secret coin of its own, is not trained on but kept to compare with in the report \
(Report, 6). 0.1 is a tenth; with 0 the report has nothing to compare with."""


class Who(VerticalScroll):
    """Shows a configuration's answers with `show`, and posts `Changed` when one is given."""

    class Changed(Message):
        """`changes`: keys of localsynth.toml; `identifier`: a learned column that now says whose row it is. Or `wrong`."""

        def __init__(self, changes: dict[str, Any] | None = None, wrong: str = "", identifier: str | None = None) -> None:
            super().__init__()
            self.changes, self.wrong, self.identifier = changes, wrong, identifier

    def __init__(self) -> None:
        super().__init__(can_focus=False)
        self._columns: dict[str, Column] = {}

    def compose(self) -> ComposeResult:
        yield Static(Content(_WHO), classes="text")
        with Horizontal(classes="line"):
            yield Label("Protected is")
            yield Select[str]([], id="unit", prompt="…")
        with Horizontal(classes="line", id="most"):
            yield Label("Rows of one, at most")
            yield Input(id="max_rows", select_on_focus=False)
        yield Static(Content(_ORDER), classes="text", id="about-order")
        with Horizontal(classes="line", id="ordered"):
            yield Label("Their order")
            yield Select[str]([], id="order", prompt="…")
        yield Static(Content(_HOLDOUT), classes="text")
        with Horizontal(classes="line"):
            yield Label("Share kept apart")
            yield Input(id="holdout", select_on_focus=False)

    def show(self, config: Any) -> None:
        """What the configuration says, without posting anything."""
        privacy, order = config.privacy, config.data.sequence_by
        self._columns = {column.name: column for column in config.schema_.columns}
        with self.prevent(Select.Changed, Input.Changed):
            units = [(Content(f"all with the same {name!r}"), name) for name in self._columns]
            chosen = _ROW if privacy.unit == "row" else privacy.unit
            _choose(self.query_one("#unit", Select), [(Content("one row"), _ROW), *units], chosen)
            orders = [(Content("none: each row by itself"), _NO_ORDER)]
            orders += [(Content(f"by {name!r}"), name) for name in self._orders(privacy.unit)]
            _choose(self.query_one("#order", Select), orders, order or _NO_ORDER)
            self.query_one("#max_rows", Input).value = str(privacy.max_rows_per_unit)
            self.query_one("#holdout", Input).value = f"{privacy.holdout:g}"
        self._several(privacy.unit != "row")

    def _orders(self, unit: str) -> list[str]:
        unordered = (Text, Category, Boolean, Surrogate)
        return [name for name, column in self._columns.items() if name != unit and not isinstance(column, unordered)]

    def _several(self, several: bool) -> None:
        for name in ("#most", "#about-order", "#ordered"):
            self.query_one(name).display = several

    @on(Select.Changed, "#unit")
    @on(Input.Changed, "#max_rows")
    def _unit_changed(self) -> None:
        unit = self.query_one("#unit", Select).value
        if not isinstance(unit, str):
            return
        self._several(unit != _ROW)
        if unit == _ROW:
            self.post_message(self.Changed({"privacy.unit": "row", "data.sequence_by": None}))
            return
        text = self.query_one("#max_rows", Input).value.strip()
        if not text.isdecimal():
            self.post_message(self.Changed(wrong="Rows of one, at most: give a whole number, as 5."))
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
            self.post_message(self.Changed(wrong="Share kept apart: give a number from 0 to below 0.9, as 0.1."))


def _choose(select: "Select[str]", options: list[tuple[Content, str]], value: str) -> None:
    """Offer these and choose `value`, which a file edited by hand may have from elsewhere."""
    if value not in [option for _, option in options]:
        options = [*options, (Content(f"{value!r}, which does not go"), value)]
    select.set_options(options)
    select.value = value
