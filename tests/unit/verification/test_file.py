"""`verify` of files: what the parsed certificate no longer shows, and the model around or beside it."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import gguf
import numpy as np
import pytest

from localsynth.config import PrivacyConfig, TextCountsConfig, TrainConfig
from localsynth.errors import IntegrityError, LocalsynthError
from localsynth.export.merge import set_metadata
from localsynth.export.model_hash import model_hash
from localsynth.llm.gguf_file import GgufFile
from localsynth.privacy.account import Account
from localsynth.privacy.accountant import dp_sgd_step
from localsynth.privacy.certificate import CERTIFICATE_KEY, CertificateFacts, build, certificate_text
from localsynth.privacy.ledger import Ledger
from localsynth.privacy.ledger_chain import Basis
from localsynth.privacy.noise import SECURE_LABEL
from localsynth.schema.columns import Integer, Schema
from localsynth.verification.file import verify_file


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny model and an honest, unsigned certificate beside and inside it."""
    directory = tmp_path_factory.mktemp("run")
    model = directory / "model.F16.gguf"
    writer = gguf.GGUFWriter(model, "llama")
    writer.add_tensor("a.weight", np.ones(40, dtype=np.float16))
    writer.add_tensor("b.weight", np.ones((2, 7), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ledger = Ledger.open(directory / "ledger.json", directory / "head.json", "0123456789abcdef")
    privacy = PrivacyConfig(public_size=10_000, delta=1e-6)
    ledger.open_budget("train", "r1", Account(4.0, 1e-6), limit=4.0, limit_delta=1e-6, basis=Basis("row", 1, size_declared=True))
    ledger.charge(budget="train", run="r1", stage="train", what="a step", mechanism=dp_sgd_step(6.0, 0.1))
    facts = CertificateFacts(
        noise_label=SECURE_LABEL,
        ledger=ledger.document(),
        schema=Schema(confirmed=True, columns=[Integer(name="age", min=0, max=100)]),
        settings={
            "train": TrainConfig(synthesizer="llm").model_dump(mode="json"),
            "text_counts": TextCountsConfig().model_dump(mode="json"),
            "privacy": privacy.model_dump(mode="json"),
            "data": {"sequence_by": None},
        },
        hashes={"model": model_hash(model), "marginals": "", "text_counts": "", "base_model": "00"},
        versions={"localsynth": "0.1.0"},
        seal="namespace",
    )
    text = certificate_text(build(facts, None))
    (directory / "certificate.json").write_text(text)
    set_metadata(model, {CERTIFICATE_KEY: text})
    return directory


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    for path in original.glob("[cm]*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def statuses(report: dict[str, Any]) -> dict[str, str]:
    return {finding["name"]: finding["status"] for finding in report["findings"]}


@pytest.mark.parametrize("name", ["certificate.json", "model.F16.gguf"])
def test_an_honest_one_holds_and_says_that_no_table_was_checked(run: Path, name: str) -> None:
    report = verify_file(run / name, None)
    assert report["valid"] and statuses(report)["model"] == "ok"
    (table,) = [finding for finding in report["findings"] if finding["name"] == "table"]
    assert table["status"] == "not checked" and "their sender's word" in table["text"]
    assert "table" in report["verdict"]


def test_a_broken_one_says_it_too(run: Path) -> None:
    (run / "certificate.json").write_text("{}")
    report = verify_file(run / "certificate.json", None)
    assert not report["valid"] and statuses(report) == {"form": "failed", "table": "not checked"}


def twice(document: dict[str, Any], key: str, part: str | None) -> str:
    """The document with a first, harmless-looking `key` that a reader who takes the last one never sees."""
    if part is None:
        return "{" + f"{json.dumps(key)}: 0, " + json.dumps(document)[1:]
    inner = "{" + f"{json.dumps(key)}: 0, " + json.dumps(document[part])[1:]
    return json.dumps(document).replace(json.dumps(document[part]), inner, 1)


def test_a_key_that_stands_twice_is_refused(run: Path, original: Path) -> None:
    path = run / "certificate.json"
    document = json.loads(path.read_text())
    places = [(key, None) for key in document] + [(key, "guarantee") for key in document["guarantee"]]
    assert len(places) > 20
    for key, part in places:
        text = twice(document, key, part)
        assert json.loads(text) == document
        path.write_text(text)
        with pytest.raises(IntegrityError, match=f"holds the key '{key}' twice"):
            verify_file(path, None)
        set_metadata(run / "model.F16.gguf", {CERTIFICATE_KEY: text})
        with pytest.raises(IntegrityError, match="twice"):
            verify_file(run / "model.F16.gguf", None)


@pytest.mark.parametrize("number", ["9" * 5000, "9" * 400, "1e999", "-1e999", "NaN", "Infinity"])
def test_a_number_beyond_reading_does_not_break_verify(run: Path, number: str) -> None:
    for old in ('"epsilon": 4.0', '"epsilon": 4.0', '"target_epsilon": 4.0', '"max": 100'):
        text = json.dumps(json.loads((run / "certificate.json").read_text()))
        assert old in text
        (run / "changed.json").write_text(text.replace(old, f"{old.partition(':')[0]}: {number}"))
        if len(number) > 400:
            with pytest.raises(IntegrityError, match="too long"):
                verify_file(run / "changed.json", None)
        else:
            assert statuses(verify_file(run / "changed.json", None))["form"] == "failed"


def test_a_model_with_more_of_our_keys_is_refused(run: Path) -> None:
    model = run / "model.F16.gguf"
    text = GgufFile(model).value(CERTIFICATE_KEY)
    set_metadata(model, {"localsynth.note": "rows of the original"})
    set_metadata(model, {CERTIFICATE_KEY: text})
    for path in (run / "certificate.json", model):
        assert statuses(verify_file(path, None))["model"] == "failed"


def is_accepted(path: Path) -> bool:
    """Whether `verify` accepts a model by itself: one that it cannot read it does not."""
    with suppress(LocalsynthError):
        return bool(verify_file(path, None)["valid"])
    return False


def test_appended_rows_are_refused(run: Path) -> None:
    model = run / "model.F16.gguf"
    assert is_accepted(model)
    with model.open("ab") as file:
        file.write(b"age: 41\n" * 3500)
    assert not is_accepted(model)
    report = verify_file(run / "certificate.json", None)
    assert not report["valid"]
    text = next(finding["text"] for finding in report["findings"] if finding["name"] == "model")
    assert "28000 bytes after its last tensor" in text


def regions(path: Path) -> dict[str, range]:
    """The regions of a GGUF whose last key is the certificate, by what they hold."""
    content = path.read_bytes()
    key = content.index(CERTIFICATE_KEY.encode())
    value = key + len(CERTIFICATE_KEY) + 12
    after = value + int.from_bytes(content[value - 8 : value], "little")
    reader = gguf.GGUFReader(path)
    infos = reader.tensors[-1].field
    end = infos.offset + sum(int(part.nbytes) for part in infos.parts)
    data = min(int(tensor.data_offset) for tensor in reader.tensors)
    return {
        "magic, version and counts": range(24),
        "other keys": range(24, key - 8),
        "the certificate's key, type and length": range(key - 8, value),
        "tensor infos": range(after, end),
        "padding of the header": range(end, data),
        "tensors and their padding": range(data, len(content)),
    }


def test_every_byte_but_the_certificate_counts(run: Path) -> None:
    model = run / "model.F16.gguf"
    (run / "certificate.json").unlink()
    found = regions(model)
    assert all(found.values())
    content, random = model.read_bytes(), Random(0)
    for name, region in found.items():
        for place in random.sample(region, min(len(region), 48)):
            changed = bytearray(content)
            changed[place] ^= 1 << random.randrange(8)
            model.write_bytes(changed)
            assert not is_accepted(model), (name, place)
    model.write_bytes(content)
    assert is_accepted(model)


def test_a_certificate_inside_is_spelled_as_we_write_it(run: Path) -> None:
    """Spaces in it would be under no hash and no signature."""
    model = run / "model.F16.gguf"
    text = GgufFile(model).value(CERTIFICATE_KEY)
    set_metadata(model, {CERTIFICATE_KEY: text.replace('": ', '":\t', 3)})
    with pytest.raises(IntegrityError, match="spelled otherwise"):
        verify_file(model, None)


@pytest.mark.parametrize("name", ["certificate.json", "model.F16.gguf"])
def test_certificates_beside_and_inside_a_model_are_compared(run: Path, name: str) -> None:
    assert statuses(verify_file(run / name, None))["copies"] == "ok"
    document = json.loads((run / "certificate.json").read_text())
    document["versions"]["localsynth"] = "0.1.1"
    other = run / ("model.F16.gguf" if name == "certificate.json" else "certificate.json")
    text = json.dumps(document)
    if other.suffix == ".json":
        other.write_text(text)
    else:
        set_metadata(other, {CERTIFICATE_KEY: text})
    for path in (run / name, other):
        report = verify_file(path, None)
        assert not report["valid"] and statuses(report)["copies"] == "failed"
    if other.suffix == ".json":
        other.write_text("{")
        assert statuses(verify_file(run / name, None))["copies"] == "failed"


@pytest.mark.parametrize("damage", [lambda data: data[:200], lambda data: b"no model", lambda data: data[:-1] + b"x"])
def test_a_damaged_or_changed_model_beside_it_is_a_finding(run: Path, damage: Callable[[bytes], bytes]) -> None:
    model = run / "model.F16.gguf"
    model.write_bytes(damage(model.read_bytes()))
    report = verify_file(run / "certificate.json", None)
    assert not report["valid"] and statuses(report)["model"] == "failed"
