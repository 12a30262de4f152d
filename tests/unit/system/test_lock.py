import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from localsynth.errors import ResourceError
from localsynth.system.lock import file_lock, sampler_lock, work_lock

HOLD = """
import sys, time
from pathlib import Path
from localsynth.system.lock import file_lock
with file_lock(Path(sys.argv[1]), "It"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_sampler_is_refused_and_names_the_holder(tmp_path: Path) -> None:
    path = tmp_path / ".sampler.lock"
    with sampler_lock(path):
        with pytest.raises(ResourceError, match=rf"process {os.getpid()} \(.*\), since 20\d\d-") as caught, sampler_lock(path):
            pass
        assert caught.value.hint
    with sampler_lock(path):
        pass


def test_killed_holder_releases_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ResourceError, match=f"process {holder.pid} "), file_lock(path, "It"):
            pass
        holder.kill()
    with file_lock(path, "It"):
        pass


def test_lock_waits_for_wait_seconds(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    start = time.monotonic()
    with file_lock(path, "It"), pytest.raises(ResourceError), file_lock(path, "It", wait_seconds=0.2):
        pass
    assert 0.2 <= time.monotonic() - start < 20


def test_lock_is_released_by_an_error_inside(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(KeyError), file_lock(path, "It"):
        raise KeyError
    with file_lock(path, "It"):
        pass


def test_missing_directory_is_a_resource_error(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="Cannot open"), file_lock(tmp_path / "absent" / "lock", "It"):
        pass


def test_the_lock_file_names_the_verb_and_no_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/localsynth", "train", "--where", "diagnosis='secret'"])
    with work_lock(tmp_path, "train"):
        text = (tmp_path / ".work.lock").read_text()
    assert "localsynth train" in text
    assert "secret" not in text


def hold_unsigned(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def test_unsigned_holder_is_waited_for_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine it may be interrupted between the two."""
    monkeypatch.setattr("localsynth.system.lock._SIGNING_SECONDS", 60.0)
    path = tmp_path / "lock"
    descriptor = hold_unsigned(path)
    late = threading.Timer(0.3, lambda: os.pwrite(descriptor, b'{"pid": 77, "command": "localsynth run", "since": "noon"}', 0))
    late.start()
    with pytest.raises(ResourceError, match=r"in use by process 77 \(localsynth run\)"), file_lock(path, "It"):
        pass
    late.join()
    os.close(descriptor)


def test_holder_that_never_signs_is_reported_unnamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localsynth.system.lock._SIGNING_SECONDS", 0.1)
    descriptor = hold_unsigned(tmp_path / "lock")
    with pytest.raises(ResourceError, match="in use by another process"), file_lock(tmp_path / "lock", "It"):
        pass
    os.close(descriptor)


def test_lock_holds_unsigned_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("localsynth.system.lock._SIGNING_SECONDS", 0.0)
    monkeypatch.setattr(os, "pwrite", full)
    with file_lock(tmp_path / "lock", "It"), pytest.raises(ResourceError, match="in use"), file_lock(tmp_path / "lock", "It"):
        pass
