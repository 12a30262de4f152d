"""The wheel of llama-cpp-python for the bundle: code for every kind of x86-64 processor, and the OpenMP it was compiled with.

A plain build fits the machine that compiled it and stops with "illegal instruction" on an older one. Here ggml has one library
for each kind of processor and takes the best one when it starts (localsynth/llm/llama_cpp/library.py tells it where they are).
"""

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

CMAKE = (
    "-DGGML_NATIVE=OFF",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_CPU_ALL_VARIANTS=ON",
    "-DLLAVA_BUILD=OFF",
    # The libraries for the kinds of processors go where the binding has its own, and look for each other there.
    "-DCMAKE_INSTALL_BINDIR=llama_cpp/lib",
    "-DCMAKE_INSTALL_LIBDIR=llama_cpp/lib",
    "-DCMAKE_INSTALL_INCLUDEDIR=llama_cpp/include",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN",
)
LIBRARIES = "llama_cpp/lib"
OPENMP = "libgomp.so.1"
ELF = b"\x7fELF"


def portable_llama(requirement: str, keep: Path, run: Callable[..., str]) -> Path:
    """The wheel in `keep`, compiled where it is not there yet. `requirement`: name==version; `run` as in bundle.py."""
    pattern = f"llama_cpp_python-{requirement.partition('==')[2]}-*.whl"
    if not list(keep.glob(pattern)):
        # Not from pip's cache: what lies there was compiled for this machine's processor alone.
        pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "--no-binary", "llama-cpp-python"]
        run(*pip, requirement, "-w", keep / "compiled", CMAKE_ARGS=" ".join(CMAKE))
        (compiled,) = (keep / "compiled").glob(pattern)
        add_to_wheel(compiled, keep / compiled.name, {f"{LIBRARIES}/{OPENMP}": openmp().read_bytes()})
        shutil.rmtree(keep / "compiled")
    (wheel,) = keep.glob(pattern)
    return wheel


def openmp() -> Path:
    """GCC's OpenMP library of this system: small systems have none (it may be passed on, by GCC's runtime exception)."""
    compiler = shutil.which("gcc") or shutil.which("cc") or "cc"
    found = Path(
        subprocess.run([compiler, f"-print-file-name={OPENMP}"], capture_output=True, text=True, check=True).stdout.strip()
    )
    if not found.is_absolute():
        raise SystemExit(f"{OPENMP} was not found beside the compiler. Install it (apt install libgomp1).")
    return found


def add_to_wheel(wheel: Path, out: Path, files: dict[str, bytes]) -> None:
    """A copy of `wheel` with further files, listed in its RECORD with their hashes as pip wants it."""
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        record = next(name for name in source.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", name))
        for item in source.infolist():
            if item.filename != record:
                target.writestr(item, source.read(item))
        lines = source.read(record).decode().splitlines()
        for name, data in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(data)}")
            target.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
        target.writestr(source.getinfo(record), "\n".join(lines) + "\n")


def glibc_of(files: Iterable[Path]) -> str:
    """The newest version of glibc that compiled files, or those in wheels, ask for, as "2.34"."""
    minors = {int(minor) for path in files for data in _compiled(path) for minor in re.findall(rb"GLIBC_2\.(\d+)\b", data)}
    return f"2.{max(minors)}"


def _compiled(path: Path) -> Iterator[bytes]:
    """The programs and libraries in a wheel, or the file itself where it is one."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    if (start := file.read(4)) == ELF:
                        yield start + file.read()
    elif (data := path.read_bytes()).startswith(ELF):
        yield data
