"""The rows of a unit as first-order transitions: a row, the row before it, and whether it is the last.

A unit of k rows has k transitions. So where a unit has at most m rows, the sensitivity of
every table of counts of transitions is m. A transition holds nothing of another unit.

The variables of a transition, for a table with the columns a, b and (to order by) day:

    a, b, day                            the row itself
    a (row before), b (row before)       its bins in the row before; a bin of its own where there is none
    day (since the row before)           by how much later than the row before; missing where there is none
    a (as before)                        whether the value is exactly that of the row before (columns of many values)
    (rows before)                        the number of rows of the unit before it; missing where there is none
    (last row)                           whether no row comes after it
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from localsynth.errors import ConfigError, IntegrityError
from localsynth.marginals.domain import Attribute, Codes, Domain, length_attribute
from localsynth.schema.columns import Boolean, Record, Schema
from localsynth.schema.ordinals import Structured, to_ordinal, value_count

EARLIER = "(rows before)"
LAST = "(last row)"

_SINGLE_GAPS = 128
"""Shorter gaps have a bin each; longer ones share bins that grow."""
_GROWTH = 1.15
_MAX_VALUES = 2**62
_FEW_VALUES = 12
"""A column with at most this many values needs no `as_before`: rarely are two of its values merged."""


def before(name: str) -> str:
    """The variable that holds a column's bin in the row before."""
    return f"{name} (row before)"


def since(name: str) -> str:
    """The variable that holds the increase of the ordering column since the row before."""
    return f"{name} (since the row before)"


def as_before(name: str) -> str:
    """The variable that says whether a column has the value of the row before."""
    return f"{name} (as before)"


def _gap_edges(values: int) -> list[int]:
    edges = list(range(min(values, _SINGLE_GAPS) + 1))
    while edges[-1] < values:
        edges.append(min(values, max(edges[-1] + 1, round(edges[-1] * _GROWTH))))
    return edges


@dataclass(frozen=True)
class Layout:
    """The variables of a transition. They follow from the effective schema and the settings alone."""

    columns: Domain
    """The columns of the row."""
    order: str | None
    """The column that rows are ordered by, where it is one of these."""
    max_rows: int
    """Maximum number of rows of a unit."""

    @classmethod
    def of_schema(cls, schema: Schema, order: str, max_rows: int) -> "Layout":
        """`order`: a column of the schema. Raises ConfigError where there are no sequences of at most `max_rows` rows."""
        if max_rows < 2:
            raise ConfigError("A sequence needs more than one row.", "Raise privacy.max_rows_per_unit.")
        domain = Domain.of_schema(schema)
        found = None
        if order in domain.names:
            found = order
            # A row without a value there has no position among the others, and is left out.
            columns = [a.column.model_copy(update={"nullable": a.column.nullable and a.name != order}) for a in domain.attributes]
            domain = Domain(tuple(Attribute(c, a.starts) for c, a in zip(columns, domain.attributes, strict=True)))
            if value_count(domain[order].column) > _MAX_VALUES:
                raise ConfigError(f"The column {order!r} has too many distinct values to order by.", "Lower its decimals.")
        layout = cls(domain, found, max_rows)
        names = [a.name for a in layout.variables.attributes] + layout.repeated
        if len(set(names)) < len(names):
            raise ConfigError("A column has the name of a variable of sequences.", "Rename columns that end in ')'.")
        return layout

    @property
    def described(self) -> list[str]:
        """The columns that describe the row before: all but the ordering one, which the gap replaces."""
        return [name for name in self.columns.names if name != self.order]

    @property
    def repeated(self) -> list[str]:
        """The variables `as_before`: of columns whose values may share a group."""
        wide = [self.columns[name] for name in self.described]
        return [as_before(a.name) for a in wide if a.starts[-1] > _FEW_VALUES]

    @property
    def own(self) -> list[Attribute]:
        """The variables that are counted by themselves: the columns, the gap, the index in the sequence."""
        gap = []
        if self.order is not None:
            gap.append(
                length_attribute(since(self.order), _gap_edges(value_count(self.columns[self.order].column)), nullable=True)
            )
        earlier = length_attribute(EARLIER, range(1, self.max_rows + 1), nullable=True)
        last = Attribute(Boolean(name=LAST, nullable=False), (0, 1, 2))
        return [*self.columns.attributes, *gap, earlier, last]

    @property
    def variables(self) -> Domain:
        """Of the model: `own`, and the row before. The last bin of a `before` is "no row before"."""
        shadows = [length_attribute(before(a.name), range(a.size + 1), nullable=True) for a in map(self._column, self.described)]
        return Domain((*self.own, *shadows))

    def _column(self, name: str) -> Attribute:
        return self.columns[name]

    def encode(self, units: Iterable[Sequence[Record]]) -> Codes:
        """The bins of all variables, those of `repeated` too (1: as before), for each row. `units`: each one's conforming rows.

        Rows must be in the order of the ordering column. Raises DataError as `Domain.encode` does, IntegrityError for a unit of
        more rows than `max_rows`.
        """
        rows: list[Record] = []
        indices: list[int] = []
        for unit in units:
            kept = [row for row in unit if self.order is None or row[self.order] is not None]
            if len(kept) > self.max_rows:
                raise IntegrityError(
                    "A unit has more rows than privacy.max_rows_per_unit.", "Ingest again: localsynth ingest WS --again"
                )
            rows += kept
            indices += range(len(kept))
        index = np.array(indices, dtype=np.int64)
        first = index == 0
        codes = self.columns.encode(rows)
        for name in self.described:
            shifted = np.roll(codes[name], 1)
            shifted[first] = self.columns[name].size
            codes[before(name)] = shifted
            if as_before(name) in self.repeated:
                same = [False, *(one[name] == other[name] for one, other in pairwise(rows))][: len(rows)]
                codes[as_before(name)] = (np.array(same, dtype=bool) & ~first).astype(np.int64)
        if self.order is not None:
            codes[since(self.order)] = self._gaps(rows, indices)
        codes[EARLIER] = np.where(first, self.max_rows - 1, index - 1)
        codes[LAST] = np.append(first[1:], True)[: len(rows)].astype(np.int64)
        return codes

    def _gaps(self, rows: Sequence[Record], indices: Sequence[int]) -> NDArray[np.int64]:
        assert self.order is not None
        column: Structured = self.columns[self.order].column
        gap = next(a for a in self.own if a.name == since(self.order))
        ordinals = [to_ordinal(column, row[self.order]) for row in rows]
        gaps = [gap.encode(ordinals[i] - ordinals[i - 1] if index else None) for i, index in enumerate(indices)]
        return np.array(gaps, dtype=np.int64)
