"""Sources that are compressed as a whole: a .zip with one file, or a .zst. They are unpacked in memory and reach no disk."""

import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

from localsynth.errors import DataError, ResourceError
from localsynth.system.extras import need_format_part
from localsynth.system.memory_file import MemoryPath, descriptor_path, memory_file

_CHUNK = 2**20
_SHARE = 0.5
"""Of the memory that is available: the most that an unpacked file may take."""
_ONE_FILE = "Put the table alone into an archive, or unpack it on an encrypted disk, and name the file."


def unpacked(path: Path) -> Path:
    """The path of the file in an archive, in memory; `path` itself where its name says that it is none.

    Raises DataError for an archive that cannot be used, ResourceError where memory is short.
    """
    if path.suffix.lower() not in (".zip", ".zst"):
        return path
    opened = _in_zip if path.suffix.lower() == ".zip" else _zstandard
    limit = int(_SHARE * psutil.virtual_memory().available)
    try:
        with opened(path) as (name, packed):
            file = os.fdopen(memory_file("localsynth"), "r+b")
            while chunk := packed.read(_CHUNK):
                if file.tell() + len(chunk) > limit:
                    raise ResourceError(
                        f"{path} takes more memory when it is unpacked than there is.",
                        "Close other programs, or unpack it on an encrypted disk, and name the file.",
                    )
                file.write(chunk)
            file.flush()
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise DataError(f"{path} is damaged, or no archive.", "Export or fetch the file again.") from None
    except (RuntimeError, NotImplementedError):
        raise DataError(f"{path} is protected by a password, or compressed in a way that is not read.", _ONE_FILE) from None
    except OSError:
        raise DataError(f"{path} cannot be unpacked: it is damaged, or cannot be read.", "Fetch it again.") from None
    return MemoryPath.of(descriptor_path(file.fileno()), path / name, file)


@contextmanager
def _in_zip(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The name of the only file in a zip archive, and the file."""
    with zipfile.ZipFile(path) as archive:
        # macOS adds files of its own, which no one sees there.
        files = [each for each in archive.infolist() if not each.is_dir() and not each.filename.startswith("__MACOSX/")]
        if len(files) != 1:
            raise DataError(f"{path} holds {len(files)} files, not one.", _ONE_FILE)
        with archive.open(files[0]) as packed:
            yield Path(files[0].filename).name, packed


@contextmanager
def _zstandard(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The name of a file that is compressed with Zstandard, without .zst, and the file."""
    need_format_part("pyarrow", path)
    import pyarrow

    with pyarrow.input_stream(str(path), compression="zstd") as packed:
        yield path.stem, packed
