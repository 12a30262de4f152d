"""Files in memory, which reach no disk and end with the processes that hold them open. Linux alone has them."""

import os

from localsynth.errors import ConfigError


def memory_file(name: str) -> int:
    """The descriptor of a new, empty file in memory; the caller closes it. Raises ConfigError where there are none."""
    if not hasattr(os, "memfd_create"):
        raise ConfigError(
            "A data frame is passed on in memory, which this system cannot do.",
            "Write it to a file, give the path of the file, and erase the file afterwards.",
        )
    return os.memfd_create(name)


def descriptor_path(descriptor: int) -> str:
    """A path under which this process, or one that inherited the descriptor, opens the same file."""
    return f"/proc/self/fd/{descriptor}"
