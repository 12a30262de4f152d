"""Fixtures that several test directories share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# Tests fill the cores by running in several processes; threads beside them only wait for each other. Before torch is imported.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}

from localsynth.system.cpu import let_threads_sleep
from tests.helpers.tiny_model import write_tiny_model

let_threads_sleep()  # as in the worker, before llama.cpp or torch is loaded

# A test of a change tries the same examples each time, or it would fail for what another change has done. To look for more:
# pytest --hypothesis-profile=explore
hypothesis.settings.register_profile("fixed", derandomize=True)
hypothesis.settings.register_profile("explore", derandomize=False)
hypothesis.settings.load_profile("fixed")

TinyModel = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """`write_tiny_model` with a path of its own, written once a session for each choice of options."""
    directory = tmp_path_factory.mktemp("tiny")
    written: dict[tuple[tuple[str, Any], ...], Path] = {}

    def make(**options: Any) -> Path:
        key = tuple(sorted(options.items()))
        if key not in written:
            written[key] = write_tiny_model(directory / f"tiny-{len(written)}.gguf", **options)
        return written[key]

    return make
