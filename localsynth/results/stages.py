"""Results of the stages of a run, and of the commands that take several."""

from dataclasses import dataclass, field
from typing import Any, Literal

from localsynth.results.shown import Shown


@dataclass(frozen=True)
class IngestResult:
    """Of the stage `ingest`. The numbers of units are public: declared or measured."""

    done_before: bool
    units: int
    units_origin: Literal["declared", "measured"]
    kept_units: int
    training_units: int
    epsilon: float | None = None
    """ε spent so far; None where nothing was done."""
    stage: Literal["ingest"] = "ingest"


@dataclass(frozen=True)
class TrainResult:
    """Of the stage `train`."""

    run: str
    synthesizer: str
    steps: int
    """Training steps, or noisy tables of marginals."""
    precision: str
    noise: str
    seal: str
    epsilon: float
    private: dict[str, float] = field(default_factory=dict)
    """Duration and memory, which depend on the original rows; empty for marginals. `--json` leaves them out."""
    stage: Literal["train"] = "train"


@dataclass(frozen=True)
class ExportResult:
    """Of the stage `export`."""

    run: str
    done_before: bool
    path: str
    """The model, or the marginals."""
    quantization: str | None
    """None: there is no model."""
    size_bytes: int
    model_hash: str
    signed: bool
    certificate_sha256: str
    kl: float | None
    shift: float | None
    seconds: float | None
    stage: Literal["export"] = "export"


@dataclass(frozen=True)
class CountTextsResult:
    """Of the stage `count_texts`."""

    run: str
    done_before: bool
    counts_texts: bool
    """Whether the run has a budget for it."""
    tokens: int
    columns: list[str]
    epsilon: float | None = None
    """ε spent so far; None where nothing was done."""
    stage: Literal["count_texts"] = "count_texts"


@dataclass(frozen=True)
class SampleResult:
    """Of the stage `sample`."""

    run: str
    new_rows: int
    rows: int
    rejected: int
    seconds: float
    stage: Literal["sample"] = "sample"


@dataclass(frozen=True)
class EvaluateResult:
    """Of the stage `evaluate`."""

    run: str
    release: bool
    report: str
    report_json: str
    stage: Literal["evaluate"] = "evaluate"


StageResult = IngestResult | TrainResult | ExportResult | CountTextsResult | SampleResult | EvaluateResult


@dataclass(frozen=True)
class FitResult(Shown):
    """Of `fit`: the guarantee and the files of a run before it samples, and the results of the stages that it took."""

    run: str
    epsilon_guaranteed: float
    epsilon_spent: float
    epsilon_target: float
    delta: float
    model: str
    certificate: str
    stages: tuple[StageResult, ...]


@dataclass(frozen=True)
class Summary:
    """The figures and files of a finished run."""

    workspace: str
    rows: int
    epsilon_guaranteed: float
    epsilon_spent: float
    epsilon_target: float
    delta: float
    synthetic: str
    model: str
    certificate: str
    report: str | None


@dataclass(frozen=True)
class RunResult(Summary):
    """Of `run`: the summary, and the results of the stages that it took."""

    run: str
    stages: tuple[StageResult, ...]


@dataclass(frozen=True)
class DemoResult(Summary):
    """Of `demo`: a run's summary, and the synthetic table."""

    csv: str
    first_rows: list[dict[str, Any]]
