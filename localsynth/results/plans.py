"""Results of `plan`, `plan --sweep` and `rehearse`."""

from dataclasses import dataclass, field
from typing import Any

from localsynth.results.shown import Shown


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
