"""The window for the passphrase of a workspace's key, which tries it in a worker process before the job starts."""

from textual import work
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Input, Static

from localsynth.errors import ConfigError, LocalsynthError
from localsynth_tui.jobs.client import Request, ask
from localsynth_tui.screens.dialogs import InputWindow

_PRESENT = """\
A passphrase protects the key of the original rows in {workspace}. It goes to the worker process, which has no network, and is \
stored nowhere."""

_NEW = """\
A passphrase protects the key of {workspace}, but there is no key: a new one will be created. Choose its passphrase. If you lose \
it, nobody can read the original rows."""


def needs_new_passphrase(request: Request) -> bool | None:
    """Whether a request needs a new passphrase, for a key that does not exist yet; None where it needs no passphrase.

    Reads small files: call it in a thread. Raises LocalsynthError for a damaged workspace.
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


def agreed_passphrase(first: str, second: str) -> str:
    """A new passphrase that was typed twice. Raises ConfigError where the two differ or are too short."""
    from localsynth.store.key import MIN_LENGTH

    if len(first) < MIN_LENGTH:
        raise ConfigError(f"The passphrase has fewer than {MIN_LENGTH} characters.", "Choose a longer one, such as a sentence.")
    if first != second:
        raise ConfigError("The two passphrases differ.", "Type the same one twice.")
    return first


class PassphraseWindow(InputWindow[str]):
    """The answer is a passphrase that opens the key, or a new one; None where the user cancelled."""

    TITLE = "Passphrase"

    def __init__(self, request: Request, new: bool) -> None:
        """`request` is the job that is about to start."""
        super().__init__()
        self._request, self._new = request, new

    def content(self) -> ComposeResult:
        with VerticalScroll(can_focus=False):
            yield Static(Content((_NEW if self._new else _PRESENT).format(workspace=self._request.workspace.resolve().name)))
            yield Static("Passphrase", classes="label")
            yield Input(password=True, id="passphrase", select_on_focus=False)
            if self._new:
                yield Static("Repeat it", classes="label")
                yield Input(password=True, id="second", select_on_focus=False)
            yield Static("", id="answer", classes="error")
        yield from self.buttons("Continue")

    def action_accept(self) -> None:
        passphrase = self.query_one("#passphrase", Input).value
        if self._new:
            try:
                self.dismiss(agreed_passphrase(passphrase, self.query_one("#second", Input).value))
            except LocalsynthError as error:
                self._ask_again(error)
        elif passphrase:
            self._show_message("Checking the passphrase …")
            self._try(passphrase)

    @work(exclusive=True)
    async def _try(self, passphrase: str) -> None:
        # In another process: this one has no network seal and must never hold the key.
        try:
            await ask(Request("unlock", self._request.workspace), passphrase=passphrase)
        except LocalsynthError as error:
            self._ask_again(error)
            return
        self.dismiss(passphrase)

    def _ask_again(self, error: LocalsynthError) -> None:
        for field in self.query(Input):
            field.value = ""
        self.query(Input).first().focus()
        self._show_message(f"{error.message} {error.hint}")

    def _show_message(self, text: str) -> None:
        self.query_one("#answer", Static).update(Content(text))
