"""What memory training holds, and giving back what it no longer uses.

Knows nothing about models or data.
"""

import ctypes
import resource

__all__ = ["give_back_memory", "peak_memory"]


def give_back_memory() -> None:
    """Hand freed memory back to the system, where the C library can (glibc's malloc_trim; elsewhere nothing is done).

    Micro-batches of ever other widths leave holes of ever other sizes in the heap, which grows from step to step: glibc raises
    the size from which a tensor gets pages of its own to 32 MB, and all below comes from the heap.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def peak_memory() -> int:
    """The most memory this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
