"""The fitted model of links (see `links`), and sequences drawn from it: row after row, each given the one before.

Everything in it was released with noise, so drawing costs no privacy. Unit u of a sample depends on the seed and on u alone,
and so does row i, which lies in the unit that the lengths of those before it lead to.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localsynth.errors import ConfigError, IntegrityError
from localsynth.marginals.accounting import Spend
from localsynth.marginals.bin_merging import Grouping
from localsynth.marginals.conditional import chances_of, draw_given
from localsynth.marginals.domain import Attribute, Domain
from localsynth.marginals.fit import Measurement
from localsynth.marginals.inference import cumulative, pick
from localsynth.marginals.model import MarginalModel
from localsynth.marginals.transitions import EARLIER, LAST, Layout, before, since
from localsynth.schema.columns import Column, Record, Schema, Value
from localsynth.schema.conditions import only
from localsynth.schema.feasible import FeasibleSet
from localsynth.schema.ordinals import from_step, to_step
from localsynth.system import random_streams

__all__ = ["SequenceModel"]

_UNIFORMS = 1 << 22
"""Random numbers made at once."""
_MOST_UNITS = 1 << 12
"""Units drawn side by side."""
_MOST_ROWS = 1000
"""Of a unit: the limit of privacy.max_rows_per_unit."""
_DRAWS = 4
"""Random numbers for each variable of a row: its group, whether the value stays, the bin in the group, the value in the bin."""

_MOST_TRIES = 20
"""Draws of one row that is to keep constraints, before it is mended."""

Uniforms = NDArray[np.float64]
Groups = dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class SequenceModel:
    """A model of links, and what turns them into rows."""

    layout: Layout
    """Its variables."""
    links: MarginalModel
    """Of all variables of the layout."""
    repeats: dict[str, float]
    """For some columns the chance that a value is exactly that of the row before, where both fall into the same group."""
    repeated: list[Measurement]
    """The counts that `repeats` were worked out from: of `layout.repeated`, in that order."""

    @property
    def rho(self) -> float:
        """The budget."""
        return self.links.rho

    @property
    def spends(self) -> list[Spend]:
        """What measuring cost; they add up to at most the budget."""
        return self.links.spends

    @property
    def noise(self) -> str:
        """`label` of the random source that measured."""
        return self.links.noise

    @property
    def total(self) -> float:
        """How many rows all units together have, by noisy counts."""
        return self.links.total

    def rows(
        self, seed: int, first_unit: int = 0, start: int = 0, constraints: Sequence[str] = ()
    ) -> Iterator[tuple[int, Record]]:
        """(number of its unit, structured columns) of all rows from `start` on, without end; 0 ≤ seed < 2**64.

        Every row keeps the `constraints`, which are those of the schema.

        Row 0 is the first of unit `first_unit`. A unit's rows follow each other, in the order of the ordering column. Where a
        unit begins is known only when those before it are drawn, so to begin at `start` takes as long as to draw up to there.
        """
        units = enumerate(self.units(seed, first_unit, constraints), start=first_unit)
        return islice(((number, row) for number, unit in units for row in unit), start, None)

    def units(self, seed: int, first_unit: int = 0, constraints: Sequence[str] = ()) -> Iterator[list[Record]]:
        """The sequences of the units `first_unit` and all that follow, without end."""
        columns: list[Column] = [attribute.column for attribute in self.layout.columns.attributes]
        writer = _Writer(self, FeasibleSet(Schema(columns=columns, constraints=list(constraints))))
        for first in count(first_unit, writer.block):
            yield from writer.draw(seed, first)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that holds everything."""
        layout = self.layout
        said: dict[str, Any] = {
            "columns": layout.columns.names,
            "order": layout.order,
            "most": layout.most,
            "repeats": self.repeats,
        }
        said["repeated"] = [{"counts": m.counts.tolist(), "deviation": m.deviation} for m in self.repeated]
        return {**self.links.to_json(), "sequence": said}

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> "SequenceModel":
        """The inverse of `to_json`. Raises IntegrityError on anything else."""
        links = MarginalModel.from_json({key: value for key, value in tree.items() if key != "sequence"})
        try:
            said = tree["sequence"]
            if set(said) != {"columns", "order", "most", "repeats", "repeated"}:
                raise ValueError("other parts")
            if type(said["most"]) is not int or not 2 <= said["most"] <= _MOST_ROWS:
                raise ValueError("no number of rows")
            columns = Domain(tuple(links.domain[name] for name in said["columns"]))
            layout = Layout(columns, said["order"], said["most"])
            repeats = {str(name): float(chance) for name, chance in said["repeats"].items()}
            repeated = [
                Measurement((name,), np.array(m["counts"], dtype=np.float64), float(m["deviation"]))
                for name, m in zip(layout.repeated, said["repeated"], strict=True)
            ]
            if layout.variables != links.domain or not all(0 <= chance <= 1 for chance in repeats.values()):
                raise ValueError("other variables")
            if any(m.counts.shape != (2,) or not np.isfinite(m.counts).all() or not m.deviation > 0 for m in repeated):
                raise ValueError("counts that are none")
            model = cls(layout, links, repeats, repeated)
            if model.to_json() != tree:
                raise ValueError("something in it reads like what it is not")
        except (ArithmeticError, AssertionError, AttributeError, KeyError, MemoryError, TypeError, ValueError, ConfigError):
            raise IntegrityError("The file of marginals is damaged.", "Measure them again, or restore the file.") from None
        return model


