"""Small tables and schemas for the tests of marginals."""

import random
from collections.abc import Callable

import pytest

from localsynth.schema.columns import Boolean, Category, Integer, Number, Record, Schema


@pytest.fixture(scope="session")
def small_schema() -> Schema:
    """Four columns, of which `sick` depends on `age`, and `ward` on `sick`."""
    return Schema(
        columns=[
            Integer(name="age", min=0, max=9, nullable=False),
            Boolean(name="sick", nullable=False),
            Category(name="ward", values=["a", "b", "c"], other="other"),
            Number(name="dose", min=0.0, max=50.0, decimals=1),
        ]
    )


def _rows(n: int, seed: int = 0) -> list[Record]:
    """`n` rows of the small schema."""
    draw = random.Random(seed)
    rows: list[Record] = []
    for _ in range(n):
        age = draw.randint(0, 9)
        sick = draw.random() < age / 10
        ward = draw.choice(["a", "a", "b"]) if sick else draw.choice(["b", "c", None])
        rows.append({"age": age, "sick": sick, "ward": ward, "dose": round(draw.uniform(0, 50), 1) if sick else 0.0})
    return rows


@pytest.fixture(scope="session")
def small_rows() -> list[Record]:
    """3,000 rows of the small schema."""
    return _rows(3000)


@pytest.fixture(scope="session")
def rows_of() -> Callable[[int], list[Record]]:
    """Makes as many rows of the small schema as asked for."""
    return _rows
