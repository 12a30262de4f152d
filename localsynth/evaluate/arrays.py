"""Columns of records as arrays, and samples of records.

Ordered columns (integer, number, date, datetime) become floats: dates in days, date-times in days with a fraction, null NaN.
Labelled columns (category, boolean) become strings, null None. Texts become strings, null "".
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from localsynth.schema.columns import Boolean, Category, Column, Date, DateTime, Integer, Number, Record, Schema, Text, Value

__all__ = [
    "Labelled",
    "Ordered",
    "halves",
    "is_labelled",
    "is_ordered",
    "key_of",
    "label_codes",
    "labels",
    "ordered",
    "sample",
    "shuffled_columns",
    "shuffled_texts",
    "span",
    "text_columns",
    "texts",
    "to_float",
]

Ordered = Integer | Number | Date | DateTime
Labelled = Category | Boolean

_EPOCH = dt.datetime(1970, 1, 1)


def is_ordered(column: Column) -> TypeGuard[Ordered]:
    """Whether the column's values have an order and a distance."""
    return isinstance(column, Integer | Number | Date | DateTime)


def is_labelled(column: Column) -> TypeGuard[Labelled]:
    """Whether the column's values are names out of a list."""
    return isinstance(column, Category | Boolean)


def to_float(value: Value) -> float:
    """A value of an ordered column as a number; days since 1970 for dates and date-times; NaN for null."""
    if value is None:
        return float("nan")
    if isinstance(value, dt.datetime):
        return (value - _EPOCH).total_seconds() / 86400
    if isinstance(value, dt.date):
        return float(value.toordinal() - _EPOCH.toordinal())
    return float(value)


def ordered(column: Column, records: Sequence[Record]) -> NDArray[np.float64]:
    """The values of an ordered column, shape (rows,); NaN where null."""
    return np.array([to_float(record[column.name]) for record in records], dtype=np.float64)


def span(column: Ordered) -> tuple[float, float]:
    """The bounds of an ordered column of the effective schema, in the units of `ordered`."""
    low: Any = column.min
    high: Any = column.max
    assert low is not None and high is not None, "evaluation needs the effective schema"
    return to_float(low), to_float(high)


def labels(column: Column, records: Sequence[Record]) -> list[str | None]:
    """The values of a labelled column; booleans as "yes" and "no", null as None."""
    names: list[str | None] = []
    for record in records:
        value = record[column.name]
        names.append(None if value is None else ("yes" if value else "no") if isinstance(value, bool) else str(value))
    return names


def label_codes(column: Column, *tables: Sequence[Record]) -> list[NDArray[np.int64]]:
    """The labels of several tables as whole numbers that mean the same in each; null is a label of its own."""
    known: dict[str | None, int] = {}
    return [np.array([known.setdefault(name, len(known)) for name in labels(column, t)], dtype=np.int64) for t in tables]


def texts(column: Column, records: Sequence[Record]) -> list[str]:
    """The values of a text column; null as ""."""
    return [str(record[column.name] or "") for record in records]


def text_columns(schema: Schema) -> list[Text]:
    """The columns of free text."""
    return [column for column in schema.learned() if isinstance(column, Text)]


def key_of(record: Record, columns: Sequence[Column]) -> tuple[Value, ...]:
    """The values of these columns, to compare rows by; text without regard to case and spacing."""
    key: list[Value] = []
    for column in columns:
        value = record[column.name]
        key.append(" ".join(value.casefold().split()) if isinstance(column, Text) and isinstance(value, str) else value)
    return tuple(key)


def sample(records: Sequence[Record], limit: int, seed: int) -> list[Record]:
    """At most `limit` of the records, sampled without replacement; all of them, in order, if there are no more."""
    if len(records) <= limit:
        return list(records)
    chosen = np.random.default_rng(seed).choice(len(records), limit, replace=False)
    return [records[i] for i in chosen]


def halves(records: Sequence[Record], seed: int) -> tuple[list[Record], list[Record]]:
    """The records in two halves, at random."""
    order = np.random.default_rng(seed).permutation(len(records))
    middle = len(records) // 2
    return [records[i] for i in order[:middle]], [records[i] for i in order[middle:]]


def shuffled_columns(records: Sequence[Record], schema: Schema, seed: int) -> list[Record]:
    """The marginals-only baseline: every column shuffled independently, which removes all associations."""
    random = np.random.default_rng(seed)
    orders = {column.name: random.permutation(len(records)) for column in schema.learned()}
    return [{name: records[order[i]][name] for name, order in orders.items()} for i in range(len(records))]


def shuffled_texts(records: Sequence[Record], schema: Schema, seed: int) -> list[Record]:
    """The texts of each row, together, permuted among the rows: associations among the other columns stay."""
    order = np.random.default_rng(seed).permutation(len(records))
    names = [column.name for column in text_columns(schema)]
    return [{**row, **{name: records[i][name] for name in names}} for row, i in zip(records, order, strict=True)]
