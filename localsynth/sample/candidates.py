"""The state of a row while it is generated."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from localsynth.schema.columns import Record
from localsynth.schema.conditions import Conditions


@dataclass(frozen=True)
class Request:
    """A row to generate: its number, and the conditions it must meet."""

    number: int
    conditions: Conditions = dataclasses.field(default_factory=dict)
    contrast: Record | None = None
    """With guidance: the contrast row's values of columns that the conditions fix."""


@dataclass
class CandidateGroup:
    """The candidates of one row, and those of them that have reached the row's last condition."""

    request: Request
    attempt: int
    size: int
    first: int
    """The first column after those that the conditions fix from the row's start: all candidates share these."""
    last: int
    """The last column with a condition."""
    pending: list["Candidate"] = dataclasses.field(default_factory=list)
    """Candidates that have reached the last condition and wait for the others."""


@dataclass
class Stream:
    """What the model reads in one sequence of the KV cache: the row itself, or the row after the contrast row's values."""

    position: int = 0
    """How many tokens are computed."""
    pending: list[int] = dataclasses.field(default_factory=list)
    """Tokens decided but not yet computed by the model."""


@dataclass
class Candidate:
    """A row that is being generated, or one of several candidates for it."""

    request: Request
    attempt: int
    index: int
    """Among the candidates of its row."""
    random: np.random.Generator
    matcher: LLMatcher
    """The grammar of the column that is being generated."""
    fields: int
    """How many columns the row has; `field` is the one being generated."""
    group: CandidateGroup | None
    streams: list[Stream]
    """The row and, with guidance, the row after the contrast row's values."""
    slot: int = -1
    """Its index in the batch; the streams have the slot's sequences of the KV cache."""
    field: int = 0
    value: bytes = b""
    value_tokens: int = 0
    values: list[bytes] = dataclasses.field(default_factory=list)
    row: Record = dataclasses.field(default_factory=dict)
    """The values so far of columns with constraints."""
    unconditional: LLMatcher | None = None
    """In a column with a condition, where the row has several candidates: the grammar without the condition."""
    log_weight: float = 0.0
    bias: NDArray[np.float32] | None = None
    """What is still added to the logits of the tokens that have a bias, once a text has begun."""

    @property
    def done(self) -> bool:
        """Every column has its value."""
        return self.field == self.fields

    @property
    def pending(self) -> bool:
        """It has reached its row's last condition, so that its weight is known."""
        return self.group is not None and self.field > self.group.last
