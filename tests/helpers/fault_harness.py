"""Stages on a full disk, without memory, in a workspace that cannot be written, and under a clock that runs backwards.

    python -m tests.helpers.fault_harness DIRECTORY MODEL FAULT TRIES SEED KIND STAGE...

FAULT is disk, memory, read-only or clock; disk and read-only take a mount namespace (unshare -rm). Each try works on a
copy of a workspace on which the stage can begin, and in the end brings it to its end without the fault. Writes one JSON object
a try, with what was wrong.
"""

import datetime as dt
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.helpers.forked import Ended, Place, bases, faults_of, limit_memory, run, unfinished


def done_without_it(place: Place, stage: str) -> list[str]:
    ended = run(stage, place)
    if ended.code == 2 and "is trained already" in ended.message:
        return []
    return [f"without the fault: {ended}"] if ended.code else faults_of(place) + unfinished(place, stage)


def bad_end(ended: Ended, codes: tuple[int, ...], *words: str) -> list[str]:
    """Whether a stage neither went well nor ended with one of these codes and one of these words."""
    if ended.code == 0 or (ended.code in codes and any(word in ended.message for word in words)):
        return []
    return [f"ended badly: {ended}"]


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def on_a_full_disk(stage: str, before: Place, root: Path, tries: int, r: random.Random) -> Iterator[tuple[Ended, list[str]]]:
    for spare in [0, *(int(2 ** r.uniform(12, 20)) for _ in range(tries - 1))]:
        root.mkdir()
        mount("-t", "tmpfs", "-o", "size=80m", "tmpfs", str(root))
        place = before.copy(root)
        disk = os.statvfs(root)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        mount("-o", f"remount,size={used + spare}", str(root))
        ended = run(stage, place)
        wrong = bad_end(ended, (5,), "space", "disk is full", "Cannot write")
        wrong += [f"on the full disk: {each}" for each in faults_of(place)]
        mount("-o", "remount,size=80m", str(root))
        wrong += done_without_it(place, stage)
        subprocess.run(["umount", str(root)], check=True)
        place.remove()
        yield ended, wrong


def without_memory(stage: str, before: Place, root: Path, tries: int, r: random.Random) -> Iterator[tuple[Ended, list[str]]]:
    for _ in range(tries):
        place, more = before.copy(root), int(2 ** r.uniform(22, 29))
        ended = run(stage, place, before=lambda more=more: limit_memory(more))
        # A library that aborts, or is ended by the kernel, is told of by the parent process.
        wrong = bad_end(ended, (5, -signal.SIGABRT, -signal.SIGKILL, -signal.SIGSEGV), "emory")
        if ended.code and "tart the command again" not in ended.message:
            wrong.append(f"does not say what to do: {ended}")
        wrong += [f"{more} bytes: {each}" for each in faults_of(place)]
        wrong += done_without_it(place, stage)
        place.remove()
        yield ended, wrong


def read_only(stage: str, before: Place, root: Path, tries: int, r: random.Random) -> Iterator[tuple[Ended, list[str]]]:
    place = before.copy(root)
    workspace = str(place.workspace.root)
    files = {path: path.read_bytes() for path in place.workspace.root.rglob("*") if path.is_file()}
    mount("--bind", workspace, workspace)
    mount("-o", "remount,bind,ro", workspace)
    ended = run(stage, place)
    wrong = bad_end(ended, (5,), workspace)
    subprocess.run(["umount", workspace], check=True)
    if ended.code == 0 or any(path.read_bytes() != content for path, content in files.items()):
        wrong.append("a file was changed")
    wrong += done_without_it(place, stage)
    place.remove()
    yield ended, wrong


def set_clock(day: dt.datetime) -> None:
    """In a fork: it is that day."""
    real, seconds = dt.datetime, day.replace(tzinfo=dt.UTC).timestamp()

    class Clock(real):  # type: ignore[misc, valid-type]
        @classmethod
        def now(cls, tz: Any = None) -> dt.datetime:
            return real.fromtimestamp(seconds, tz)

    dt.datetime = Clock  # type: ignore[misc]
    time.time = lambda: seconds


def backwards(stage: str, before: Place, root: Path, tries: int, r: random.Random) -> Iterator[tuple[Ended, list[str]]]:
    """Begun and killed in 2040, gone on with in 1970."""
    place = before.copy(root)
    run(stage, place, kill_after=0.3, before=lambda: set_clock(dt.datetime(2040, 2, 29)))
    ended = run(stage, place, before=lambda: set_clock(dt.datetime(1970, 1, 2)))
    lost = stage == "train" and ended.code == 4
    wrong = [] if lost else bad_end(ended, (2,), "is trained already") + faults_of(place) + unfinished(place, stage)
    place.remove()
    yield ended, wrong


FAULTS: dict[str, Callable[..., Iterator[tuple[Ended, list[str]]]]] = {
    "disk": on_a_full_disk,
    "memory": without_memory,
    "read-only": read_only,
    "clock": backwards,
}


def main() -> None:
    root, model, fault = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    tries, r, kind = int(sys.argv[4]), random.Random(int(sys.argv[5])), sys.argv[6]
    for stage, before, _ in bases(root, kind, model, tuple(sys.argv[7:])):
        for ended, wrong in FAULTS[fault](stage, before, root / f"{stage}-{fault}", tries, r):
            told = {"stage": stage, "code": ended.code, "said": ended.message, "wrong": wrong}
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()


main()
