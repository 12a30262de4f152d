import datetime as dt
import random

import pytest

from localsynth.evaluate.tables import one_thread
from localsynth.schema.columns import Category, Date, Integer, Schema, Text

WORDS = [f"{first}{second}" for first in "bcdfghklmnprstvw" for second in ("a", "el", "im", "ot", "un")]


def visit(chance):
    age = chance.randint(0, 90)
    triage = min(5, max(1, round(1 + age / 25 + chance.gauss(0, 0.4))))
    ill = chance.random() < 0.15 + 0.7 * (triage > 2)
    return {
        "age": age,
        "sex": chance.choice("FM"),
        "ward": chance.choice(["north", "south", "west", "east"]),
        "triage": triage,
        "day": dt.date(2025, 1, 1) + dt.timedelta(days=chance.randint(0, 364)),
        "ill": "yes" if ill else "no",
        "note": " ".join([*chance.choices(WORDS, k=chance.randint(9, 14)), "fever" if ill and chance.random() < 0.8 else "rest"]),
    }


@pytest.fixture(scope="session", autouse=True)
def limited_threads():
    with one_thread():
        yield


@pytest.fixture(scope="session")
def schema():
    return Schema(
        columns=[
            Integer(name="age", min=0, max=100),
            Category(name="sex", values=["F", "M"]),
            Category(name="ward", values=["north", "south", "west", "east"]),
            Integer(name="triage", min=1, max=5),
            Date(name="day", min=dt.date(2025, 1, 1), max=dt.date(2025, 12, 31)),
            Category(name="ill", values=["no", "yes"]),
            Text(name="note"),
        ]
    )


@pytest.fixture(scope="session")
def visits():
    """Three independent tables of one population: trained on, holdout, and one that plays an ideal synthetic table."""
    chance = random.Random(7)
    return tuple([visit(chance) for _ in range(n)] for n in (600, 400, 600))
