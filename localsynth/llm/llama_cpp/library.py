"""llama.cpp for this process: its start, its errors, and loading a model file.

Importing this module starts llama.cpp. OpenMP reads its settings then, so `system.cpu.let_threads_sleep` must be
called before.
"""

import ctypes
import os
from pathlib import Path
from typing import Any

import llama_cpp

from localsynth.errors import IntegrityError
from localsynth.system.cpu import has_tiles

ALL_LAYERS = -1
"""Put the whole model on the GPU."""

CHAT_TEMPLATE = "tokenizer.chat_template"
"""Prefix of the metadata keys that hold chat templates, which are programs. Nothing here runs one."""

_LEVEL_ERROR = 4  # GGML_LOG_LEVEL_ERROR in ggml.h; the binding does not name it


class ErrorLog:
    """The last error lines of llama.cpp, for messages of our own; it would otherwise write them to stderr.

    llama.cpp has one log for the whole process, so there is one object, which lives as long.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        # llama.cpp keeps only the address of the callback.
        self._callback = llama_cpp.llama_log_callback(self._receive)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _receive(self, level: int, text: bytes, _user_data: object) -> None:
        if level == _LEVEL_ERROR:
            self._lines.append(text.decode("utf-8", "replace").strip())
            del self._lines[:-3]

    def clear(self) -> None:
        """Forget the lines so far."""
        self._lines.clear()

    def last(self, default: str) -> str:
        """The last line since `clear`, or `default`."""
        return self._lines[-1] if self._lines else default


error_log = ErrorLog()


def _load_cpu_code() -> None:
    """Where llama.cpp was built with one library for each kind of CPU, as in the bundle, load the one that fits best.

    llama.cpp looks for them beside the running program, which is Python. Other builds have their code in them already.
    """
    library = llama_cpp.llama_cpp._lib
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    if library.ggml_backend_dev_count() == 0:
        library.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
        library.ggml_backend_load_all_from_path.restype = None
        library.ggml_backend_load_all_from_path(os.fsencode(Path(llama_cpp.__file__).parent / "lib"))


_default_parameters = llama_cpp.llama_model_default_params


def model_parameters() -> Any:
    """llama.cpp's defaults, but without the AMX unit.

    Up to version 12, GCC leaves out most of what llama.cpp writes into that unit's configuration (`_tile_loadconfig` says
    that it reads 8 bytes of the 64): the first product of a quantized model then ends the process. The other layouts that
    llama.cpp would choose for speed are lost with it.
    """
    parameters = _default_parameters()
    if has_tiles():
        parameters.use_extra_bufts = False
    return parameters


llama_cpp.llama_cpp.llama_model_default_params = model_parameters  # where llama-cpp-python's own class finds it, too
_load_cpu_code()
llama_cpp.llama_backend_init()


def gpu_offload() -> bool:
    """Whether this build of llama.cpp can run layers on a GPU."""
    return bool(llama_cpp.llama_supports_gpu_offload())


def load_model(path: Path, *, vocab_only: bool, gpu_layers: int = 0) -> Any:
    """llama.cpp's handle of the model in a file. Raises IntegrityError."""
    parameters = model_parameters()
    parameters.vocab_only = vocab_only
    parameters.n_gpu_layers = gpu_layers
    parameters.use_mmap = True
    error_log.clear()
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), parameters)
    if not model:
        raise IntegrityError(
            f"llama.cpp cannot load {path}: {error_log.last('no reason given')}.",
            "Fetch the model again: localsynth models fetch NAME, or check the file.",
        )
    return model
