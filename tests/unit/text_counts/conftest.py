"""Made-up messages of two sorts, which a column tells apart, and others that it says nothing of."""

import random
from collections.abc import Callable

import pytest

from localsynth.marginals.domain import Attribute
from localsynth.schema.columns import Category, Record
from localsynth.text_counts.grouping_columns import Aspect

_SORTS = {
    "spam": ["win a prize now", "call free to claim your cash prize", "free entry to win cash", "claim now and win free cash"],
    "ham": ["see you at home tonight", "are you at home yet", "we meet tonight for dinner", "dinner at home with you tonight"],
}
Row = tuple[Record, str]


def aspect(name: str, values: list[str]) -> Aspect:
    column = Category(name=name, values=values, nullable=False)
    return Aspect(Attribute(column, tuple(range(len(values) + 1))), tuple(range(len(values))))


@pytest.fixture
def aspects() -> list[Aspect]:
    return [aspect("sort", ["ham", "spam"]), aspect("coin", ["heads", "tails"])]


@pytest.fixture
def messages() -> Callable[..., list[Row]]:
    """`n` rows; `linked`: their texts are of the sort that the column says, else of any."""

    def make(n: int, seed: int, linked: bool = True, spam: float = 0.2) -> list[Row]:
        draw = random.Random(seed)
        rows: list[Row] = []
        for _ in range(n):
            sort = "spam" if draw.random() < spam else "ham"
            shown = sort if linked else draw.choice(["ham", "spam"])
            rows.append(({"sort": shown, "coin": draw.choice(["heads", "tails"])}, draw.choice(_SORTS[sort])))
        return rows

    return make
