"""The structured columns whose link with the texts is counted, by what was released with noise before."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np

from localsynth.marginals.bin_merging import CLEAR, group_bins
from localsynth.marginals.domain import Attribute, Domain
from localsynth.marginals.model import MarginalModel
from localsynth.schema.column_split import Writing
from localsynth.schema.columns import Record, Schema

__all__ = ["Aspect", "aspects_of", "fit_to"]


@dataclass(frozen=True)
class Aspect:
    """A structured column whose link with the texts is counted: its bins, merged into a few groups. Public."""

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
    def from_json(cls, tree: Any) -> "Aspect":
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError."""
        aspect = cls(Attribute.from_json(tree["attribute"]), tuple(map(int, tree["groups"])))
        used = set(aspect.groups)
        # Compared with what is there: the highest of the numbers in a file may be any.
        if len(aspect.groups) != aspect.attribute.size or used != set(range(len(used))):
            raise ValueError("groups of other bins")
        return aspect


def aspects_of(
    model: MarginalModel,
    names: AbstractSet[str],
    *,
    most_aspects: int,
    most_groups: int,
    least_rows: float,
) -> list[Aspect]:
    """Of the columns in `names` those to count texts with, from what was released with noise before.

    At most `most_aspects`, those in many groups first, each in about `most_groups` groups or fewer. A value is a group of its own
    with `least_rows` rows, and a column takes part where two of its groups have as many.
    """
    aspects = []
    for attribute, single in zip(model.domain.attributes, model.measured, strict=False):
        if attribute.name not in names:
            continue
        grouping = model.groupings[attribute.name]
        weights = 1.0 if single.weights is None else single.weights
        counts = (single.counts / weights)[list(grouping.groups)] * np.array(grouping.shares)
        groups = group_bins(attribute, counts, max(single.deviation, least_rows / CLEAR), most_groups).groups
        if (np.bincount(groups, weights=counts) >= least_rows).sum() > 1:
            aspects.append(Aspect(attribute, groups))
    return sorted(aspects, key=lambda aspect: -aspect.size)[:most_aspects]


def fit_to(aspects: Sequence[Aspect], schema: Schema) -> bool:
    """Whether the columns of `aspects` are those of an effective schema."""
    attributes = Domain.of_schema(Writing(schema).schema).attributes if aspects else ()
    return all(aspect.attribute in attributes for aspect in aspects)
