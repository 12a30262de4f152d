"""What the engine keeps of the rows it is writing."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from localsynth.schema.columns import Record
from localsynth.schema.conditions import Conditions

__all__ = ["Group", "Request", "Slot", "Stream"]


@dataclass(frozen=True)
class Request:
    """A row to draw: its number, and the conditions it must meet."""

    number: int
    given: Conditions = dataclasses.field(default_factory=dict)
    against: Record | None = None
    """With guidance: other values of columns whose value is settled, which the row is to be told apart from."""


@dataclass
class Group:
    """The candidates of one row, and those of them that have reached the row's last condition."""

    request: Request
    attempt: int
    candidates: int
    first: int
    """The column after those whose values are settled from the first one on: these are alike to all candidates."""
    last: int
    """The last column with a condition."""
    reached: list["Slot"] = dataclasses.field(default_factory=list)


@dataclass
class Stream:
    """What the model reads in one sequence of the context: the row itself, or the row after other values."""

    position: int = 0
    """How many tokens are computed."""
    pending: list[int] = dataclasses.field(default_factory=list)
    """Tokens decided but not yet computed by the model."""


@dataclass
class Slot:
    """A row, or a candidate for it, being written in one place of the context: one sequence for each of its streams."""

    request: Request
    attempt: int
    candidate: int
    random: np.random.Generator
    matcher: LLMatcher
    fields: int
    """How many columns the row has; `field` is the one being written."""
    group: Group | None
    streams: list[Stream]
    """The row and, with guidance, the row after other values."""
    place: int = -1
    field: int = 0
    value: bytes = b""
    value_tokens: int = 0
    values: list[bytes] = dataclasses.field(default_factory=list)
    row: Record = dataclasses.field(default_factory=dict)
    """What the columns that constraints are about have so far."""
    free: LLMatcher | None = None
    """In a candidate's column with a condition: the grammar without the condition."""
    log_weight: float = 0.0
    bias: NDArray[np.float32] | None = None
    """What is still added to the logits of the tokens that have a bias, once a text has begun."""

    @property
    def done(self) -> bool:
        """Every column has its value."""
        return self.field == self.fields

    @property
    def waits(self) -> bool:
        """A candidate that is written up to the last condition, so that its weight is known."""
        return self.group is not None and self.field > self.group.last
