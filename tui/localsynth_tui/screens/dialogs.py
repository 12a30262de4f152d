"""Small windows over a screen: a question, a choice, a form, and a text to read."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import Mount
from textual.screen import ModalScreen
from textual.widgets import Button, Input, OptionList, Select, Static

from localsynth.errors import LocalsynthError
from localsynth_tui.text.formatting import plain

Answer = TypeVar("Answer")


class Window(ModalScreen[Answer | None]):
    """A window with an answer; Escape closes it without one. Subclasses yield its widgets in `content`."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Close", id="window.close")]
    STYLE: ClassVar[str] = "dialog"

    def compose(self) -> ComposeResult:
        with Vertical(classes=self.STYLE) as window:
            window.border_title, window.border_subtitle = self.title, self.sub_title
            yield from self.content()

    def content(self) -> ComposeResult:
        """The widgets inside the border."""
        raise NotImplementedError

    def buttons(self, label: str, disabled: bool = False) -> ComposeResult:
        """A button for the action `accept`, and one that cancels."""
        with Horizontal(classes="buttons"):
            yield Button(Content(label), variant="primary", id="accept", action="screen.accept", disabled=disabled)
            yield Button("Cancel", id="cancel", action="screen.dismiss")


class InputWindow(Window[Answer]):
    """A window with inputs. Enter goes to the next input; after the last one it accepts."""

    def action_accept(self) -> None:
        """Dismiss with the answer, or show why it is not valid."""
        raise NotImplementedError

    @on(Input.Submitted)
    def _next(self, event: Input.Submitted) -> None:
        if event.input is self.query(Input).last():
            self.action_accept()
        else:
            self.focus_next()


class Ask(Window[str]):
    """A question with one button per answer; the answer is the button's id."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "app.focus_previous", "Previous", show=False, id="dialog.previous"),
        Binding("right", "app.focus_next", "Next", show=False, id="dialog.next"),
    ]

    def __init__(self, title: str, text: str, answers: Sequence[tuple[str, str]]) -> None:
        """`answers`: (id, label) of each button; the first is the safe one and has the focus."""
        super().__init__()
        self.title, self._text, self._answers = title, text, answers

    def content(self) -> ComposeResult:
        with VerticalScroll(can_focus=False):
            yield Static(Content(self._text))
        with Horizontal(classes="buttons"):
            for index, (name, label) in enumerate(self._answers):
                yield Button(Content(label), id=name, variant="primary" if index == 0 else "default")

    @on(Button.Pressed)
    def _answer(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id)


class Choose(Window[str]):
    """One of several texts, each with a title; the answer is the text."""

    STYLE = "dialog wide"
    SUB_TITLE = "Enter copies, Esc closes"

    def __init__(self, title: str, texts: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self.title, self._texts = title, texts

    def content(self) -> ComposeResult:
        yield OptionList(*(Content(f"{title}\n  {plain(text)}") for title, text in self._texts))

    @on(OptionList.OptionSelected)
    def _answer(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._texts[event.option_index][1])


@dataclass(frozen=True)
class Field:
    """One line of a form: a text, or a choice between `options` (label, value)."""

    name: str
    label: str
    value: str = ""
    placeholder: str = ""
    options: tuple[tuple[str, str], ...] = ()


class Form(InputWindow[Answer]):
    """Fields to fill in; the answer is what `read` makes of {name: text}."""

    def __init__(
        self,
        title: str,
        text: str,
        fields: Sequence[Field],
        accept: str,
        read: Callable[[dict[str, str]], Answer],
        command: Callable[[Answer], str] | None = None,
    ) -> None:
        """`read` raises LocalsynthError where the input is invalid. `command` gives the equivalent command, to show below."""
        super().__init__()
        self.title, self._text, self._fields, self._accept_label = title, text, fields, accept
        self._read, self._command = read, command

    def content(self) -> ComposeResult:
        with VerticalScroll(can_focus=False):
            yield Static(Content(self._text))
            for field in self._fields:
                yield Static(Content(field.label), classes="label")
                if field.options:
                    options = [(Content(label), value) for label, value in field.options]
                    yield Select(options, value=field.value, id=field.name, allow_blank=False)
                else:
                    yield Input(field.value, placeholder=field.placeholder, id=field.name, select_on_focus=False)
            if self._command is not None:
                yield Static("", id="checked", classes="label")
        yield from self.buttons(self._accept_label)

    @on(Mount)
    @on(Input.Changed)
    @on(Select.Changed)
    def _show_command(self) -> None:
        if self._command is None:
            return
        checked = self.query_one("#checked", Static)
        try:
            text, valid = self._command(self._answer()), True
        except LocalsynthError as error:
            text, valid = f"{error.message} {error.hint}".strip(), False
        checked.update(Content(plain(text)))
        checked.set_class(not valid, "error")

    def action_accept(self) -> None:
        with suppress(LocalsynthError):  # shown already
            self.dismiss(self._answer())

    def _answer(self) -> Answer:
        """Raises LocalsynthError where the input is invalid."""
        texts = {}
        for field in self._fields:
            place = f"#{field.name}"
            value = self.query_one(place, Select).value if field.options else self.query_one(place, Input).value
            texts[field.name] = str(value).strip()
        return self._read(texts)


class Reading(Window[None]):
    """A text to read, such as help."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,q,f1,question_mark", "dismiss", "Close", id="reading.close")]
    STYLE = "dialog wide"
    SUB_TITLE = "Esc closes"

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self.title, self._text = title, text

    def content(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(Content(self._text))
