"""How much memory training holds and may take, and how freed memory is returned to the system.

Knows nothing about models or data.
"""

import ctypes
import resource

import psutil
import torch

_GPU_ROOM = 0.85
"""The driver takes some, and measured memory exceeded the estimate by up to 6 %."""
_HOST_ROOM = 0.5
"""Leaves memory for the other programs of a laptop."""


def trim_heap() -> None:
    """Return freed memory to the system with glibc's malloc_trim; other C libraries are left alone.

    Micro-batches of varying widths leave holes of varying sizes in the heap, so it would grow from step to step: glibc allocates
    only tensors above 32 MB outside of the heap.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def memory_held(device: str) -> int:
    """Bytes that this process holds on `device`: the GPU's where that is "cuda", else the host's."""
    return torch.cuda.memory_allocated() if device == "cuda" else psutil.Process().memory_info().rss


def memory_room(device: str) -> int:
    """Bytes that training may take on `device`.

    A share of the total, not of what is free now: free memory depends on what this process has read, and the choices that follow
    from the limit are kept.
    """
    if device == "cuda":
        return int(_GPU_ROOM * torch.cuda.mem_get_info()[1])
    return int(_HOST_ROOM * psutil.virtual_memory().total)


def peak_memory(device: str) -> int:
    """The most that `memory_held` has been in this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return max(memory_held(device), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
