"""Every row satisfies the schema, depends on seed and number alone, and follows the model's distribution."""

import datetime as dt
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from localsynth.errors import ConfigError
from localsynth.llm.llama_cpp import Vocabulary, sequence_logits
from localsynth.sample import sampler
from localsynth.sample.candidates import Request
from localsynth.sample.surrogates import Surrogates
from localsynth.schema.columns import (
    Boolean,
    Category,
    Date,
    DateTime,
    Identifier,
    Integer,
    Number,
    Schema,
    Surrogate,
    Text,
    conform,
)
from localsynth.schema.where import parse_where
from tests.helpers.sampling import open_sampler

SCHEMA = Schema(
    columns=[
        Category(name="kind", values=["ham", "spam", "ha\nm", "a|b", "x.*y"], other="other"),
        Integer(name="count", min=-15, max=1200),
        Number(name="price", min=-2.5, max=1999.99, decimals=2, nullable=False),
        Date(name="day", min=dt.date(2019, 12, 30), max=dt.date(2021, 3, 1)),
        DateTime(name="moment", min=dt.datetime(2020, 2, 28, 22, 10, 5), max=dt.datetime(2020, 3, 2, 1, 0, 0)),
        Boolean(name="flag"),
        Text(name="note", max_tokens=12),
        Category(name="only", values=["one"], nullable=False),
    ]
)


def generate(model, schema, numbers, *, seed=3, batch_size=8, where=None, **options):
    given = parse_where(where, schema) if where else {}
    with open_sampler(model, schema, options.pop("description", ""), batch_size=batch_size, seed=seed, **options) as sampler:
        rows = list(sampler.rows(Request(number, given) for number in numbers))
        return rows, sampler.statistics


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model()


def test_batch_size_does_not_depend_on_free_memory(tiny_model, monkeypatch):
    """Free memory depends on the private rows that this process has read, and the batch size decides who shares a batch."""

    def size(available):
        memory = SimpleNamespace(total=16 * 2**20, available=available)
        monkeypatch.setattr(sampler.psutil, "virtual_memory", lambda: memory)
        return sampler._default_batch_size(tiny_model(), 512, 1)

    assert size(16 * 2**20) == size(2**20) and 1 < size(2**20) < sampler._MAX_BATCH_SIZE


def test_every_row_satisfies_the_schema_and_is_new(model):
    rows, statistics = generate(model, SCHEMA, range(120))
    assert [number for number, _ in rows] == list(range(120))
    for _, row in rows:
        assert conform(SCHEMA, row) == row
        assert list(row) == [column.name for column in SCHEMA.columns]
    assert statistics.rows == 120 and statistics.rejected == 0
    # A random model uses what the grammar lets it: nulls, negative numbers, both halves of a range.
    assert any(row["count"] is None for _, row in rows) and all(row["price"] is not None for _, row in rows)
    assert len({row["note"] for _, row in rows}) > 60


def test_a_row_depends_on_seed_and_number_alone(model):
    first, _ = generate(model, SCHEMA, range(12), batch_size=4)
    again, _ = generate(model, SCHEMA, range(12), batch_size=4)
    assert first == again
    other, _ = generate(model, SCHEMA, range(12), batch_size=4, seed=4)
    assert first != other
    rest, _ = generate(model, SCHEMA, range(6, 12), batch_size=4)
    # Another batch composition may round differently; almost all rows come out the same.
    assert sum(a == b for a, b in zip(first[6:], rest, strict=True)) >= 4


def test_a_long_text_ends_properly_at_its_budget(model):
    schema = Schema(columns=[Text(name="t", max_tokens=6, nullable=False)])
    rows, _ = generate(model, schema, range(60))
    with Vocabulary(model) as vocabulary:
        lengths = [len(vocabulary.tokenize(" " + str(row["t"]))) for _, row in rows]
    assert max(len(str(row["t"]).encode()) for _, row in rows) < 200 and max(lengths) > 2
    for _, row in rows:
        str(row["t"]).encode("utf-8")


