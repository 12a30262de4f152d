"""The fitted model: everything in it was released with noise, so sampling from it costs no privacy.

Row i of a sample depends only on the seed, on i and on the conditions. So the first rows
of a larger sample are those of a smaller one, and a job can resume at any row.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localsynth.errors import ConfigError, IntegrityError
from localsynth.marginals.accounting import Spend
from localsynth.marginals.bin_merging import MergedBins
from localsynth.marginals.conditional import probabilities_of
from localsynth.marginals.conditions import allowed_ordinals
from localsynth.marginals.domain import Attribute, Domain
from localsynth.marginals.fit import Measurement
from localsynth.marginals.inference import Conditional, Factor, cumulative, eliminate, pick, sample
from localsynth.schema.columns import Record, Value
from localsynth.schema.conditions import Allowed, Conditions
from localsynth.schema.ordinals import MISSING, from_ordinal
from localsynth.system import random_streams

_FORMAT = 1
_BLOCK = 1 << 14
"""Rows sampled at once."""
_NUMBERS = 3
"""Random numbers for each value: its group, its bin within the group, and the value within the bin."""


@dataclass(frozen=True)
class MarginalModel:
    """A product of potentials over groups of bins, and how groups become values.

    `measured` and `spends` are what it was fitted to and the cost of that; sampling needs neither.
    """

    domain: Domain
    merged_bins: dict[str, MergedBins]
    total: float
    """The number of original rows, by noisy counts or public knowledge."""
    potentials: list[Factor]
    measured: list[Measurement]
    rho: float
    """The budget; the spends add up to at most that."""
    spends: list[Spend]
    noise: str
    """`label` of the random source of the noise."""

    @property
    def sizes(self) -> dict[str, int]:
        """The number of groups of each column."""
        return {name: self.merged_bins[name].size for name in self.domain.names}

    def sample(self, n: int, seed: int, conditions: Conditions | None = None, start: int = 0) -> list[Record]:
        """Rows `start` .. `start` + `n` - 1 of the endless sample of a seed, 0 ≤ seed < 2**64, with every structured column.

        `conditions`: for some columns, the values they may have; rows are then sampled from the conditional distribution.
        Raises ConfigError where no row meets the conditions.
        """
        ordinals = self.sampler(seed, conditions or {}).ordinals(range(start, start + n))
        return records_of(self.domain.attributes, ordinals)

    def sampler(self, seed: int, conditions: Conditions, *, contrast: bool = False) -> "RowSampler":
        """Samples rows of a seed under conditions, by their numbers. Raises as `sample`.

        `contrast`: the rows that guidance contrasts those of the sample with.
        """
        for name in conditions:
            if name not in self.domain.names:
                raise ConfigError(f"There is no structured column {name!r}.", f"One of: {', '.join(self.domain.names)}.")
        columns = [_Column(a, self.merged_bins[a.name], conditions.get(a.name)) for a in self.domain.attributes]
        masks = {column.name: column.mask for column in columns if column.name in conditions}
        chain, log_sum = eliminate(self.sizes, self.potentials, masks)
        if not math.isfinite(log_sum):
            raise ConfigError("The model has no rows that meet all conditions together.", "Widen one of them.")
        return RowSampler(columns, chain, seed, contrast)

    def groups_of(self, row: Record) -> dict[str, int]:
        """The groups that the values of a conforming row belong to."""
        return {a.name: self.merged_bins[a.name].groups[a.encode(row[a.name])] for a in self.domain.attributes}

    def resample(self, name: str, groups: Mapping[str, int], allowed: Allowed, uniforms: NDArray[np.float64]) -> Value:
        """A value of one column among the `allowed` ones, sampled given the groups of all others; `uniforms` has shape (3,).

        Raises ConfigError where none is allowed.
        """
        column = _Column(self.domain[name], self.merged_bins[name], allowed)
        evidence = {other: np.array([groups[other]]) for other in self.domain.names if other != name}
        probabilities = probabilities_of(name, self.sizes, self.potentials, evidence, 1)[0]
        group = pick(cumulative((probabilities * column.mask)[None]), np.zeros(1, dtype=np.int64), uniforms[:1])
        return records_of([self.domain[name]], {name: column.ordinals(group, uniforms[None, 1:])})[0][name]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that holds everything: a model read back samples the same rows."""
        return {
            "format": _FORMAT,
            "attributes": [attribute.to_json() for attribute in self.domain.attributes],
            "merged_bins": {name: merged.to_json() for name, merged in self.merged_bins.items()},
            "total": self.total,
            "potentials": [{"columns": list(f.names), "logarithms": f.table.tolist()} for f in self.potentials],
            "measured": [
                {
                    "columns": list(m.names),
                    "counts": m.counts.tolist(),
                    "sigma": m.sigma,
                    "weights": None if m.weights is None else m.weights.tolist(),
                }
                for m in self.measured
            ],
            "rho": self.rho,
            "spends": [spend.to_json() for spend in self.spends],
            "noise": self.noise,
        }

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> "MarginalModel":
        """The inverse of `to_json`. Raises IntegrityError on anything else, hostile files included."""
        try:
            return cls._read(tree)
        except (ArithmeticError, AssertionError, AttributeError, KeyError, MemoryError, TypeError, ValueError, ConfigError):
            raise IntegrityError("The file of marginals is damaged.", "Measure them again, or restore the file.") from None

    @classmethod
    def _read(cls, tree: dict[str, Any]) -> "MarginalModel":
        _of_keys(tree, _KEYS)
        if tree["format"] != _FORMAT or not isinstance(tree["noise"], str):
            raise ValueError("another format")
        domain = Domain(tuple(Attribute.from_json(_of_keys(a, {"column", "starts"})) for a in tree["attributes"]))
        merged_bins = {n: MergedBins.from_json(_of_keys(g, {"groups", "shares"})) for n, g in tree["merged_bins"].items()}
        model = cls(
            domain,
            merged_bins,
            _positive(tree["total"]),
            [Factor(_names(p), _numbers(p["logarithms"])) for p in tree["potentials"] if _of_keys(p, {"columns", "logarithms"})],
            [
                Measurement(
                    _names(m),
                    _numbers(m["counts"]),
                    _positive(m["sigma"]),
                    None if m["weights"] is None else _numbers(m["weights"]),
                )
                for m in tree["measured"]
                if _of_keys(m, {"columns", "counts", "sigma", "weights"})
            ],
            _positive(tree["rho"]),
            [Spend(s["kind"], _positive(s["parameter"]), _names(s)) for s in tree["spends"] if _of_keys(s, _SPEND_KEYS)],
            tree["noise"],
        )
        if set(merged_bins) != set(domain.names) or len(merged_bins) != len(domain.attributes):
            raise ValueError("bins of other columns")
        for attribute in domain.attributes:
            merged_bins[attribute.name].check(attribute.size)
        sizes = model.sizes
        tables = [(factor.names, factor.table) for factor in model.potentials]
        tables += [(m.names, table) for m in model.measured for table in (m.counts, m.weights) if table is not None]
        if any(table.shape != tuple(sizes[name] for name in names) for names, table in tables):
            raise ValueError("a table of other columns")
        for spend in model.spends:
            _ = spend.rho
        if model.to_json() != tree:
            raise ValueError("a value of another JSON type, as {} for [] and '1' for 1")
        return model


