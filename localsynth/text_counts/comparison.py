"""Which rows the model generates to compare the original with, and the tokens of both."""

from collections.abc import Iterable
from contextlib import suppress

import numpy as np

from localsynth.errors import ConfigError
from localsynth.llm.llama_cpp import Vocabulary
from localsynth.llm.row_text import END, Codec
from localsynth.marginals.model import MarginalModel
from localsynth.schema.columns import Boolean, Category, Record, Schema, Text, Value
from localsynth.schema.conditions import Allowed, Conditions, everything
from localsynth.schema.feasible import FeasibleSet
from localsynth.text_counts.grouping_columns import GroupingColumn
from localsynth.text_counts.token_counts import Row


class TextTokens:
    """Reads the tokens of the texts of rows, as the model was trained on them.

    `end` is the token that ends a text, `vocabulary_size` the number of tokens that there are.
    """

    def __init__(self, schema: Schema, description: str, vocabulary: Vocabulary) -> None:
        self._codec = Codec(schema, vocabulary.tokenize, vocabulary.start, description)
        self._fields = [field for field in self._codec.fields if isinstance(field.column, Text)]
        self.end: int = vocabulary.tokenize(END)[-1]
        self.vocabulary_size: int = vocabulary.size

    def of(self, rows: Iterable[Record]) -> list[Row]:
        """Each row with the different tokens of its texts, rising; with none where all its texts are null."""
        return [(row, np.array(sorted(self._held(row)), dtype=np.int64)) for row in rows]

    def _held(self, row: Record) -> set[int]:
        texts = [(field, row[field.column.name]) for field in self._fields]
        return {token for field, text in texts if text is not None for token in self._codec.encode_value(field, text)}


def comparison_requests(
    columns: list[GroupingColumn], schema: Schema, model: MarginalModel | None, rows: int
) -> list[list[Conditions]]:
    """The conditions of `rows` rows, divided between the tables of the grouping columns (or one table, without any).

    A table has as many rows of each of its groups, if the groups can be requested.
    """
    if not columns or model is None:
        return [[{}] * rows]
    requests: list[list[Conditions]] = [[] for _ in columns]
    groups = [_groups(column, schema, model) for column in columns]
    for i in range(rows):
        table = i * len(columns) // rows
        choices = groups[table]
        requests[table].append({columns[table].name: choices[i % len(choices)]} if choices else {})
    return requests


def _groups(grouping: GroupingColumn, schema: Schema, model: MarginalModel) -> list[Allowed]:
    """Each group of a category or truth value as the set of its values, if constraints and marginals have rows of it.

    None for columns of other kinds.
    """
    column = grouping.attribute.column
    if not isinstance(column, Category | Boolean):
        return []
    values = [*everything(column).values, *([None] if column.nullable else [])]
    sets: list[set[Value]] = [set() for _ in range(grouping.size)]
    for value in values:
        sets[grouping.of({grouping.name: value})].add(value)
    groups = [Allowed(column, values=frozenset(group - {None}), null=None in group) for group in sets if group]
    feasible = FeasibleSet(schema)

    def has_rows(group: Allowed) -> bool:
        with suppress(ConfigError):
            model.sampler(0, {grouping.name: group})
            return not feasible or feasible.witness({grouping.name: group}) is not None
        return False

    return list(filter(has_rows, groups))
