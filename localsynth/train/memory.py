"""What memory training holds, and giving back what it no longer uses.

Knows nothing about models or data.
"""

import ctypes
import resource

import psutil
import torch

__all__ = ["give_back_memory", "memory_held", "memory_room", "peak_memory"]


_GPU_ROOM = 0.85
"""The driver takes some, and what is foretold has been wrong by 6 % where it was measured."""
_HOST_ROOM = 0.5
"""The other programs of a laptop want theirs."""


def give_back_memory() -> None:
    """Hand freed memory back to the system, where the C library can (glibc's malloc_trim; elsewhere nothing is done).

    Micro-batches of ever other widths leave holes of ever other sizes in the heap, which grows from step to step: glibc raises
    the size from which a tensor gets pages of its own to 32 MB, and all below comes from the heap.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def memory_held(device: str) -> int:
    """Bytes that this process holds on `device`: the GPU's where that is "cuda", else the host's."""
    return torch.cuda.memory_allocated() if device == "cuda" else psutil.Process().memory_info().rss


def memory_room(device: str) -> int:
    """Bytes that training may take on `device`.

    Of all that it has, and not of what is free now: that depends on what this process has read, and what is chosen by it is kept.
    """
    if device == "cuda":
        return int(_GPU_ROOM * torch.cuda.mem_get_info()[1])
    return int(_HOST_ROOM * psutil.virtual_memory().total)


def peak_memory(device: str) -> int:
    """The most that `memory_held` has been in this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return max(memory_held(device), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