def exact_probabilities(model, key, texts, other=None, guidance=0.0):
    """The chance of each of `texts` when every token is drawn from the softmax over the tokens that can still lead to one.

    Worked out from whole sequences' logits after the tokens `key`, guided against those after the tokens `other`.
    """
    with Vocabulary(model) as vocabulary:
        pieces = [vocabulary.piece(token) for token in range(vocabulary.size)]

    def walk(more, written, chance):
        left = [text for text in texts if text.startswith(written)]
        if len(left) == 1:
            found[left[0]] += chance
            return
        allowed = [t for t, piece in enumerate(pieces) if piece and any(text.startswith(written + piece) for text in left)]
        scores, others = (sequence_logits(model, prompt + more)[-1][allowed].astype(float) for prompt in (key, other or key))
        scores += guidance * (scores - others)
        shares = np.exp(scores - scores.max())
        for token, share in zip(allowed, shares / shares.sum(), strict=True):
            walk([*more, token], written + pieces[token], chance * share)

    found = Counter()
    walk([], b"", 1.0)
    return found


def test_values_follow_the_models_distribution(model):
    """Frequencies of a category against the probabilities worked out token by token from the model's own logits."""
    values = ["a", "b", "an", "and", "in"]
    schema = Schema(columns=[Category(name="k", values=values, nullable=False)])
    with Vocabulary(model) as vocabulary:
        key = vocabulary.start + vocabulary.tokenize("k:")
    expected = exact_probabilities(model, key, [f" {value}\n".encode() for value in values])
    assert sum(expected.values()) == pytest.approx(1)
    count = 3000
    rows, _ = generate(model, schema, range(count), batch_size=32)
    found = Counter(f" {row['k']}\n".encode() for _, row in rows)
    chi_square = sum((found[text] - count * p) ** 2 / (count * p) for text, p in expected.items())
    assert chi_square < 23.5  # 4 degrees of freedom: exceeded once in ten thousand


def category_pair(model, first, second):
    """The exact joint probabilities of two categories that are written one after the other."""
    with Vocabulary(model) as vocabulary:
        start = vocabulary.start + vocabulary.tokenize("a:")
        firsts = exact_probabilities(model, start, [f" {value}\n".encode() for value in first])
        joint = {}
        for value in first:
            spelled = vocabulary.tokenize(f" {value}") + vocabulary.tokenize("\n")
            key = start + spelled + vocabulary.tokenize("b:")
            seconds = exact_probabilities(model, key, [f" {other}\n".encode() for other in second])
            for other in second:
                joint[value, other] = firsts[f" {value}\n".encode()] * seconds[f" {other}\n".encode()]
    return joint


def test_columns_before_a_condition_follow_it(model):
    """The first column, given the second: by Bayes' rule from the model's own probabilities, against the rows drawn."""
    first, second = ["t", "a", "h"], ["i", "r", "o", "s"]
    columns = [Category(name="a", values=first, nullable=False), Category(name="b", values=second, nullable=False)]
    schema = Schema(columns=columns)
    joint = category_pair(model, first, second)
    # The condition that moves the first column most, so that drawing it as if there were none would show.
    marginal = {value: sum(joint[value, other] for other in second) for value in first}

    def given(other):
        total = sum(joint[value, other] for value in first)
        return {value: joint[value, other] / total for value in first}

    asked = max(second, key=lambda other: sum(abs(given(other)[value] - marginal[value]) for value in first))
    expected = given(asked)
    count = 150
    for candidates, agrees in ((32, True), (1, False)):
        rows, statistics = generate(model, schema, range(count), batch_size=64, where=f"b = '{asked}'", candidates=candidates)
        assert [number for number, _ in rows] == list(range(count)) and {row["b"] for _, row in rows} == {asked}
        assert statistics.rows == count
        found = Counter(row["a"] for _, row in rows)
        chi_square = sum((found[value] - count * p) ** 2 / (count * p) for value, p in expected.items())
        assert (chi_square < 18.4) == agrees, (found, expected)  # 2 degrees of freedom: exceeded once in ten thousand


