"""GGUF files are copied without a change, read as the `gguf` package reads them, and refused where they are damaged."""

import re
import struct
from contextlib import suppress
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFValueType
from hypothesis import given, settings
from hypothesis import strategies as st

from localsynth.errors import ConfigError, IntegrityError, ResourceError
from localsynth.llm.gguf_file import GgufFile, Tensor, data_size, string_field, uint32_field, write_gguf


@pytest.mark.parametrize("kind", [GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.Q4_1])
def test_a_copy_is_identical(tiny_model, tmp_path, kind):
    source = GgufFile(tiny_model(quantization=kind))
    copy = tmp_path / "copy.gguf"
    write_gguf(copy, source.fields, list(source.tensors.values()), lambda tensor: [source.raw(tensor.name)])
    assert copy.read_bytes() == source.path.read_bytes()


@pytest.mark.parametrize("kind", [GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.Q4_1])
def test_values_are_those_of_the_gguf_package(tiny_model, kind):
    path = tiny_model(quantization=kind)
    ours, theirs = GgufFile(path), gguf.GGUFReader(path)
    assert {tensor.name for tensor in theirs.tensors} == set(ours.tensors)
    for tensor in theirs.tensors:
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_array_equal(ours.array(tensor.name), expected)
        parts = [values for _, values in ours.chunks(tensor.name, elements=200)]
        np.testing.assert_array_equal(np.concatenate(parts).reshape(expected.shape), expected)
    assert max(len(values) for _, values in ours.chunks("token_embd.weight", elements=200)) == 3  # rows of 64
    for key, field in theirs.fields.items():
        if not key.startswith("GGUF."):
            assert ours.value(key) == field.contents()
    assert ours.value("missing") is None and ours.value("missing", 3) == 3


def test_what_the_gguf_package_cannot_write_is_kept(tmp_path):
    fields = {
        "general.architecture": string_field(""),
        "empty": struct.pack("<IIQ", GGUFValueType.ARRAY, GGUFValueType.STRING, 0),
        "nested": struct.pack("<IIQ", GGUFValueType.ARRAY, GGUFValueType.ARRAY, 1)
        + struct.pack("<IQ2b", GGUFValueType.INT8, 2, -1, 5),
    }
    path = tmp_path / "odd.gguf"
    write_gguf(path, fields, [], lambda tensor: [])
    read = GgufFile(path)
    assert read.fields == fields
    assert (read.value("general.architecture"), read.value("empty"), read.value("nested")) == ("", [], [[-1, 5]])


def test_another_alignment_is_read_and_not_kept(tmp_path):
    path = tmp_path / "aligned.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(256)
    arrays = {"a": np.arange(5, dtype=np.float32), "b": np.arange(6, dtype=np.float32).reshape(2, 3)}
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    source = GgufFile(path)
    copy = tmp_path / "copy.gguf"
    write_gguf(copy, source.fields, list(source.tensors.values()), lambda tensor: [source.raw(tensor.name)])
    for file in (source, GgufFile(copy)):
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.array(name), array)
    assert GgufFile(copy).value("general.alignment") is None
    assert copy.stat().st_size < path.stat().st_size


def test_reading_a_tensor_releases_its_pages(tmp_path):
    path = tmp_path / "large.gguf"
    rows = np.arange(1 << 20, dtype=np.float32).reshape(1024, 1024)
    write_gguf(path, {}, [Tensor("a", rows.shape, GGMLQuantizationType.F32)], lambda tensor: [rows])
    source = GgufFile(path)
    parts = [values for _, values in source.chunks("a", elements=1 << 16)]
    # "START-END rw-s OFFSET DEVICE INODE PATH", then a line for each of its figures: how much of it this process holds, in kB
    mapped = Path("/proc/self/smaps").read_text().partition(f"{path}\n")[2]
    held = int(re.search(r"^Rss:\s+(\d+) kB", mapped, re.MULTILINE)[1])
    assert held < 1024 < path.stat().st_size // 1024
    np.testing.assert_array_equal(np.concatenate(parts), rows)


def test_size_is_foretold(tiny_model):
    source = GgufFile(tiny_model())
    header = min(source._offsets.values())
    assert data_size(source.tensors.values()) + header == source.path.stat().st_size


def test_every_cut_is_noticed(tiny_model, tmp_path):
    whole = tiny_model().read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in [0, 3, 4, 20, 100, 5000, len(whole) // 2, len(whole) - 33]:
        cut.write_bytes(whole[:length])
        with pytest.raises(IntegrityError):
            GgufFile(cut)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_header_raises_only_our_errors(tiny_model, tmp_path_factory, changes):
    content = bytearray(tiny_model().read_bytes())
    for place, value in changes:
        content[place] = value
    path = tmp_path_factory.mktemp("damaged") / "damaged.gguf"
    path.write_bytes(content)
    with suppress(IntegrityError, ConfigError):
        GgufFile(path)


@pytest.fixture
def laid_out(tmp_path):
    """Writes a file: its tensors as (name, float32 numbers, offset), and what follows the header."""

    def write(content, tensors=(("a", 3, 0), ("b", 5, 32)), keys=("general.alignment", "x"), alignment=32):
        field = {"general.alignment": alignment if isinstance(alignment, bytes) else uint32_field(alignment)}
        parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(keys))]
        parts += [struct.pack("<Q", len(key)) + key.encode() + field.get(key, uint32_field(1)) for key in keys]
        parts += [struct.pack("<QsIQIQ", 1, name.encode(), 1, size, 0, offset) for name, size, offset in tensors]
        header = b"".join(parts)
        path = tmp_path / "laid_out.gguf"
        path.write_bytes(header + bytes(-len(header) % 32) + content)
        return path

    return write


