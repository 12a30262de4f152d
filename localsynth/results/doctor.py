"""Results of `doctor`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SystemFacts:
    """The operating system and Python."""

    name: str
    machine: str
    python: str


@dataclass(frozen=True)
class Processor:
    """The processor, and its features that matter here."""

    name: str
    physical_cores: int
    logical_cores: int
    features: list[str]


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    total: int
    available: int


@dataclass(frozen=True)
class Disk:
    """Bytes that are free where a path is, or will be made."""

    path: str
    free: int


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU and its memory in bytes."""

    name: str
    memory: int
    free: int


ModelState = Literal["verified", "missing", "damaged", "not checked"]


@dataclass(frozen=True)
class InstalledModel:
    """A base model that localsynth knows."""

    name: str
    path: str
    state: ModelState


@dataclass(frozen=True)
class Finding:
    """Something that works or does not; `fix` is empty where there is nothing to do."""

    level: Literal["ok", "warning", "problem"]
    text: str
    fix: str = ""


@dataclass(frozen=True)
class DoctorResult:
    """Of `doctor`.

    precision  the recommended one: "nf4", "bf16" or "fp32"
    seal       levels of the network seal that work, strongest first
    versions   of each library; None: not installed
    """

    system: SystemFacts
    processor: Processor
    memory: Memory
    disk: tuple[Disk, ...]
    gpus: tuple[Gpu, ...]
    precision: str
    seal: tuple[str, ...]
    versions: dict[str, str | None]
    models: tuple[InstalledModel, ...]
    findings: tuple[Finding, ...]
