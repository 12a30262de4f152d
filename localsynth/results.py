"""The results of the stages, as JSON objects: what the worker returns, and the command line and the terminal UI show."""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

__all__ = [
    "CountTextsResult",
    "EvaluateResult",
    "ExportResult",
    "IngestResult",
    "RunResult",
    "SampleResult",
    "StageResults",
    "Summary",
    "TrainResult",
    "without_private",
]


class IngestResult(TypedDict):
    """Of the stage `ingest`. The numbers of units are public: declared or measured."""

    stage: str
    done_before: bool
    units: int
    units_origin: str
    """declared or measured."""
    kept_units: int
    training_units: int
    epsilon: NotRequired[float]
    """ε spent so far; absent where nothing was done."""


class TrainResult(TypedDict):
    """Of the stage `train`."""

    stage: str
    run: str
    synthesizer: str
    steps: int
    """Training steps, or noisy tables of marginals."""
    precision: str
    noise: str
    seal: str
    epsilon: float
    private: dict[str, Any]
    """Duration and memory, which depend on the original rows; empty for marginals. `--json` leaves them out."""


class ExportResult(TypedDict):
    """Of the stage `export`."""

    stage: str
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


class CountTextsResult(TypedDict):
    """Of the stage `count_texts`."""

    stage: str
    run: str
    done_before: bool
    counts_texts: bool
    """Whether the run has a budget for it."""
    tokens: int
    columns: list[str]
    epsilon: NotRequired[float]


class SampleResult(TypedDict):
    """Of the stage `sample`."""

    stage: str
    run: str
    new_rows: int
    rows: int
    rejected: int
    seconds: float


class EvaluateResult(TypedDict):
    """Of the stage `evaluate`."""

    stage: str
    run: str
    release: bool
    report: str
    report_json: str


class StageResults(TypedDict, total=False):
    """The results of the stages that a run took."""

    ingest: IngestResult
    train: TrainResult
    export: ExportResult
    count_texts: CountTextsResult
    sample: SampleResult
    evaluate: EvaluateResult


class Summary(TypedDict):
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


class RunResult(Summary):
    """Of `run`: the summary, and the results of the stages that it took."""

    run: str
    stages: list[Any]


def without_private(document: Mapping[str, Any]) -> dict[str, Any]:
    """A result or an event without its `private`, and a result without that of the stages that it lists."""
    public = {key: value for key, value in document.items() if key != "private"}
    if "stages" in public:
        public["stages"] = [without_private(stage) for stage in public["stages"]]
    return public
