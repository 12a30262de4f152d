"""The wheel holds what it must and nothing else, is the same each time it is built, and runs; so does the bundle's paperwork."""

import hashlib
import importlib.util
import json
import os
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
    "localsynth_models/catalog.toml",
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
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"localsynth", "localsynth_models", "localsynth_tui"}
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
    for name in ("wheels", "model", "docs"):
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


def install(bundle: Path, home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    home.mkdir(exist_ok=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"])
    return subprocess.run(
        [bundle / "install.sh", *arguments], env={"HOME": str(home), "PATH": path}, capture_output=True, text=True
    )


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
    [(change_a_file, "not what SHA256SUMS says"), (add_a_wheel, "is not listed"), (change_a_hash_too, "signature")],
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
    assert [c["hashes"][0]["content"] for c in document["components"]] == [model.sha256]
