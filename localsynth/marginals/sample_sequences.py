"""Sampling sequences from a fitted model of transitions: row after row, each given the one before.

Everything in the model was released with noise, so sampling costs no privacy. Unit u of a
sample depends on the seed and on u alone. So does row i: the unit it belongs to follows
from the lengths of the units before.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray

from localsynth.marginals.bin_merging import MergedBins
from localsynth.marginals.conditional import probabilities_of, sample_given
from localsynth.marginals.domain import Attribute
from localsynth.marginals.inference import cumulative, pick
from localsynth.marginals.sequence_model import SequenceModel
from localsynth.marginals.transitions import EARLIER, LAST, before, since
from localsynth.schema.columns import Column, Record, Schema, Value
from localsynth.schema.conditions import Allowed, only
from localsynth.schema.feasible import FeasibleSet
from localsynth.schema.ordinals import from_ordinal, to_ordinal
from localsynth.system import random_streams

_MAX_UNIFORMS = 1 << 22
"""Random numbers generated at once."""
_MAX_UNITS = 1 << 12
"""Units sampled at once."""
_NUMBERS = 4
"""Random numbers of a row for each variable: its group, whether the value stays, the bin in the group, the value in the bin."""

MAX_ATTEMPTS = 20
"""Further attempts at a row that violates a constraint; the last one is repaired."""

Uniforms = NDArray[np.float64]
Groups = dict[str, NDArray[np.int64]]


def sample_rows(
    model: SequenceModel, seed: int, first_unit: int = 0, start: int = 0, constraints: Sequence[str] = ()
) -> Iterator[tuple[int, Record]]:
    """(number of its unit, structured columns) of all rows from `start` on, without end; 0 ≤ seed < 2**64.

    Every row satisfies the `constraints`, which are those of the schema. Row 0 is the first of unit `first_unit`. The rows
    of a unit follow each other, in the order of the ordering column. Where a unit begins is known only when those before it
    are sampled, so to begin at `start` takes as long as to sample up to there.
    """
    units = enumerate(sample_units(model, seed, first_unit, constraints), start=first_unit)
    return islice(((number, row) for number, unit in units for row in unit), start, None)


def sample_units(model: SequenceModel, seed: int, first_unit: int = 0, constraints: Sequence[str] = ()) -> Iterator[list[Record]]:
    """The sequences of the units `first_unit` and all that follow, without end; see `sample_rows`."""
    columns: list[Column] = [attribute.column for attribute in model.layout.columns.attributes]
    sampler = _SequenceSampler(model, FeasibleSet(Schema(columns=columns, constraints=list(constraints))))
    for first in count(first_unit, sampler.block):
        yield from sampler.units(seed, first)


class _ColumnSampler:
    """How the groups of a variable become bins and values."""

    def __init__(self, attribute: Attribute, merged: MergedBins) -> None:
        self.attribute = attribute
        table = np.zeros((merged.size, attribute.size))
        table[list(merged.groups), range(attribute.size)] = merged.shares
        self._shares = cumulative(table)

    def bins(self, groups: NDArray[np.int64], uniforms: Uniforms) -> NDArray[np.int64]:
        return pick(self._shares, groups, uniforms)


@dataclass
class _Rows:
    """One row of each of some units: the groups of all variables, and the values of the columns."""

    groups: Groups
    values: dict[str, list[Value]]

    def row(self, i: int) -> Record:
        return {name: values[i] for name, values in self.values.items()}

    def replace(self, indices: Sequence[int], others: "_Rows") -> None:
        """Set the rows at these indices to `others`."""
        for name, groups in self.groups.items():
            groups[list(indices)] = others.groups[name]
        for name, values in self.values.items():
            for index, value in zip(indices, others.values[name], strict=True):
                values[index] = value


class _SequenceSampler:
    """Samples blocks of units; one for each model."""

    def __init__(self, model: SequenceModel, feasible: FeasibleSet) -> None:
        self._model, self._layout, self._feasible = model, model.layout, feasible
        merged = model.transitions.merged_bins
        self._columns = {a.name: _ColumnSampler(a, merged[a.name]) for a in self._layout.own}
        # A row takes whole blocks of numbers: then the numbers of any unit can be reached at once.
        self._row_blocks = -(-_NUMBERS * len(self._columns) // random_streams.NUMBERS_PER_BLOCK)
        self._width = self._row_blocks * random_streams.NUMBERS_PER_BLOCK
        self.block = max(1, min(_MAX_UNITS, _MAX_UNIFORMS // (self._layout.max_rows * self._width)))

    def units(self, seed: int, first: int) -> list[list[Record]]:
        """Units `first` .. `first` + `block` - 1."""
        max_rows, width = self._layout.max_rows, self._width
        uniforms = random_streams.sequence_rows(seed, first, max_rows * self._row_blocks).random((self.block, max_rows, width))
        units: list[list[Record]] = [[] for _ in range(self.block)]
        unfinished = np.arange(self.block)
        groups_before: Groups = {}
        for index in range(max_rows):
            earlier = [units[unit][-1] for unit in unfinished] if index else []
            rows = self._sample_rows(index, groups_before, earlier, uniforms[unfinished, index])
            if self._feasible:
                self._satisfy_constraints(rows, index, groups_before, earlier, unfinished, seed, first)
            for i, unit in enumerate(unfinished.tolist()):
                units[unit].append(rows.row(i))
            last = rows.groups[LAST].astype(bool)
            unfinished = unfinished[~last]
            if not len(unfinished):
                break
            groups_before = {name: rows.groups[name][~last] for name in self._layout.columns.names}
        return units

    def _sample_rows(self, index: int, groups_before: Groups, earlier: Sequence[Record], uniforms: Uniforms) -> _Rows:
        """A row for each row of `uniforms`, at this index of its sequence.

        `groups_before`: the groups of the row before, which is `earlier`; both empty at index 0.
        """
        transitions, order = self._model.transitions, self._layout.order
        sizes, rows = transitions.sizes, len(uniforms)
        uniform = {name: uniforms[:, _NUMBERS * i : _NUMBERS * (i + 1)] for i, name in enumerate(self._columns)}
        evidence = {EARLIER: self._group_of(EARLIER, None if index == 0 else index, rows)}
        for name in self._layout.described:
            evidence[before(name)] = groups_before[name] if index else np.full(rows, sizes[before(name)] - 1, dtype=np.int64)
        if index == self._layout.max_rows - 1:
            evidence[LAST] = self._group_of(LAST, True, rows)
        ordinals: list[int] = []
        if order is not None:
            gap = since(order)
            if index:
                probabilities = probabilities_of(gap, sizes, transitions.potentials, evidence, rows)
                previous = [to_ordinal(self._columns[order].attribute.column, row[order]) for row in earlier]
                ordinals, evidence[gap] = self._later(previous, probabilities, uniform[gap])
                evidence[order] = self._groups_of_ordinals(order, ordinals)
            else:
                evidence[gap] = self._group_of(gap, None, rows)
        unknown = {name: uniform[name][:, 0] for name in self._columns if name not in evidence}
        groups = {**evidence, **sample_given(sizes, transitions.potentials, evidence, unknown)}
        values: dict[str, list[Value]] = {}
        for name in self._layout.columns.names:
            column = self._columns[name]
            if name == order and index:
                values[name] = [from_ordinal(column.attribute.column, ordinal) for ordinal in ordinals]
                continue
            bins = column.bins(groups[name], uniform[name][:, 2])
            values[name] = [
                column.attribute.decode(b, u) for b, u in zip(bins.tolist(), uniform[name][:, 3].tolist(), strict=True)
            ]
            if index and name in self._model.repeats:
                stays = (groups[name] == groups_before[name]) & (uniform[name][:, 1] < self._model.repeats[name])
                for row in np.flatnonzero(stays).tolist():
                    values[name][row] = earlier[row][name]
        return _Rows(groups, values)

    def _satisfy_constraints(
        self,
        rows: _Rows,
        index: int,
        groups_before: Groups,
        earlier: Sequence[Record],
        units: NDArray[np.int64],
        seed: int,
        first: int,
    ) -> None:
        """Sample rows that violate a constraint again, given the same row before; repair those that still do."""
        for attempt in range(1, MAX_ATTEMPTS + 1):
            violating = [i for i in range(len(units)) if not self._feasible.satisfied(rows.row(i))]
            if not violating:
                return
            random = random_streams.sequence_rows(seed, first, self._row_blocks, attempt, index)
            uniforms = random.random((self.block, self._width))[units[violating]]
            if attempt < MAX_ATTEMPTS:
                their_groups = {name: groups[violating] for name, groups in groups_before.items()}
                their_earlier = [earlier[i] for i in violating] if index else []
                rows.replace(violating, self._sample_rows(index, their_groups, their_earlier, uniforms))
                continue
            for i, uniform in zip(violating, uniforms, strict=True):
                groups = {name: int(found[i]) for name, found in rows.groups.items()}
                row = self._repaired(rows.row(i), groups, earlier[i] if index else None, uniform)
                for name, value in row.items():
                    rows.values[name][i] = value
                    rows.groups[name][i] = self._group_of(name, value, 1)[0]

    def _repaired(self, row: Record, groups: Mapping[str, int], earlier: Record | None, uniforms: Uniforms) -> Record:
        """A row that satisfies the constraints; its value of the ordering column stays.

        Where that fails, the constrained columns stay as they were in the row before, which satisfied them, or are those of
        a witness.
        """
        feasible, order = self._feasible, self._layout.order
        requested, fallback = {}, feasible.witness({})
        if earlier is not None:
            fallback = {name: earlier[name] for name in feasible.names}
            if order is not None:
                requested[order] = only(self._columns[order].attribute.column, row[order])
        assert fallback is not None, "constraints are checked when the schema is read"
        numbers = dict(zip(feasible.names, uniforms.reshape(-1, _NUMBERS)[:, :3], strict=False))

        def resample(name: str, allowed: Allowed, so_far: Record) -> Value:
            known = {**groups, **{n: int(self._group_of(n, so_far[n], 1)[0]) for n in feasible.names}}
            return self._model.transitions.resample(name, known, allowed, numbers[name])

        return feasible.repaired(row, requested, resample, fallback)

    def _group_of(self, name: str, value: Value, rows: int) -> NDArray[np.int64]:
        bin_ = self._columns[name].attribute.encode(value)
        return np.full(rows, self._model.transitions.merged_bins[name].groups[bin_], dtype=np.int64)

    def _groups_of_ordinals(self, name: str, ordinals: list[int]) -> NDArray[np.int64]:
        starts, groups = self._columns[name].attribute.starts, self._model.transitions.merged_bins[name].groups
        return np.array([groups[bisect_right(starts, ordinal) - 1] for ordinal in ordinals], dtype=np.int64)

    def _later(
        self, previous: list[int], probabilities: NDArray[np.float64], uniforms: Uniforms
    ) -> tuple[list[int], NDArray[np.int64]]:
        """The ordinals of the ordering column, given those of the row before, and the groups of the gaps.

        Only gaps that leave the column inside its bounds are sampled: no row is dropped and none is clamped.
        """
        order = self._layout.order
        assert order is not None
        gap, merged = self._columns[since(order)].attribute, self._model.transitions.merged_bins[since(order)]
        end = self._columns[order].attribute.starts[-1]
        starts = np.array(gap.starts, dtype=np.float64)
        widths = np.diff(starts)
        left = np.array([end - ordinal for ordinal in previous], dtype=np.float64)
        allowed = np.clip((left[:, None] - starts[:-1]) / widths, 0.0, 1.0)
        # The last bin, a missing gap, is not among them: there is a row before.
        known = np.array(merged.groups[:-1])
        weights = probabilities[:, known] * np.array(merged.shares[:-1]) * allowed
        weights = np.where(weights.sum(axis=1, keepdims=True) > 0, weights, allowed)
        sums = weights.cumsum(axis=1)
        bins = (sums <= uniforms[:, :1] * sums[:, -1:]).sum(axis=1).clip(max=len(known) - 1)
        later = []
        for ordinal, bin_, uniform in zip(previous, bins.tolist(), uniforms[:, 3].tolist(), strict=True):
            first, width = gap.starts[bin_], min(gap.starts[bin_ + 1], end - ordinal) - gap.starts[bin_]
            later.append(ordinal + first + min(width - 1, int(uniform * width)))
        return later, known[bins]
