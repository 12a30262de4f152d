"""The export stage as a whole: only a verified file ever has the final name, and nothing else is left."""

import shutil
from collections import namedtuple

import pytest

from localsynth.errors import IntegrityError, ResourceError
from localsynth.export import export as stage
from localsynth.export import verify
from localsynth.export.export import build_gguf
from localsynth.export.merge import set_metadata
from localsynth.export.model_hash import model_hash
from localsynth.llm import llama_cpp
from localsynth.llm.adapter import write_adapter
from localsynth.llm.gguf_file import GgufFile
from localsynth.privacy.certificate import CERTIFICATE_KEY
from localsynth.system.files import file_sha256
from tests.helpers.tiny_model import random_adapter


@pytest.fixture
def trained(tiny_model, tmp_path):
    """A base model and the directory of an adapter."""
    base = tiny_model()
    write_adapter(tmp_path / "adapter", random_adapter(base), 4, 8)
    (tmp_path / "run").mkdir()
    return base, tmp_path / "adapter"


@pytest.mark.parametrize("quantization", ["F16", "Q8_0"])
def test_export_makes_one_verified_file(trained, tmp_path, quantization):
    events = []
    result = build_gguf(*trained, tmp_path / "run" / "model.gguf", quantization, 1, events.append)  # type: ignore[call-arg]
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == ["model.gguf"]
    assert 0 < result.kl < verify.KL_LIMITS[quantization] and result.shift > 1e-3
    assert result.size_bytes == result.path.stat().st_size and result.seconds > 0
    assert GgufFile(result.path).value("general.file_type") == {"F16": 1, "Q8_0": 7}[quantization]
    # Of what llama.cpp's quantizer wrote, no byte changes with the certificate.
    before = file_sha256(result.path)
    set_metadata(result.path, {CERTIFICATE_KEY: "{}"})
    assert model_hash(result.path) == before != file_sha256(result.path)
    assert [(event["kind"], event["stage"], event["step"], event["steps"]) for event in events] == [
        ("progress", "export", step, 5) for step in range(1, 6)
    ]


def fail(*_arguments, **_options):
    raise ResourceError("It failed.")


@pytest.mark.parametrize("broken", ["quantize", "damage", "limit", "merge"])
def test_a_failed_export_keeps_the_earlier_file(trained, tmp_path, monkeypatch, broken):
    out = tmp_path / "run" / "model.gguf"
    out.write_bytes(b"earlier")
    quantize = llama_cpp.quantize

    def damaging(source, target, *rest):
        quantize(source, target, *rest)
        content = bytearray(target.read_bytes())
        content[-40_000:] = bytes(range(200)) * 200
        target.write_bytes(content)

    if broken == "quantize":
        monkeypatch.setattr(llama_cpp, "quantize", fail)
    elif broken == "damage":
        monkeypatch.setattr(llama_cpp, "quantize", damaging)
    elif broken == "limit":
        monkeypatch.setitem(verify.KL_LIMITS, "Q8_0", 1e-9)
    else:
        monkeypatch.setattr(stage, "merge_adapter", fail)
    with pytest.raises((IntegrityError, ResourceError)):
        build_gguf(*trained, out, "Q8_0", 1, lambda event: None)  # type: ignore[call-arg]
    assert [entry.name for entry in out.parent.iterdir()] == ["model.gguf"]
    assert out.read_bytes() == b"earlier"


def test_disk_space_is_checked_first(trained, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 10**9 - 300_000, 300_000))
    build_gguf(*trained, tmp_path / "run" / "model.gguf", "F16", 1, lambda event: None)  # type: ignore[call-arg]
    with pytest.raises(ResourceError, match=r"needs 0\.0 GB"):
        build_gguf(*trained, tmp_path / "run" / "model.gguf", "Q8_0", 1, lambda event: None)  # type: ignore[call-arg]
