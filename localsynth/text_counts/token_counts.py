"""A noisy histogram of the tokens of the original texts, grouped by the values of columns.

A row whose texts hold m different tokens counts 1/√m for each of them. So its L2 sensitivity in a table is at most 1, and a
unit's is at most its number of rows. Every cell of the vocabulary gets noise of a standard deviation that is fixed before a
row is read. Only then are the tokens kept whose counts stand out from what the model generates (`logit_bias.py`).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localsynth.errors import ConfigError, IntegrityError
from localsynth.marginals.accounting import Budget, Spend
from localsynth.marginals.domain import Domain
from localsynth.privacy.noise import RandomSource
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.columns import Record, Schema
from localsynth.system.canonical_json import parse_json
from localsynth.text_counts.grouping_columns import GroupingColumn

_TOKENS = "tokens of the texts"
_UNIT = 1 << 16
"""What a row's counts are whole multiples of: whole numbers and rounded noise add up exactly."""
_MAX_CELLS = 1 << 24
_MIN_SIGMA, _MAX_SIGMA = 1e-12, 2.0**53
_MAX_BIAS = 20.0
"""Beyond any that is fitted."""
_MAX_BYTES = 64 * 2**20

Row = tuple[Record, NDArray[np.int64]]
"""A row's structured columns, and the different tokens of its texts, the one that ends them among these."""


def histogram(column: GroupingColumn | None, rows: Iterable[Row], vocabulary: int) -> NDArray[np.int64]:
    """Shape (groups, vocabulary): what `rows` add up to, in 1/65,536. One group where there is no column."""
    table = np.zeros((column.size if column is not None else 1, vocabulary), dtype=np.int64)
    for row, tokens in rows:
        if len(tokens):
            # Rounded down: the square of the whole is at most that of the unit.
            table[column.of(row) if column is not None else 0, tokens] += math.floor(_UNIT / math.sqrt(len(tokens)))
    return table


def each_table(grouping_columns: Sequence[GroupingColumn]) -> list[GroupingColumn | None]:
    """What each table counts tokens by: a column, or nothing, in the one table where there are no columns."""
    return [*grouping_columns] or [None]


def tables_of(grouping_columns: Sequence[GroupingColumn]) -> list[tuple[str, ...]]:
    """What is counted together in each table."""
    return [(_TOKENS, column.name) for column in grouping_columns] or [(_TOKENS,)]


@dataclass(frozen=True)
class NoisyCounts:
    """What `count_tokens` releases: a table (groups, vocabulary) for each grouping column, or one of all rows without any."""

    grouping_columns: list[GroupingColumn]
    tables: list[NDArray[np.float64]]
    sigma: float
    """Standard deviation of the noise in each cell, in rows of one token."""
    rho: float
    """The budget; the spends add up to at most that."""
    spends: list[Spend]
    noise: str
    """`label` of the random source that counted."""