_KEYS = {"format", "attributes", "merged_bins", "total", "potentials", "measured", "rho", "spends", "noise"}
_SPEND_KEYS = {"kind", "parameter", "columns"}


def _of_keys(tree: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    if set(tree) != keys:
        raise ValueError("other keys than those of marginals")
    return tree


def _names(tree: dict[str, Any]) -> tuple[str, ...]:
    names = tuple(tree["columns"])
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError("names that are not distinct strings")
    return names


def _numbers(tree: Any) -> NDArray[np.float64]:
    numbers = np.array(tree)
    if numbers.dtype.kind not in "if" or not np.isfinite(numbers).all():
        raise ValueError("a value that is not a number")
    return numbers.astype(np.float64)


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError("a number that is not positive")
    return value


class _Column:
    """How the groups of one column become values, under its condition if it has one."""

    def __init__(self, attribute: Attribute, merged: MergedBins, condition: Allowed | None) -> None:
        self.name = attribute.name
        self._allowed = allowed_ordinals(attribute, condition)
        fractions = np.array([self._allowed.fraction(bin_) for bin_ in range(attribute.size)])
        weights = np.array(merged.shares) * fractions
        if not weights.any():
            # Only values whose noisy counts are 0 are allowed: within their group all are equally likely.
            weights = fractions
        table = np.zeros((merged.size, attribute.size))
        table[list(merged.groups), range(attribute.size)] = weights
        self.mask: NDArray[np.float64] = table.sum(axis=1)
        self._cumulative = cumulative(table)

    def ordinals(self, groups: NDArray[np.int64], uniforms: NDArray[np.float64]) -> NDArray[Any]:
        """The ordinal of each row's value, shape (rows,); `uniforms` has shape (rows, 2)."""
        return self._allowed.pick(pick(self._cumulative, groups, uniforms[:, 0]), uniforms[:, 1])


Ordinals = dict[str, NDArray[Any]]
"""For each column the ordinal of each row's value, shape (rows,); `MISSING` where there is none."""


def records_of(attributes: Sequence[Attribute], ordinals: Ordinals) -> list[Record]:
    """The rows with these ordinals."""
    columns = []
    for attribute in attributes:
        distinct, places = np.unique(ordinals[attribute.name], return_inverse=True)
        values = [None if ordinal == MISSING else from_ordinal(attribute.column, ordinal) for ordinal in distinct.tolist()]
        columns.append([values[place] for place in places.tolist()])
    names = [attribute.name for attribute in attributes]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


class RowSampler:
    """Samples rows under conditions; row i is the same whichever others are sampled with it."""

    def __init__(self, columns: Sequence[_Column], chain: Sequence[Conditional], seed: int, contrast: bool) -> None:
        self._columns, self._chain, self._seed, self._contrast = columns, chain, seed, contrast

    def ordinals(self, numbers: Sequence[int], attempt: int = 0) -> Ordinals:
        """The rows with these numbers, which ascend. Slow where they are far apart. Each attempt gives other rows."""
        blocks: list[Ordinals] = []
        first = 0
        while first < len(numbers):
            stop = bisect_left(numbers, numbers[first] + _BLOCK, first)
            blocks.append(self._block(numbers[first:stop], attempt))
            first = stop
        none = np.empty(0, dtype=np.int64)
        return {c.name: np.concatenate([block[c.name] for block in blocks]) if blocks else none for c in self._columns}

    def _block(self, numbers: Sequence[int], attempt: int) -> Ordinals:
        columns, first = self._columns, numbers[0]
        # A row takes whole blocks of numbers: then the numbers of any row can be reached at once.
        blocks = -(-_NUMBERS * len(columns) // random_streams.NUMBERS_PER_BLOCK)
        width = blocks * random_streams.NUMBERS_PER_BLOCK
        generator = random_streams.marginal_rows(self._seed, first, blocks, attempt, contrast=self._contrast)
        # Of the rows in between, too: random numbers are cheap, what follows is not.
        uniforms = generator.random((numbers[-1] + 1 - first, width))
        if len(uniforms) > len(numbers):
            uniforms = uniforms[np.array(numbers) - first]
        groups = sample(self._chain, {column.name: uniforms[:, _NUMBERS * i] for i, column in enumerate(columns)})
        return {
            column.name: column.ordinals(groups[column.name], uniforms[:, _NUMBERS * i + 1 : _NUMBERS * (i + 1)])
            for i, column in enumerate(columns)
        }
