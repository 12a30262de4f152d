"""A check box that says by its sign, not by its colour alone, whether it is ticked."""

from textual.content import Content
from textual.widgets import Checkbox

__all__ = ["Tick"]


class Tick(Checkbox):
    """`[✓]` or `[ ]`."""

    @property
    def _button(self) -> Content:
        return Content("[✓]" if self.value else "[ ]")
