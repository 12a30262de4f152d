"""The base models localsynth knows, where they come from, and how they are fetched and checked.

`catalog` finds, checks and describes them, `fetch` brings them here. Knows nothing of the rest of localsynth.
"""

from typing import Literal


class ModelError(Exception):
    """A base model cannot be used. `message` says what is wrong, `hint` what to do, `kind` whose fault it is.

    kind "config": a wrong name or an unsuitable file; "integrity": a file that is not what its hash or header says;
    "resource": the network, the disk or pip is in the way, or the model is not here yet.
    """

    def __init__(self, message: str, hint: str = "", kind: Literal["config", "integrity", "resource"] = "config") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.kind = kind
