"""Messages between parts of the terminal UI."""

from textual.message import Message

__all__ = ["JobChanged", "ModelTaskChanged"]


class JobChanged(Message):
    """`app.run_state` is new; `over` is True once, when the job is over."""

    def __init__(self, over: bool = False) -> None:
        super().__init__()
        self.over = over


class ModelTaskChanged(Message):
    """`app.model_task` has new progress, or is `over`."""

    def __init__(self, over: bool) -> None:
        super().__init__()
        self.over = over
