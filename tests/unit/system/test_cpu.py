"""What the processor says it can."""

import os

import pytest

from localsynth.system.cpu import has_tiles, let_threads_sleep, multiplies_bf16


@pytest.mark.parametrize(
    ("flags", "fast"),
    [("fpu avx512f avx512_bf16 amx_tile", True), ("fpu amx_bf16", True), ("fpu avx2 avx512f not_avx512_bf16", False)],
)
def test_features_from_flags(tmp_path, flags, fast):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n\n")
    assert multiplies_bf16(tmp_path / "cpuinfo") == fast


def test_no_features_where_the_system_reports_none(tmp_path):
    assert not multiplies_bf16(tmp_path / "none") and not has_tiles(tmp_path / "none")


def test_llama_cpp_does_not_use_amx(tmp_path, monkeypatch):
    """A llama.cpp that GCC 12 compiled for such a processor ends the process there; without the unit it loads as ever."""
    import llama_cpp as binding

    from localsynth.llm.llama_cpp import library

    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu avx512f amx_tile amx_int8\n")
    assert has_tiles(tmp_path / "cpuinfo")
    for tiles in (True, False):
        monkeypatch.setattr(library, "has_tiles", lambda tiles=tiles: tiles)
        for parameters in (library.model_parameters(), binding.llama_cpp.llama_model_default_params()):
            assert parameters.use_extra_bufts is not tiles


def test_threads_sleep_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "active"
