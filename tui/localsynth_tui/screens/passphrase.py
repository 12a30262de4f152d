"""The window that asks for the passphrase of a workspace's key, and tries it in the engine's process before anything starts."""

from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from localsynth.errors import ConfigError, LocalsynthError
from localsynth_tui.jobs.client import Request, ask

__all__ = ["PassphraseWindow", "agreed", "is_new"]

_PRESENT = """\
The key of the original rows in {workspace} is protected by a passphrase. It goes to the process that works, which has no \
network, and is written nowhere."""

_NEW = """\
The key of {workspace} is protected by a passphrase, and no key is here: a new one will be made. Choose its passphrase. Lost, \
nobody can read the original rows again."""


def is_new(request: Request) -> bool | None:
    """None: the request needs no passphrase. Else whether a new one is to be chosen, for a key that is not there (yet).

    Reads small files; for a thread. Raises LocalsynthError for a damaged workspace.
    """
    from localsynth.store.key import is_wrapped, key_path
    from localsynth.workspace.paths import Workspace

    workspace = Workspace.open(request.workspace)
    if not is_wrapped(workspace):
        return None
    from localsynth.pipeline.run import needs_key

    options = request.options
    if not needs_key(workspace, request.verb, again=options.get("again", False), release=options.get("release", False)):
        return None
    return not key_path(workspace).exists()


def agreed(first: str, second: str) -> str:
    """A new passphrase that was typed twice. Raises ConfigError where the two differ or it is too short."""
    from localsynth.store.key import MIN_LENGTH

    if len(first) < MIN_LENGTH:
        raise ConfigError(f"The passphrase has fewer than {MIN_LENGTH} characters.", "Choose a longer one, such as a sentence.")
    if first != second:
        raise ConfigError("The two passphrases differ.", "Type it twice the same.")
    return first


class PassphraseWindow(ModalScreen[str | None]):
    """The answer is a passphrase that fits the key, or a new one; None where the user gave it up."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Close", id="passphrase.close")]

    def __init__(self, request: Request, new: bool) -> None:
        """`request` is what is about to start."""
        super().__init__()
        self._request, self._new = request, new

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as window:
            window.border_title = "Passphrase"
            with VerticalScroll(can_focus=False):
                yield Static(Content((_NEW if self._new else _PRESENT).format(workspace=self._request.workspace.resolve().name)))
                yield Static("Passphrase", classes="label")
                yield Input(password=True, id="passphrase", select_on_focus=False)
                if self._new:
                    yield Static("The same again", classes="label")
                    yield Input(password=True, id="second", select_on_focus=False)
                yield Static("", id="answer", classes="error")
            with Horizontal(classes="buttons"):
                yield Button("Go on", variant="primary", id="accept")
                yield Button("Cancel", id="cancel")

    def on_mount(self) -> None:
        self.query(Input).first().focus()

    @on(Input.Submitted)
    def _next(self, event: Input.Submitted) -> None:
        if event.input is self.query(Input).last():
            self._accepted()
        else:
            self.focus_next()

    @on(Button.Pressed, "#accept")
    def _accepted(self) -> None:
        given = self.query_one("#passphrase", Input).value
        if self._new:
            try:
                self.dismiss(agreed(given, self.query_one("#second", Input).value))
            except LocalsynthError as error:
                self._ask_again(error)
        elif given:
            self._say("Trying it …")
            self._try(given)

    @work(exclusive=True)
    async def _try(self, given: str) -> None:
        # Not here: the process that shows things has no seal, and shall never hold the key.
        try:
            await ask(Request("unlock", self._request.workspace), passphrase=given)
        except LocalsynthError as error:
            self._ask_again(error)
            return
        self.dismiss(given)

    def _ask_again(self, error: LocalsynthError) -> None:
        for field in self.query(Input):
            field.value = ""
        self.query(Input).first().focus()
        self._say(f"{error.message} {error.hint}")

    def _say(self, text: str) -> None:
        self.query_one("#answer", Static).update(Content(text))

    @on(Button.Pressed, "#cancel")
    def _cancelled(self) -> None:
        self.dismiss(None)
