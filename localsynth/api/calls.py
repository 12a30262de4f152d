"""Calls of the sealed worker, with a data frame in a file in memory, and progress shown as in a notebook."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import UnionType
from typing import Any, TypeVar

from localsynth.api.progress import Progress
from localsynth.results import from_json
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
