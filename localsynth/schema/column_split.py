"""What the model sees where the structured columns come from marginals and it writes only the texts.

Each row then begins with its structured values and, for each text, how long it is; these are given to the model, in training
and in sampling, and never learned by it. To the marginals the lengths are structured columns like others, so that the rows
drawn from them say how long each text is to be, and whether there is one.

What stands next to a text moves it most. So the columns whose values have meanings, which somebody wrote down because texts go
with them, come last: a classifier trained on synthetic reviews then learned more of the rating (docs/lab/synthesizers.md).
"""

from bisect import bisect_right

import numpy as np

from localsynth.errors import ConfigError
from localsynth.schema.columns import Boolean, Category, Integer, Record, Schema, Text, Value
from localsynth.schema.conditions import Allowed, Conditions, only

__all__ = ["Writing"]

_EDGES = (1, *(size * 2**power // 2 for power in range(4, 14) for size in (2, 3)))
"""Characters from which a text is a size longer: none, 1 to 15, 16 to 23, 24 to 31, 32 to 47, ... Public."""

_CHARACTERS_A_TOKEN = 8
"""More than nearly all texts have on average: longer ones count as of the last size."""


class Writing:
    """How rows of an effective schema are divided between the marginals and the model.

    `schema` has the columns as the model sees them: the structured ones, the lengths of the texts, the columns with meanings, the
    texts. `given` names those that it is given, `lengths` those of them that are lengths, `telling` those with meanings, or all
    but the lengths where none has any. Raises ConfigError where a name is taken.
    """

    def __init__(self, schema: Schema) -> None:
        self._texts = [column for column in schema.learned() if isinstance(column, Text)]
        self._lengths = [_length_column(text) for text in self._texts]
        taken = {column.name.casefold() for column in schema.columns}
        for length in self._lengths:
            if length.name.casefold() in taken:
                raise ConfigError(
                    f"The table has a column {length.name!r}, a name that is needed for the length of a text.",
                    'Rename the column in the table, or set train.synthesizer = "llm".',
                )
        structured = [column for column in schema.learned() if not isinstance(column, Text)]
        telling = [column for column in structured if isinstance(column, Category) and column.descriptions]
        others = [column for column in structured if column not in telling]
        self._given = [*others, *self._lengths, *telling]
        self._telling = telling or others
        self.telling = frozenset(column.name for column in self._telling)
        self.given = frozenset(column.name for column in self._given)
        self.lengths = frozenset(column.name for column in self._lengths)
        self.schema = schema.model_copy(update={"columns": [*self._given, *self._texts]})

    def with_lengths(self, record: Record) -> Record:
        """A conforming record of the effective schema with the lengths of its texts: one of `self.schema`."""
        return {**record, **{c.name: _size(c, record[t.name]) for c, t in zip(self._lengths, self._texts, strict=True)}}

    def for_marginals(self, asked: Conditions) -> Conditions:
        """What the marginals must keep to where `asked` is asked of a row: a text that is given has its length."""
        conditions = {name: allowed for name, allowed in asked.items() if name in self.given}
        for length, text in zip(self._lengths, self._texts, strict=True):
            if text.name in asked:
                values = {_size(length, value) for value in asked[text.name].values}
                intervals = tuple((size, size) for size in sorted(value for value in values if value is not None))
                conditions[length.name] = Allowed(length, intervals=intervals, null=asked[text.name].null)
        return conditions

    def for_model(self, row: Record, asked: Conditions) -> Conditions:
        """What the model must keep to in a row for which the marginals drew `row`."""
        given: dict[str, Allowed] = {column.name: only(column, row[column.name]) for column in self._given}
        for length, text in zip(self._lengths, self._texts, strict=True):
            if row[length.name] is None:
                given[text.name] = only(text, None)
            elif text.name in asked:
                given[text.name] = Allowed(text, values=asked[text.name].values)
        return given

    def told_apart(self, row: Conditions, other: Record, random: np.random.Generator) -> Record:
        """Values of another row that the texts of a row, given to the model by `for_model`, are to be told apart from.

        Of the columns with meanings, or of all where none has any; not the lengths. Where `other` has the same category or truth
        value, one of the other ones, each as likely.
        """
        values: Record = {}
        for column in self._telling:
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
