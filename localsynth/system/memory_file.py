"""Files in memory, which reach no disk and end with the processes that hold them open. Linux alone has them."""

import os
from pathlib import Path, PosixPath
from typing import IO

from localsynth.errors import ConfigError

DESCRIPTORS = "/proc/self/fd/"
"""Where the descriptors of a process are found as files."""


class MemoryPath(PosixPath):
    """The path of a file in memory. Messages, as in f"{path}", have the name of what it holds instead; so has `name`."""

    shown: Path
    file: IO[bytes] | None
    """Keeps the file while the path is in use."""

    @staticmethod
    def of(path: str, shown: Path, file: IO[bytes] | None = None) -> "MemoryPath":
        """The path, with what messages name in its place."""
        made = MemoryPath(path)
        made.shown, made.file = shown, file
        return made

    def __format__(self, form: str) -> str:
        return format(str(self.shown), form)

    @property
    def name(self) -> str:
        """The name of what it holds, which tells its format."""
        return self.shown.name


def memory_file(name: str) -> int:
    """The descriptor of a new, empty file in memory; the caller closes it. Raises ConfigError where there are none."""
    if not hasattr(os, "memfd_create"):
        raise ConfigError(
            "Data frames and archives are passed on in memory, which this system cannot do.",
            "Write the table to a file, give the path of the file, and erase the file afterwards.",
        )
    return os.memfd_create(name)


def descriptor_path(descriptor: int) -> str:
    """A path under which this process, or one that inherited the descriptor, opens the same file."""
    return f"{DESCRIPTORS}{descriptor}"
