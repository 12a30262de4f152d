"""The rows that the original is compared with: as many of each group, if rows of it can exist."""

from typing import Any

import numpy as np
import pytest

from localsynth.errors import ConfigError
from localsynth.llm.llama_cpp import Vocabulary
from localsynth.marginals.domain import Attribute
from localsynth.schema.columns import Category, Schema, Text
from localsynth.schema.conditions import Allowed
from localsynth.text_counts.comparison import TextTokens, comparison_requests
from localsynth.text_counts.grouping_columns import GroupingColumn

SORT = Category(name="sort", values=["a", "b"], nullable=True)
COLUMN = GroupingColumn(Attribute(SORT, (0, 1, 2)), (0, 1, 2))
SCHEMA = Schema(columns=[SORT, Text(name="text", max_tokens=8)])


class Marginals:
    """Fitted marginals without rows of some values."""

    def __init__(self, *without: str) -> None:
        self._without = set(without)

    def sampler(self, seed: int, conditions: dict[str, Allowed]) -> None:
        if conditions["sort"].values & self._without:
            raise ConfigError("The model has no rows that meet all conditions together.", "Widen one of them.")


def requested(schema: Schema, marginals: Any, rows: int = 12) -> list[Allowed]:
    (table,) = comparison_requests([COLUMN], schema, marginals, rows)
    assert len(table) == rows
    return [conditions["sort"] for conditions in table]


def test_a_table_has_as_many_rows_of_each_group() -> None:
    groups = [(sorted(group.values), group.null) for group in requested(SCHEMA, Marginals())]
    assert groups == [(["a"], False), (["b"], False), ([], True)] * 4


@pytest.mark.parametrize(
    ("schema", "marginals"),
    [(SCHEMA.model_copy(update={"constraints": ["sort = 'a'"]}), Marginals()), (SCHEMA, Marginals("b"))],
    ids=["constraints", "marginals"],
)
def test_groups_that_no_row_can_have_are_not_requested(schema: Schema, marginals: Any) -> None:
    """Requested, no row could be generated, and the run would never have any."""
    assert not any("b" in group.values for group in requested(schema, marginals))


def test_tables_share_the_rows() -> None:
    tables = comparison_requests([COLUMN, COLUMN, COLUMN], SCHEMA, Marginals(), 100)  # type: ignore[arg-type]
    assert [len(table) for table in tables] == [34, 33, 33]
    assert comparison_requests([], SCHEMA, None, 5) == [[{}] * 5]


def test_the_tokens_of_a_row_are_those_of_its_texts(tiny_model: Any) -> None:
    with Vocabulary(tiny_model()) as vocabulary:
        tokens = TextTokens(SCHEMA, "", vocabulary)
        rows = [{"sort": "a", "text": "the cat the cat"}, {"sort": "b", "text": None}]
        (_, held), (_, none) = tokens.of(rows)
    assert tokens.end in held and len(np.unique(held)) == len(held) and np.all(np.diff(held) > 0) and len(none) == 0
    assert held.max() < tokens.vocabulary_size
