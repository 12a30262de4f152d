"""Small windows over a screen: a question, a choice, a form, and a text to read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, OptionList, Select, Static

from localsynth.errors import LocalsynthError
from localsynth_tui.text.formatting import plain

__all__ = ["Ask", "Choose", "Field", "Form", "InputWindow", "Reading", "Window"]

Answer = TypeVar("Answer")


class Window(ModalScreen[Answer | None]):
    """A window with an answer. Escape and the button `cancel` close it without one."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Close", id="window.close")]

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)


class InputWindow(Window[Answer]):
    """A window with inputs. Enter goes to the next input; after the last one it accepts, like the button `accept`."""

    def accept(self) -> None:
        """Dismiss with the answer, or show why it is not valid."""
        raise NotImplementedError

    @on(Input.Submitted)
    def _next(self, event: Input.Submitted) -> None:
        if event.input is self.query(Input).last():
            self.accept()
        else:
            self.focus_next()

    @on(Button.Pressed, "#accept")
    def _accept(self) -> None:
        self.accept()


class Ask(Window[str]):
    """A question with one button per answer; the answer is the button's id."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "app.focus_previous", "Previous", show=False, id="dialog.previous"),
        Binding("right", "app.focus_next", "Next", show=False, id="dialog.next"),
    ]

    def __init__(self, title: str, text: str, answers: Sequence[tuple[str, str]]) -> None:
        """`answers`: (id, label) of each button; the first is the safe one and has the focus."""
        super().__init__()
        self._title, self._text, self._answers = title, text, answers

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as window:
            window.border_title = self._title
            with VerticalScroll(can_focus=False):
                yield Static(Content(self._text))
            with Horizontal(classes="buttons"):
                for index, (name, label) in enumerate(self._answers):
                    yield Button(Content(label), id=name, variant="primary" if index == 0 else "default")

    def on_mount(self) -> None:
        self.query(Button).first().focus()

    @on(Button.Pressed)
    def _answer(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id)


class Choose(Window[str]):
    """One of several texts, each with a title; the answer is the text."""

    def __init__(self, title: str, texts: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._title, self._texts = title, texts

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide") as window:
            window.border_title = self._title
            window.border_subtitle = "Enter copies, Esc closes"
            yield OptionList(*(Content(f"{title}\n  {plain(text)}") for title, text in self._texts))

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

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


class Form(InputWindow[dict[str, str]]):
    """Fields to fill in; the answer is {name: text}."""

    def __init__(
        self,
        title: str,
        text: str,
        fields: Sequence[Field],
        accept: str,
        check: Callable[[dict[str, str]], str] | None = None,
    ) -> None:
        """`check` is called at each change. It returns a line to show, or raises LocalsynthError where the input is invalid."""
        super().__init__()
        self._title, self._text, self._fields, self._accept_label, self._check = title, text, fields, accept, check

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as window:
            window.border_title = self._title
            with VerticalScroll(can_focus=False):
                yield Static(Content(self._text))
                for field in self._fields:
                    yield Static(Content(field.label), classes="label")
                    if field.options:
                        yield Select(
                            [(Content(label), value) for label, value in field.options],
                            value=field.value,
                            id=field.name,
                            allow_blank=False,
                        )
                    else:
                        yield Input(field.value, placeholder=field.placeholder, id=field.name, select_on_focus=False)
                if self._check is not None:
                    yield Static("", id="checked", classes="label")
            with Horizontal(classes="buttons"):
                yield Button(Content(self._accept_label), variant="primary", id="accept")
                yield Button("Cancel", id="cancel")

    def on_mount(self) -> None:
        self._show_check()

    @on(Input.Changed)
    @on(Select.Changed)
    def _show_check(self) -> bool:
        """Show the result of `check`; returns whether the input is valid."""
        if self._check is None:
            return True
        checked = self.query_one("#checked", Static)
        try:
            text, valid = self._check(self._answer()), True
        except LocalsynthError as error:
            text, valid = f"{error.message} {error.hint}".strip(), False
        checked.update(Content(plain(text)))
        checked.set_class(not valid, "error")
        return valid

    def accept(self) -> None:
        if self._show_check():
            self.dismiss(self._answer())

    def _answer(self) -> dict[str, str]:
        answer = {}
        for field in self._fields:
            if field.options:
                answer[field.name] = str(self.query_one(f"#{field.name}", Select).value)
            else:
                answer[field.name] = self.query_one(f"#{field.name}", Input).value.strip()
        return answer


class Reading(Window[None]):
    """A text to read, such as help."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,q,f1,question_mark", "dismiss", "Close", id="reading.close")]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide") as window:
            window.border_title = self._title
            window.border_subtitle = "Esc closes"
            with VerticalScroll():
                yield Static(Content(self._text))

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()
