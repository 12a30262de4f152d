"""The results of the commands, as frozen records: the worker makes them, the command line and the terminal UI show them.

Between processes, and with --json, they are JSON: `to_json` and `from_json`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from html import escape
from types import UnionType
from typing import Any, Literal, TypeVar, cast

Record = TypeVar("Record")


class Shown:
    """A record that a notebook shows as a table of its fields."""

    def _repr_html_(self) -> str:
        rows = (
            f"<tr><th style='text-align: left'>{name.replace('_', ' ')}</th><td>{escape(_in_words(value))}</td></tr>"
            for name, value in vars(self).items()
            if value not in (None, (), [], {})
        )
        return f"<table>{''.join(rows)}</table>"


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_in_words(each)}" for key, each in value.items())
    if is_dataclass(value):
        return _in_words(vars(value))
    if isinstance(value, tuple | list):
        return "; ".join(map(_in_words, value))
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)


# --- the stages ------------------------------------------------------------------------------------------------------


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


# --- plan, plan --sweep and rehearse ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class MembershipRisk:
    """The largest true-positive rate of membership inference at a false-positive rate, rounded up at six decimals."""

    false_positive_rate: float
    true_positive_rate: float


@dataclass(frozen=True)
class InferenceRisk:
    """The largest success of a guess about a unit from a base rate, rounded up at six decimals."""

    base_rate: float
    success: float


@dataclass(frozen=True)
class Risks:
    """The largest success of attacks, and what it follows from.

    basis  "curve": privacy loss distributions, one budget with all parameters fixed beforehand
           "order": (ε, δ), and what the only budget's order bounds
           "epsilon and delta": nothing but (ε, δ), summed over budgets
    """

    basis: str
    membership: tuple[MembershipRisk, ...]
    inference: tuple[InferenceRisk, ...]


@dataclass(frozen=True)
class Adapters:
    """The layers that get an adapter: the name of the preset, the layers, and what they were measured on."""

    preset: str
    layers: list[str]
    measured: str


@dataclass(frozen=True)
class Plan(Shown):
    """Of `plan`: estimates of a run from public figures alone. `seconds` and `epsilon` are by stage.

    Figures of the language model are None for a run by marginals alone: adapters, device, micro_batch_tokens,
    memory_room_bytes.
    """

    synthesizer: str
    units: int
    training_units: int
    rows_wanted: int
    steps: int
    reserve_steps: int
    batch_size: int
    sample_rate: float
    noise_multiplier: float
    max_grad_norm: float
    epsilon: dict[str, float]
    """"total", and what each stage would cost alone at the run's δ."""
    delta: float
    risks: Risks
    seconds: dict[str, float]
    tokens_per_row: float
    precision: str
    memory_bytes: int
    disk_bytes: int
    adapters: Adapters | None = None
    device: str | None = None
    micro_batch_tokens: int | None = None
    memory_room_bytes: int | None = None
    units_origin: str = "declared"
    """"declared", "measured" or "assumed"."""
    to_be_measured: tuple[str, ...] = ()
    """Columns whose list or range is open."""
    units_needed: dict[str, int] = field(default_factory=dict)
    """How many units each of them needs (`planning.warnings.Need`)."""
    free_disk_bytes: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tables:
    """Tables of counts that share a fraction of the marginals' ρ equally."""

    count: int
    fraction: float


@dataclass(frozen=True)
class CountError:
    """The standard deviation of a noisy count: in rows, and as a share of the expected training units."""

    rows: float
    share: float


@dataclass(frozen=True)
class SweepRow:
    """What one ε buys.

    single            error of a count of one column's values; None without marginals
    pair              error of a count of a pair of columns; None without marginals, or with one column
    list_threshold    rows that a value needs to be found in a measured list; None where no list is open
    noise_multiplier  of DP-SGD; None without a model
    step_noise        standard deviation of the noise in each coordinate of a step's mean gradient; None without a model
    measured          the score of each of `Sweep.measured_on` at this ε; empty where none was measured
    """

    epsilon: float
    single: CountError | None
    pair: CountError | None
    list_threshold: int | None
    noise_multiplier: float | None
    step_noise: float | None
    measured: tuple[float, ...]


@dataclass(frozen=True)
class Sweep(Shown):
    """Of `plan --sweep`: the rows, and what they assume.

    units_origin    "measured", "declared" or "assumed"
    rows_per_unit   the maximum number of rows of a unit: the sensitivity of every count
    steps           of training, without the reserve; None without a model
    left_out        epsilons at which no run is possible
    """

    units: int
    units_origin: str
    training_units: int
    rows_per_unit: int
    delta: float
    synthesizer: str
    single_tables: Tables | None
    pair_tables: Tables | None
    steps: int | None
    batch_size: int | None
    max_grad_norm: float | None
    measured_on: tuple[str, ...]
    rows: tuple[SweepRow, ...]
    left_out: tuple[float, ...]


