"""What every numbered screen has: the line of steps, a footer, help, a command-line twin, and the app's own type."""

from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import Footer

from localsynth.errors import LocalsynthError
from localsynth_tui.widgets.steps import StepChosen, Steps

if TYPE_CHECKING:
    from localsynth_tui.app import LocalsynthApp

__all__ = ["StepScreen"]


class StepScreen(Screen[None]):
    """Subclasses set `STEP` and `HELP`, and yield their content in `content`."""

    STEP: ClassVar[str]
    HELP: ClassVar[str]
    """What the screen is for and how to use it, in a few sentences."""

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
    def ui(self) -> "LocalsynthApp":
        """The app, as what it is."""
        from localsynth_tui.app import LocalsynthApp

        return cast(LocalsynthApp, self.app)

    def command(self) -> str:
        """The command line that does what this screen is about."""
        raise NotImplementedError

    def on_screen_resume(self) -> None:
        """Bring the second line up to date."""
        self.ui.show_status()

    @on(StepChosen)
    def _go(self, event: StepChosen) -> None:
        self.run_worker(self.ui.action_go(event.step))

    def action_leave_field(self) -> None:
        """Take the focus off a field, so that single keys are commands again."""
        self.set_focus(None)

    def tell(self, error: LocalsynthError) -> None:
        """Show an error as a message with what to do."""
        self.ui.tell(error)
