"""The structured columns that tokens are counted by, chosen from what was released with noise before."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from localsynth.marginals.bin_merging import CLEAR, merge_bins
from localsynth.marginals.domain import Attribute
from localsynth.marginals.model import MarginalModel
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.columns import Record

_MAX_COLUMNS = 3
"""Columns with value descriptions that tokens are counted by: each takes its part of the budget. Without descriptions, one."""
_MIN_ROWS = 100
"""Rows that a value needs to be a group of its own, in standard deviations of the noise in one table. Of text messages, spam
had 215 and gained; of questions to a bank, each of 77 labels had 41 and lost (docs/lab/token-counts.md)."""
_MAX_GROUPS = 100
"""Of a table."""
_MAX_CELLS = 1 << 22
"""Of a table: 32 MB, of which a handful are held at once."""


@dataclass(frozen=True)
class GroupingColumn:
    """A structured column that tokens are counted by: its bins, merged into a few groups. Public."""

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

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"attribute": self.attribute.to_json(), "groups": list(self.groups)}

    @classmethod
    def from_json(cls, tree: Any) -> "GroupingColumn":
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError."""
        column = cls(Attribute.from_json(tree["attribute"]), tuple(map(int, tree["groups"])))
        used = set(column.groups)
        # Compared with what is there: the highest of the numbers in a file may be any.
        if len(column.groups) != column.attribute.size or used != set(range(len(used))):
            raise ValueError("groups of other bins")
        return column


def choose_grouping_columns(
    split: ColumnSplit, model: MarginalModel, rho: float, rows_per_unit: int, vocabulary: int
) -> list[GroupingColumn]:
    """The columns to count the tokens of a hybrid's texts by, from what was released with noise before.

    They are conditioning columns, those in many groups first. A value is a group of its own if it has enough rows for the
    noise of `rho`. A column takes part if two of its groups have. `vocabulary` is the model's number of tokens.
    """
    max_columns = _MAX_COLUMNS if split.has_descriptions else 1
    max_groups = min(_MAX_GROUPS, _MAX_CELLS // vocabulary)
    min_rows = _MIN_ROWS * rows_per_unit / math.sqrt(2 * rho)
    columns = []
    for attribute, single in zip(model.domain.attributes, model.measured, strict=False):
        if attribute.name not in split.conditioning:
            continue
        merged = model.merged_bins[attribute.name]
        weights = 1.0 if single.weights is None else single.weights
        counts = (single.counts / weights)[list(merged.groups)] * np.array(merged.shares)
        groups = merge_bins(attribute, counts, max(single.sigma, min_rows / CLEAR), max_groups).groups
        if (np.bincount(groups, weights=counts) >= min_rows).sum() > 1:
            columns.append(GroupingColumn(attribute, groups))
    return sorted(columns, key=lambda column: -column.size)[:max_columns]
