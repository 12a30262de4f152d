"""Shared prefixes are computed once, and the recorded tokens of a sequence are those in the KV cache."""

import numpy as np
import pytest

from localsynth.llm.llama_cpp import Decoder, Step, Vocabulary, sequence_logits
from localsynth.sample.candidates import Request
from localsynth.sample.prefix_cache import PrefixCache
from localsynth.schema.columns import Category, Schema, Text
from localsynth.schema.conditions import only
from tests.helpers.sampling import open_sampler


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model()


def test_a_row_reuses_the_longest_cached_prefix(model):
    rng = np.random.default_rng(0)
    rows = [[5, *map(int, rng.integers(300, size=29))] for _ in range(3)]
    mixed = rows[0][:12] + rows[1][:8]
    with Decoder(model, 5, 64, 1) as decoder:
        cache = PrefixCache(decoder, 4, 64)
        cache.fill(rows[0][:1])
        for sequence, row in enumerate(rows):
            begun = cache.reuse(sequence, row)
            assert begun == 1
            cache.decode([Step(sequence, begun, row[begun:])])
        assert cache.reuse(3, mixed) == 12
        logits = cache.decode([Step(3, 12, mixed[12:])])[0].copy()
        np.testing.assert_allclose(logits, sequence_logits(model, mixed)[-1], atol=1e-3)
        # The one it was taken from goes on as if nothing had happened.
        logits = cache.decode([Step(0, 30, [7])])[0].copy()
        np.testing.assert_allclose(logits, sequence_logits(model, [*rows[0], 7])[-1], atol=1e-3)
        # The whole of it is there, but the last token is left for its logits.
        assert cache.reuse(2, mixed) == len(mixed) - 1
        cache.truncate(2, 5)
        assert cache.reuse(2, [*mixed[:5], 1, 1]) == 5
        with pytest.raises(AssertionError):
            cache.decode([Step(1, 3, [1])])


def test_rows_with_the_same_fixed_values_compute_them_once(model):
    kind = Category(name="kind", values=["a rather long word, and more words than one", "x"], nullable=False)
    schema = Schema(columns=[kind, Text(name="note", max_tokens=4)])

    def tokens(rows, values):
        with open_sampler(model, schema, batch_size=4, seed=1) as sampler:
            requests = (Request(i, {"kind": only(kind, kind.values[values[i % len(values)]])}) for i in range(rows))
            drawn = [row for _, row in sampler.rows(requests)]
            assert [row["kind"] for row in drawn] == [kind.values[values[i % len(values)]] for i in range(rows)]
            return sampler.statistics.tokens

    with Vocabulary(model) as vocabulary:
        most = len(vocabulary.tokenize(f"kind: {kind.values[0]}\nnote:"))
    # After the first rows have read the long value, forty more read little but their own text, of four tokens.
    assert tokens(44, [0]) - tokens(4, [0]) < 40 * 6
    assert tokens(44, [0, 1]) - tokens(4, [0, 1]) < 40 * most / 2


def test_a_row_with_all_values_fixed_leaves_the_cache_alone(model):
    kind, note = Category(name="kind", values=["a", "b"], nullable=False), Text(name="note", max_tokens=4)
    touched = []

    class Watched(Decoder):
        def truncate(self, sequence, length):
            touched.append(sequence)
            super().truncate(sequence, length)

        def copy(self, source, target):
            touched.append(target)
            super().copy(source, target)

    schema = Schema(columns=[kind, note])
    with open_sampler(model, schema, batch_size=4, seed=1, decoder=Watched) as sampler:
        touched.clear()
        given = {"kind": only(kind, "a"), "note": only(note, None)}
        assert len(list(sampler.rows(Request(i, given) for i in range(10)))) == 10
    assert not touched
