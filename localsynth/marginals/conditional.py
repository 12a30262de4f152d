"""Sampling from a product of potentials given evidence: variables known for each row.

Known variables are fixed in the tables before anything is eliminated. That leaves the
small model of the others, with a leading axis for the distinct evidence. Rows of the
same evidence share one entry.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localsynth.marginals.inference import Factor, Names, elimination_order

_CELLS = 1 << 22
"""Of one table, over the rows that are processed at once: bounds memory."""

_MIN_WEIGHT = 1e-150
"""Far below any probability that matters, since another factor may outweigh it. The product of two is still a float."""

Evidence = Mapping[str, NDArray[np.int64]]
"""For each known variable its value in each row, shape (rows,)."""


@dataclass(frozen=True)
class _Part:
    """Weights over unknown variables, in the order of `names`, for each evidence; the first axis has length 1 if all share it.

    The largest weight of each evidence is 1, and none is below `_MIN_WEIGHT`, so the product of two does not vanish.
    """

    names: Names
    table: NDArray[np.float64]

    def onto(self, names: Names) -> NDArray[np.float64]:
        here = [name for name in names if name in self.names]
        moved = self.table.transpose([0, *(1 + self.names.index(name) for name in here)])
        lengths = dict(zip(here, moved.shape[1:], strict=True))
        return moved.reshape([len(self.table), *(lengths.get(name, 1) for name in names)])


def _combined(factors: Sequence[Factor]) -> list[Factor]:
    """Factors with the same product, in which no two cancel each other.

    A fit determines only the sum of two factors over the same variables, so large opposite logarithms may grow in them. As
    weights, each would be clipped at `_MIN_WEIGHT` before they are multiplied, and the sample would be arbitrary. So
    factors are added where they depend on the same variables.
    """
    tables: dict[frozenset[str], Factor] = {}
    for factor in sorted(factors, key=lambda each: len(each.names), reverse=True):
        home = next((variables for variables in tables if variables.issuperset(factor.names)), None)
        if home is None:
            tables[frozenset(factor.names)] = Factor(factor.names, factor.table.copy())
        else:
            _add(tables[home], factor)
    shared = {a & b for a, b in itertools.combinations(tables, 2) if a & b}
    for common in sorted(shared, key=lambda each: (-len(each), sorted(each))):
        owners = [tables[variables] for variables in tables if variables >= common]
        for owner in owners:
            others = tuple(axis for axis, name in enumerate(owner.names) if name not in common)
            top = owner.table.max(axis=others, keepdims=True)
            owner.table[...] -= top
            _add(owners[0], Factor(tuple(name for name in owner.names if name in common), top.squeeze(axis=others)))
    return list(tables.values())


def _add(to: Factor, factor: Factor) -> None:
    """Add the logarithms of a factor over some of the other one's variables to it."""
    here = [name for name in to.names if name in factor.names]
    moved = factor.table.transpose([factor.names.index(name) for name in here])
    lengths = dict(zip(here, moved.shape, strict=True))
    to.table[...] += moved.reshape([lengths.get(name, 1) for name in to.names])


def _restricted(factor: Factor, evidence: Evidence) -> _Part:
    """The factor with its known variables fixed at their values."""
    known = [name for name in factor.names if name in evidence]
    rest = tuple(name for name in factor.names if name not in evidence)
    moved = factor.table.transpose([factor.names.index(name) for name in (*known, *rest)])
    table = moved[tuple(evidence[name] for name in known)] if known else moved[None]
    # Weights, not their logarithms: taking these for every evidence would dominate the time.
    top = table.max(axis=tuple(range(1, table.ndim)), keepdims=True)
    return _Part(rest, np.maximum(np.exp(table - top), _MIN_WEIGHT))


@dataclass(frozen=True)
class _Step:
    """P(name | given, evidence), not divided by its sum; `table`: evidence, then `given`, then `name`."""

    name: str
    given: Names
    table: NDArray[np.float64]


