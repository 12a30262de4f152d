"""Lock files between processes that name their holder.

The lock is the kernel's (`flock`), so it is released when the holder is killed. The content of
the file is only for the message. The file is never removed: otherwise two processes could lock
two files of the same name.
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

_PAUSE = 0.05
_SIGNING_SECONDS = 2.0
"""Seconds a new holder has to write its signature before it is reported without a name."""


def _signature(command: str) -> bytes:
    since = dt.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return json.dumps({"pid": os.getpid(), "command": command, "since": since}).encode()


def _holder(descriptor: int) -> str | None:
    try:
        held = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {held['pid']} ({held['command']}), since {held['since']}"
    except (ValueError, KeyError, TypeError):  # not signed yet, or the disk is full
        return None


@contextmanager
def file_lock(path: Path, what: str, wait_seconds: float = 0.0, command: str = "localsynth") -> Iterator[None]:
    """Hold the lock file `path` during the block.

    Raises ResourceError where another process (or thread) still holds the lock after `wait_seconds`; its message names
    `what` and the `command` of the holder.
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
                if late >= 0 and (holder is not None or late >= _SIGNING_SECONDS):
                    raise ResourceError(
                        f"{what} is in use by {holder or 'another process'}.", "Wait until it is done, or stop that process."
                    ) from None
            time.sleep(_PAUSE)
        os.ftruncate(descriptor, 0)
        with suppress(OSError):  # on a full disk the lock still holds; the work itself reports the disk
            os.pwrite(descriptor, _signature(command), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


@contextmanager
def sampler_lock(path: Path) -> Iterator[None]:
    """Exclude other samplers of a workspace; `path` is its lock file. Raises ResourceError naming the holder."""
    with file_lock(path, "The sampler of this workspace", command="localsynth sample"):
        yield


@contextmanager
def work_lock(root: Path, verb: str) -> Iterator[None]:
    """Exclude other commands that read, train, export or erase in the workspace `root`. Raises ResourceError.

    `verb` is the command, for the message of other processes.
    """
    with file_lock(root / ".work.lock", "This workspace", command=f"localsynth {verb}"):
        yield
