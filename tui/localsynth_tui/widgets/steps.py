"""The two lines at the top of every screen: the steps, and the open workspace with its job."""

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.events import Click
from textual.widget import Widget
from textual.widgets import Static

STEPS: dict[str, str] = {
    "home": "Home",
    "data": "Data",
    "plan": "Plan",
    "run": "Run",
    "synthetic": "Rows",
    "report": "Report",
    "models": "Models",
}
"""Names of the screens and their titles; the keys 1, 2, ... open them in this order."""


class _Step(Static):
    """One title; a click opens its screen."""

    def __init__(self, number: int, step: str, here: bool) -> None:
        # Not by colour alone: the current screen is in brackets.
        title = f"[{number} {STEPS[step]}]" if here else f" {number} {STEPS[step]} "
        super().__init__(Content(title), classes="here" if here else "")
        self._step = step

    def on_click(self, event: Click) -> None:
        event.stop()
        # In the app, since this widget ends with its screen.
        self.app.call_later(self.app.run_action, f"go('{self._step}')")


class Steps(Widget):
    """The titles of all screens, and a line with the workspace and its job."""

    def __init__(self, here: str) -> None:
        super().__init__()
        self._here = here
        self._status = Static(id="status")
        """Made here, since the app may show a status before the widgets are mounted."""

    def compose(self) -> ComposeResult:
        with Horizontal():
            for number, step in enumerate(STEPS, 1):
                yield _Step(number, step, step == self._here)
        yield self._status

    def show(self, text: str) -> None:
        """Set the second line."""
        self._status.update(Content(text))
