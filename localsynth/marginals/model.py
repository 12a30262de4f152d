"""The fitted model: everything it holds was released with noise, so drawing from it costs no privacy.

Row i of a sample depends on the seed, on i and on what is given, and on nothing else: the first rows of a larger sample are
those of a smaller one, and a job can go on at any row.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localsynth.conditions import Allowed, Conditions
from localsynth.errors import ConfigError, IntegrityError
from localsynth.marginals.accounting import Spend
from localsynth.marginals.conditions import allowed_steps
from localsynth.marginals.domain import Attribute, Domain
from localsynth.marginals.fit import Measurement
from localsynth.marginals.grouping import Grouping
from localsynth.marginals.inference import Conditional, Factor, cumulative, draw, eliminate, pick
from localsynth.schema import Record, Value

__all__ = ["MarginalModel"]

_FORMAT = 1
_BLOCK = 1 << 14
"""Rows drawn at once."""
_DRAWS = 3
"""Random numbers for each value: its group, its bin within the group, and the value within the bin."""


@dataclass(frozen=True)
class MarginalModel:
    """A product of potentials over groups of bins, and how groups become values.

    `measured` and `spends` say what it was fitted to and what that cost; drawing needs neither.
    """

    domain: Domain
    groupings: dict[str, Grouping]
    total: float
    """How many rows the original has, by noisy counts or public knowledge."""
    potentials: list[Factor]
    measured: list[Measurement]
    rho: float
    """The budget; the spends add up to at most that."""
    spends: list[Spend]
    noise: str
    """`label` of the random source that measured."""

    @property
    def sizes(self) -> dict[str, int]:
        """The number of groups of each column."""
        return {name: self.groupings[name].size for name in self.domain.names}

    def sample(self, n: int, seed: int, given: Conditions | None = None, start: int = 0) -> list[Record]:
        """Rows `start` .. `start` + `n` - 1 of the endless sample of a seed, 0 ≤ seed < 2**128, with every structured column.

        `given`: for some columns, which values they may have; rows are then drawn from the model's distribution under that
        condition. Raises ConfigError where the condition fits no row.
        """
        conditions = given or {}
        for name in conditions:
            if name not in self.domain.names:
                raise ConfigError(f"There is no structured column {name!r}.", f"One of: {', '.join(self.domain.names)}.")
        columns = [_Column(a, self.groupings[a.name], conditions.get(a.name)) for a in self.domain.attributes]
        masks = {column.name: column.mask for column in columns if column.name in conditions}
        chain, log_sum = eliminate(self.sizes, self.potentials, masks)
        if not math.isfinite(log_sum):
            raise ConfigError("The model knows no rows that satisfy all conditions together.", "Widen one of them.")
        records: list[Record] = []
        for first in range(start, start + n, _BLOCK):
            records += _draw_block(columns, chain, min(_BLOCK, start + n - first), seed, first)
        return records

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that holds everything: a model read back draws the same rows."""
        return {
            "format": _FORMAT,
            "attributes": [attribute.to_json() for attribute in self.domain.attributes],
            "groupings": {name: grouping.to_json() for name, grouping in self.groupings.items()},
            "total": self.total,
            "potentials": [{"columns": list(f.names), "logarithms": f.table.tolist()} for f in self.potentials],
            "measured": [
                {
                    "columns": list(m.names),
                    "counts": m.counts.tolist(),
                    "deviation": m.deviation,
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
        """The inverse of `to_json`. Raises IntegrityError on anything else."""
        try:
            if tree["format"] != _FORMAT:
                raise ValueError("another format")
            domain = Domain(tuple(Attribute.from_json(a) for a in tree["attributes"]))
            groupings = {name: Grouping.from_json(g) for name, g in tree["groupings"].items()}
            potentials = [Factor(tuple(p["columns"]), np.array(p["logarithms"], dtype=np.float64)) for p in tree["potentials"]]
            model = cls(
                domain,
                groupings,
                tree["total"],
                potentials,
                [
                    Measurement(
                        tuple(m["columns"]),
                        np.array(m["counts"], dtype=np.float64),
                        m["deviation"],
                        None if m["weights"] is None else np.array(m["weights"], dtype=np.float64),
                    )
                    for m in tree["measured"]
                ],
                tree["rho"],
                [Spend(**spend) for spend in tree["spends"]],
                tree["noise"],
            )
            for attribute in domain.attributes:
                if not len(groupings[attribute.name].groups) == len(groupings[attribute.name].shares) == attribute.size:
                    raise ValueError("a grouping of another column")
            for factor in potentials:
                if factor.table.shape != tuple(model.sizes[name] for name in factor.names):
                    raise ValueError("a potential of other columns")
        except (KeyError, TypeError, ValueError):
            raise IntegrityError("The file of marginals is damaged.", "Measure them again, or restore the file.") from None
        return model


class _Column:
    """How the groups of one column become values, under its condition if there is one."""

    def __init__(self, attribute: Attribute, grouping: Grouping, condition: Allowed | None) -> None:
        self.name = attribute.name
        self._allowed = allowed_steps(attribute, condition)
        fractions = np.array([self._allowed.fraction(bin_) for bin_ in range(attribute.size)])
        weights = np.array(grouping.shares) * fractions
        if not weights.any():
            # Allowed are only values that noise has swallowed: within their group, each is as likely as the next.
            weights = fractions
        table = np.zeros((grouping.size, attribute.size))
        table[list(grouping.groups), range(attribute.size)] = weights
        self.mask: NDArray[np.float64] = table.sum(axis=1)
        self._cumulative = cumulative(table)

    def values(self, groups: NDArray[np.int64], uniforms: NDArray[np.float64]) -> list[Value]:
        """One value for each row; `uniforms` has shape (rows, 2)."""
        bins = pick(self._cumulative, groups, uniforms[:, 0])
        choose = self._allowed.pick
        return [choose(bin_, u) for bin_, u in zip(bins.tolist(), uniforms[:, 1].tolist(), strict=True)]


def _draw_block(columns: Sequence[_Column], chain: Sequence[Conditional], n: int, seed: int, first: int) -> list[Record]:
    # Philox counts in fours, so a row takes a multiple of four numbers: then any row can be gone to at once.
    width = -(-_DRAWS * len(columns) // 4) * 4
    uniforms = np.random.Generator(np.random.Philox(key=seed).advance(first * width // 4)).random((n, width))
    groups = draw(chain, {column.name: uniforms[:, _DRAWS * i] for i, column in enumerate(columns)})
    drawn = [
        column.values(groups[column.name], uniforms[:, _DRAWS * i + 1 : _DRAWS * (i + 1)]) for i, column in enumerate(columns)
    ]
    names = [column.name for column in columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*drawn, strict=True)]
