"""A checkbox that shows its state by a sign, not by colour alone."""

from textual.content import Content
from textual.widgets import Checkbox

__all__ = ["SignCheckbox"]


class SignCheckbox(Checkbox):
    """`[✓]` or `[ ]`."""

    @property
    def _button(self) -> Content:
        return Content("[✓]" if self.value else "[ ]")
