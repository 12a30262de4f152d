"""Which part of each bin a condition on the column allows, and how a value is sampled from that part."""

import itertools
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localsynth.errors import ConfigError
from localsynth.marginals.domain import Attribute
from localsynth.schema.columns import Boolean, Category
from localsynth.schema.conditions import Allowed
from localsynth.schema.ordinals import MISSING, ordinal_from, to_ordinal

_MAX_INT64 = 2**63 - 1


class AllowedOrdinals:
    """For each bin the allowed ordinals, as ascending runs (first, one past the last); and whether a missing value is allowed."""

    def __init__(self, attribute: Attribute, runs: Sequence[tuple[tuple[int, int], ...]], missing: bool) -> None:
        self._attribute, self.runs, self._missing = attribute, tuple(runs), missing
        # The allowed ordinals one after the other: a bin is a range of places among them.
        number = np.int64 if attribute.starts[-1] <= _MAX_INT64 else object
        firsts = [first for bin_ in self.runs for first, _ in bin_]
        ends = [0, *itertools.accumulate(stop - first for bin_ in self.runs for first, stop in bin_)]
        runs_before = [0, *itertools.accumulate(map(len, self.runs))]
        self._firsts, self._places = np.array(firsts, dtype=number), np.array(ends, dtype=number)
        self._bins = self._places[runs_before]
        self._widths = np.diff(self._bins)

    def fraction(self, bin_: int) -> float:
        """The fraction of a bin's values that is allowed."""
        if bin_ == self._attribute.missing:
            return float(self._missing)
        starts = self._attribute.starts
        return sum(stop - first for first, stop in self.runs[bin_]) / (starts[bin_ + 1] - starts[bin_])

    def pick(self, bins: NDArray[np.int64], uniforms: NDArray[np.float64]) -> NDArray[Any]:
        """The ordinals, shape (rows,), that `uniforms`, in [0, 1), point to among the evenly likely allowed ones of `bins`.

        A missing value is `MISSING`. Every bin has allowed values. Integers of 64 bits; of any size where the column needs them.
        """
        present = bins != self._attribute.missing
        ordinals = np.full(len(bins), MISSING, dtype=self._firsts.dtype)
        widths = self._widths[bins[present]]
        offsets = np.floor(uniforms[present] * widths.astype(np.float64))
        whole = (
            np.array([int(offset) for offset in offsets], dtype=object) if widths.dtype == object else offsets.astype(np.int64)
        )
        places = self._bins[bins[present]] + np.minimum(widths - 1, whole)
        runs = np.searchsorted(self._places, places, side="right") - 1
        ordinals[present] = self._firsts[runs] + (places - self._places[runs])
        return ordinals


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
    return AllowedOrdinals(attribute, cut, missing)
