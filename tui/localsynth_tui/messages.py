"""Messages between parts of the terminal UI."""

from dataclasses import dataclass

from textual.message import Message


@dataclass
class JobChanged(Message):
    """`app.run_state` is new; `over` is True once, when the job is over."""

    over: bool


@dataclass
class ModelTaskChanged(Message):
    """`app.model_task` has new progress, or is `over`."""

    over: bool
