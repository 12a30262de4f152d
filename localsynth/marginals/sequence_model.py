"""The fitted model of transitions (see `transitions`), from which sequences are sampled (see `sample_sequences`).

Everything in it was released with noise.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from localsynth.errors import ConfigError, IntegrityError
from localsynth.marginals.accounting import Spend
from localsynth.marginals.domain import Domain
from localsynth.marginals.fit import Measurement
from localsynth.marginals.model import MarginalModel
from localsynth.marginals.transitions import Layout

MAX_ROWS = 1000
"""Rows of a unit: the limit of privacy.max_rows_per_unit."""


@dataclass(frozen=True)
class SequenceModel:
    """A model of transitions, and what turns them into rows."""

    layout: Layout
    """Its variables."""
    transitions: MarginalModel
    """Of all variables of the layout."""
    repeats: dict[str, float]
    """For some columns the probability that a value equals that of the row before, where both fall into the same group."""
    repeated: list[Measurement]
    """The counts that `repeats` were computed from: of `layout.repeated`, in that order."""

    @property
    def rho(self) -> float:
        """The budget."""
        return self.transitions.rho

    @property
    def spends(self) -> list[Spend]:
        """The cost of each mechanism; they add up to at most the budget."""
        return self.transitions.spends

    @property
    def noise(self) -> str:
        """`label` of the random source of the noise."""
        return self.transitions.noise

    @property
    def total(self) -> float:
        """The number of rows of all units together, by noisy counts."""
        return self.transitions.total

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that holds everything."""
        layout = self.layout
        sequence: dict[str, Any] = {
            "columns": layout.columns.names,
            "order": layout.order,
            "max_rows": layout.max_rows,
            "repeats": self.repeats,
            "repeated": [{"counts": m.counts.tolist(), "sigma": m.sigma} for m in self.repeated],
        }
        return {**self.transitions.to_json(), "sequence": sequence}

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> "SequenceModel":
        """The inverse of `to_json`. Raises IntegrityError on anything else."""
        transitions = MarginalModel.from_json({key: value for key, value in tree.items() if key != "sequence"})
        try:
            sequence = tree["sequence"]
            if set(sequence) != {"columns", "order", "max_rows", "repeats", "repeated"}:
                raise ValueError("other parts")
            if type(sequence["max_rows"]) is not int or not 2 <= sequence["max_rows"] <= MAX_ROWS:
                raise ValueError("not a number of rows")
            columns = Domain(tuple(transitions.domain[name] for name in sequence["columns"]))
            layout = Layout(columns, sequence["order"], sequence["max_rows"])
            repeats = {str(name): float(probability) for name, probability in sequence["repeats"].items()}
            repeated = [
                Measurement((name,), np.array(m["counts"], dtype=np.float64), float(m["sigma"]))
                for name, m in zip(layout.repeated, sequence["repeated"], strict=True)
            ]
            if layout.variables != transitions.domain or not all(0 <= probability <= 1 for probability in repeats.values()):
                raise ValueError("other variables")
            if any(m.counts.shape != (2,) or not np.isfinite(m.counts).all() or not m.sigma > 0 for m in repeated):
                raise ValueError("counts that are not numbers")
            model = cls(layout, transitions, repeats, repeated)
            if model.to_json() != tree:
                raise ValueError("a value of another JSON type")
        except (ArithmeticError, AssertionError, AttributeError, KeyError, MemoryError, TypeError, ValueError, ConfigError):
            raise IntegrityError("The file of marginals is damaged.", "Measure them again, or restore the file.") from None
        return model
