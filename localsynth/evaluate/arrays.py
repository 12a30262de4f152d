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

Ordered = Integer | Number | Date | DateTime
Rows = Sequence[Record]
"""The rows of a table."""

Floats = NDArray[np.float64]

_BINS = 10

_EPOCH = dt.datetime(1970, 1, 1)


def is_ordered(column: Column) -> TypeGuard[Ordered]:
    """Whether the column's values have an order and a distance."""
    return isinstance(column, Ordered)


def is_labelled(column: Column) -> TypeGuard[Category | Boolean]:
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


def ordered(column: Column, records: Rows) -> Floats:
    """The values of an ordered column, shape (rows,); NaN where null."""
    return np.array([to_float(record[column.name]) for record in records], dtype=np.float64)


def known(values: Floats) -> Floats:
    """The values that are not NaN."""
    return values[~np.isnan(values)]


def span(column: Ordered) -> tuple[float, float]:
    """The bounds of an ordered column of the effective schema, in the units of `ordered`."""
    low: Any = column.min
    high: Any = column.max
    assert low is not None and high is not None, "evaluation needs the effective schema"
    return to_float(low), to_float(high)


def labels(column: Column, records: Rows) -> list[str | None]:
    """The values of a labelled column; booleans as "yes" and "no", null as None."""
    names = {None: None, True: "yes", False: "no"}
    return [names[v] if v is None or isinstance(v, bool) else str(v) for v in (record[column.name] for record in records)]


def codes(column: Column, *tables: Rows) -> list[NDArray[np.int64]]:
    """The values of several tables as whole numbers that mean the same in each; null is a value of its own.

    Labels one by one, ordered values in ten bins with equally many rows of the first table.
    """
    if is_ordered(column):
        values = [ordered(column, table) for table in tables]
        reference = known(values[0])
        cuts = np.unique(np.quantile(reference, np.linspace(0, 1, _BINS + 1)[1:-1])) if len(reference) else np.array([])
        return [np.where(np.isnan(v), -1, np.searchsorted(cuts, v, side="right")) for v in values]
    numbers: dict[str | None, int] = {}
    return [np.array([numbers.setdefault(name, len(numbers)) for name in labels(column, t)], np.int64) for t in tables]


def texts(column: Column, records: Rows) -> list[str]:
    """The values of a text column; null as ""."""
    return [str(record[column.name] or "") for record in records]


def text_columns(schema: Schema) -> list[Text]:
    """The columns of free text."""
    return [column for column in schema.learned() if isinstance(column, Text)]


def key_of(record: Record, columns: Sequence[Column]) -> tuple[Value, ...]:
    """The values of these columns, to compare rows by; text without regard to case and spacing."""
    values = ((column, record[column.name]) for column in columns)
    return tuple(" ".join(str(v).casefold().split()) if isinstance(column, Text) and v is not None else v for column, v in values)


def sample(records: Rows, limit: int, seed: int) -> list[Record]:
    """At most `limit` of the records, sampled without replacement; all of them, in order, if there are no more."""
    if len(records) <= limit:
        return list(records)
    chosen = np.random.default_rng(seed).choice(len(records), limit, replace=False)
    return [records[i] for i in chosen]


def halves(records: Rows, seed: int) -> tuple[list[Record], list[Record]]:
    """The records in two halves, at random."""
    order = np.random.default_rng(seed).permutation(len(records))
    middle = len(records) // 2
    return [records[i] for i in order[:middle]], [records[i] for i in order[middle:]]


def shuffled_columns(records: Rows, schema: Schema, seed: int) -> list[Record]:
    """The marginals-only baseline: every column shuffled independently, which removes all associations."""
    random = np.random.default_rng(seed)
    orders = {column.name: random.permutation(len(records)) for column in schema.learned()}
    return [{name: records[order[i]][name] for name, order in orders.items()} for i in range(len(records))]
