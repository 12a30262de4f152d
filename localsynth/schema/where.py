"""The conditions that a user asks of rows: `--where "rating >= 4 AND department = 'Dresses'"`.

They become one set of allowed values for each column. So AND may join any conditions,
and OR, NOT and => only conditions on the same column. As in SQL, a comparison with a
missing value is neither true nor false: such rows are left out unless IS NULL asks for
them.
"""

from localsynth.errors import ConfigError
from localsynth.schema.columns import Boolean, Category, Column, Integer, Schema, Text
from localsynth.schema.conditions import Allowed, Conditions, intersection
from localsynth.schema.feasible import values_that_satisfy
from localsynth.schema.ordinals import Ordered
from localsynth.schema.sql_conditions import (
    All,
    Comparison,
    Constant,
    Name,
    Node,
    comparisons_of,
    names_of,
    read_condition,
    read_constant,
)


def parse_where(text: str, schema: Schema) -> Conditions:
    """The conditions that `text` states about the learned columns of an effective schema.

    Raises ConfigError where it is no condition, or where no value can satisfy it.
    """
    tree = read_condition(text, {c.name: c.kind for c in schema.columns}, ("identifier", "surrogate", "derived"))
    found: dict[str, Allowed] = {}
    for part in _conjuncts(tree):
        column = schema.column(_only_name(part))
        allowed = values_that_satisfy(part, column)
        found[column.name] = intersection(found[column.name], allowed) if column.name in found else allowed
    for name, allowed in found.items():
        if allowed.empty:
            raise ConfigError(f"The condition leaves no value for column {name!r}.", _hint(schema.column(name)))
    return found


def _conjuncts(node: Node) -> list[Node]:
    return [leaf for part in node.parts for leaf in _conjuncts(part)] if isinstance(node, All) else [node]


def _only_name(node: Node) -> str:
    if any(isinstance(comparison.right, Name) for comparison in comparisons_of(node)):
        raise ConfigError("The condition compares two columns.", "Compare columns with values; text stands in single quotes.")
    names = names_of(node)
    if len(names) > 1:
        raise ConfigError(
            "OR, NOT and => can join conditions on the same column only.",
            "Generate the rows of each part with a command of its own.",
        )
    return next(iter(names))


def exactly(column: Column, text: str | None) -> Allowed:
    """The set of the one value that `text` spells (None: the missing value). Raises ConfigError if it is not allowed."""
    if text is None:
        found = Allowed(column, null=column.nullable)
    else:
        name = Name(column.name, column.kind)
        found = values_that_satisfy(Comparison(name, "=", Constant(read_constant(name, text))), column)
    if found.empty:
        raise ConfigError(f"A value for column {column.name!r} is not allowed by the schema.", _hint(column))
    return found


def values_of(column: Column) -> list[str]:
    """The spellings of all values of a category, boolean or narrow integer column. Raises ConfigError for any other."""
    if isinstance(column, Category):
        return column.allowed()
    if isinstance(column, Boolean):
        return ["true", "false"]
    if isinstance(column, Integer):
        low, high = int(column.min or 0), int(column.max or 0)
        if high - low < 100:
            return [str(value) for value in range(low, high + 1)]
    raise ConfigError(
        f"Column {column.name!r} has no list of values to distribute rows over.",
        "Choose a category, a boolean, or an integer of at most 100 values.",
    )


def _hint(column: Column) -> str:
    never = "" if column.nullable else " It is never missing."
    if isinstance(column, Category):
        shown = ", ".join(column.allowed()[:12])
        return f"It has the values {shown}{', ...' if len(column.allowed()) > 12 else ''}.{never}"
    if isinstance(column, Ordered):
        return f"It lies between {column.min} and {column.max}.{never}"
    return f"Text columns take =, IN and IS NULL only.{never}" if isinstance(column, Text) else f"It is true or false.{never}"
