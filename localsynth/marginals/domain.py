"""The structured columns as finite lists of bins, from the effective schema alone.

An `Attribute` is one column whose ordinals (see `schema.ordinals`) are divided into bins,
with one more bin for a missing value where the column is nullable. Bins are public; how
they are merged depends on noisy counts (see `bin_merging`).
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from localsynth.errors import ConfigError, DataError
from localsynth.privacy.grids import grid_of
from localsynth.schema.columns import Boolean, Category, Integer, Number, Record, Schema, Value
from localsynth.schema.ordinals import (
    MISSING,
    Structured,
    from_ordinal,
    ordinal_from,
    shared_ordinals,
    to_int,
    to_ordinal,
    value_count,
)

MAX_SINGLE_BINS = 128
"""A column with at most this many values has a bin for each."""
EQUAL_WIDTH_BINS = 64
"""Bins of equal width for a column with more values and without `edges`, besides those that end at round numbers."""

Codes = dict[str, NDArray[Any]]
"""For each attribute the bin of each row, shape (rows,), in integers of any width."""

_STRUCTURED: TypeAdapter[Structured] = TypeAdapter(Structured)


@dataclass(frozen=True)
class Attribute:
    """One column and its bins: bin i holds the ordinals from `starts[i]` up to, but not including, `starts[i + 1]`."""

    column: Structured
    starts: tuple[int, ...]

    @property
    def name(self) -> str:
        """The column's name."""
        return self.column.name

    @property
    def ordered(self) -> bool:
        """Whether neighbouring bins mean neighbouring values."""
        return not isinstance(self.column, Category | Boolean)

    @property
    def missing(self) -> int | None:
        """The bin of a missing value: the last one, if the column is nullable."""
        return len(self.starts) - 1 if self.column.nullable else None

    @property
    def size(self) -> int:
        """How many bins there are, that of a missing value included."""
        return len(self.starts) - 1 + self.column.nullable

    @cached_property
    def _category_ordinals(self) -> dict[Value, int]:
        return (
            {value: ordinal for ordinal, value in enumerate(self.column.allowed())} if isinstance(self.column, Category) else {}
        )

    def encode(self, value: Value) -> int:
        """The bin of a value that conforms to the schema. Raises ValueError or TypeError on any other."""
        if value is None:
            if self.missing is None:
                raise ValueError("a value is missing in a column that is not nullable")
            return self.missing
        if isinstance(self.column, Category):
            if value not in self._category_ordinals:
                raise ValueError("a value is not in the list of its column")
            return self._category_ordinals[value]
        ordinal = to_ordinal(self.column, value)
        if not 0 <= ordinal < self.starts[-1]:
            raise ValueError("a value is outside the bounds of its column")
        return bisect_right(self.starts, ordinal) - 1

    def bins_of(self, ordinals: NDArray[Any]) -> NDArray[Any]:
        """The bins of ordinals that lie in the column's range, in integers that just fit; `MISSING` for a missing value."""
        bins = np.searchsorted(np.array(self.starts, dtype=ordinals.dtype), ordinals, side="right") - 1
        if self.missing is not None:
            bins[ordinals == MISSING] = self.missing
        assert not len(bins) or bins.min() >= 0, "an ordinal is outside its column"
        return bins.astype(np.min_scalar_type(self.size))

    def decode(self, bin_: int, uniform: float) -> Value:
        """The value that `uniform`, in [0, 1), points to among the evenly likely values of a bin."""
        if bin_ == self.missing:
            return None
        first, width = self.starts[bin_], self.starts[bin_ + 1] - self.starts[bin_]
        return from_ordinal(self.column, first + min(width - 1, int(uniform * width)))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; public, like the schema."""
        return {"column": self.column.model_dump(mode="json"), "starts": list(self.starts)}

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> "Attribute":
        """The inverse of `to_json`. Raises ValueError or TypeError on bins that do not cover a column."""
        column, starts = _STRUCTURED.validate_python(tree["column"]), tuple(tree["starts"])
        if not all(type(start) is int for start in starts) or any(a >= b for a, b in pairwise((-1, *starts))):
            raise ValueError("the bins do not ascend")
        if len(starts) < 2 or (starts[0], starts[-1]) != (0, value_count(column)):
            raise ValueError("the bins are not those of the column")
        return cls(column, starts)


def _starts(column: Structured) -> tuple[int, ...]:
    """The first ordinals of bins: edges found with a range, else equal widths. Values that rows may share have their own bins."""
    count = value_count(column)
    if isinstance(column, Category | Boolean) or count <= MAX_SINGLE_BINS:
        return tuple(range(count + 1))
    # Amounts often span orders of magnitude. Dates have no small values.
    round_numbers = grid_of(column).starts.tolist() if isinstance(column, Integer | Number) else []
    edges = round_numbers if column.edges is None else [to_int(column, edge) for edge in column.edges]
    even = range(EQUAL_WIDTH_BINS if column.edges is None else 0)
    starts = {ordinal_from(column, edge) for edge in edges} | {count * part // EQUAL_WIDTH_BINS for part in even}
    alone = shared_ordinals(column)
    ends = {*alone, *(ordinal + 1 for ordinal in alone), *(start for start in starts if 0 < start < count)}
    return tuple(sorted({0, count} | ends))


def length_attribute(name: str, edges: Sequence[int], nullable: bool) -> Attribute:
    """An attribute of whole numbers for something derived from a row, such as the tokens of a text.

    Bin i holds edges[i] up to, but not including, edges[i + 1]; the edges are public and ascending. Raises ConfigError.
    """
    if len(edges) < 2 or any(a >= b for a, b in pairwise(edges)):
        raise ConfigError(f"The edges of {name!r} do not ascend.", "Give at least two whole numbers, each above the one before.")
    column = Integer(name=name, min=edges[0], max=edges[-1] - 1, nullable=nullable)
    return Attribute(column, tuple(edge - edges[0] for edge in edges))


@dataclass(frozen=True)
class Domain:
    """The attributes of a table, in their order."""

    attributes: tuple[Attribute, ...]

    @classmethod
    def of_schema(cls, schema: Schema, extra: Sequence[Attribute] = ()) -> "Domain":
        """Every structured learned column of an effective schema, then `extra` (see `length_attribute`). Raises ConfigError.

        Records to encode hold the extra attributes under their names; these must differ from the columns'.
        """
        attributes = [Attribute(column, _starts(column)) for column in schema.learned() if isinstance(column, Structured)]
        names = {column.name for column in schema.columns}
        for attribute in extra:
            if attribute.name in names:
                raise ConfigError(f"There are two columns named {attribute.name!r}.", "Rename one of them.")
            names.add(attribute.name)
        if not attributes and not extra:
            raise ConfigError("No column is structured: there is nothing to measure marginals of.")
        return cls((*attributes, *extra))

    @property
    def names(self) -> list[str]:
        """The attributes' names."""
        return [attribute.name for attribute in self.attributes]

    def __getitem__(self, name: str) -> Attribute:
        for attribute in self.attributes:
            if attribute.name == name:
                return attribute
        raise KeyError(name)

    def encode_ordinals(self, batches: Iterable[Mapping[str, NDArray[Any]]]) -> Codes:
        """The bins of rows given by the ordinals of their values, shape (rows,) each, in batches. In integers that just fit."""
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in self.names}
        for batch in batches:
            for attribute in self.attributes:
                parts[attribute.name].append(attribute.bins_of(batch[attribute.name]))
        return {a.name: np.concatenate([np.empty(0, np.min_scalar_type(a.size)), *parts[a.name]]) for a in self.attributes}

    def encode(self, records: Sequence[Record]) -> Codes:
        """The bins of conforming records. Raises DataError, naming row (from 1) and column, on a value that does not conform."""
        codes: Codes = {}
        for attribute in self.attributes:
            name, column = attribute.name, np.empty(len(records), dtype=np.int64)
            for row, record in enumerate(records):
                try:
                    column[row] = attribute.encode(record[name])
                except (ValueError, TypeError, AttributeError):
                    raise DataError(
                        f"Row {row + 1}, column {name!r}: the value is outside the schema.",
                        "Conform the rows to the effective schema before measuring them.",
                    ) from None
            codes[name] = column
        return codes
