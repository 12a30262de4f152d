"""What parts of the terminal UI tell each other."""

from textual.message import Message

__all__ = ["JobChanged", "ModelWorkChanged", "WorkspaceChanged"]


class JobChanged(Message):
    """The workspace's job told something new (`app.run_state`), or it ended: `ended` is True once then."""

    def __init__(self, ended: bool = False) -> None:
        super().__init__()
        self.ended = ended


class ModelWorkChanged(Message):
    """A model is being fetched, added or checked (`app.model_work`): it told something new, or it is `over`."""

    def __init__(self, over: bool) -> None:
        super().__init__()
        self.over = over


class WorkspaceChanged(Message):
    """Something of a workspace's files has changed: what was read of them is stale."""
