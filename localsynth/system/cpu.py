"""Features of the processor, as the operating system reports them."""

import os
from pathlib import Path

import psutil

FAST_BF16 = frozenset({"avx512_bf16", "amx_bf16"})
"""A CPU with none of these features emulates bf16, which is slower than float32."""

_CPUINFO = Path("/proc/cpuinfo")


def default_threads() -> int:
    """One thread for each physical core this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def let_threads_sleep() -> None:
    """Let OpenMP threads that wait for each other sleep instead of spin, unless the environment says otherwise.

    Beside another busy process, spinning halves the speed (docs/lab/training-speed.md). OpenMP reads this once, when it
    is loaded: call it before llama.cpp or torch is imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def multiplies_bf16(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether the processor has instructions for bf16 (AVX512-BF16 or AMX)."""
    return bool(_features(cpuinfo) & FAST_BF16)


def has_tiles(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether the processor has a matrix unit (AMX)."""
    return "amx_tile" in _features(cpuinfo)


def _features(cpuinfo: Path) -> set[str]:
    try:
        return set(cpuinfo.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return set()
