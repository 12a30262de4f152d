"""Results of `audit`."""

from dataclasses import dataclass
from typing import Literal


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
