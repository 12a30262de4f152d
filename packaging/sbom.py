"""The bill of materials of the bundle: CycloneDX 1.6 JSON, read off the wheels' own metadata.

https://cyclonedx.org/docs/1.6/json/
"""

import datetime as dt
import email
import email.message
import hashlib
import json
import re
import uuid
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from localsynth_models.catalog import ModelEntry


def metadata(wheel: Path) -> email.message.Message:
    """The METADATA of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
        return email.message_from_bytes(archive.read(name))


def canonical(name: str) -> str:
    """A distribution's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(facts: email.message.Message) -> list[dict[str, Any]]:
    """What the metadata says of the licence: an SPDX expression, else its free text or classifiers."""
    if expression := facts.get("License-Expression"):
        return [{"expression": expression}]
    classifiers = [c.rpartition("::")[2].strip() for c in facts.get_all("Classifier", []) if c.startswith("License ::")]
    names = classifiers or [(facts.get("License") or "").partition("\n")[0].strip()]
    return [{"license": {"name": name}} for name in names if name]


def component(wheel: Path) -> dict[str, Any]:
    facts = metadata(wheel)
    name, version = canonical(str(facts["Name"])), str(facts["Version"])
    purl = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
    entry: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if licences := licence(facts):
        entry["licenses"] = licences
    entry["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}]
    return entry


def requires(wheel: Path, here: set[str]) -> list[str]:
    """Names of the distributions in the bundle that this one names in its requirements."""
    lines = metadata(wheel).get_all("Requires-Dist", [])
    names = {canonical(re.split(r"[\s;\[(<>=!~]", line, maxsplit=1)[0]) for line in lines if "extra ==" not in line}
    return sorted(names & here)


def bill_of_materials(directory: Path, model: ModelEntry, epoch: int, others: Sequence[dict[str, Any]] = ()) -> str:
    """The JSON for the wheels in `directory`/wheels, the model, and `others`: components that neither is.

    The same for the same content and `epoch` (seconds).
    """
    wheels = sorted((directory / "wheels").glob("*.whl"))
    parts = {part["name"]: part for part in map(component, wheels)}
    ours = parts["localsynth"]
    needs = {canonical(str(metadata(w)["Name"])): requires(w, set(parts)) for w in wheels}
    base: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": f"model:{model.name}",
        "name": model.name,
        "version": model.sha256[:12],
        "licenses": [{"license": {"id": model.licence}}],
        "hashes": [{"alg": "SHA-256", "content": model.sha256}],
    }
    # What the wheel of llama-cpp-python carries beside its own code (llama_wheel.py).
    openmp = {
        "type": "library",
        "bom-ref": "library:libgomp",
        "name": "libgomp",
        "version": "1",
        "licenses": [{"expression": "GPL-3.0-or-later WITH GCC-exception-3.1"}],
    }
    content = json.dumps([parts, base, openmp, *others], sort_keys=True)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {
            "timestamp": dt.datetime.fromtimestamp(epoch, dt.UTC).isoformat(),
            "component": {**ours, "type": "application"},
        },
        "components": [*(part for name, part in parts.items() if name != "localsynth"), base, openmp, *others],
        "dependencies": [
            {"ref": parts[n]["bom-ref"], "dependsOn": [parts[m]["bom-ref"] for m in needs[n]]} for n in sorted(needs)
        ],
    }
    return json.dumps(document, indent=1) + "\n"
