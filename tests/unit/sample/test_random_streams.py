"""No two things are drawn with the same random numbers."""

from itertools import combinations

import numpy as np

from localsynth.pipeline import count_texts
from localsynth.sample import job, tabular
from localsynth.sample.sampler import Engine, Request
from localsynth.schema.columns import Integer, Schema

MOST_ROWS = 1 << 39


def test_rows_drawn_to_different_ends_have_numbers_of_their_own():
    firsts = {"the table": 0, "what its rows are told apart from": tabular._APART}
    firsts |= {f"{name}, for topics": first + count_texts._FIRST_ROW for name, first in firsts.items()}
    drawn = {
        (name, attempt): first + attempt * tabular._OTHER_ROWS
        for name, first in firsts.items()
        for attempt in range(tabular._MOST_TRIES)
    }
    assert all(abs(one - other) >= MOST_ROWS for one, other in combinations(drawn.values(), 2))


def test_texts_written_to_different_ends_have_numbers_of_their_own():
    written = [text * job._OTHER_TEXTS for text in range(64)] + [count_texts._FIRST_ROW]
    assert all(abs(one - other) >= MOST_ROWS for one, other in combinations(written, 2))


def test_the_first_row_is_written_with_other_numbers_than_marginals_are_drawn_with(tiny_model):
    schema = Schema(columns=[Integer(name="n", min=0, max=9)])
    with Engine(tiny_model(), schema, "", sequences=1, threads=1, seed=3) as engine:
        written = [engine._random(Request(0), attempt, candidate).random(50) for attempt in (0, 1) for candidate in (0, 1)]
    drawn = np.random.Generator(np.random.Philox(key=3)).random(50)
    assert not np.isin(np.concatenate(written), drawn).any() and len(np.unique(written)) == 200
