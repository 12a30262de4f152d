"""Rows column by column: ordinals of structured values, which DuckDB turns into values.

A row is never a Python object. So a million rows take seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from localsynth.schema.column_sql import from_ordinal_sql, rounded_sql
from localsynth.schema.columns import Schema, Value
from localsynth.schema.ordinals import Structured
from localsynth.store.bulk import OFFLINE


@dataclass(frozen=True)
class ColumnBatch:
    """Some rows of a table with the columns of an effective schema.

    `ordinals`: of each structured column, shape (rows,); see `schema.ordinals`. `others`: the values of the other columns.
    """

    schema: Schema
    ordinals: Mapping[str, NDArray[Any]]
    others: Mapping[str, list[Value]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.ordinals.values())))

    def register(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        """Make the batch a view of the connection, for the SQL of `values` and `written`. Its column `place` counts from 0."""
        arrays: dict[str, NDArray[Any]] = {"place": np.arange(len(self))}
        for place, column in enumerate(self.schema.columns):
            if (ordinals := self.ordinals.get(column.name)) is not None:
                # Beyond 64 bits they are Python integers, which are passed as text.
                arrays[f"c{place}"] = ordinals if ordinals.dtype != object else ordinals.astype(str).astype(object)
            elif (values := self.others.get(column.name)) is not None:
                arrays[f"c{place}"] = np.array([None if value is None else str(value) for value in values], dtype=object)
        connection.register(name, arrays)

    def values(self) -> dict[str, str]:
        """Column → the SQL of its values."""
        return {
            column.name: from_ordinal_sql(column, self._source(place, column.name))
            if isinstance(column, Structured)
            else f"c{place}"
            for place, column in enumerate(self.schema.columns)
        }

    def _source(self, place: int, name: str) -> str:
        ordinals = self.ordinals.get(name)
        return f"c{place}" if ordinals is None or ordinals.dtype != object else f"CAST(c{place} AS HUGEINT)"

    def written(self) -> dict[str, str]:
        """Column → the SQL of its values as the file can write them."""
        values = self.values()
        columns = [column for column in self.schema.columns if isinstance(column, Structured)]
        return values | {column.name: rounded_sql(column, values[column.name]) for column in columns}


class ConstraintCheck:
    """Finds the rows that violate a constraint of a schema. Keeps one connection, since to open one takes longer than a check."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._connection = duckdb.connect(":memory:", config=OFFLINE) if schema.constraints else None

    def violating(self, ordinals: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
        """Which of the rows with these ordinals violate a constraint, shape (rows,)."""
        batch = ColumnBatch(self._schema, ordinals)
        if self._connection is None:
            return np.zeros(len(batch), dtype=np.bool_)
        values = batch.values()
        violated = " OR ".join(constraint.violated_sql(values) for constraint in self._schema.read_constraints())
        batch.register(self._connection, "batch")
        found = self._connection.sql(f"SELECT {violated} AS violating FROM batch ORDER BY place").fetchnumpy()
        violating: NDArray[np.bool_] = found["violating"]
        return violating