def _scaled(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """With 1 as the largest weight of each evidence, and none below `_MIN_WEIGHT`."""
    scaled: NDArray[np.float64] = np.maximum(table / table.max(axis=tuple(range(1, table.ndim)), keepdims=True), _MIN_WEIGHT)
    return scaled


def _eliminate(sizes: Mapping[str, int], factors: Sequence[Factor], evidence: Evidence, last: str | None) -> list[_Step]:
    remaining = [_restricted(factor, evidence) for factor in factors]
    unknown = {name: size for name, size in sizes.items() if name not in evidence}
    order = elimination_order(unknown, [part.names for part in remaining], kept=() if last is None else (last,))
    if last is not None:
        order.append((last, ()))
    chain: list[_Step] = []
    for name, others in order:
        scope = (*others, name)
        parts = [part.onto(scope) for part in remaining if name in part.names]
        # Those without an axis for the evidence first: their product is small.
        parts.sort(key=np.size)
        table = np.ones([1, *(sizes[n] for n in scope)])
        for part in parts:
            table = _scaled(table) * part
        remaining = [part for part in remaining if name not in part.names]
        chain.append(_Step(name, others, table))
        if others:
            remaining.append(_Part(others, _scaled(table.sum(axis=-1))))
    return chain


def _largest(sizes: Mapping[str, int], factors: Sequence[Factor], evidence: Evidence) -> int:
    """Cells of the largest table of the elimination, for one evidence."""
    unknown = {name: size for name, size in sizes.items() if name not in evidence}
    scopes = [tuple(name for name in factor.names if name not in evidence) for factor in factors]
    largest = 1
    for name, others in elimination_order(unknown, scopes):
        largest = max(largest, int(np.prod([sizes[n] for n in (*others, name)], dtype=np.float64)))
    return largest


def _distinct(evidence: Evidence, rows: int) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """The distinct evidence, and which of it each row has."""
    if not evidence:
        return {}, np.zeros(rows, dtype=np.int64)
    values, which = np.unique(np.stack(list(evidence.values())), axis=1, return_inverse=True)
    return dict(zip(evidence, values, strict=True)), which.reshape(-1).astype(np.int64)


def _pieces(sizes: Mapping[str, int], factors: Sequence[Factor], distinct: Evidence) -> list[slice]:
    count = len(next(iter(distinct.values()))) if distinct else 1
    step = max(1, _CELLS // _largest(sizes, factors, distinct))
    return [slice(first, first + step) for first in range(0, count, step)]


def _choose(weights: NDArray[np.float64], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each row of weights ≥ 0, with one above 0, the choice that its uniform points to."""
    sums = weights.cumsum(axis=1)
    # Divided by itself the last sum is exactly 1, so no uniform below 1 falls on a choice of weight 0.
    sums /= sums[:, -1:]
    chosen: NDArray[np.int64] = (sums <= uniforms[:, None]).sum(axis=1)
    return chosen


def probabilities_of(
    name: str, sizes: Mapping[str, int], factors: Sequence[Factor], evidence: Evidence, rows: int
) -> NDArray[np.float64]:
    """P(name | evidence), shape (rows, sizes[name]). `factors` hold finite logarithms."""
    factors = _combined(factors)
    distinct, which = _distinct(evidence, rows)
    tables = []
    for piece in _pieces(sizes, factors, distinct):
        part = {known: values[piece] for known, values in distinct.items()}
        table = _eliminate(sizes, factors, part, name)[-1].table
        count = len(next(iter(part.values()))) if part else 1
        tables.append(np.broadcast_to(table, (count, sizes[name])))
    probabilities: NDArray[np.float64] = np.concatenate(tables)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities[which]


def sample_given(
    sizes: Mapping[str, int], factors: Sequence[Factor], evidence: Evidence, uniforms: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.int64]]:
    """One value of each unknown variable for each row; row i depends on its own evidence and uniforms alone.

    `sizes` names every variable; `factors` hold finite logarithms; `uniforms[name]`, shape (rows,), in [0, 1).
    """
    rows = len(next(iter(uniforms.values())))
    factors = _combined(factors)
    distinct, which = _distinct(evidence, rows)
    sampled = {name: np.empty(rows, dtype=np.int64) for name in sizes if name not in evidence}
    for piece in _pieces(sizes, factors, distinct):
        here = np.flatnonzero((which >= piece.start) & (which < piece.stop))
        part = {known: values[piece] for known, values in distinct.items()}
        for step in reversed(_eliminate(sizes, factors, part, None)):
            entry = which[here] - piece.start if len(step.table) > 1 else np.zeros(len(here), dtype=np.int64)
            weights = step.table[(entry, *(sampled[name][here] for name in step.given))]
            sampled[step.name][here] = _choose(weights, uniforms[step.name][here])
    return sampled
