"""Calls of the sealed worker, with a data frame in a file in memory, and progress shown as in a notebook."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import UnionType
from typing import Any, TypeVar

from localsynth.api.progress import Progress
from localsynth.errors import ConfigError
from localsynth.results.as_json import from_json
from localsynth.worker import run_in_child

Result = TypeVar("Result")


def call(kind: type[Result] | UnionType, verb: str, request: dict[str, Any], inherited: tuple[int, ...] = ()) -> Result:
    """The result of a verb of the worker. Notes and warnings are printed, its error is raised here."""
    with Progress() as progress:
        return from_json(kind, run_in_child(verb, request, progress, inherited))


@contextmanager
def passed_on(data: Any) -> Iterator[tuple[str | None, tuple[int, ...]]]:
    """The path by which the worker opens a data frame, and the descriptor to inherit; (None, ()) for the path of a file."""
    if data is None or isinstance(data, str | os.PathLike):
        yield None, ()
        return
    from localsynth.ingest.sources.data_frames import frame_to_memory
    from localsynth.system.memory_file import descriptor_path

    descriptor = frame_to_memory(data)
    try:
        yield descriptor_path(descriptor), (descriptor,)
    finally:
        os.close(descriptor)


@contextmanager
def csv_passed_on(like: Any) -> Iterator[tuple[str | None, tuple[int, ...]]]:
    """As `passed_on`, for the values of some columns, which the worker reads as CSV. Raises ConfigError."""
    if like is None or isinstance(like, str | os.PathLike):
        yield None if like is None else os.fspath(like), ()
        return
    if not hasattr(like, "to_csv"):
        raise ConfigError(f"like cannot be a {type(like).__name__}.", "Give a pandas DataFrame, or the path of a CSV.")
    from localsynth.system.memory_file import descriptor_path, memory_file

    descriptor = memory_file("localsynth")
    try:
        with os.fdopen(os.dup(descriptor), "w", encoding="utf-8", newline="") as out:
            like.to_csv(out, index=False)
        yield descriptor_path(descriptor), (descriptor,)
    finally:
        os.close(descriptor)
