"""Rows of structured columns from fitted marginals, under conditions and the constraints of the schema.

Reads what was released with noise, no private data.
"""

from collections.abc import Callable, Iterable

import numpy as np

from localsynth.errors import IntegrityError
from localsynth.marginals.model import MarginalModel
from localsynth.schema.columns import Record, Schema, Value, conform
from localsynth.schema.conditions import Allowed, Conditions
from localsynth.schema.feasible import FeasibleSet
from localsynth.system import random_streams

MAX_ATTEMPTS = 20
"""Attempts at one row before it is repaired. Where one row in four satisfies the constraints, one in 300 is repaired."""


class StructuredRows:
    """Generates the rows of a seed by their numbers; a row is the same whichever others are generated with it.

    `contrast`: the rows that guidance contrasts those with. `rejected` counts the attempts that violated a constraint.
    """

    def __init__(self, model: MarginalModel, schema: Schema, seed: int, *, contrast: bool = False) -> None:
        self._model, self._schema, self._seed, self._contrast = model, schema, seed, contrast
        self._feasible = FeasibleSet(schema)
        self.rejected = 0

    def rows(self, numbers: Iterable[int], conditions: Callable[[int], Conditions]) -> dict[int, Record]:
        """The rows with these numbers, which ascend. `conditions(number)` are those of a row.

        Raises ConfigError where the model has no rows that meet the conditions.
        """
        groups: dict[tuple[tuple[str, Allowed], ...], list[int]] = {}
        for number in numbers:
            groups.setdefault(tuple(sorted(conditions(number).items())), []).append(number)
        rows: dict[int, Record] = {}
        for group, members in groups.items():
            rows |= self._rows(members, dict(group))
        return rows

    def _rows(self, numbers: list[int], conditions: Conditions) -> dict[int, Record]:
        """Rows under one condition.

        A row that violates a constraint is generated again, as a whole: what is kept then follows the model's distribution
        given that the constraints hold. Where they hold too seldom for that, the last attempt is repaired.
        """
        generator = self._model.sampler(self._seed, conditions, contrast=self._contrast)
        rows: dict[int, Record] = {}
        missing = numbers
        for attempt in range(MAX_ATTEMPTS):
            rows.update(zip(missing, generator.rows(missing, attempt), strict=True))
            missing = [number for number in missing if not self._satisfied(rows[number], conditions)]
            if not missing:
                return rows
            self.rejected += len(missing)
        witness = self._feasible.witness(conditions) if self._feasible else None
        for number in missing:
            if witness is not None:
                random = random_streams.row_repair(self._seed, number, contrast=self._contrast)
                rows[number] = self._repaired(rows[number], conditions, witness, random)
            if not self._satisfied(rows[number], conditions):
                raise IntegrityError(f"Row {number} violated the schema {MAX_ATTEMPTS} times.", "Please report this as a bug.")
        return rows

    def _satisfied(self, row: Record, conditions: Conditions) -> bool:
        return conform(self._schema, row) == row and all(row[name] in allowed for name, allowed in conditions.items())

    def _repaired(self, row: Record, conditions: Conditions, witness: Record, random: np.random.Generator) -> Record:
        """A row that satisfies the constraints; changed values are sampled given the rest of the row."""

        def resample(name: str, allowed: Allowed, so_far: Record) -> Value:
            return self._model.resample(name, self._model.groups_of(so_far), allowed, random.random(3))

        return self._feasible.repaired(row, conditions, resample, witness)