@dataclass(frozen=True)
class TokenCounts:
    """The tokens that stand out, with tables as in `NoisyCounts`.

    tokens    (kept,) their numbers in the model's vocabulary, rising
    target    for each table (groups, kept): the estimated count in as many rows as the original has
    biases    for each table (groups, kept): what is added to a token's logit in a row of that group
    """

    tokens: NDArray[np.int64]
    grouping_columns: list[GroupingColumn]
    target: list[NDArray[np.float64]]
    biases: list[NDArray[np.float64]]
    refined: bool
    """Whether the biases were corrected by what the model generates with the first ones."""
    sigma: float
    rho: float
    spends: list[Spend]
    noise: str

    @property
    def tables(self) -> list[tuple[str, ...]]:
        """What was counted together in each table."""
        return tables_of(self.grouping_columns)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that holds everything."""
        return {
            **vars(self),
            "tokens": self.tokens.tolist(),
            "grouping_columns": [column.to_json() for column in self.grouping_columns],
            "target": [table.tolist() for table in self.target],
            "biases": [table.tolist() for table in self.biases],
            "spends": [spend.to_json() for spend in self.spends],
        }

    @classmethod
    def from_json(cls, tree: Any) -> "TokenCounts":
        """The inverse of `to_json`. Raises IntegrityError."""
        try:
            tokens = np.array(tree["tokens"])
            if len(tokens) and (tokens.dtype != np.int64 or tokens.ndim != 1 or tokens[0] < 0 or (np.diff(tokens) <= 0).any()):
                raise ValueError("no tokens in rising order")
            grouping_columns = [GroupingColumn.from_json(column) for column in tree["grouping_columns"]]
            shapes = [(column.size, len(tokens)) for column in grouping_columns] or [(1, len(tokens))]
            if sum(groups * kept for groups, kept in shapes) > _MAX_CELLS:
                raise ValueError("more than is ever counted")
            target, biases = (_tables(tree[key], shapes) for key in ("target", "biases"))
            if any(np.abs(table).max(initial=0.0) > _MAX_BIAS for table in biases):
                raise ValueError("biases that are never fitted")
            sigma, rho = float(tree["sigma"]), float(tree["rho"])
            if not (_MIN_SIGMA <= sigma <= _MAX_SIGMA and 0 < rho < math.inf):
                raise ValueError("no noise")
            spends = [Spend(s["kind"], float(s["parameter"]), tuple(map(str, s["columns"]))) for s in tree["spends"]]
            refined, noise = tree["refined"] is True, str(tree["noise"])
            return cls(tokens.astype(np.int64), grouping_columns, target, biases, refined, sigma, rho, spends, noise)
        except (ArithmeticError, AssertionError, AttributeError, KeyError, MemoryError, TypeError, ValueError, ConfigError):
            raise IntegrityError("The token counts cannot be read.", "Restore it from a backup, or train again.") from None

    def fits(self, schema: Schema) -> bool:
        """Whether the columns that tokens were counted by are those of an effective schema."""
        attributes = Domain.of_schema(ColumnSplit(schema, hybrid=True).schema).attributes if self.grouping_columns else ()
        return all(column.attribute in attributes for column in self.grouping_columns)


def read_token_counts(path: Path) -> TokenCounts:
    """The token counts in a file. Raises IntegrityError."""
    unreadable = IntegrityError(f"{path} cannot be read.", "Restore it from a backup, or train again.")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise unreadable
        tree = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise unreadable from None
    return TokenCounts.from_json(tree)


def _tables(trees: Any, shapes: list[tuple[int, int]]) -> list[NDArray[np.float64]]:
    tables = [np.array(tree, dtype=np.float64) for tree in trees]
    if len(tables) != len(shapes):
        raise ValueError("tables of other columns")
    # Without tokens a table is a list of empty lists, whose shape is kept.
    tables = [table.reshape(shape) if table.size == 0 else table for table, shape in zip(tables, shapes, strict=True)]
    if [table.shape for table in tables] != shapes or not all(np.isfinite(table).all() for table in tables):
        raise ValueError("tables of other groups")
    return tables


def count_tokens(
    grouping_columns: Sequence[GroupingColumn],
    original: Sequence[Row],
    vocabulary: int,
    rho: float,
    rows_per_unit: int,
    random: RandomSource,
) -> NoisyCounts:
    """Spend at most `rho` (add or remove one unit) on the tokens of `original`.

    `random` is the only source of chance. Raises BudgetError.
    """
    budget = Budget(rho)
    together = tables_of(grouping_columns)
    noise_multiplier = math.sqrt(len(together) / (2 * budget.left))
    sigma = noise_multiplier * rows_per_unit
    tables = []
    for names, column in zip(together, each_table(grouping_columns), strict=True):
        budget.charge(Spend("gaussian", noise_multiplier, names))
        table = histogram(column, original, vocabulary)
        noise = np.rint(random.gaussian(table.size) * (sigma * _UNIT)).reshape(table.shape)
        tables.append((table + noise) / _UNIT)
    return NoisyCounts(list(grouping_columns), tables, sigma, rho, budget.spends, random.label)
