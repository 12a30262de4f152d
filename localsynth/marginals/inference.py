"""Exact inference in a product of potentials, by eliminating one variable after the other.

A `Factor` is a table over named variables. `eliminate` turns a product of factors into a chain of conditional
distributions, P(v | the variables it was connected to when eliminated), which are sampled in reverse order. Variables may be
masked: then the chain is that of the conditional distribution.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Conditional",
    "Factor",
    "Marginals",
    "Names",
    "cells",
    "cumulative",
    "eliminate",
    "elimination_order",
    "marginal",
    "pick",
    "sample",
]

Names = tuple[str, ...]

_CHUNK = 1 << 22
"""Cells of running sums compared at once."""


@dataclass(frozen=True)
class Factor:
    """Numbers, or their logarithms, over variables; `table` has one axis for each of `names`, in that order."""

    names: Names
    table: NDArray[np.float64]

    def onto(self, names: Names) -> NDArray[np.float64]:
        """The table with its axes in the order of `names`, a superset, and axes of length 1 where it has none."""
        here = [name for name in names if name in self.names]
        moved = self.table.transpose([self.names.index(name) for name in here])
        lengths = dict(zip(here, moved.shape, strict=True))
        return moved.reshape([lengths.get(name, 1) for name in names])


@dataclass(frozen=True)
class Conditional:
    """P(name | given); `table` has the axes of `given`, then that of `name`. Rows of zeros where `given` is impossible."""

    name: str
    given: Names
    table: NDArray[np.float64]


def elimination_order(sizes: Mapping[str, int], scopes: Iterable[Names], kept: Names = ()) -> list[tuple[str, Names]]:
    """(variable, its neighbours when it is eliminated), each time the variable with the smallest table; ties by `sizes`' order.

    Variables in `kept` are never eliminated.
    """
    near: dict[str, set[str]] = {name: set() for name in sizes}
    for scope in scopes:
        for name in scope:
            near[name].update(scope)
    position = {name: index for index, name in enumerate(sizes)}

    def cost(name: str) -> int:
        result = sizes[name]
        for other in near[name] - {name}:
            result *= sizes[other]
        return result

    costs = {name: cost(name) for name in sizes if name not in kept}
    order: list[tuple[str, Names]] = []
    while costs:
        name = min(costs, key=lambda n: (costs[n], position[n]))
        del costs[name]
        others = near.pop(name) - {name}
        for other in others:
            near[other] |= others
            near[other].discard(name)
        for other in others:
            if other in costs:
                costs[other] = cost(other)
        order.append((name, tuple(sorted(others, key=position.__getitem__))))
    return order


def cells(sizes: Mapping[str, int], scopes: Iterable[Names]) -> int:
    """Total size of the tables of an elimination: the memory and time of a model with these scopes."""
    total = 0
    for name, others in elimination_order(sizes, scopes):
        table = sizes[name]
        for other in others:
            table *= sizes[other]
        total += table
    return total


def _log_sum(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the sum along the last axis; -inf where all are."""
    top = table.max(axis=-1)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        result: NDArray[np.float64] = np.log(np.exp(table - top[..., None]).sum(axis=-1)) + top
    return result


def eliminate(
    sizes: Mapping[str, int], factors: Sequence[Factor], masks: Mapping[str, NDArray[np.float64]] | None = None
) -> tuple[list[Conditional], float]:
    """The chain of conditionals, in the order of elimination, and the logarithm of the product's sum.

    `factors` hold logarithms. `sizes` names every variable. `masks[name]`, shape (sizes[name],), are weights ≥ 0 that
    multiply the product.
    """
    remaining = list(factors)
    with np.errstate(divide="ignore"):
        remaining += [Factor((name,), np.log(weights)) for name, weights in (masks or {}).items()]
    chain: list[Conditional] = []
    constant = 0.0
    for name, others in elimination_order(sizes, [factor.names for factor in factors]):
        scope = (*others, name)
        table = np.zeros([sizes[n] for n in scope])
        for factor in remaining:
            if name in factor.names:
                table += factor.onto(scope)
        remaining = [factor for factor in remaining if name not in factor.names]
        message = _log_sum(table)
        finite = np.where(np.isfinite(message), message, 0.0)
        chain.append(Conditional(name, others, np.exp(table - finite[..., None])))
        if others:
            remaining.append(Factor(others, message))
        else:
            constant += float(message)
    return chain, constant


