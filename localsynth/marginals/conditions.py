"""Which part of each bin a condition on the column allows, and how a value is sampled from that part."""

from dataclasses import dataclass
from itertools import pairwise

from localsynth.errors import ConfigError
from localsynth.marginals.domain import Attribute
from localsynth.schema.columns import Boolean, Category, Value
from localsynth.schema.conditions import Allowed
from localsynth.schema.ordinals import from_ordinal, ordinal_from, to_ordinal


@dataclass(frozen=True)
class AllowedOrdinals:
    """For each bin the allowed ordinals, as ascending runs (first, one past the last); and whether a missing value is allowed."""

    attribute: Attribute
    runs: tuple[tuple[tuple[int, int], ...], ...]
    missing: bool

    def fraction(self, bin_: int) -> float:
        """The fraction of a bin's values that is allowed."""
        if bin_ == self.attribute.missing:
            return float(self.missing)
        starts = self.attribute.starts
        return sum(stop - first for first, stop in self.runs[bin_]) / (starts[bin_ + 1] - starts[bin_])

    def pick(self, bin_: int, uniform: float) -> Value:
        """The value that `uniform`, in [0, 1), points to among the evenly likely allowed ones of a bin that has some."""
        if bin_ == self.attribute.missing:
            return None
        width = sum(stop - first for first, stop in self.runs[bin_])
        offset = min(width - 1, int(uniform * width))
        for first, stop in self.runs[bin_]:
            if offset < stop - first:
                return from_ordinal(self.attribute.column, first + offset)
            offset -= stop - first
        raise AssertionError("the bin has no allowed value")


def _runs(attribute: Attribute, allowed: Allowed) -> list[tuple[int, int]]:
    column, count = attribute.column, attribute.starts[-1]
    if isinstance(column, Category | Boolean):
        found = sorted(to_ordinal(column, value) for value in allowed.values)
        return [(ordinal, ordinal + 1) for ordinal in found]
    runs = [(max(0, ordinal_from(column, low)), min(count, ordinal_from(column, high + 1))) for low, high in allowed.intervals]
    return [(first, stop) for first, stop in runs if first < stop]


def allowed_ordinals(attribute: Attribute, allowed: Allowed | None) -> AllowedOrdinals:
    """The part of a column that a condition allows; all of it for None. Raises ConfigError where that is nothing."""
    if allowed is None:
        runs, missing = [(0, attribute.starts[-1])], attribute.missing is not None
    else:
        runs, missing = _runs(attribute, allowed), allowed.null and attribute.missing is not None
    if not runs and not missing:
        raise ConfigError(f"The condition on column {attribute.name!r} allows no value.", "Widen it; the schema has the bounds.")
    cut = []
    for first, stop in pairwise(attribute.starts):
        cut.append(tuple((max(a, first), min(b, stop)) for a, b in runs if a < stop and b > first))
    return AllowedOrdinals(attribute, tuple(cut), missing)
