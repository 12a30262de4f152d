"""Locks between processes: a file that one process holds and that says who holds it.

The lock is the kernel's (`flock`), so a killed holder frees it; what stands in the file is only for the message.
The file itself stays: removing it would let two processes lock two files of the same name.
"""

import datetime as dt
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from localsynth.errors import ResourceError

__all__ = ["file_lock", "sampler_lock", "work_lock"]

_PAUSE = 0.05
_TO_SIGN = 2.0
"""Seconds that a holder may take to write who it is, on a busy machine, before it is reported unnamed."""


def _signature(command: str) -> bytes:
    since = dt.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return json.dumps({"pid": os.getpid(), "command": command, "since": since}).encode()


def _holder(descriptor: int) -> str | None:
    try:
        held = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {held['pid']} ({held['command']}), since {held['since']}"
    except (ValueError, KeyError, TypeError):  # the holder has not signed yet, or could not
        return None


@contextmanager
def file_lock(path: Path, what: str, wait_seconds: float = 0.0, command: str = "localsynth") -> Iterator[None]:
    """Hold the lock file `path` for the length of the block.

    `what` is named in the message of the ResourceError raised when another process (or thread) still holds the lock
    after `wait_seconds`, and so is the `command` that the holder gave.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ResourceError(f"Cannot open {path}: {error.strerror}.", "Check the permissions of the directory.") from None
    try:
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                late = time.monotonic() - deadline
                holder = _holder(descriptor)
                if late >= 0 and (holder is not None or late >= _TO_SIGN):
                    raise ResourceError(
                        f"{what} is in use by {holder or 'another process'}.", "Wait until it is done, or stop that process."
                    ) from None
            time.sleep(_PAUSE)
        os.ftruncate(descriptor, 0)
        with suppress(OSError):  # on a full disk: the lock holds all the same, and it is what is being made that must say so
            os.pwrite(descriptor, _signature(command), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


@contextmanager
def sampler_lock(path: Path) -> Iterator[None]:
    """Be the only sampler of a workspace; `path` is its lock file. Raises ResourceError naming the first one."""
    with file_lock(path, "The sampler of this workspace", command="localsynth sample"):
        yield


@contextmanager
def work_lock(root: Path, verb: str) -> Iterator[None]:
    """Be the only command that reads, trains, exports or erases in the workspace `root`. Raises ResourceError.

    `verb` is the command that other processes are told of.
    """
    with file_lock(root / ".work.lock", "This workspace", command=f"localsynth {verb}"):
        yield