def marginal(chain: Sequence[Conditional], names: Names) -> NDArray[np.float64]:
    """P(names), axes in that order; sums to 1. Multiplies only the conditionals that `names` depend on."""
    needed, used = set(names), []
    for part in chain:
        if part.name in needed:
            needed.update(part.given)
            used.append(part)
    sizes = {part.name: part.table.shape[-1] for part in reversed(used)}
    remaining = [Factor((*part.given, part.name), part.table) for part in used]

    def product(scope: Names, factors: Sequence[Factor]) -> NDArray[np.float64]:
        table = np.ones([sizes[name] for name in scope])
        for factor in factors:
            table *= factor.onto(scope)
        return table

    for name, others in elimination_order(sizes, [factor.names for factor in remaining], kept=names):
        table = product((*others, name), [factor for factor in remaining if name in factor.names])
        remaining = [factor for factor in remaining if name not in factor.names]
        remaining.append(Factor(others, table.sum(axis=-1)))
    return product(names, remaining)


def cumulative(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Running sums along the last axis over their last, as rows of shape (-1, choices); zeros where all weights are 0."""
    sums = table.reshape(-1, table.shape[-1]).cumsum(axis=-1)
    # Divided by itself the last sum is exactly 1, so no uniform below 1 falls on a choice of weight 0.
    sums /= np.where(sums[:, -1:] > 0, sums[:, -1:], 1.0)
    return sums


def pick(sums: NDArray[np.float64], which: NDArray[np.int64], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
    """Shape (rows,): the choice that each uniform, in [0, 1), points to in row `which` of `sums` (see `cumulative`)."""
    picked = np.empty(len(uniforms), dtype=np.int64)
    step = max(1, _CHUNK // sums.shape[-1])
    for start in range(0, len(uniforms), step):
        rows = slice(start, start + step)
        picked[rows] = (sums[which[rows]] <= uniforms[rows, None]).sum(axis=1)
    return picked


def sample(chain: Sequence[Conditional], uniforms: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.int64]]:
    """One value of each variable for each row; row i depends on the uniforms of row i alone.

    `uniforms[name]`, shape (rows,), in [0, 1).
    """
    sampled: dict[str, NDArray[np.int64]] = {}
    for part in reversed(chain):
        which = np.zeros(len(uniforms[part.name]), dtype=np.int64)
        if part.given:
            which = np.ravel_multi_index([sampled[name] for name in part.given], part.table.shape[:-1])
        sampled[part.name] = pick(cumulative(part.table), which, uniforms[part.name])
    return sampled


class Marginals:
    """The marginals of a product of potentials over fixed scopes, for changing potentials.

    What depends on the scopes alone, the order of elimination and the order of axes, is computed once.
    """

    def __init__(self, sizes: Mapping[str, int], scopes: Sequence[Names]) -> None:
        order = elimination_order(sizes, scopes)
        position = {name: index for index, (name, _) in enumerate(order)}
        self._sizes = sizes
        self._cliques = [(*others, name) for name, others in order]
        # A scope, and the message of a clique, belong to the clique of the first of their variables to be eliminated.
        self._homes = {scope: min(position[name] for name in scope) for scope in scopes}
        self._parents = [min((position[name] for name in others), default=None) for _, others in order]
        self._inside: list[list[Names]] = [[] for _ in order]
        for scope, home in self._homes.items():
            self._inside[home].append(scope)
        self._children: list[list[int]] = [[] for _ in order]
        for index, parent in enumerate(self._parents):
            if parent is not None:
                self._children[parent].append(index)

    def _summed(self, clique: int, table: NDArray[np.float64], names: Names) -> NDArray[np.float64]:
        """The table of a clique summed to `names`, axes in that order."""
        scope = self._cliques[clique]
        kept = [name for name in scope if name in names]
        result: NDArray[np.float64] = table.sum(axis=tuple(axis for axis, name in enumerate(scope) if name not in names))
        return result.transpose([kept.index(name) for name in names])

    def of(self, potentials: Mapping[Names, NDArray[np.float64]]) -> dict[Names, NDArray[np.float64]]:
        """For each scope its probabilities, which sum to 1. `potentials` are logarithms."""
        conditionals: list[NDArray[np.float64]] = []
        messages: list[NDArray[np.float64]] = []
        for index, scope in enumerate(self._cliques):
            table = np.zeros([self._sizes[name] for name in scope])
            for names in self._inside[index]:
                table += Factor(names, potentials[names]).onto(scope)
            for child in self._children[index]:
                table += Factor(self._cliques[child][:-1], messages[child]).onto(scope)
            top = table.max(axis=-1)
            np.exp(table - top[..., None], out=table)
            sums = table.sum(axis=-1)
            table /= sums[..., None]
            conditionals.append(table)
            messages.append(np.log(sums) + top)
        beliefs: list[NDArray[np.float64]] = [np.empty(0)] * len(self._cliques)
        for index in reversed(range(len(self._cliques))):
            parent = self._parents[index]
            if parent is None:
                beliefs[index] = conditionals[index]
            else:
                above = self._summed(parent, beliefs[parent], self._cliques[index][:-1])
                beliefs[index] = conditionals[index] * above[..., None]
        return {scope: self._summed(home, beliefs[home], scope) for scope, home in self._homes.items()}
