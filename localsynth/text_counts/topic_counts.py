"""One noisy count of what the original texts are about, beside what the structured columns of their rows say.

Each row lies in one cell of each table, so a unit moves a table by as many as it has rows. All tables have the same noise, fixed
before a row is read, and one ρ (zCDP) between them. Counting the topics of private texts to choose among synthetic ones is
after Yu et al. 2024, "Privacy-preserving instructions for aligning large language models" (arXiv:2402.13659), section 3.3.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from localsynth.errors import ConfigError, IntegrityError
from localsynth.marginals.accounting import Budget, Spend
from localsynth.marginals.mechanisms import Table
from localsynth.privacy.noise import RandomSource
from localsynth.schema.columns import Record, Schema
from localsynth.text_counts.grouping_columns import TOPIC, Aspect, fit_to
from localsynth.text_counts.topics import Topics

__all__ = ["Selection", "count_topics", "tables_of"]

_MOST_CELLS = 1 << 16
"""Of all tables of a file together; a count has some thousands."""
_LEAST, _MOST = 1e-12, 2.0**53
"""What a deviation may be, and how many rows there may be: beyond all tables, and inside what can be squared and drawn from."""


def tables_of(aspects: Sequence[Aspect]) -> list[tuple[str, ...]]:
    """What is counted together in each table."""
    return [(TOPIC, aspect.name) for aspect in aspects] or [(TOPIC,)]


@dataclass(frozen=True)
class Selection:
    """What was counted, in one table for each aspect (topics by groups), or one of the topics alone where there is none."""

    topics: Topics
    aspects: list[Aspect]
    original: list[NDArray[np.float64]]
    """Of the original rows, with noise."""
    written: list[NDArray[np.float64]]
    """Of synthetic rows, exact."""
    deviation: float
    """Standard deviation of the noise in each cell."""
    rho: float
    """The budget; the spends add up to at most that."""
    spends: list[Spend]
    noise: str
    """`label` of the random source that counted."""
    counted: ClassVar = "topics"
    """What: the value of train.selection."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that holds everything."""
        return {
            "counted": self.counted,
            "topics": self.topics.to_json(),
            "aspects": [aspect.to_json() for aspect in self.aspects],
            "original": [table.tolist() for table in self.original],
            "written": [table.tolist() for table in self.written],
            "deviation": self.deviation,
            "rho": self.rho,
            "spends": [spend.to_json() for spend in self.spends],
            "noise": self.noise,
        }

    @classmethod
    def from_json(cls, tree: Any) -> "Selection":
        """The inverse of `to_json`. Raises IntegrityError."""
        try:
            aspects = [Aspect.from_json(aspect) for aspect in tree["aspects"]]
            original, written = ([np.array(table, dtype=np.float64) for table in tree[key]] for key in ("original", "written"))
            spends = [Spend(s["kind"], float(s["parameter"]), tuple(map(str, s["columns"]))) for s in tree["spends"]]
            selection = cls(
                Topics.from_json(tree["topics"]),
                aspects,
                original,
                written,
                float(tree["deviation"]),
                float(tree["rho"]),
                spends,
                str(tree["noise"]),
            )
            selection._check()
        except (ArithmeticError, AssertionError, AttributeError, KeyError, MemoryError, TypeError, ValueError, ConfigError):
            raise IntegrityError("The file of a selection cannot be read.", "Restore it from a backup, or train again.") from None
        return selection

    def fits(self, schema: Schema) -> bool:
        """Whether the columns that topics were counted with are those of an effective schema."""
        return fit_to(self.aspects, schema)

    @property
    def tables(self) -> list[tuple[str, ...]]:
        """What was counted together in each table."""
        return tables_of(self.aspects)

    def _check(self) -> None:
        sizes = {TOPIC: self.topics.count, **{aspect.name: aspect.size for aspect in self.aspects}}
        shapes = [tuple(sizes[name] for name in names) for names in tables_of(self.aspects)]
        for tables in (self.original, self.written):
            if [table.shape for table in tables] != shapes or not all(np.isfinite(table).all() for table in tables):
                raise ValueError("tables of other groups")
            if sum(table.size for table in tables) > _MOST_CELLS or any(np.abs(table).sum() > _MOST for table in tables):
                raise ValueError("more than is ever counted")
        if not (_LEAST <= self.deviation <= _MOST and 0 < self.rho < math.inf):
            raise ValueError("no noise")


def count_topics(
    topics: Topics,
    aspects: Sequence[Aspect],
    original: Sequence[tuple[Record, str]],
    written: Sequence[tuple[Record, str]],
    rho: float,
    rows_per_unit: int,
    random: RandomSource,
) -> Selection:
    """Spend at most `rho` (zCDP, add or remove one unit) on the topics of `original`; `written` are synthetic.

    Both are rows (with the aspects' columns) and their texts. `random` is the only source of chance. Raises BudgetError.
    """
    budget = Budget(rho)
    names = tables_of(aspects)
    sizes = {TOPIC: topics.count, **{aspect.name: aspect.size for aspect in aspects}}
    noise_multiplier = math.sqrt(len(names) / (2 * budget.left))
    rows = Table(_codes(topics, aspects, original), sizes, rows_per_unit, budget, random)
    noisy = [rows.noisy_counts(columns, noise_multiplier) for columns in names]
    codes = _codes(topics, aspects, written)
    exact = []
    for columns in names:
        table = np.zeros([sizes[name] for name in columns])
        np.add.at(table, tuple(codes[name] for name in columns), 1.0)
        exact.append(table)
    deviation = rows.deviation(noise_multiplier)
    return Selection(topics, list(aspects), noisy, exact, deviation, rho, budget.spends, random.label)


def _codes(topics: Topics, aspects: Sequence[Aspect], rows: Sequence[tuple[Record, str]]) -> dict[str, NDArray[np.int64]]:
    codes = {TOPIC: topics.of([text for _, text in rows])}
    for aspect in aspects:
        codes[aspect.name] = np.array([aspect.of(row) for row, _ in rows], dtype=np.int64)
    return codes