@dataclass(frozen=True)
class PlannedRun:
    """What the plan says of the real run."""

    steps: int
    rows_wanted: int
    seconds: dict[str, float]
    memory_bytes: int
    disk_bytes: int


@dataclass(frozen=True)
class RehearsedRun:
    """What a rehearsal did, and the seconds of each stage."""

    steps: int
    rows: int
    seconds: dict[str, float]


@dataclass(frozen=True)
class RehearsalForecast:
    """What a rehearsal says of the real run."""

    seconds: dict[str, float]
    memory_bytes: int


@dataclass(frozen=True)
class RehearsalResult(Shown):
    """Of `rehearse`."""

    workspace: str
    units: int
    units_origin: str
    planned: PlannedRun
    rehearsed: RehearsedRun
    forecast: RehearsalForecast
    first_rows: list[dict[str, Any]]
    warnings: tuple[str, ...]


# --- audit -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AuditClaim:
    """The (ε, δ) of the training as in the ledger, and all the pairs that it claims to satisfy."""

    epsilon: float
    delta: float
    curve: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class AuditControl:
    """The same guesses, from the same training without its noise."""

    right: int
    epsilon: float
    p_value: float
    what: str = "the same guesses, had the noise not been added"


@dataclass(frozen=True)
class AuditSearch:
    """The search for the endings of inserted canaries in generated rows."""

    inserted: int
    withheld: int
    rows: int
    """Rows generated and searched."""
    found: int
    """Inserted endings that are in one of them, whole."""
    exposure: float
    """Bits, median over the inserted endings: 1 for a model that knows nothing of them."""
    highest: float
    """The exposure if each were more likely than every withheld one."""
    share_at_most: float | None
    """An upper bound of the fraction of rows with an ending (95 %); None where one was found."""


@dataclass(frozen=True)
class AuditFigures:
    """What an audit found, as the report has it.

    epsilon    the largest ε that the right guesses refute, whatever the mechanism
    ceiling    the same if all guesses were right: the most that this audit could have shown
    guesses    canaries that were guessed to be in; fixed before training
    p_value    the largest probability of so many right guesses under the claim
    search     None if no text is long enough, or no search was requested
    """

    status: Literal["passed", "failed", "too weak to say"]
    sentence: str
    epsilon: float
    ceiling: float
    confidence: float
    claimed: AuditClaim
    canaries: int
    guesses: int
    right: int
    p_value: float
    p_value_if_all_right: float
    control: AuditControl
    search: AuditSearch | None


@dataclass(frozen=True)
class TrainingAudited:
    """The training that was audited, and how the audit repeated it."""

    steps: int
    sample_rate: float
    noise_multiplier: float
    max_grad_norm: float
    base_sha256: str
    noise: str
    device: str
    precision: str


@dataclass(frozen=True, kw_only=True)
class AuditRecord(AuditFigures):
    """audit.json. `trained_on`: how many canaries were; `evidence`: the store that holds which, and their scores."""

    run: str
    adapter_sha256: str | None
    trained_on: int
    training: TrainingAudited
    evidence: str | None
    reads: str = "Nothing private: every canary is random within the schema. Nothing was spent."
    format: int = 1


@dataclass(frozen=True, kw_only=True)
class AuditResult(AuditRecord):
    """Of `audit`."""

    path: str
    seconds: float
    stage: Literal["audit"] = "audit"


# --- doctor ----------------------------------------------------------------------------------------------------------


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


# --- as JSON ---------------------------------------------------------------------------------------------------------


def to_json(record: Any) -> Any:
    """A result as JSON has it: each record as an object with its fields."""
    from pydantic_core import to_jsonable_python  # here, because `localsynth --help` does without

    return to_jsonable_python(record)


def from_json(kind: type[Record] | UnionType, document: Any) -> Record:
    """The inverse of `to_json`: a record of the type or union `kind`. Raises ValueError where `document` is none."""
    from pydantic import TypeAdapter

    adapter: TypeAdapter[Record] = TypeAdapter(cast(Any, kind))
    return adapter.validate_python(document)


def without_private(document: Mapping[str, Any]) -> dict[str, Any]:
    """A result or an event as JSON without its `private`, and a result without that of the stages that it lists."""
    public = {key: value for key, value in document.items() if key != "private"}
    if "stages" in public:
        public["stages"] = [without_private(stage) for stage in public["stages"]]
    return public
