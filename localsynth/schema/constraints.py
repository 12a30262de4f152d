"""Constraints: SQL conditions that the user declares to be satisfied by every row.

A constraint is read like an SQL CHECK: a row violates it only where it is false, not
where a missing value leaves it undecided.
"""

from dataclasses import dataclass
from functools import lru_cache

from localsynth.errors import ConfigError
from localsynth.schema.sql_conditions import (
    Comparison,
    Node,
    Row,
    SqlColumns,
    comparisons_of,
    names_of,
    read_condition,
)

MAX_LENGTH = 1000
"""Characters of a constraint."""
_REFUSED = ("text", "identifier", "surrogate", "derived")
"""Kinds of columns whose values no generator can be held to."""


@dataclass(frozen=True)
class Constraint:
    """One constraint: its text and its tree."""

    text: str
    tree: Node

    def violated(self, row: Row) -> bool:
        """Whether a row (every column of `names`, with conforming values) violates it."""
        return self.tree.truth(row) is False

    def violated_sql(self, columns: SqlColumns) -> str:
        """Whether a row violates it, as SQL; never NULL."""
        return f"({self.tree.sql(columns)} IS NOT DISTINCT FROM false)"

    @property
    def comparisons(self) -> list[Comparison]:
        """All comparisons in it."""
        return comparisons_of(self.tree)

    @property
    def names(self) -> frozenset[str]:
        """The columns in it."""
        return names_of(self.tree)


@lru_cache(maxsize=64)
def read_constraints(texts: tuple[str, ...], kinds: tuple[tuple[str, str], ...]) -> tuple[Constraint, ...]:
    """The constraints on columns of these (name, kind). Raises ValueError, naming the constraint."""
    return tuple(_read(text, dict(kinds)) for text in texts)


def _read(text: str, kinds: dict[str, str]) -> Constraint:
    try:
        if len(text) > MAX_LENGTH:
            raise ConfigError(f"It has more than {MAX_LENGTH} characters.", "Split it into several constraints.")
        return Constraint(text, read_condition(text, kinds, _REFUSED))
    except ConfigError as error:
        raise ValueError(f"constraint {text[:80]!r}: {error.message} {error.hint}") from None
