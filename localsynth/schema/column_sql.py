"""SQL of the values of structured columns: to their ordinals and back, and as a file can write them.

Reads the effective schema, which is public. The SQL is that of DuckDB.
"""

from decimal import Decimal

from localsynth.schema.columns import Boolean, Category, Date, DateTime, Integer, Number
from localsynth.schema.formats import MomentFormat
from localsynth.schema.ordinals import MISSING, Ordered, Structured, step_of, to_int, value_count
from localsynth.schema.sql_conditions import literal

_MAX_INT_DIGITS = 27
"""Of a number in units of its last decimal: 10^15 with 9 decimals has 25, and a decimal at most 38 in all."""


def from_ordinal_sql(column: Structured, ordinal: str) -> str:
    """`schema.ordinals.from_ordinal` of an SQL expression of integers; NULL for `MISSING`."""
    if isinstance(column, Category):
        return f"[{', '.join(map(literal, column.allowed()))}][{ordinal} + 1]"
    present = f"nullif({ordinal}, {MISSING})"
    if isinstance(column, Boolean):
        return f"({present} = 1)"
    first = to_int(column, column.min)
    number = f"({present} * {step_of(column)} + {first})"
    if isinstance(column, Integer):
        return f"CAST({number} AS BIGINT)"
    if isinstance(column, DateTime):
        return f"make_timestamp({number} * 1000000)"
    if isinstance(column, Date):
        return f"(DATE '0001-01-01' + CAST({number} - 1 AS INTEGER))"
    unit = format(Decimal(1).scaleb(-column.decimals), "f")
    scale = f"CAST('{unit}' AS DECIMAL({column.decimals + 1},{column.decimals}))"
    return f"CAST({number} AS DECIMAL({_MAX_INT_DIGITS},0)) * {scale}"


def conformed_sql(column: Structured, value: str) -> tuple[str, str]:
    """What `conform` makes of one value, an SQL expression: the SQL of a value, and of whether its row is dropped for it.

    Constraints are not looked at.
    """
    dropped = [] if column.nullable else [f"{value} IS NULL"]
    if isinstance(column, Boolean):
        return value, _any(dropped)
    if isinstance(column, Category):
        outside = f"{value} NOT IN ({', '.join(map(literal, column.allowed()))})"
        instead = "NULL" if column.outside == "null" or column.other is None else literal(column.other)
    else:
        low, high = literal(column.min), literal(column.max)
        outside = f"{value} NOT BETWEEN {low} AND {high}"
        instead = "NULL" if column.outside == "null" else f"CASE WHEN {value} < {low} THEN {low} ELSE {high} END"
    if column.outside == "drop":
        dropped.append(f"{value} IS NOT NULL AND {outside}")
    elif instead == "NULL" and not column.nullable:
        dropped.append(outside)
    return f"CASE WHEN {outside} THEN {instead} ELSE {value} END", _any(dropped)


def _any(conditions: list[str]) -> str:
    return " OR ".join(f"({condition})" for condition in conditions) or "false"


def to_ordinal_sql(column: Structured, value: str) -> str:
    """`schema.ordinals.to_ordinal` of an SQL expression of conformed values; `MISSING` for NULL."""
    if isinstance(column, Boolean):
        return f"CASE {value} WHEN true THEN 1 WHEN false THEN 0 ELSE {MISSING} END"
    if isinstance(column, Category):
        return f"coalesce(list_position([{', '.join(map(literal, column.allowed()))}], {value}) - 1, {MISSING})"
    step = step_of(column)
    ordinal = f"({_to_int_sql(column, value)} - {to_int(column, column.min)} + {step // 2}) // {step}"
    return f"CASE WHEN {value} IS NULL THEN {MISSING} ELSE least({ordinal}, {value_count(column) - 1}) END"


def _to_int_sql(column: Ordered, value: str) -> str:
    """`schema.ordinals.to_int` of an SQL expression of values."""
    if isinstance(column, DateTime):
        return f"(epoch_us({value}) // 1000000)"
    if isinstance(column, Date):
        return f"(date_diff('day', DATE '0001-01-01', {value}) + 1)"
    if isinstance(column, Number):
        return f"CAST(round({value} * {10**column.decimals}.0::DOUBLE) AS HUGEINT)"
    return f"CAST({value} AS HUGEINT)"


def rounded_sql(column: Structured, value: str) -> str:
    """The value that the file can write, see `rounded` of the column, of an SQL expression of its values."""
    if isinstance(column, Integer | Number):
        limits = [("<", column.below, -1), (">", column.above, 1)]
        cases = [
            f"WHEN {value} {sign} {literal(limit)} THEN {literal(column.rounded(limit + beyond))}"
            for sign, limit, beyond in limits
            if limit is not None
        ]
        return f"CASE {' '.join(cases)} ELSE {value} END" if cases else value
    if isinstance(column, Date | DateTime) and column.format is not None:
        return f"date_trunc('{MomentFormat(column.format).precision}', {value})"
    return value
