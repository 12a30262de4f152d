"""Memory that training has freed goes back to the system, in the loop after each step."""

import platform

import psutil
import pytest

from localsynth.train import memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries give memory back by themselves, or not at all")
def test_trimming_frees_holes_in_the_heap():
    process = psutil.Process()
    blocks = [bytes(60_000) + b"x" for _ in range(4000)]  # below the size from which blocks get pages of their own
    kept = blocks[::50]  # so that the heap cannot simply shrink from its end
    del blocks
    before = process.memory_info().rss
    memory.trim_heap()
    assert before - process.memory_info().rss > 100_000_000
    assert len(kept) == 80


def test_c_library_without_malloc_trim_is_no_error(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.trim_heap()
    assert memory.peak_memory("cpu") >= memory.memory_held("cpu") > 10_000_000


def test_memory_limit_does_not_depend_on_free_memory(monkeypatch):
    class Memory:
        total, available = 8 * 2**30, 1 * 2**30

    monkeypatch.setattr(memory.psutil, "virtual_memory", Memory)
    assert memory.memory_room("cpu") == 4 * 2**30
    monkeypatch.setattr(memory.torch.cuda, "mem_get_info", lambda: (1 * 2**30, 10 * 2**30))
    assert memory.memory_room("cuda") == int(8.5 * 2**30)
