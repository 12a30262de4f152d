"""Rows of structured columns from fitted marginals, under conditions and the constraints of the schema.

Reads what was released with noise, no private data.
"""

from collections.abc import Callable, Sequence

import numpy as np

from localsynth.errors import IntegrityError
from localsynth.marginals.domain import Attribute
from localsynth.marginals.model import MarginalModel, Ordinals, records_of
from localsynth.schema.columns import Record, Schema, Value, conform
from localsynth.schema.conditions import Allowed, Conditions
from localsynth.schema.feasible import FeasibleSet
from localsynth.schema.ordinals import MISSING, to_ordinal
from localsynth.store.column_batch import ConstraintCheck
from localsynth.system import random_streams

MAX_ATTEMPTS = 20
"""Attempts at one row before it is repaired. Where one row in four satisfies the constraints, one in 300 is repaired."""


class StructuredRows:
    """Generates the rows of a seed by their numbers; a row is the same whichever others are generated with it.

    `contrast`: the rows that guidance contrasts those with. `rejected` counts the attempts that violated a constraint.
    """

    def __init__(self, model: MarginalModel, schema: Schema, seed: int, *, contrast: bool = False) -> None:
        self._model, self._schema, self._seed, self._contrast = model, schema, seed, contrast
        self._feasible, self._check = FeasibleSet(schema), ConstraintCheck(schema)
        self.rejected = 0

    @property
    def attributes(self) -> Sequence[Attribute]:
        """The columns of the rows."""
        return self._model.domain.attributes

    def rows(self, numbers: Sequence[int], conditions: Callable[[int], Conditions]) -> dict[int, Record]:
        """The rows with these numbers, see `ordinals`."""
        records = records_of(self.attributes, self.ordinals(numbers, conditions))
        return dict(zip(numbers, records, strict=True))

    def ordinals(self, numbers: Sequence[int], conditions: Callable[[int], Conditions]) -> Ordinals:
        """The rows with these numbers, which ascend. `conditions(number)` are those of a row.

        Raises ConfigError where the model has no rows that meet the conditions.
        """
        groups: dict[tuple[tuple[str, Allowed], ...], list[int]] = {}
        for place, number in enumerate(numbers):
            groups.setdefault(tuple(sorted(found.items())) if (found := conditions(number)) else (), []).append(place)
        parts = [(places, self._ordinals([numbers[i] for i in places], dict(group))) for group, places in groups.items()]
        if len(parts) == 1:
            return parts[0][1]
        rows: Ordinals = {}
        for places, part in parts:
            for name, ordinals in part.items():
                rows.setdefault(name, np.empty(len(numbers), dtype=ordinals.dtype))[places] = ordinals
        return rows

    def _ordinals(self, numbers: list[int], conditions: Conditions) -> Ordinals:
        """Rows under one condition.

        A row that violates a constraint is generated again, as a whole: what is kept then follows the model's distribution
        given that the constraints hold. Where they hold too seldom for that, the last attempt is repaired.
        """
        generator = self._model.sampler(self._seed, conditions, contrast=self._contrast)
        found = generator.ordinals(numbers)
        violating = np.flatnonzero(self._check.violating(found))
        for attempt in range(1, MAX_ATTEMPTS):
            if not len(violating):
                return found
            self.rejected += len(violating)
            again = generator.ordinals([numbers[place] for place in violating], attempt)
            for name, ordinals in again.items():
                found[name][violating] = ordinals
            violating = violating[self._check.violating(again)]
        self.rejected += len(violating)
        last = records_of(self.attributes, {name: ordinals[violating] for name, ordinals in found.items()})
        witness = self._feasible.witness(conditions) if len(violating) else None
        for place, row in zip(violating.tolist(), last, strict=True):
            number = numbers[place]
            random = random_streams.row_repair(self._seed, number, contrast=self._contrast)
            repaired = row if witness is None else self._repaired(row, conditions, witness, random)
            if conform(self._schema, repaired) != repaired or any(repaired[name] not in conditions[name] for name in conditions):
                raise IntegrityError(f"Row {number} violated the schema {MAX_ATTEMPTS} times.", "Please report this as a bug.")
            for attribute in self.attributes:
                value = repaired[attribute.name]
                found[attribute.name][place] = MISSING if value is None else to_ordinal(attribute.column, value)
        return found

    def _repaired(self, row: Record, conditions: Conditions, witness: Record, random: np.random.Generator) -> Record:
        """A row that satisfies the constraints; changed values are sampled given the rest of the row."""

        def resample(name: str, allowed: Allowed, so_far: Record) -> Value:
            return self._model.resample(name, self._model.groups_of(so_far), allowed, random.random(3))

        return self._feasible.repaired(row, conditions, resample, witness)