@pytest.mark.parametrize(
    "where",
    [
        "kind = 'spam'",
        "price BETWEEN 3 AND 3.05 AND count IS NULL",
        "note = 'hello | there'",
        "kind IN ('a|b', 'ham') AND flag AND moment >= '2020-03-02 00:59:58'",
        "kind = 'ham' AND count = 7 AND price = 1.25 AND day = '2020-02-29' AND moment = '2020-03-01 00:00:00' AND flag "
        "AND note IS NULL AND \"only\" = 'one'",
    ],
)
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_rows_meet_their_conditions_and_the_schema(model, where, batch_size):
    rows, statistics = generate(model, SCHEMA, range(12), where=where, batch_size=batch_size, candidates=4)
    assert [number for number, _ in rows] == list(range(12)) and statistics.rejected == 0
    conditions = parse_where(where, SCHEMA)
    for _, row in rows:
        assert conform(SCHEMA, row) == row
        assert all(row[name] in allowed for name, allowed in conditions.items())


def test_rows_with_and_without_conditions_in_one_batch(model):
    given = parse_where("flag AND day > '2021-01-01'", SCHEMA)
    with open_sampler(model, SCHEMA, batch_size=7, seed=1, candidates=3) as sampler:
        rows = dict(sampler.rows(Request(number, given if number % 2 else {}) for number in range(40)))
    assert sorted(rows) == list(range(40))
    assert all(rows[number]["flag"] for number in range(1, 40, 2))
    assert not all(rows[number]["flag"] for number in range(0, 40, 2))


def test_a_fixed_text_that_is_too_long_is_refused(model):
    request = Request(4, parse_where("note = 'one two three four five six seven eight nine ten'", SCHEMA))
    with open_sampler(model, SCHEMA, batch_size=1, seed=1) as sampler:
        sampler.check(Request(0, parse_where("note = 'short'", SCHEMA)))
        with pytest.raises(ConfigError, match=r"Row 5: the text given for column 'note' is longer than its 12 tokens"):
            sampler.check(request)


def test_a_description_is_read_before_every_row(model):
    schema = Schema(columns=[Category(name="k", values=list("abcdefgh"), nullable=False)])
    plain, _ = generate(model, schema, range(200))
    described, _ = generate(model, schema, range(200), description="Something quite different comes first")
    assert plain != described


def test_batches_of_one_row_and_of_more_slots_than_rows(model):
    assert len(generate(model, SCHEMA, range(3), batch_size=1)[0]) == 3
    assert len(generate(model, SCHEMA, range(2), batch_size=16)[0]) == 2
    assert generate(model, SCHEMA, [])[0] == []


def test_surrogates_are_fake_and_repeatable():
    schema = Schema(
        columns=[
            Identifier(name="id"),
            Surrogate(name="name", of="name"),
            Surrogate(name="mail", of="email"),
            Surrogate(name="phone", of="phone"),
            Surrogate(name="where", of="address"),
            Text(name="t"),
        ]
    )
    first = Surrogates(schema, 1).complete(4, {"t": "x"})
    assert first == Surrogates(schema, 1).complete(4, {"t": "x"})
    assert list(first) == [c.name for c in schema.columns]
    assert first["id"] == 5 and str(first["mail"]).split("@")[1].startswith("example.")
    assert first["name"] != Surrogates(schema, 1).complete(5, {"t": "x"})["name"]


def test_rows_of_a_unit_share_identifier_and_surrogates():
    schema = Schema(columns=[Identifier(name="visit"), Identifier(name="who"), Surrogate(name="name", of="name"), Text(name="t")])
    rows = [Surrogates(schema, 1, "who").complete(number, {"t": "x"}, unit) for number, unit in ((4, 2), (5, 2), (6, 3))]
    assert [(row["visit"], row["who"]) for row in rows] == [(5, 3), (6, 3), (7, 4)]
    assert rows[0]["name"] == rows[1]["name"] != rows[2]["name"]
