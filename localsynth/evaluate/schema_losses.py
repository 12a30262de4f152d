"""Values and rows that the schema changed before training.

These are values outside its bounds and lists, and rows that violate its constraints. All figures compare with values as they
were before; only rows that were dropped are in none.
"""

import math
from collections import Counter
from typing import Any

from localsynth.schema.columns import Number, Record, Schema, conform


class SchemaLosses:
    """Counts rows, those that were dropped, and by column the values that were changed."""

    def __init__(self, schema: Schema) -> None:
        self._columns = schema.learned()
        self._constraints = schema.read_constraints()
        self._without = schema.model_copy(update={"constraints": []})
        self._rows = 0
        self._dropped = 0
        self._changed: Counter[str] = Counter()
        self._broken: Counter[str] = Counter()

    def count(self, original: Record, conformed: Record | None) -> Record | None:
        """Count one row, before and after `schema.conform`. Returns the row to compare with: the original,
        with numbers rounded to their columns' decimals; None where the schema drops it."""
        self._rows += 1
        if conformed is None:
            self._dropped += 1
            inside = conform(self._without, original) if self._constraints else None
            self._broken.update(rule.text for rule in self._constraints if inside is not None and rule.violated(inside))
            return None
        row = dict(original)
        for column in self._columns:
            value = original[column.name]
            if isinstance(column, Number) and isinstance(value, int | float):
                row[column.name] = round(float(value), column.decimals) if math.isfinite(value) else None
            self._changed[column.name] += row[column.name] != conformed[column.name]
        return row

    def figures(self) -> dict[str, Any]:
        """{"rows", "dropped", "columns": [{"column", "changed"}], "constraints": [{"constraint", "broken"}]}: columns that lost
        something, the one that lost most first, and all constraints."""
        columns = [{"column": name, "changed": count} for name, count in self._changed.most_common() if count]
        constraints = [{"constraint": rule.text, "broken": self._broken[rule.text]} for rule in self._constraints]
        return {"rows": self._rows, "dropped": self._dropped, "columns": columns, "constraints": constraints}
