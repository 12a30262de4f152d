"""The wheel holds what it must and nothing else, is the same each time it is built, and runs; so does the bundle's paperwork."""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DATA = (
    "localsynth/evaluate/report.css",
    "localsynth/evaluate/report.html.j2",
    "localsynth/example/complaints.toml",
    "localsynth/example/localsynth.toml.in",
    "localsynth_models/catalog.toml",
    "localsynth_tui/help/run.txt",
    "localsynth_tui/app.tcss",
)


def build(out: Path) -> Path:
    """The wheel, by pip, with the build backend that is installed or fetched."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--disable-pip-version-check", "-w", out]
    if importlib.util.find_spec("hatchling"):
        command.append("--no-build-isolation")
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    done = subprocess.run([*map(str, command), str(ROOT)], env=environment, capture_output=True, text=True)
    if done.returncode and "hatchling" in done.stderr and "No matching distribution" in done.stderr:
        pytest.skip("hatchling is not installed and cannot be fetched")
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("localsynth-*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    (man,) = [name for name in names if ".data/" in name]
    assert man.endswith("/data/share/man/man1/localsynth.1")
    tops = {top for name in names if not (top := name.partition("/")[0]).endswith((".dist-info", ".data"))}
    assert tops == {
        "localsynth",
        "localsynth_models",
        "localsynth_tui",
    }
    assert not [name for name in names if "__pycache__" in name or "test" in Path(name).name]


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert set(DATA) <= names
    for package in ("localsynth", "models/localsynth_models", "tui/localsynth_tui"):
        top = ROOT / package
        tracked = {str(p.relative_to(top.parent)) for p in top.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
        assert tracked <= names


def test_two_builds_are_the_same(wheel: Path, tmp_path: Path) -> None:
    assert hashlib.sha256(build(tmp_path).read_bytes()).digest() == hashlib.sha256(wheel.read_bytes()).digest()


def test_the_installed_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", python.parent.parent], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(python.parent.parent)}))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--disable-pip-version-check", str(wheel)], check=True)
    # The libraries are those of the environment that runs the tests; a .pth file would also bring its editable localsynth.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python.with_name("localsynth"), "--help"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "rehearse" in done.stdout
    code = "import localsynth, localsynth_tui, localsynth_models; print(localsynth.__file__)"
    where = subprocess.run([python, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert where.stdout.startswith(str(site))


def packaging_module(name: str):  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location(name, ROOT / "packaging" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bundle(wheel: Path, tmp_path: Path) -> Path:
    """A bundle's directory with our wheel and one of pip's name that does nothing, hashed and signed."""
    directory = tmp_path / "bundle"
    for name in ("wheels", "model", "docs", "python"):
        (directory / name).mkdir(parents=True)
    (directory / "wheels" / wheel.name).write_bytes(wheel.read_bytes())
    (directory / "model" / "base.gguf").write_bytes(b"GGUF")
    for name in ("install.sh", "uninstall.sh"):
        text = (ROOT / "packaging" / name).read_text().replace("@GLIBC@", "2.1")
        (directory / name).write_text(text.replace("@PYTHON@", f"{sys.version_info.major}.{sys.version_info.minor}"))
        (directory / name).chmod(0o755)
    return directory


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("LOCALSYNTH_RELEASE_KEY", str(tmp_path / "key" / "signing.pem"))
    return packaging_module("sums")


WITH_PYTHON = os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"])


def install(bundle: Path, home: Path, *arguments: str, path: str = WITH_PYTHON) -> "subprocess.CompletedProcess[str]":
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [bundle / "install.sh", *arguments], env={"HOME": str(home), "PATH": path}, capture_output=True, text=True
    )


@pytest.fixture
def small_bundle(bundle: Path) -> Path:
    """A bundle that can be installed at once: a stand-in for localsynth without dependencies, and pip as Python brings it."""
    import ensurepip

    bundled = list((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    if not bundled:
        pytest.skip("this Python comes without a wheel of pip")
    for path in (bundle / "wheels").iterdir():
        path.unlink()
    (bundle / "wheels" / bundled[0].name).write_bytes(bundled[0].read_bytes())
    files = {
        "stand_in.py": "def main(): print('it runs')\n",
        "localsynth-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: localsynth\nVersion: 1\nProvides-Extra: train\n",
        "localsynth-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "localsynth-1.dist-info/entry_points.txt": "[console_scripts]\nlocalsynth = stand_in:main\n",
    }
    with zipfile.ZipFile(bundle / "wheels" / "localsynth-1-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr("localsynth-1.dist-info/RECORD", "".join(f"{name},,\n" for name in files))
    (bundle / "docs" / "index.html").write_text("documentation")
    for name in ("LICENSE", "sbom.cdx.json"):
        (bundle / name).write_text(name)
    packaging_module("sums").write_constraints(bundle)
    return bundle


def everything_under(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*"))


def test_what_is_installed_runs_and_can_be_taken_away_whole(small_bundle: Path, sums, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    home = tmp_path / "home"
    done = install(small_bundle, home, "--key", sums.sign(sums.write_sums(small_bundle)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [f"  {home}/.local/bin/localsynth {word}" for word in ("doctor", "demo")]
    assert subprocess.run([home / ".local/bin/localsynth"], capture_output=True, text=True).stdout == "it runs\n"
    data = home / ".local/share/localsynth"
    assert (data / "models/base.gguf").read_bytes() == b"GGUF"
    again = install(small_bundle, home)
    assert again.returncode != 0 and "installed" in again.stderr
    (home / ".config/localsynth").mkdir(parents=True)
    key = home / ".config/localsynth/key"
    key.write_text("secret")
    removed = subprocess.run(
        [data / "app/uninstall.sh"], env={"HOME": str(home), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert removed.returncode == 0 and str(key.parent) in removed.stdout, removed.stderr
    assert everything_under(home) == [".config", ".config/localsynth", ".config/localsynth/key"]
    subprocess.run([small_bundle / "uninstall.sh", "--with-keys"], env={"HOME": str(home), "PATH": "/usr/bin:/bin"}, check=True)
    assert everything_under(home) == []


@pytest.fixture
def without_python(tmp_path: Path) -> str:
    """A PATH with what install.sh calls, and no Python of any kind."""
    programs = tmp_path / "programs"
    programs.mkdir()
    tools = ("sh", "cat", "chmod", "cp", "cut", "dirname", "find", "getconf", "ln", "ls", "mkdir", "openssl", "rm", "sed")
    for tool in (*tools, "sha256sum", "sort", "touch", "uname", "uniq", "head"):
        (programs / tool).symlink_to(str(shutil.which(tool)))
    return str(programs)


def test_a_machine_without_python_takes_the_one_in_the_bundle(
    small_bundle: Path, sums, tmp_path: Path, without_python: str
) -> None:  # type: ignore[no-untyped-def]
    home = tmp_path / "home"
    program = small_bundle / "python" / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')  # stands in for a copy of Python
    program.chmod(0o755)
    sums.sign(sums.write_sums(small_bundle))
    refused = install(small_bundle, home, path=without_python)
    assert refused.returncode != 0 and "./install.sh --bundled-python" in refused.stderr
    assert everything_under(home) == []
    done = install(small_bundle, home, "--bundled-python", path=without_python)
    assert done.returncode == 0, done.stderr
    app = home / ".local/share/localsynth/app"
    assert (app / "python" / "bin" / program.name).read_text() == program.read_text()
    assert subprocess.run([home / ".local/bin/localsynth"], capture_output=True, text=True).stdout == "it runs\n"
    subprocess.run([app / "uninstall.sh"], env={"HOME": str(home), "PATH": "/usr/bin:/bin"}, check=True)
    assert everything_under(home) == []


def test_the_bundled_python_runs_from_any_place_and_is_on_the_bill(tmp_path: Path, bundle: Path) -> None:
    from localsynth_models.catalog import entry

    script = packaging_module("bundled_python")
    patchelf = script.find_patchelf()
    if patchelf is None:
        pytest.skip("patchelf is not installed")
    parts = script.copy_python(tmp_path / "first", patchelf)
    (tmp_path / "first").rename(tmp_path / "moved")
    python = tmp_path / "moved" / "bin" / f"python{script.VERSION}"
    code = "import bz2, ctypes, decimal, hashlib, lzma, sqlite3, ssl, sys, uuid, zlib; print(sys.prefix)"
    code += "; print(open('/proc/self/maps').read())"
    done = subprocess.run([python, "-I", "-c", code], env={}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    prefix, *maps = done.stdout.splitlines()
    assert prefix == str(tmp_path / "moved")
    loaded = {line.split()[-1] for line in maps if ".so" in line}
    foreign = {path for path in loaded if not path.startswith(prefix)}
    assert len(loaded) > 10 and all(script.OF_GLIBC.fullmatch(Path(path).name) for path in foreign), foreign
    document = json.loads(packaging_module("sbom").bill_of_materials(bundle, entry("smollm2-135m-instruct", bundle), 0, parts))
    names = {component["name"] for component in document["components"]}
    assert {"cpython", "libssl", "libcrypto"} <= names


def test_a_library_of_unknown_licence_stops_the_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    script = packaging_module("bundled_python")
    said = "\tlibreadline.so.8 => /lib/libreadline.so.8 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n"
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, said))
    with pytest.raises(SystemExit, match="libreadline"):
        script.libraries(Path("readline.so"))


def test_pip_takes_no_wheel_but_those_whose_hashes_are_in_the_constraints(small_bundle: Path, sums, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    text = (small_bundle / "constraints.txt").read_text()
    (line,) = [line for line in text.splitlines() if not line.startswith("#")]
    wheel = small_bundle / "wheels" / "localsynth-1-py3-none-any.whl"
    assert line == f"localsynth[train]==1 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    # Signed by whoever made it all the same: pip has the last word.
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    sums.sign(sums.write_sums(small_bundle))
    done = install(small_bundle, tmp_path / "home")
    assert done.returncode != 0 and "DO NOT MATCH THE HASHES" in done.stderr, done.stderr
    assert not (tmp_path / "home/.local/share/localsynth/app").exists()


def test_a_model_of_the_users_own_stays(small_bundle: Path, sums, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    home = tmp_path / "home"
    sums.sign(sums.write_sums(small_bundle))
    assert install(small_bundle, home).returncode == 0
    own = home / ".local/share/localsynth/models/own.gguf"
    own.write_text("mine")
    subprocess.run([small_bundle / "uninstall.sh"], env={"HOME": str(home), "PATH": "/usr/bin:/bin"}, check=True)
    assert own.exists() and not (own.parent / "base.gguf").exists()


def test_the_signing_key_is_made_once_and_for_the_owner_alone(bundle: Path, sums, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    first = sums.sign(sums.write_sums(bundle))
    assert sums.sign(sums.write_sums(bundle)) == first
    assert (tmp_path / "key" / "signing.pem").stat().st_mode & 0o777 == 0o600


def change_a_file(bundle: Path) -> None:
    (bundle / "model" / "base.gguf").write_bytes(b"GGUG")


def add_a_wheel(bundle: Path) -> None:
    (bundle / "wheels" / "evil-1-py3-none-any.whl").write_bytes(b"")


def change_a_hash_too(bundle: Path) -> None:
    before = hashlib.sha256(b"GGUF").hexdigest()
    change_a_file(bundle)
    lines = (bundle / "SHA256SUMS").read_text()
    (bundle / "SHA256SUMS").write_text(lines.replace(before, hashlib.sha256(b"GGUG").hexdigest()))


@pytest.mark.parametrize(
    ("tamper", "said"),
    [(change_a_file, "not what SHA256SUMS says"), (add_a_wheel, "Not listed"), (change_a_hash_too, "signature")],
)
def test_a_bundle_that_was_changed_is_not_installed(bundle: Path, sums, tmp_path: Path, tamper, said: str) -> None:  # type: ignore[no-untyped-def]
    sums.sign(sums.write_sums(bundle))
    tamper(bundle)
    done = install(bundle, tmp_path / "home")
    assert done.returncode != 0 and said in done.stderr, done.stderr
    assert list((tmp_path / "home").iterdir()) == []


def test_a_bundle_signed_by_somebody_else_is_not_installed(bundle: Path, sums, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    fingerprint = sums.sign(sums.write_sums(bundle))
    done = install(bundle, tmp_path / "home", "--key", "0" * 64)
    assert done.returncode != 0 and "another key" in done.stderr
    assert fingerprint in done.stdout


def test_the_bill_of_materials_names_every_wheel_and_the_model(bundle: Path, wheel: Path) -> None:
    from localsynth_models.catalog import entry

    script = packaging_module("sbom")
    model = entry("smollm2-135m-instruct", bundle)
    text = script.bill_of_materials(bundle, model, 1_700_000_000)
    assert text == script.bill_of_materials(bundle, model, 1_700_000_000)
    document = json.loads(text)
    ours = document["metadata"]["component"]
    assert ours["name"] == "localsynth" and ours["licenses"] == [{"expression": "Apache-2.0"}]
    assert ours["hashes"][0]["content"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert [c["hashes"][0]["content"] for c in document["components"] if "hashes" in c] == [model.sha256]


def test_a_wheel_with_a_file_added_is_one_that_pip_takes(wheel: Path, tmp_path: Path) -> None:
    script = packaging_module("llama_wheel")
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / wheel.name
    script.add_to_wheel(wheel, out, {"localsynth/lib/x.so": b"\x7fELF\0GLIBC_2.17\0GLIBC_2.34\0", "localsynth/x": b"GLIBC_2.99"})
    assert script.glibc_of([wheel, out]) == "2.34"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*command, "--target", str(tmp_path / "site"), str(out)], check=True)
    assert (tmp_path / "site" / "localsynth" / "lib" / "x.so").exists()
    record = next((tmp_path / "site").glob("localsynth-*.dist-info")) / "RECORD"
    assert "localsynth/lib/x.so,sha256=" in record.read_text()
