import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from localsynth.results.as_json import from_json, to_json
from localsynth.results.doctor import Disk, DoctorResult, Gpu, Memory
from localsynth.system import doctor, network_seal
from localsynth_models import catalog, fetch


@pytest.fixture(autouse=True)
def quick_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_seal, "available_levels", lambda: ["namespace", "seccomp", "audit"])


def texts(facts: DoctorResult, level: str) -> str:
    return "\n".join(finding.text for finding in facts.findings if finding.level == level)


def test_doctor_imports_nothing_large(tmp_path: Path) -> None:
    """It takes about 0.3 s, and each of these some seconds."""
    code = (
        "import sys, pathlib\nfrom localsynth.system import doctor\n"
        "doctor.examine(pathlib.Path(sys.argv[1]))\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "localsynth.system.doctor" in done.stdout.split()
    assert not {"torch", "transformers", "bitsandbytes", "jax", "llama_cpp"} & set(done.stdout.split())


def test_facts_are_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real trial of the seals
    facts = doctor.examine(tmp_path / "not" / "made" / "yet", tmp_path)
    assert from_json(DoctorResult, json.loads(json.dumps(to_json(facts)))) == facts
    assert facts.memory.total >= facts.memory.available > 0
    assert facts.processor.logical_cores >= facts.processor.physical_cores >= 1
    assert [place.path for place in facts.disk] == [str(tmp_path / "not" / "made" / "yet"), str(tmp_path)]
    assert facts.seal and facts.precision in ("nf4", "bf16", "fp32")
    assert not (tmp_path / "not").exists()


def test_every_finding_that_is_not_ok_has_a_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_seal, "available_levels", lambda: [])
    monkeypatch.setattr(doctor, "_memory", lambda: Memory(0, 0))
    monkeypatch.setattr(doctor, "_disk", lambda places: tuple(Disk(str(place), 0) for place in places))
    monkeypatch.setattr(metadata, "version", _not_installed)
    monkeypatch.setattr(doctor, "_read", lambda path: "Filename Type\n/dev/sda2 partition\n" if path == "/proc/swaps" else "")
    tmp_path.chmod(0o755)
    facts = doctor.examine(tmp_path, tmp_path)
    assert all(finding.fix for finding in facts.findings)
    assert {finding.level for finding in facts.findings} == {"warning", "problem"}
    assert "torch" in texts(facts, "warning") and "duckdb is not installed" in texts(facts, "problem")
    assert "cannot be sealed" in texts(facts, "problem")
    assert "Swap is on" in texts(facts, "warning") and "Other users" in texts(facts, "warning")
    assert facts.precision == "fp32"


def _not_installed(name: str) -> str:
    raise metadata.PackageNotFoundError(name)


def test_parts_are_the_declared_dependencies() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *extras["train"], *extras["cuda"]]
    names = {re.split(r"[<>=~\[]", requirement)[0] for requirement in requirements}
    assert doctor.parts() == sorted(names - {"localsynth"})


CPUINFO = """processor : 0
model name	: A processor
flags		: fpu avx2 avx512f avx512_bf16

"""


def test_processor_cores_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_read", lambda path: 4 * CPUINFO)
    monkeypatch.setattr("psutil.cpu_count", lambda logical=True: 4 if logical else 2)
    processor = doctor._processor()
    assert processor.name == "A processor" and processor.physical_cores == 2
    assert processor.features == ["avx2", "avx512f", "avx512_bf16"]


@pytest.mark.parametrize(
    ("features", "gpu", "torch", "bitsandbytes", "expected"),
    [
        (["avx2"], False, "2.13.0+cpu", "0.50", "fp32"),
        (["avx512f", "avx512_bf16"], False, "2.13.0+cpu", "0.50", "bf16"),
        (["amx_tile", "amx_bf16"], False, "2.13.0+cpu", "0.50", "bf16"),
        (["avx2"], True, "2.13.0", "0.50", "nf4"),
        (["avx2"], True, "2.13.0+cu130", "0.50", "nf4"),
        (["avx2"], True, "2.13.0+cpu", "0.50", "fp32"),
        (["avx512_bf16"], True, "2.13.0", None, "bf16"),
    ],
)
def test_recommended_precision(
    features: list[str], gpu: bool, torch: str | None, bitsandbytes: str | None, expected: str
) -> None:
    gpus = [Gpu("A GPU", 1, 1)] if gpu else []
    assert doctor._precision(features, gpus, {"torch": torch, "bitsandbytes": bitsandbytes}) == expected


def test_unused_gpu_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_nvidia_gpus", lambda: (Gpu("RTX 4090", 24 << 30, 23 << 30),))
    monkeypatch.setattr(metadata, "version", lambda name: "2.13.0+cpu" if name == "torch" else "1.0")
    assert "RTX 4090" in texts(doctor.examine(tmp_path), "warning")
    monkeypatch.setattr(metadata, "version", lambda name: "2.13.0" if name == "torch" else "1.0")
    facts = doctor.examine(tmp_path)
    assert facts.precision == "nf4" and "RTX 4090" in texts(facts, "ok")


@pytest.mark.parametrize(("levels", "expected"), [(["audit"], "warning"), (["seccomp", "audit"], "ok")])
def test_weak_seal_is_a_finding(levels: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_seal, "available_levels", lambda: levels)
    assert "off the network" in texts(doctor.examine(tmp_path), expected)


def test_state_of_models(tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = fetch.add(tiny_model(), "tiny", tmp_path)

    def states() -> dict[str, str]:
        return {model.name: model.state for model in doctor.examine(tmp_path).models}

    assert states() == {"tiny": "verified", **dict.fromkeys(catalog.catalog(), "missing")}
    monkeypatch.setattr(doctor, "_MAX_HASHED", 10)
    assert states()["tiny"] == "not checked"
    monkeypatch.undo()
    content = place.read_bytes()
    place.unlink()  # it is a hard link of the fixture's file
    place.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert states()["tiny"] == "damaged"
    assert "SHA-256" in texts(doctor.examine(tmp_path), "problem")


def test_damaged_list_of_models_is_a_finding(tmp_path: Path) -> None:
    catalog.local_catalog_path(tmp_path).write_text("models = 3")
    assert "local.toml" in texts(doctor.examine(tmp_path), "problem")
