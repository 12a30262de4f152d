"""What the processor says it can."""

import pytest

from localsynth.processor import multiplies_bf16


@pytest.mark.parametrize(
    ("flags", "fast"),
    [("fpu avx512f avx512_bf16 amx_tile", True), ("fpu amx_bf16", True), ("fpu avx2 avx512f not_avx512_bf16", False)],
)
def test_the_flags_decide(tmp_path, flags, fast):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n\n")
    assert multiplies_bf16(tmp_path / "cpuinfo") == fast


def test_a_system_that_does_not_say_is_taken_for_slow(tmp_path):
    assert not multiplies_bf16(tmp_path / "none")
