"""Exact inference in a product of potentials, by eliminating one variable after the other.

A `Factor` is a table over named variables. `eliminate` turns a product of factors into a chain of conditional
distributions, P(v | the variables it was connected to when eliminated), which are sampled in reverse order. Variables may be
masked: then the chain is that of the conditional distribution.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Names = tuple[str, ...]


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

    @cached_property
    def sums(self) -> NDArray[np.float64]:
        """The running sums of the table, see `cumulative`."""
        return cumulative(self.table)


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
    choices = sums.shape[-1]
    flat, before = sums.ravel(), which * choices - 1
    picked = np.zeros(len(uniforms), dtype=np.int64)
    # A binary search in all rows at once for the number of sums that are at most the uniform.
    for bit in reversed(range(choices.bit_length())):
        further = np.minimum(picked + (1 << bit), choices)
        picked = np.where(flat[before + further] <= uniforms, further, picked)
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
        sampled[part.name] = pick(part.sums, which, uniforms[part.name])
    return sampled


class _Sums:
    """The sums of a table to some of its variables, for several sets of them.

    One variable is summed out at a time, the largest first, and what sets have in common is computed once. As products with
    ones, which numpy computes several times faster than sums along a short axis.
    """

    def __init__(self, scope: Names, sizes: Mapping[str, int], wanted: Iterable[Names]) -> None:
        self._found: dict[Names, int] = {scope: 0}
        self._steps: list[tuple[int, tuple[int, int, int], NDArray[np.float64]]] = []
        self._readings: dict[Names, tuple[int, tuple[int, ...], tuple[int, ...]]] = {}
        for names in wanted:
            kept = tuple(name for name in scope if name in names)
            index = self._plan(scope, sizes, kept)
            self._readings[names] = index, tuple(sizes[n] for n in kept), tuple(kept.index(n) for n in names)

    def _plan(self, scope: Names, sizes: Mapping[str, int], kept: Names) -> int:
        left = scope
        for name in sorted((n for n in scope if n not in kept), key=lambda n: -sizes[n]):
            source, axis = self._found[left], left.index(name)
            before, after = (math.prod(sizes[n] for n in part) for part in (left[:axis], left[axis + 1 :]))
            left = (*left[:axis], *left[axis + 1 :])
            if left not in self._found:
                self._steps.append((source, (before, sizes[name], after), np.ones(sizes[name])))
                self._found[left] = len(self._steps)
        return self._found[left]

    def __call__(self, table: NDArray[np.float64]) -> dict[Names, NDArray[np.float64]]:
        tables = [table]
        for source, (before, size, after), ones in self._steps:
            if after == 1:
                tables.append(tables[source].reshape(before, size) @ ones)
            else:
                tables.append(np.matmul(ones, tables[source].reshape(before, size, after)))
        return {n: tables[index].reshape(shape).transpose(order) for n, (index, shape, order) in self._readings.items()}


@dataclass(frozen=True)
class _Spread:
    """How a table is given the axes of a larger one, for addition to it."""

    order: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, names: Names, scope: Names, sizes: Mapping[str, int]) -> "_Spread":
        order = tuple(names.index(name) for name in scope if name in names)
        return cls(order, tuple(sizes[name] if name in names else 1 for name in scope))

    def __call__(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        return table.transpose(self.order).reshape(self.shape)


@dataclass(frozen=True)
class _Clique:
    """A variable, first, and its neighbours when it is eliminated. The variable's message goes to the clique `parent`.

    `inside`: the scopes whose potentials belong to it. `children`: the cliques whose messages do, by their index.
    """

    names: Names
    shape: tuple[int, ...]
    inside: list[tuple[Names, _Spread]]
    children: list[tuple[int, _Spread]]
    parent: int | None


class Marginals:
    """The marginals of a product of potentials over fixed scopes, for changing potentials.

    What depends on the scopes alone, the order of elimination and the order of axes, is computed once.
    """

    def __init__(self, sizes: Mapping[str, int], scopes: Sequence[Names]) -> None:
        order = elimination_order(sizes, scopes)
        position = {name: index for index, (name, _) in enumerate(order)}
        self._cliques: list[_Clique] = []
        for name, others in order:
            parent = min((position[other] for other in others), default=None)
            self._cliques.append(_Clique((name, *others), tuple(sizes[n] for n in (name, *others)), [], [], parent))
        wanted: list[list[Names]] = [[] for _ in order]
        for index, clique in enumerate(self._cliques):
            if clique.parent is not None:
                above, message = self._cliques[clique.parent], clique.names[1:]
                above.children.append((index, _Spread.of(message, above.names, sizes)))
                wanted[clique.parent].append(message)
        for scope in scopes:
            # A scope belongs to the clique of the first of its variables to be eliminated.
            home = min(position[name] for name in scope)
            self._cliques[home].inside.append((scope, _Spread.of(scope, self._cliques[home].names, sizes)))
            wanted[home].append(scope)
        self._sums = [_Sums(clique.names, sizes, names) for clique, names in zip(self._cliques, wanted, strict=True)]

    def of(self, potentials: Mapping[Names, NDArray[np.float64]]) -> dict[Names, NDArray[np.float64]]:
        """For each scope its probabilities, which sum to 1. `potentials` are logarithms."""
        conditionals: list[NDArray[np.float64]] = []
        messages: list[NDArray[np.float64]] = []
        for clique in self._cliques:
            table = np.zeros(clique.shape)
            for names, spread in clique.inside:
                table += spread(potentials[names])
            for child, spread in clique.children:
                table += spread(messages[child])
            top = table.max(axis=0)
            table -= top
            np.exp(table, out=table)
            sums = table.sum(axis=0)
            table /= sums
            conditionals.append(table)
            messages.append(np.log(sums) + top)
        found: list[dict[Names, NDArray[np.float64]]] = [{} for _ in conditionals]
        for index in reversed(range(len(conditionals))):
            clique, belief = self._cliques[index], conditionals[index]
            if clique.parent is not None:
                belief *= found[clique.parent][clique.names[1:]]
            found[index] = self._sums[index](belief)
        return {scope: sums[scope] for clique, sums in zip(self._cliques, found, strict=True) for scope, _ in clique.inside}
