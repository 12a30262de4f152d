"""Reads the header of a GGUF file: what the model is, without its weights.

The file comes from outside, so nothing in it is believed: every length is checked against the file's size before it is
used, and nothing is executed (a chat template is text and stays text). gguf's own reader makes an array object of every
token and takes seconds; this one skips over the vocabulary. The layout is that of
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path

from localsynth.errors import ConfigError, IntegrityError, ResourceError

Scalar = int | float | bool | str

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_MAX_DIMENSIONS = 4
"""ggml's GGML_MAX_DIMS."""


@dataclass(frozen=True)
class Tensor:
    """One tensor: `shape` as GGUF has it (fastest dimension first), `offset` from the data's start."""

    name: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class Header:
    """The key-values that are scalars, the length of each that is an array, and the tensors."""

    values: dict[str, Scalar]
    array_lengths: dict[str, int]
    tensors: list[Tensor]


class _Bytes:
    """A position in the mapped file `path`; no read goes past its end."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data = data
        self.path = path
        self.at = 0

    def damaged(self, what: str) -> IntegrityError:
        return IntegrityError(f"{self.path} is damaged: {what}.", "Download or copy the file again.")

    def cut_short(self) -> IntegrityError:
        return IntegrityError(f"{self.path} is cut short.", "Download or copy the file again, whole.")

    def skip(self, count: int) -> int:
        """Step over `count` bytes and return where they begin."""
        begin = self.at
        if count > len(self.data) - begin:
            raise self.cut_short()
        self.at = begin + count
        return begin

    def number(self, layout: str) -> Scalar:
        value: Scalar = struct.unpack_from(layout, self.data, self.skip(struct.calcsize(layout)))[0]
        return value

    def count(self, layout: str = "<Q") -> int:
        return int(self.number(layout))

    def text(self) -> str:
        begin = self.skip(self.count())
        return self.data[begin : self.at].decode("utf-8", errors="replace")

    def skip_texts(self, count: int) -> None:
        # The vocabulary and its merges pass here, up to half a million strings: hence no call per string.
        data, at, end = self.data, self.at, len(self.data)
        unpack = struct.Struct("<Q").unpack_from
        for _ in range(count):
            if at + 8 > end:
                raise self.cut_short()
            at += 8 + unpack(data, at)[0]
        self.at = at  # past the end, perhaps: then the next read finds out


def read_header(path: Path) -> Header:
    """The header of the GGUF file at `path`.

    Raises ResourceError where the file is missing or unreadable, ConfigError where it is something else than a
    GGUF this program reads, IntegrityError where it is cut short or contradicts itself.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ConfigError(f"{path} is not a GGUF file.", "Give a model in llama.cpp's format (its name ends in .gguf).")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(_Bytes(data, path))
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise ResourceError(f"Cannot read the model {path}: {reason}.", "Check the path.") from None


def _parse(source: _Bytes) -> Header:
    source.skip(4)
    version = source.count("<I")
    if version not in (2, 3):
        other = "is big-endian" if version & 0xFFFF == 0 else f"has GGUF version {version}"
        raise ConfigError(f"{source.path} {other}, which is not supported.", "Convert it to a little-endian GGUF of version 3.")
    tensor_count, value_count = source.count(), source.count()
    values: dict[str, Scalar] = {}
    array_lengths: dict[str, int] = {}
    for _ in range(value_count):
        key, type_id = source.text(), source.count("<I")
        if key in values or key in array_lengths:
            raise source.damaged("its header gives one key twice")
        if type_id == _ARRAY:
            array_lengths[key] = _skip_array(source)
        elif type_id == _STRING:
            values[key] = source.text()
        elif type_id in _SCALARS:
            values[key] = source.number(_SCALARS[type_id])
        else:
            raise source.damaged("its header holds a value of an unknown type")
    listed = [_tensor(source) for _ in range(tensor_count)]
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise source.damaged("its alignment is not a power of two")
    begin = -(-source.at // alignment) * alignment
    if any(begin + tensor.offset + tensor.size_bytes > len(source.data) for tensor in listed):
        raise source.cut_short()
    return Header(values, array_lengths, listed)


def _skip_array(source: _Bytes) -> int:
    type_id, length = source.count("<I"), source.count()
    if type_id == _STRING:
        source.skip_texts(length)
    elif type_id in _SCALARS:
        source.skip(length * struct.calcsize(_SCALARS[type_id]))
    else:  # arrays of arrays: allowed by the format, used by no model, and a way to exhaust the stack
        raise source.damaged("its header holds an array of an unknown type")
    return length


def _tensor(source: _Bytes) -> Tensor:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    name, dimensions = source.text(), source.count("<I")
    if dimensions > _MAX_DIMENSIONS:
        raise source.damaged("a tensor has too many dimensions")
    shape = tuple(source.count() for _ in range(dimensions))
    type_id, offset = source.count("<I"), source.count()
    try:
        block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(type_id)]
    except (ValueError, KeyError):
        what = f"{source.path} has tensors of an unknown type ({type_id})."
        raise ConfigError(what, "Quantize it with a known one: Q8_0.") from None
    if shape and shape[0] % block:
        raise source.damaged("a tensor's rows are not whole blocks of its type")
    return Tensor(name, shape, offset, prod(shape) // block * block_bytes)