WHOLE = b"\1" * 12 + bytes(20) + b"\2" * 20 + bytes(12)


def test_a_file_without_gaps_is_read(laid_out):
    assert list(GgufFile(laid_out(WHOLE)).tensors) == ["a", "b"]


@pytest.mark.parametrize(
    ("layout", "wrong"),
    [
        ({"content": WHOLE + b"28 kB of rows"}, "13 bytes after its last tensor"),
        ({"content": WHOLE + bytes(32)}, "32 bytes after its last tensor"),
        ({"content": WHOLE[:-12]}, "ends before the padding of 'b'"),
        ({"content": WHOLE[:-12] + b"rows of data"}, "padding of 'b' is not zero"),
        ({"content": WHOLE[:31] + b"x" + WHOLE[32:]}, "padding of 'a' is not zero"),
        ({"content": WHOLE, "tensors": (("a", 8, 0), ("b", 5, 0))}, "'b' does not begin where"),
        ({"content": WHOLE[:32] + bytes(32) + WHOLE[32:], "tensors": (("a", 3, 0), ("b", 5, 64))}, "'b' does not begin where"),
        ({"content": WHOLE, "tensors": (("b", 5, 32), ("a", 3, 0))}, "'b' does not begin where"),
        ({"content": WHOLE, "tensors": (("a", 3, 0), ("a", 5, 32))}, "the tensor 'a' twice"),
        ({"content": WHOLE, "keys": ("x", "x")}, "the key 'x' twice"),
        ({"content": WHOLE, "tensors": (("a", 3, 0), ("b", 0, 32))}, "invalid shape"),
        ({"content": WHOLE, "alignment": 0}, "alignment"),
        ({"content": WHOLE, "alignment": 24}, "alignment"),
        ({"content": WHOLE, "alignment": string_field("32")}, "alignment"),
        ({"content": WHOLE, "alignment": struct.pack("<Ii", GGUFValueType.INT32, -32)}, "alignment"),
    ],
)
def test_bytes_that_nothing_claims_are_refused(laid_out, layout, wrong):
    with pytest.raises(IntegrityError, match=re.escape(wrong)) as refusal:
        GgufFile(laid_out(**layout))
    assert "again" in refusal.value.hint


def test_padding_of_the_header_is_zero(tiny_model, tmp_path):
    source = GgufFile(tiny_model())
    content = bytearray(source.path.read_bytes())
    start = min(source._offsets.values())
    assert content[start - 1] == 0
    content[start - 1] = 1
    (tmp_path / "changed.gguf").write_bytes(content)
    with pytest.raises(IntegrityError, match="padding of its header is not zero"):
        GgufFile(tmp_path / "changed.gguf")


@pytest.mark.parametrize("place", [8, 16], ids=["tensors", "keys"])
@pytest.mark.parametrize("count", [1 << 40, (1 << 64) - 1])
def test_a_huge_count_is_refused(laid_out, place, count):
    path = laid_out(WHOLE)
    content = path.read_bytes()
    path.write_bytes(content[:place] + struct.pack("<Q", count) + content[place + 8 :])
    with pytest.raises(IntegrityError, match="not a whole GGUF file"):
        GgufFile(path)


def test_huge_and_deep_arrays_are_refused(tmp_path):
    array = struct.pack("<I", GGUFValueType.ARRAY)
    for inner in (array + struct.pack("<Q", 1)) * 3000, struct.pack("<IQ", GGUFValueType.STRING, 1 << 60):
        path = tmp_path / "array.gguf"
        write_gguf(path, {"x": array + inner + uint32_field(1)}, [], lambda tensor: [])
        with pytest.raises(IntegrityError, match="not a whole GGUF file"):
            GgufFile(path)


def test_a_part_named_by_a_text_is_refused(tmp_path):
    path = tmp_path / "part.gguf"
    write_gguf(path, {"split.count": string_field("2")}, [], lambda tensor: [])
    with pytest.raises(ConfigError, match="several parts"):
        GgufFile(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a model", b"GGUF\x01\x00\x00\x00" + bytes(32)])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.gguf"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="not a whole GGUF file"):
        GgufFile(path)


def test_a_missing_file_and_a_part_of_a_model_are_named(tmp_path):
    with pytest.raises(IntegrityError, match="Cannot read"):
        GgufFile(tmp_path / "nothing.gguf")
    path = tmp_path / "model-00001-of-00002.gguf"
    write_gguf(path, {"split.count": struct.pack("<IH", GGUFValueType.UINT16, 2)}, [], lambda tensor: [])
    with pytest.raises(ConfigError, match="several parts"):
        GgufFile(path)


def test_nothing_is_left_where_writing_fails(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"the earlier file")
    tensors = [Tensor("a", (2, 2), GGMLQuantizationType.F32), Tensor("b", (2, 2), GGMLQuantizationType.F32)]

    def content(tensor):
        if tensor.name == "b":
            raise OSError(28, "No space left on device")
        return [np.zeros((2, 2), np.float32)]

    with pytest.raises(ResourceError, match="No space left"):
        write_gguf(path, {"general.file_type": uint32_field(0)}, tensors, content)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.gguf"]
    assert path.read_bytes() == b"the earlier file"
