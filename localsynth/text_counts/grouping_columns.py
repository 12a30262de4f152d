"""The structured columns that tokens are counted by, chosen from what was released with noise before."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np

from localsynth.marginals.bin_merging import CLEAR, merge_bins
from localsynth.marginals.domain import Attribute, Domain
from localsynth.marginals.model import MarginalModel
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.columns import Record, Schema

__all__ = ["GroupingColumn", "belong_to", "grouping_columns_of"]


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


def grouping_columns_of(
    model: MarginalModel,
    names: AbstractSet[str],
    *,
    max_columns: int,
    max_groups: int,
    min_rows: float,
) -> list[GroupingColumn]:
    """Of the columns in `names` those to count tokens by, from what was released with noise before.

    At most `max_columns`, those in many groups first, each in about `max_groups` groups or fewer. A value is a group of its own
    with `min_rows` rows, and a column takes part where two of its groups have as many.
    """
    columns = []
    for attribute, single in zip(model.domain.attributes, model.measured, strict=False):
        if attribute.name not in names:
            continue
        merged = model.merged_bins[attribute.name]
        weights = 1.0 if single.weights is None else single.weights
        counts = (single.counts / weights)[list(merged.groups)] * np.array(merged.shares)
        groups = merge_bins(attribute, counts, max(single.sigma, min_rows / CLEAR), max_groups).groups
        if (np.bincount(groups, weights=counts) >= min_rows).sum() > 1:
            columns.append(GroupingColumn(attribute, groups))
    return sorted(columns, key=lambda column: -column.size)[:max_columns]


def belong_to(columns: Sequence[GroupingColumn], schema: Schema) -> bool:
    """Whether the grouping columns are those of an effective schema."""
    attributes = Domain.of_schema(ColumnSplit(schema, hybrid=True).schema).attributes if columns else ()
    return all(column.attribute in attributes for column in columns)
