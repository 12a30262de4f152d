"""One noisy count of what the original texts are about, beside what the structured columns of their rows say.

Each row lies in one cell of each table, so a unit moves a table by as many as it has rows. All tables have the same noise, fixed
before a row is read, and one ρ (zCDP) between them. Counting the topics of private texts to choose among synthetic ones is
after Yu et al. 2024, "Privacy-preserving instructions for aligning large language models" (arXiv:2402.13659), section 3.3.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localsynth.errors import ConfigError, IntegrityError
from localsynth.hybrid import Writing
from localsynth.marginals.accounting import Budget, Spend
from localsynth.marginals.domain import Attribute, Domain
from localsynth.marginals.grouping import group_bins
from localsynth.marginals.model import MarginalModel
from localsynth.marginals.release import Table
from localsynth.privacy.canonical import parse_json
from localsynth.privacy.noise import RandomSource
from localsynth.schema import Record, Schema
from localsynth.selection.topics import Topics

__all__ = ["TOPIC", "Aspect", "Selection", "aspects_of", "count_topics", "read_selection", "tables_of"]

TOPIC = "topic of the texts"
_MOST_ASPECTS = 8
_MOST_GROUPS = 8
_MOST_BYTES = 64 * 2**20
_MOST_CELLS = 1 << 16
"""Of all tables of a file together; a count has some thousands."""
_LEAST, _MOST = 1e-12, 2.0**53
"""What a deviation may be, and how many rows there may be: beyond all tables, and inside what can be squared and drawn from."""


@dataclass(frozen=True)
class Aspect:
    """A structured column whose link with the topics is counted: its bins, merged into a few groups. Public."""

    attribute: Attribute
    groups: tuple[int, ...]
    """The group of each bin."""

    @property
    def name(self) -> str:
        """The column."""
        return self.attribute.name

    @property
    def size(self) -> int:
        """How many groups."""
        return max(self.groups) + 1

    def of(self, row: Record) -> int:
        """The group that a row's value lies in."""
        return self.groups[self.attribute.encode(row[self.name])]


def aspects_of(model: MarginalModel, without: frozenset[str]) -> list[Aspect]:
    """The columns to count topics with: those in few groups first, at most eight. From what was released with noise before."""
    aspects = []
    for attribute, single in zip(model.domain.attributes, model.measured, strict=False):
        if attribute.name in without or attribute.name == TOPIC:
            continue
        grouping = model.groupings[attribute.name]
        weights = 1.0 if single.weights is None else single.weights
        counts = (single.counts / weights)[list(grouping.groups)] * np.array(grouping.shares)
        groups = group_bins(attribute, counts, single.deviation, _MOST_GROUPS).groups
        if max(groups) > 0:
            aspects.append(Aspect(attribute, groups))
    return sorted(aspects, key=lambda aspect: aspect.size)[:_MOST_ASPECTS]


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

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that holds everything."""
        return {
            "topics": self.topics.to_json(),
            "aspects": [{"attribute": a.attribute.to_json(), "groups": list(a.groups)} for a in self.aspects],
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
            aspects = [Aspect(Attribute.from_json(a["attribute"]), tuple(map(int, a["groups"]))) for a in tree["aspects"]]
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
        attributes = Domain.of_schema(Writing(schema).schema).attributes if self.aspects else ()
        return all(aspect.attribute in attributes for aspect in self.aspects)

    def _check(self) -> None:
        sizes = {TOPIC: self.topics.count, **{aspect.name: aspect.size for aspect in self.aspects}}
        for aspect in self.aspects:
            used = set(aspect.groups)
            # Compared with what is there: the highest of the numbers in a file may be any.
            if len(aspect.groups) != aspect.attribute.size or used != set(range(len(used))):
                raise ValueError("groups of other bins")
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


def read_selection(path: Path) -> Selection:
    """The selection in a file. Raises IntegrityError."""
    unreadable = IntegrityError(f"{path} cannot be read.", "Restore it from a backup, or train again.")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise unreadable
        return Selection.from_json(parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        raise unreadable from None
