"""Guidance samples from softmax(l + g (l - l')), with the logits after a row's own and after its contrast row's values."""

from collections import Counter

import numpy as np
import pytest

from localsynth.llm.llama_cpp import Decoder, Vocabulary
from localsynth.sample.candidates import Request
from localsynth.sample.token_choice import guided
from localsynth.schema.columns import Category, Integer, Schema, Text
from localsynth.schema.conditions import only
from tests.helpers.sampling import open_sampler
from tests.unit.sample.test_sampler import exact_probabilities

KIND = Category(name="kind", values=["x", "a rather long other word"], nullable=False)
WORD = Category(name="word", values=["a", "b", "an", "and", "in"], nullable=False)


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model()


def test_guidance_multiplies_by_a_power_of_the_ratio():
    rng = np.random.default_rng(0)
    own, other = (rng.normal(0, 3, (4, 50)).astype(np.float32) for _ in range(2))

    def softmax(logits):
        weights = np.exp(logits.astype(float) - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    p, q = softmax(own), softmax(other)
    expected = p * (p / q) ** 0.7
    np.testing.assert_allclose(softmax(guided(own, other, 0.7)), expected / expected.sum(axis=1, keepdims=True), rtol=1e-4)


@pytest.mark.parametrize(("own", "other"), [(0, 1), (1, 0)])
def test_guided_tokens_follow_the_formula(model, own, other):
    schema = Schema(columns=[KIND, WORD])
    guidance = 3.0  # so strong that draws without it, or with it the wrong way round, would show
    with Vocabulary(model) as vocabulary:

        def prompt(value):
            return [
                token
                for piece in ("kind:", f" {value}", "\n", "word:")
                for token in ([] if piece != "kind:" else vocabulary.start) + vocabulary.tokenize(piece)
            ]

        prompts = [prompt(value) for value in KIND.values]
    texts = [f" {value}\n".encode() for value in WORD.values]
    expected = exact_probabilities(model, prompts[own], texts, prompts[other], guidance)
    plain = exact_probabilities(model, prompts[own], texts)
    assert len(prompts[0]) != len(prompts[1]) and max(abs(expected[text] - plain[text]) for text in texts) > 0.05
    count = 3000
    requests = (Request(i, {"kind": only(KIND, KIND.values[own])}, {"kind": KIND.values[other]}) for i in range(count))
    with open_sampler(model, schema, batch_size=32, seed=3, guidance=guidance) as sampler:
        rows = [row for _, row in sampler.rows(requests)]
    assert {row["kind"] for row in rows} == {KIND.values[own]}
    found = Counter(f" {row['word']}\n".encode() for row in rows)
    chi_square = sum((found[text] - count * p) ** 2 / (count * p) for text, p in expected.items())
    assert chi_square < 23.5  # 4 degrees of freedom: exceeded once in ten thousand


def test_contrast_with_the_same_values_changes_nothing(model):
    schema = Schema(columns=[KIND, Text(name="note", max_tokens=12)])
    given = {"kind": only(KIND, "x")}
    with open_sampler(model, schema, batch_size=4, seed=3) as sampler:
        plain = list(sampler.rows(Request(i, given) for i in range(30)))
    for against in ({"kind": "x"}, None):
        with open_sampler(model, schema, batch_size=4, seed=3, guidance=2.0) as sampler:
            guided_rows = list(sampler.rows(Request(i, given, against) for i in range(30)))
        # Another batch composition may round differently; almost all rows come out the same.
        assert sum(a == b for a, b in zip(plain, guided_rows, strict=True)) >= 26


def test_candidates_and_last_attempts_are_guided(model, monkeypatch):
    """A fixed value after a text gives the row candidates; the last attempt fixes the constrained columns."""
    first, second = Text(name="t", max_tokens=9), Text(name="u", max_tokens=9)
    schema = Schema(columns=[KIND, first, second])
    given = {"kind": only(KIND, "x"), "u": only(second, None)}
    texts = []
    for against in ({"kind": KIND.values[1]}, {"kind": "x"}):
        with open_sampler(model, schema, batch_size=6, seed=5, guidance=2.0, candidates=3) as sampler:
            texts.append([row["t"] for _, row in sampler.rows(Request(i, given, against) for i in range(20))])
    assert sum(a == b for a, b in zip(*texts, strict=True)) < 5
    pair = [Integer(name=name, min=0, max=9, nullable=False) for name in "ab"]
    schema = Schema(columns=[KIND, *pair], constraints=["a <= b"])
    with open_sampler(model, schema, batch_size=2, seed=5, guidance=2.0) as sampler:
        request = Request(0, {"kind": only(KIND, "x")}, {"kind": KIND.values[1]})
        (candidate,) = sampler.begin(request, 4)
        assert (
            candidate.request.conditions.keys() > request.conditions.keys()
            and candidate.streams[0].pending != candidate.streams[1].pending
        )


def test_given_nulls_do_not_weight_candidates(model):
    """Where the model has not learned which texts are null, their probability says nothing about earlier texts."""
    first, second, third = (Text(name=name, max_tokens=9) for name in "tuv")
    schema = Schema(columns=[KIND, first, second, third])
    missing = {"u": only(second, None)}

    def rows(more, count=20, **options):
        with open_sampler(model, schema, batch_size=8, seed=5, guidance=0.5, **options) as sampler:
            requests = (Request(i, {"kind": only(KIND, "x")} | more, {"kind": KIND.values[1]}) for i in range(count))
            return len(sampler.begin(next(requests), 0)), [row for _, row in sampler.rows(requests)]

    free_candidates, free = rows({})
    candidates, given = rows(missing, hybrid=True)
    assert candidates == free_candidates == 1 and all(row["u"] is None for row in given)
    # Another batch composition may round differently; almost all texts come out as without it.
    assert sum(one["t"] == other["t"] for one, other in zip(free, given, strict=True)) >= 16
    assert rows(missing, 1)[0] == 8, "else the texts before are weighed for it"
    candidates, weighed = rows(missing | {"v": only(third, "a")}, hybrid=True)
    assert candidates == 8 and all((row["u"], row["v"]) == (None, "a") for row in weighed), "and so they are for a text asked for"
    with open_sampler(model, schema, batch_size=8, seed=5, hybrid=True) as sampler:
        candidate = sampler.begin(Request(0, {"kind": only(KIND, "x"), "v": only(third, "a")} | missing), 0)[0]
        assert candidate.field == 1
        candidate.field = 2
        sampler._begin_column(candidate)
        assert candidate.field == 3 and candidate.unconditional is not None, "the missing one is read, the other weighted"


def test_candidates_are_weighted_by_guided_probabilities(model):
    """A fixed value after a free one: of two free values one is chosen, by the guided probability of the fixed value."""
    first, second = ["J", "V", "i"], ["t", "a", "o", "s"]
    pair = [Category(name=name, values=values, nullable=False) for name, values in (("a", first), ("b", second))]
    guidance, spelled = 1.5, [f" {value}\n".encode() for value in second]
    with Vocabulary(model) as vocabulary:

        def tokens(*pieces):
            return [token for piece in pieces for token in vocabulary.tokenize(piece)]

        own, other = (vocabulary.start + tokens("kind:", f" {value}", "\n", "a:") for value in KIND.values)
        written = {value: tokens(f" {value}", "\n", "b:") for value in first}
        # With a token of its own, a value could be written in two ways, after which the next one has different chances.
        assert all(len(tokens(f" {value}")) == 2 for value in first)
    found = exact_probabilities(model, own, [f" {value}\n".encode() for value in first], other, guidance)
    chance = {value: found[f" {value}\n".encode()] for value in first}
    weights = [
        {value: exact_probabilities(model, own + more, spelled, other + more, strength) for value, more in written.items()}
        for strength in (guidance, 0.0)
    ]

    def kept(asked, weight):
        """Of each two candidates, either by its share of both weights."""
        result = dict.fromkeys(first, 0.0)
        for one in first:
            for two in first:
                w = [weight[value][f" {asked}\n".encode()] for value in (one, two)]
                for value, share in zip((one, two), w, strict=True):
                    result[value] += chance[one] * chance[two] * share / sum(w)
        return result

    # The condition under which weighing without guidance, or not at all, would show most.
    asked = max(second, key=lambda value: sum(abs(kept(value, weights[0])[v] - kept(value, weights[1])[v]) for v in first))
    expected = kept(asked, weights[0])
    count = 1500
    requests = (Request(i, {"kind": only(KIND, "x"), "b": only(pair[1], asked)}, {"kind": KIND.values[1]}) for i in range(count))
    with open_sampler(model, Schema(columns=[KIND, *pair]), batch_size=32, seed=3, guidance=guidance, candidates=2) as sampler:
        counts = Counter(row["a"] for _, row in sampler.rows(requests))

    def chi_square(shares):
        return sum((counts[value] - count * p) ** 2 / (count * p) for value, p in shares.items())

    assert chi_square(expected) < 18.4  # 2 degrees of freedom: exceeded once in ten thousand
    assert chi_square(kept(asked, weights[1])) > 50 and chi_square(chance) > 50


def test_the_shorter_stream_idles_one_token_at_a_time(model):
    """A prompt of many tokens and one with two more are read in three steps, then one token a step."""
    note = Text(name="note", max_tokens=4, nullable=False)
    kind = Category(name="kind", values=["a b c d e f g h i j k l m n o p", "a b c d e f g h i j k l m n o p q"], nullable=False)
    calls = []

    class Counting(Decoder):
        def decode(self, steps):
            calls.append([len(step.tokens) for step in steps])
            return super().decode(steps)

    with open_sampler(model, Schema(columns=[kind, note]), batch_size=1, seed=5, guidance=1.0, decoder=Counting) as sampler:
        calls.clear()
        assert len(list(sampler.rows([Request(0, {"kind": only(kind, kind.values[0])}, {"kind": kind.values[1]})]))) == 1
    wide = [call for call in calls if call[0] > 1]
    assert calls[0] == wide[0] and len(wide) == 1 and len(calls) <= 1 + 2 + 12, calls


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_guided_candidates_survive_a_change_of_slots(model, batch_size):
    """Two texts, the second sometimes fixed: those rows have candidates that wait while others continue."""
    size, first, second = Integer(name="n", min=0, max=99_999), Text(name="t", max_tokens=9), Text(name="u", max_tokens=9)
    schema = Schema(columns=[KIND, size, first, second])

    def requests():
        for i in range(40):
            given = {"kind": only(KIND, KIND.values[i % 2]), "n": only(size, 7 if i % 3 else 12_345)}
            yield Request(
                i, given | ({"u": only(second, None)} if i % 4 == 0 else {}), {"kind": KIND.values[i // 2 % 2], "n": 10_000 + i}
            )

    with open_sampler(model, schema, batch_size=batch_size, seed=5, guidance=0.5, candidates=3) as sampler:
        rows = list(sampler.rows(requests()))
        assert sampler.statistics.rejected == 0
    assert [number for number, _ in rows] == list(range(40))
    for i, row in rows:
        assert (row["kind"], row["n"]) == (KIND.values[i % 2], 7 if i % 3 else 12_345)
        assert i % 4 or row["u"] is None
    with open_sampler(model, schema, batch_size=5, seed=5, guidance=0.5, candidates=3) as sampler:
        again = list(sampler.rows(requests()))
    if batch_size >= 3:  # with fewer there are fewer candidates
        assert sum(a == b for a, b in zip(rows, again, strict=True)) >= 34
