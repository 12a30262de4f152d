"""The hash of a model covers every byte of its file but the certificate."""

import hashlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from localsynth.errors import IntegrityError
from localsynth.export.merge import set_metadata
from localsynth.export.model_hash import model_hash
from localsynth.privacy.certificate import CERTIFICATE_KEY

FIELDS: dict[str, Any] = {"general.name": "small", "llama.block_count": 2, "tokenizer.tokens": ["a", "b"]}
TENSORS = {"b.weight": np.arange(64, dtype=np.float32).reshape(2, 32), "a.weight": np.ones(32, dtype=np.float16)}


def write(path: Path, fields: dict[str, Any], tensors: dict[str, np.ndarray]) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in fields.items():
        if isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, list):
            writer.add_array(name, value)
        else:
            writer.add_uint32(name, value)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def base(tmp_path: Path) -> str:
    return model_hash(write(tmp_path / "base.gguf", FIELDS, TENSORS))


def test_hash_is_that_of_the_file_without_its_certificate(tmp_path: Path, base: str) -> None:
    path = tmp_path / "base.gguf"
    assert base == hashlib.sha256(path.read_bytes()).hexdigest()
    for text in ("{}", "{}" * 500):
        set_metadata(path, {CERTIFICATE_KEY: text})
        assert model_hash(path) == base


def test_certificate_is_the_last_key(tmp_path: Path) -> None:
    """Where among the others it stands is under no hash."""
    path = write(tmp_path / "first.gguf", {CERTIFICATE_KEY: "{}", **FIELDS}, TENSORS)
    with pytest.raises(IntegrityError, match=r"after 'localsynth\.certificate'"):
        model_hash(path)


def test_hash_depends_on_the_order_of_keys_and_tensors(tmp_path: Path, base: str) -> None:
    for fields, tensors in ((dict(reversed(FIELDS.items())), TENSORS), (FIELDS, dict(reversed(TENSORS.items())))):
        assert model_hash(write(tmp_path / "other.gguf", fields, tensors)) != base


@pytest.mark.parametrize(
    ("fields", "tensors"),
    [
        ({"general.name": "Small"}, {}),
        ({"general.more": "x"}, {}),
        ({"localsynthetic": "x"}, {}),
        ({"localsynth.run": "r1"}, {}),
        ({"llama.block_count": 3}, {}),
        ({"llama.block_count": "2"}, {}),
        ({"tokenizer.tokens": ["ab", ""]}, {}),
        ({}, {"a.weight": np.full(32, 1.001, dtype=np.float16)}),
        ({}, {"a.weight": np.ones(32, dtype=np.float32)}),
        ({}, {"b.weight": TENSORS["b.weight"].reshape(1, 64)}),  # type: ignore[attr-defined]
        ({}, {"c.weight": np.ones(32, dtype=np.float16)}),
    ],
)
def test_hash_covers_everything_else(tmp_path: Path, base: str, fields: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    assert model_hash(write(tmp_path / "other.gguf", {**FIELDS, **fields}, {**TENSORS, **tensors})) != base


def test_hash_covers_every_tensor_byte(tmp_path: Path, base: str) -> None:
    content = bytearray((tmp_path / "base.gguf").read_bytes())
    start = gguf.GGUFReader(tmp_path / "base.gguf").tensors[0].data_offset
    for position in (start, start + 100, start + 255):
        changed = content.copy()
        changed[position] ^= 1
        (tmp_path / "changed.gguf").write_bytes(changed)
        assert model_hash(tmp_path / "changed.gguf") != base


def test_other_files_are_refused_by_name(tmp_path: Path, base: str) -> None:
    whole = (tmp_path / "base.gguf").read_bytes()
    for content in (b"", b"x", b"not a model" * 100, whole[:50], whole[:-40]):
        (tmp_path / "broken.gguf").write_bytes(content)
        with pytest.raises(IntegrityError, match=r"broken\.gguf"):
            model_hash(tmp_path / "broken.gguf")
