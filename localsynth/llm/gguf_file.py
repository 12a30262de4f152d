"""Read and write GGUF files without loading them: metadata as raw bytes, tensors by rows.

The `gguf` package reads every token of a vocabulary into its own array (seconds for a large one) and cannot write what it
read (empty strings and arrays are dropped). Here metadata stays raw bytes until a value is read, so a copy has exactly the
original's metadata. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.

Every byte of a file that is read belongs to its header, a tensor or padding that is zero: nothing can hide between or after them.

Knows nothing about what the tensors mean.
"""

import math
import mmap
import os
import secrets
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from gguf.quants import dequantize
from numpy.typing import NDArray

from localsynth.errors import ConfigError, IntegrityError, ResourceError

Rows = Iterable[NDArray[Any]]
"""A tensor's content as consecutive arrays of rows."""

_MAGIC = b"GGUF"
_VERSION = 3
_ALIGNMENT = 32
_MAX_DIMENSIONS = 4
_MAX_NESTING = 4
"""Levels of arrays in arrays. llama.cpp reads one."""
_PART = 1 << 24
"""Bytes of a file that are read at once."""
_SCALARS = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.INT8: "<b",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.INT64: "<q",
    GGUFValueType.FLOAT64: "<d",
    GGUFValueType.BOOL: "<?",
}
_PLAIN = {GGMLQuantizationType.F32: "<f4", GGMLQuantizationType.F16: "<f2"}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file; `shape` as in numpy and torch, (outputs, inputs)."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType

    @property
    def rows(self) -> int:
        """Slices along the first axis; a vector is one row."""
        return self.shape[0] if len(self.shape) > 1 else 1

    @property
    def size(self) -> int:
        """Bytes of the content, without padding."""
        block, width = GGML_QUANT_SIZES[self.kind]
        return int(math.prod(self.shape) // block * width)


class _Cursor:
    """Reads the header's values one after another, and never past the end of the file."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> memoryview:
        if count > len(self.data) - self.at:
            raise ValueError("it ends in the middle of its header")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def string(self) -> str:
        return str(self.take(self.number("<Q")), "utf-8", "surrogateescape")

    def value(self, kind: GGUFValueType) -> Any:
        if kind == GGUFValueType.STRING:
            return self.string()
        if kind == GGUFValueType.ARRAY:
            inner = GGUFValueType(self.number("<I"))
            return [self.value(inner) for _ in range(self.number("<Q"))]
        return self.number(_SCALARS[kind])

    def skip(self, kind: GGUFValueType, nesting: int = 0) -> None:
        if kind == GGUFValueType.STRING:
            self.take(self.number("<Q"))
        elif kind == GGUFValueType.ARRAY:
            if nesting == _MAX_NESTING:
                raise ValueError("its arrays are nested too deeply")
            inner, count = GGUFValueType(self.number("<I")), self.number("<Q")
            if inner in _SCALARS:
                self.take(count * struct.calcsize(_SCALARS[inner]))
            else:
                for _ in range(count):
                    self.skip(inner, nesting + 1)
        else:
            self.take(struct.calcsize(_SCALARS[kind]))


class GgufFile:
    """A GGUF file opened for reading.

    `fields` maps each metadata key to its raw bytes (value type, then value), `tensors` each name to its `Tensor`, both in the
    file's order. Raises IntegrityError where the file is missing, damaged or cut short or holds bytes that nothing claims,
    ConfigError where it is one part of several.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fields: dict[str, bytes] = {}
        self.tensors: dict[str, Tensor] = {}
        self._offsets: dict[str, int] = {}
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._data: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
            self._read_header()
        except OSError as error:
            raise IntegrityError(f"Cannot read {path}: {error.strerror}.", "Check the path.") from None
        except (ValueError, KeyError, struct.error) as error:
            raise IntegrityError(f"{path} is not a whole GGUF file: {error}.", "Fetch or export the model again.") from None
        if self.value("split.count", 1) not in (0, 1):
            raise ConfigError(
                f"{path} is one of several parts of a model.", "Join the parts with llama-gguf-split --merge first."
            )

    def _read_header(self) -> None:
        cursor = _Cursor(self._data.data)
        if cursor.take(4) != _MAGIC:
            raise ValueError("it does not begin with GGUF")
        if (version := cursor.number("<I")) not in (2, _VERSION):
            raise ValueError(f"version {version} is not known")
        tensor_count, field_count = cursor.number("<Q"), cursor.number("<Q")
        for _ in range(field_count):
            self._last_field = cursor.at
            key = cursor.string()
            start = cursor.at
            cursor.skip(GGUFValueType(cursor.number("<I")))
            if key in self.fields:
                raise ValueError(f"it has the key {key!r} twice")
            self.fields[key] = self._data[start : cursor.at].tobytes()
        self._fields_end = cursor.at
        for _ in range(tensor_count):
            name = cursor.string()
            if not 1 <= (dimensions := cursor.number("<I")) <= _MAX_DIMENSIONS:
                raise ValueError(f"the tensor {name!r} has {dimensions} dimensions")
            shape = tuple(reversed([cursor.number("<Q") for _ in range(dimensions)]))
            tensor = Tensor(name, shape, GGMLQuantizationType(cursor.number("<I")))
            if name in self.tensors:
                raise ValueError(f"it has the tensor {name!r} twice")
            if 0 in shape or shape[-1] % GGML_QUANT_SIZES[tensor.kind][0]:
                raise ValueError(f"the tensor {name!r} has an invalid shape")
            self.tensors[name] = tensor
            self._offsets[name] = cursor.number("<Q")
        self._header_end = cursor.at
        self._alignment = self._read_alignment()
        self._check_layout()

    def _read_alignment(self) -> int:
        raw = self.fields.get("general.alignment", uint32_field(_ALIGNMENT))
        alignment = int.from_bytes(raw[4:], "little")
        if raw != uint32_field(alignment & 0xFFFFFFFF) or alignment.bit_count() != 1:
            raise ValueError("its alignment is not a power of two in 32 bits")
        return alignment

    def _check_layout(self) -> None:
        """Make offsets count from the file's start, and check that tensors and zeros fill it to its end."""
        end = start = self._check_padding(self._header_end, "its header")
        for name, tensor in self.tensors.items():
            self._offsets[name] += start
            if self._offsets[name] != end:
                raise ValueError(f"the tensor {name!r} does not begin where the one before it ends")
            end = self._check_padding(end + tensor.size, repr(name))
        if more := len(self._data) - end:
            raise ValueError(f"it has {more} bytes after its last tensor")
        # Reading the padding has mapped pages all over the file.
        self._map.madvise(mmap.MADV_DONTNEED)

    def _check_padding(self, end: int, of: str) -> int:
        """Where the padding behind `end` ends."""
        padded = _padded(end, self._alignment)
        if end > len(self._data):
            raise ValueError(f"it ends before the content of {of}")
        if padded > len(self._data):
            raise ValueError(f"it ends before the padding of {of}")
        if self._data[end:padded].any():
            raise ValueError(f"the padding of {of} is not zero")
        return padded

    def parts_without(self, key: str) -> Iterator[bytes]:
        """The file, a part at a time, as it was before `key` was added to its metadata: as it is where the key is missing.

        Raises IntegrityError where the key is not the last one.
        """
        header = self._data[: self._header_end].tobytes()
        if key in self.fields:
            last = next(reversed(self.fields))
            if key != last:
                raise IntegrityError(f"{self.path} holds {last!r} after {key!r}.", "Export the model again.")
            count = struct.pack("<Q", len(self.fields) - 1)
            header = header[:16] + count + header[24 : self._last_field] + header[self._fields_end :]
        yield header + bytes(_padded(len(header), self._alignment) - len(header))
        for start in range(_padded(self._header_end, self._alignment), len(self._data), _PART):
            part = self._data[start : start + _PART].tobytes()
            self._release(start, len(part))
            yield part

    def value(self, key: str, default: Any = None) -> Any:
        """A metadata value as int, float, bool, str or list of these; `default` where the key is missing."""
        if key not in self.fields:
            return default
        cursor = _Cursor(memoryview(self.fields[key]))
        return cursor.value(GGUFValueType(cursor.number("<I")))

    def raw(self, name: str) -> NDArray[np.uint8]:
        """A tensor's content as in the file: bytes of shape (rows, bytes a row), not copied."""
        tensor, start = self.tensors[name], self._offsets[name]
        return self._data[start : start + tensor.size].reshape(tensor.rows, -1)

    def chunks(self, name: str, elements: int = 1 << 24) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """A tensor in float32, a part of about `elements` numbers at a time: (which rows, their values of shape (rows, inputs)).

        Pages that were read are released. Otherwise a process that reads a whole model would hold the whole file.
        Raises ConfigError where its quantization type cannot be read.
        """
        tensor, raw = self.tensors[name], self.raw(name)
        step = max(1, elements * tensor.rows // max(1, math.prod(tensor.shape)))
        for start in range(0, tensor.rows, step):
            part = slice(start, min(start + step, tensor.rows))
            values = self._dequantized(tensor, raw[part])
            # From the tensor's start: reading the next part also maps pages before it.
            self._release(self._offsets[name], raw[: part.stop].size)
            yield part, values

    def _release(self, start: int, size: int) -> None:
        """Unmap these bytes' pages from this process; they stay in the page cache, and reading maps them again."""
        first = start - start % mmap.PAGESIZE
        self._map.madvise(mmap.MADV_DONTNEED, first, start + size - first)

    def _dequantized(self, tensor: Tensor, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
        if tensor.kind in _PLAIN:
            return np.frombuffer(raw.tobytes(), _PLAIN[tensor.kind]).astype(np.float32).reshape(len(raw), -1)
        try:
            result: NDArray[np.float32] = dequantize(np.ascontiguousarray(raw), tensor.kind)
        except NotImplementedError:
            raise ConfigError(
                f"{self.path}: {tensor.name} is of type {tensor.kind.name}, which localsynth cannot read.",
                "Choose the model in another quantization, for example Q8_0 or Q4_K_M.",
            ) from None
        return result

    def array(self, name: str) -> NDArray[np.float32]:
        """A whole tensor in float32, in its own shape."""
        return np.concatenate([values for _, values in self.chunks(name)]).reshape(self.tensors[name].shape)


def string_field(text: str) -> bytes:
    """The raw bytes of a string value, as in `GgufFile.fields`."""
    data = text.encode("utf-8")
    return struct.pack("<IQ", GGUFValueType.STRING, len(data)) + data


def uint32_field(number: int) -> bytes:
    """The raw bytes of an unsigned 32-bit value, as in `GgufFile.fields`."""
    return struct.pack("<II", GGUFValueType.UINT32, number)


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def data_size(tensors: Iterable[Tensor]) -> int:
    """Bytes that the tensors take in a file, header not counted."""
    return sum(_padded(tensor.size, _ALIGNMENT) for tensor in tensors)


def _header(fields: Mapping[str, bytes], tensors: Sequence[Tensor]) -> bytes:
    parts = [_MAGIC, struct.pack("<IQQ", _VERSION, len(tensors), len(fields))]
    for key, raw in fields.items():
        data = key.encode("utf-8", "surrogateescape")
        parts += [struct.pack("<Q", len(data)), data, raw]
    offset = 0
    for tensor in tensors:
        data = tensor.name.encode("utf-8", "surrogateescape")
        dimensions = tuple(reversed(tensor.shape))
        parts += [struct.pack("<Q", len(data)), data, struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)]
        parts.append(struct.pack("<IQ", tensor.kind, offset))
        offset += _padded(tensor.size, _ALIGNMENT)
    header = b"".join(parts)
    return header + bytes(_padded(len(header), _ALIGNMENT) - len(header))


def write_gguf(path: Path, fields: Mapping[str, bytes], tensors: Sequence[Tensor], content: Callable[[Tensor], Rows]) -> None:
    """Write a GGUF file whole or not at all: a temporary file beside it, fsync, rename.

    `fields` as in `GgufFile.fields`, except that the alignment is always 32. `content` gives a tensor's rows, in its type and
    as little-endian bytes; it is called for one tensor after another. Raises ResourceError (disk full).
    """
    kept = {key: raw for key, raw in fields.items() if key != "general.alignment"}
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as out:
            out.write(_header(kept, tensors))
            for tensor in tensors:
                written = 0
                for rows in content(tensor):
                    written += out.write(np.ascontiguousarray(rows).view(np.uint8).reshape(-1).data)
                if written != tensor.size:
                    raise AssertionError(f"{tensor.name}: {written} bytes written, {tensor.size} announced")
                out.write(bytes(_padded(written, _ALIGNMENT) - written))
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ResourceError(
            f"Cannot write {path}: {error.strerror}.",
            "Free some disk space or check the permissions, then start the command again.",
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