class _Column:
    """How the groups of a variable become bins and values."""

    def __init__(self, attribute: Attribute, grouping: Grouping) -> None:
        self.attribute = attribute
        table = np.zeros((grouping.size, attribute.size))
        table[list(grouping.groups), range(attribute.size)] = grouping.shares
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

    def put(self, places: Sequence[int], others: "_Rows") -> None:
        """Set the rows at these places to `others`."""
        for name, groups in self.groups.items():
            groups[list(places)] = others.groups[name]
        for name, values in self.values.items():
            for place, value in zip(places, others.values[name], strict=True):
                values[place] = value


class _Writer:
    """Draws blocks of units; one for each model."""

    def __init__(self, model: SequenceModel, feasible: FeasibleSet) -> None:
        self._model, self._layout, self._feasible = model, model.layout, feasible
        links = model.links
        self._columns = {a.name: _Column(a, links.groupings[a.name]) for a in self._layout.own}
        # A row takes whole blocks of numbers: then the numbers of any unit can be reached at once.
        self._row_blocks = -(-_DRAWS * len(self._columns) // random_streams.NUMBERS_PER_BLOCK)
        self._width = self._row_blocks * random_streams.NUMBERS_PER_BLOCK
        self.block = max(1, min(_MOST_UNITS, _UNIFORMS // (self._layout.most * self._width)))

    def draw(self, seed: int, first: int) -> list[list[Record]]:
        """Units `first` .. `first` + `block` - 1."""
        most, width = self._layout.most, self._width
        uniforms = random_streams.sequence_rows(seed, first, most * self._row_blocks).random((self.block, most, width))
        units: list[list[Record]] = [[] for _ in range(self.block)]
        going = np.arange(self.block)
        before_it: Groups = {}
        for place in range(most):
            earlier = [units[unit][-1] for unit in going] if place else []
            rows = self._draw_rows(place, before_it, earlier, uniforms[going, place])
            if self._feasible:
                self._keep_constraints(rows, place, before_it, earlier, going, seed, first)
            for i, unit in enumerate(going.tolist()):
                units[unit].append(rows.row(i))
            lasts = rows.groups[LAST].astype(bool)
            going = going[~lasts]
            if not len(going):
                break
            before_it = {name: rows.groups[name][~lasts] for name in self._layout.columns.names}
        return units

    def _draw_rows(self, place: int, before_it: Groups, earlier: Sequence[Record], uniforms: Uniforms) -> _Rows:
        """A row for each row of `uniforms`. `before_it`: the groups of the row before, which is `earlier`; empty at place 0."""
        links, order = self._model.links, self._layout.order
        sizes, rows = links.sizes, len(uniforms)
        uniform = {name: uniforms[:, _DRAWS * i : _DRAWS * (i + 1)] for i, name in enumerate(self._columns)}
        evidence = {EARLIER: self._group_of(EARLIER, None if place == 0 else place, rows)}
        for name in self._layout.described:
            evidence[before(name)] = before_it[name] if place else np.full(rows, sizes[before(name)] - 1, dtype=np.int64)
        if place == self._layout.most - 1:
            evidence[LAST] = self._group_of(LAST, True, rows)
        moments: list[int] = []
        if order is not None:
            gap = since(order)
            if place:
                chances = chances_of(gap, sizes, links.potentials, evidence, rows)
                steps = [to_step(self._columns[order].attribute.column, row[order]) for row in earlier]
                moments, evidence[gap] = self._later(steps, chances, uniform[gap])
                evidence[order] = self._groups_of_steps(order, moments)
            else:
                evidence[gap] = self._group_of(gap, None, rows)
        unknown = {name: uniform[name][:, 0] for name in self._columns if name not in evidence}
        groups = {**evidence, **draw_given(sizes, links.potentials, evidence, unknown)}
        values: dict[str, list[Value]] = {}
        for name in self._layout.columns.names:
            column = self._columns[name]
            if name == order and place:
                values[name] = [from_step(column.attribute.column, moment) for moment in moments]
                continue
            bins = column.bins(groups[name], uniform[name][:, 2])
            values[name] = [
                column.attribute.decode(b, u) for b, u in zip(bins.tolist(), uniform[name][:, 3].tolist(), strict=True)
            ]
            if place and name in self._model.repeats:
                stays = (groups[name] == before_it[name]) & (uniform[name][:, 1] < self._model.repeats[name])
                for row in np.flatnonzero(stays).tolist():
                    values[name][row] = earlier[row][name]
        return _Rows(groups, values)

    def _keep_constraints(
        self,
        rows: _Rows,
        place: int,
        before_it: Groups,
        earlier: Sequence[Record],
        going: NDArray[np.int64],
        seed: int,
        first: int,
    ) -> None:
        """Draw rows that break a constraint again, given the same row before; mend those that still do. `going`: their units."""
        for attempt in range(1, _MOST_TRIES + 1):
            broken = [i for i in range(len(going)) if not self._feasible.satisfied(rows.row(i))]
            if not broken:
                return
            random = random_streams.sequence_rows(seed, first, self._row_blocks, attempt, place)
            uniforms = random.random((self.block, self._width))[going[broken]]
            if attempt < _MOST_TRIES:
                sooner = {name: groups[broken] for name, groups in before_it.items()}
                rows.put(broken, self._draw_rows(place, sooner, [earlier[i] for i in broken] if place else [], uniforms))
                continue
            example = self._feasible.witness({})
            assert example is not None, "the constraints were looked at when the schema was read"
            for i, uniform in zip(broken, uniforms, strict=True):
                groups = {name: int(found[i]) for name, found in rows.groups.items()}
                row = self._mended(rows.row(i), groups, earlier[i] if place else None, example, uniform)
                for name, value in row.items():
                    rows.values[name][i] = value
                    rows.groups[name][i] = self._group_of(name, value, 1)[0]

    def _mended(
        self, row: Record, groups: Mapping[str, int], earlier: Record | None, example: Record, uniforms: Uniforms
    ) -> Record:
        """A row that keeps the constraints, its columns settled one after the other; its place in the order stays.

        Where that ends nowhere, the columns that constraints are about stay as they were in the row before, which kept them, or
        are those of an example.
        """
        feasible, order = self._feasible, self._layout.order
        asked = {}
        if earlier is not None and order is not None:
            asked[order] = only(self._columns[order].attribute.column, row[order])
        mended, settled = dict(row), {name: value for name, value in row.items() if name not in feasible.names}
        for i, name in enumerate(feasible.names):
            allowed = feasible.of_column(name, settled, asked)
            if not allowed.empty and mended[name] not in allowed:
                groups = {**groups, **{n: int(self._group_of(n, mended[n], 1)[0]) for n in feasible.names}}
                mended[name] = self._model.links.redraw(name, groups, allowed, uniforms[_DRAWS * i : _DRAWS * i + 3])
            settled[name] = mended[name]
        if feasible.satisfied(mended):
            return mended
        if earlier is None:
            return {**row, **example}
        return {**row, **{name: earlier[name] for name in feasible.names}}

    def _group_of(self, name: str, value: Value, rows: int) -> NDArray[np.int64]:
        bin_ = self._columns[name].attribute.encode(value)
        return np.full(rows, self._model.links.groupings[name].groups[bin_], dtype=np.int64)

    def _groups_of_steps(self, name: str, steps: list[int]) -> NDArray[np.int64]:
        starts, groups = self._columns[name].attribute.starts, self._model.links.groupings[name].groups
        return np.array([groups[bisect_right(starts, step) - 1] for step in steps], dtype=np.int64)

    def _later(self, steps: list[int], chances: NDArray[np.float64], uniforms: Uniforms) -> tuple[list[int], NDArray[np.int64]]:
        """The steps of the ordering column after those of the row before, and the groups of the gaps.

        Gaps are drawn from those alone that leave the column inside its bounds: no row is lost and none is moved.
        """
        order = self._layout.order
        assert order is not None
        gap, grouping = self._columns[since(order)].attribute, self._model.links.groupings[since(order)]
        ends = self._columns[order].attribute.starts[-1]
        starts = np.array(gap.starts, dtype=np.float64)
        widths = np.diff(starts)
        room = np.array([ends - step for step in steps], dtype=np.float64)
        allowed = np.clip((room[:, None] - starts[:-1]) / widths, 0.0, 1.0)
        # The last bin, a missing gap, is not among them: there is a row before.
        known = np.array(grouping.groups[:-1])
        weights = chances[:, known] * np.array(grouping.shares[:-1]) * allowed
        weights = np.where(weights.sum(axis=1, keepdims=True) > 0, weights, allowed)
        sums = weights.cumsum(axis=1)
        bins = (sums <= uniforms[:, :1] * sums[:, -1:]).sum(axis=1).clip(max=len(known) - 1)
        later = []
        for step, bin_, uniform in zip(steps, bins.tolist(), uniforms[:, 3].tolist(), strict=True):
            first, width = gap.starts[bin_], min(gap.starts[bin_ + 1], ends - step) - gap.starts[bin_]
            later.append(step + first + min(width - 1, int(uniform * width)))
        return later, known[bins]
