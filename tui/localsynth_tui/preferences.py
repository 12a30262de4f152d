"""What the terminal UI remembers between sessions: recent workspaces, the theme, and changed keys.

One file, tui.json in the user's configuration directory. It holds paths and settings, no
data of any table.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from localsynth.errors import LocalsynthError
from localsynth.system.files import config_directory, make_private_directory, read_json, write_json

_MAX_RECENT = 20


@dataclass
class Preferences:
    """`keymap` maps ids of bindings (shown on the help screen) to keys, such as {"step.plan": "f4"}."""

    recent: list[str] = field(default_factory=list)
    theme: str = "localsynth-dark"
    keymap: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def path() -> Path:
        """The path of the file."""
        return config_directory() / "tui.json"

    @staticmethod
    def load() -> "Preferences":
        """The saved preferences; the defaults where there are none or they cannot be read."""
        try:
            found: Any = read_json(Preferences.path())
        except LocalsynthError:
            return Preferences()
        known = Preferences()
        for name, kind in (("recent", list), ("theme", str), ("keymap", dict)):
            if isinstance(found, dict) and isinstance(found.get(name), kind):
                setattr(known, name, found[name])
        return known

    def save(self) -> None:
        """Write the file. Raises ResourceError."""
        make_private_directory(Preferences.path().parent)
        write_json(Preferences.path(), asdict(self))

    def opened(self, workspace: Path) -> None:
        """Put a workspace at the head of the recent ones."""
        name = str(workspace.resolve())
        self.recent = [name, *(other for other in self.recent if other != name)][:_MAX_RECENT]
