"""What every numbered screen has: the line of steps, a footer, help, and a command-line twin."""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widgets import Footer
from textual.worker import get_current_worker

from localsynth.errors import LocalsynthError
from localsynth_tui.ui import Ui
from localsynth_tui.widgets.steps import StepChosen, Steps

__all__ = ["StepScreen"]


class StepScreen(Screen[None]):
    """Subclasses set `STEP` and `HELP`, and yield their content in `content`."""

    STEP: ClassVar[str]
    HELP: ClassVar[str]
    """What the screen is for and how to use it, in a few sentences."""

    AUTO_FOCUS = ""
    """No field takes the focus by itself: single keys are commands until one is chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave_field", "Leave the field", show=False, id="leave-field")]

    def compose(self) -> ComposeResult:
        yield Steps(self.STEP)
        with Vertical(id="content"):
            yield from self.content()
        yield Footer(show_command_palette=True)

    def content(self) -> ComposeResult:
        """The widgets between the steps and the footer."""
        raise NotImplementedError

    @property
    def ui(self) -> Ui:
        """The app."""
        return cast(Ui, self.app)

    def settle(self) -> None:
        """Save at once what waits for a pause in typing: the screen is about to be left."""

    def command(self) -> str:
        """The command line that does what this screen is about."""
        raise NotImplementedError

    def twins(self) -> list[tuple[str, str]]:
        """(what it does, command line) of what can be done here; the first is `command`."""
        return [("Do this on the command line", self.command())]

    def on_screen_resume(self) -> None:
        """Bring the second line up to date."""
        self.ui.show_status()

    @on(StepChosen)
    def _go(self, event: StepChosen) -> None:
        self.hand_over(self.ui.action_go(event.step))

    def hand_over(self, work: Coroutine[Any, Any, object]) -> None:
        """Have the app do what may end in another screen: a worker of this screen would be ended together with it."""
        self.app.run_worker(work, group="hand-over")

    def action_leave_field(self) -> None:
        """Take the focus off a field, so that single keys are commands again."""
        self.set_focus(None)

    def back(self, callback: Callable[..., object], *arguments: object) -> None:
        """From a thread: call back in the UI, unless the screen was left meanwhile."""
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._call_if_here, callback, *arguments)

    def _call_if_here(self, callback: Callable[..., object], *arguments: object) -> None:
        # A screen that is being taken down loses its widgets before its workers.
        with suppress(NoMatches):
            callback(*arguments)

    def tell(self, error: LocalsynthError) -> None:
        """Show an error as a message with what to do."""
        self.ui.tell(error)
