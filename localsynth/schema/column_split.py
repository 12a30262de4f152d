"""How the columns of a row are split between DP marginals and the language model.

In a hybrid, marginals give the structured columns and the model generates only the texts. A row then begins with its structured
values and, for each text, its length. These are given to the model, in training and in sampling, and never learned by it. To
the marginals, lengths are structured columns like others: a row from them says how long each text is, and whether there is one.

What stands next to a text moves it most. So columns with value descriptions, which somebody wrote because texts depend on them,
come last: a classifier trained on synthetic reviews then learned more of the rating (docs/lab/synthesizers.md).
"""

from bisect import bisect_right

import numpy as np

from localsynth.errors import ConfigError
from localsynth.schema.columns import Boolean, Category, Integer, Record, Schema, Text, Value
from localsynth.schema.conditions import Allowed, Conditions, only

_EDGES = (1, *(size * 2**power // 2 for power in range(4, 14) for size in (2, 3)))
"""Characters from which a text is a size longer: none, 1 to 15, 16 to 23, 24 to 31, 32 to 47, ... Public."""

_CHARACTERS_A_TOKEN = 8
"""More than nearly all texts have on average: longer ones count as of the last size."""


class ColumnSplit:
    """The columns of an effective schema that marginals give and those that the model generates.

    `schema` has the columns in the order in which the model reads them: structured ones, lengths of texts, columns with value
    descriptions, texts. `given` names those that the model is given. `conditioning` names those that its texts are to depend on:
    the columns with value descriptions, or all but the lengths where none has any (`has_descriptions`).

    Without `hybrid` nothing is split: `schema` is the effective schema, nothing is given, and rows stay as they are.
    Raises ConfigError where a name is taken.
    """

    def __init__(self, schema: Schema, *, hybrid: bool) -> None:
        self.hybrid = hybrid
        learned = schema.learned() if hybrid else []
        self._texts = [column for column in learned if isinstance(column, Text)]
        self._lengths = [_length_column(text) for text in self._texts]
        taken = {column.name.casefold() for column in schema.columns}
        for length in self._lengths:
            if length.name.casefold() in taken:
                raise ConfigError(
                    f"The table has a column {length.name!r}, a name that is needed for the length of a text.",
                    'Rename the column in the table, or set train.synthesizer = "llm".',
                )
        structured = [column for column in learned if not isinstance(column, Text)]
        described = [column for column in structured if isinstance(column, Category) and column.descriptions]
        others = [column for column in structured if column not in described]
        self._given = [*others, *self._lengths, *described]
        self._conditioning = described or others
        self.has_descriptions = bool(described)
        self.conditioning = frozenset(column.name for column in self._conditioning)
        self.given = frozenset(column.name for column in self._given)
        self.schema = schema.model_copy(update={"columns": [*self._given, *self._texts]}) if hybrid else schema

    def with_lengths(self, record: Record) -> Record:
        """A conforming record of the effective schema with the lengths of its texts: one of `self.schema`."""
        return {**record, **{c.name: _size(c, record[t.name]) for c, t in zip(self._lengths, self._texts, strict=True)}}

    def for_marginals(self, requested: Conditions) -> Conditions:
        """The conditions on the marginals' row for those requested of a row: a requested text has its length."""
        conditions = {name: allowed for name, allowed in requested.items() if name in self.given}
        for length, text in zip(self._lengths, self._texts, strict=True):
            if text.name in requested:
                values = {_size(length, value) for value in requested[text.name].values}
                intervals = tuple((size, size) for size in sorted(value for value in values if value is not None))
                conditions[length.name] = Allowed(length, intervals=intervals, null=requested[text.name].null)
        return conditions

    def for_model(self, row: Record, requested: Conditions) -> Conditions:
        """The conditions on the model's row for those requested of a row, where the marginals gave `row`."""
        conditions = {**requested, **{column.name: only(column, row[column.name]) for column in self._given}}
        for length, text in zip(self._lengths, self._texts, strict=True):
            if row[length.name] is None:
                conditions[text.name] = only(text, None)
            elif text.name in requested:
                conditions[text.name] = Allowed(text, values=requested[text.name].values)
        return conditions

    def contrast_row(self, row: Conditions, other: Record, random: np.random.Generator) -> Record:
        """The conditioning columns of another row, for classifier-free guidance of a row with the conditions of `for_model`.

        Where `other` has the same category or truth value, another one is chosen uniformly.
        """
        values: Record = {}
        for column in self._conditioning:
            own, values[column.name] = row[column.name].single, other[column.name]
            assert own is not None
            if values[column.name] == own.value and isinstance(column, Category | Boolean):
                kinds = [True, False] if isinstance(column, Boolean) else column.allowed()
                different = [value for value in (*kinds, *([None] if column.nullable else [])) if value != own.value]
                values[column.name] = different[random.integers(len(different))] if different else own.value
        return values


def _length_column(text: Text) -> Integer:
    largest = bisect_right(_EDGES, _CHARACTERS_A_TOKEN * text.max_tokens)
    return Integer(name=f"length of {text.name}", min=0, max=largest, nullable=text.nullable)


def _size(length: Integer, text: Value) -> int | None:
    assert length.max is not None
    return None if text is None else min(length.max, bisect_right(_EDGES, len(str(text))))
