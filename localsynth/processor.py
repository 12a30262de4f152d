"""What the processor multiplies fast, read off the operating system."""

from pathlib import Path

__all__ = ["multiplies_bf16"]


def multiplies_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has instructions for bf16 (AVX512-BF16 or AMX). Without, bf16 is emulated, slower than float32."""
    try:
        features = set(cpuinfo.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False
    return bool(features & {"avx512_bf16", "amx_bf16"})
