"""A bias makes tokens more or less frequent, only in texts; a positive one ends once a text of the row holds the token."""

from dataclasses import dataclass

import numpy as np
import pytest

from localsynth.errors import IntegrityError
from localsynth.llm.llama_cpp import Vocabulary
from localsynth.sample.candidates import Request
from localsynth.schema.columns import Category, Schema, Text
from localsynth.schema.conditions import only
from tests.helpers.sampling import open_sampler

SORT = Category(name="sort", values=["x", "y"], nullable=False)
SCHEMA = Schema(columns=[SORT, Text(name="note", max_tokens=16, nullable=False), Text(name="more", max_tokens=6, nullable=False)])
ROWS = 120


@dataclass
class Fixed:
    """A bias by what the rows' sort is."""

    tokens: np.ndarray
    biases: dict[str, list[float]]

    def of(self, row):
        return np.array(self.biases[row["sort"]], dtype=np.float32)


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model()


@pytest.fixture(scope="module")
def token(model):
    """The token of a letter, as the model has it inside a word: it writes hardly any q by itself, but many y."""

    def of(letter):
        with Vocabulary(model) as vocabulary:
            return vocabulary.tokenize(letter)[-1]

    return of


def notes(model, bias, sort="x", **options):
    requests = (Request(i, {"sort": only(SORT, sort)}, {"sort": "y"} if options else None) for i in range(ROWS))
    with open_sampler(model, SCHEMA, batch_size=16, seed=3, bias=bias, **options) as sampler:
        return [(row["note"], row["more"]) for _, row in sampler.rows(requests)]


def holding(letter, texts):
    return np.mean([any(letter in text for text in row) for row in texts])


@pytest.mark.parametrize("options", [{}, {"guidance": 0.5}], ids=["plain", "guided"])
def test_a_bias_changes_how_often_rows_hold_a_token(model, token, options):
    bias = Fixed(np.array([token("q")]), {"x": [6.0], "y": [0.0]})
    plain, moved, other = notes(model, None, **options), notes(model, bias, **options), notes(model, bias, "y", **options)
    assert holding("q", moved) > holding("q", plain) + 0.2
    assert other == notes(model, None, "y", **options)
    less = Fixed(np.array([token("y")]), {"x": [-20.0], "y": [0.0]})
    assert holding("y", notes(model, less, **options)) < holding("y", plain) - 0.2


def test_a_positive_bias_ends_once_a_text_holds_the_token(model, token):
    texts = notes(model, Fixed(np.array([token("q")]), {"x": [12.0], "y": [0.0]}))
    counts = np.array([sum(text.count("q") for text in row) for row in texts])
    assert np.mean(counts >= 1) > 0.9 and np.mean(counts) < 2.5
    # Of the next text of the row, too: the row was counted once.
    assert np.mean(["q" in note for note, _ in texts]) > 0.9 > 0.5 > np.mean(["q" in more for _, more in texts])


def test_a_bias_leaves_other_columns_unchanged(model, token):
    with Vocabulary(model) as vocabulary:
        x, y = (vocabulary.tokenize(f" {value}")[-1] for value in "xy")

    class Both:
        tokens = np.unique([x, y])

        def of(self, row):
            return np.where(self.tokens == x, 15.0, -15.0).astype(np.float32)

    def sorts(bias):
        with open_sampler(model, SCHEMA, batch_size=16, seed=3, bias=bias) as sampler:
            return [row["sort"] for _, row in sampler.rows(map(Request, range(60)))]

    assert sorts(Both()) == sorts(None) and "y" in sorts(None)


def test_a_bias_leaves_the_rate_of_nulls_unchanged(model, token):
    """Whether it is was not counted, in a hybrid it was settled before."""
    with Vocabulary(model) as vocabulary:
        missing = np.unique(vocabulary.tokenize(" \\N"))
    schema = Schema(columns=[SORT, Text(name="note", max_tokens=16)])

    def texts(bias, **options):
        requests = (Request(i, {"sort": only(SORT, "x")}) for i in range(ROWS))
        with open_sampler(model, schema, batch_size=16, seed=3, bias=bias, **options) as sampler:
            return [row["note"] for _, row in sampler.rows(requests)]

    moved = Fixed(missing, {"x": [20.0] * len(missing)})
    plain = texts(None)
    assert [text is None for text in texts(moved)] == [text is None for text in plain]
    assert sum(text is None for text in texts(moved, hybrid=True)) > 100, "what would go wrong"


def test_a_bias_is_scaled_by_the_temperature(model, token):
    """Twice the logarithm of a ratio, were it divided by a temperature of a half."""
    q = Fixed(np.array([token("q")]), {"x": [3.0], "y": [0.0]})
    with open_sampler(model, SCHEMA, batch_size=4, seed=3, bias=q, temperature=0.5) as sampler:
        seen = []
        of = sampler.begin
        sampler.begin = lambda *arguments: seen.append(of(*arguments)) or seen[-1]
        list(sampler.rows([Request(0, {"sort": only(SORT, "x")})]))
    assert seen[0][0].bias is not None and seen[0][0].bias.max() in (0.0, 1.5)


def test_a_bias_for_another_model_is_refused(model):
    with pytest.raises(IntegrityError, match="another model"):
        notes(model, Fixed(np.array([10**6]), {"x": [1.0], "y": [1.0]}))
