"""Topics are made of synthetic texts, and each text's topic follows from its own words."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from localsynth.errors import IntegrityError
from localsynth.text_counts.topics import Topics, text_of, topics_for


def test_texts_of_two_sorts_are_of_different_topics(messages: Callable[..., Any]) -> None:
    topics = Topics.of_texts([text for _, text in messages(200, 1)], 4)
    found = [{topics.of([text])[0] for row, text in messages(100, 2) if row["sort"] == sort} for sort in ("ham", "spam")]
    assert topics.count == 4 and not found[0] & found[1]


def test_a_text_is_read_by_itself_and_unknown_words_count_for_nothing(messages: Callable[..., Any]) -> None:
    topics = Topics.of_texts([text for _, text in messages(200, 1)], 4)
    texts = ["call free to claim", "zyx planted007", "", "see you at home"]
    together = topics.of(texts)
    assert [topics.of([text])[0] for text in texts] == together.tolist()
    assert topics.of(["call free to claim zyx planted007"])[0] == together[0]
    assert together[1] == together[2] and "planted007" not in topics.words


def test_no_other_text_decides_a_tie_between_two_topics() -> None:
    # Centres that mirror each other at a text: which is nearer is a matter of the last digit, and one unit more must not turn it
    # for all other texts.
    random = np.random.default_rng(0)
    words = {f"w{i}": i for i in range(48)}
    for text in (" ".join(random.choice(list(words), 20)) for _ in range(40)):
        blank = Topics(words, np.ones(48), np.eye(48), np.zeros((1, 48)))
        vector = np.zeros(48)
        for word in set(text.split()):
            vector[words[word]] = 1 + np.log(text.split().count(word))
        vector /= np.linalg.norm(vector)
        away = random.standard_normal((16, 48))
        mirrored = 2 * (away @ vector)[:, None] * vector - away
        topics = Topics(blank.words, blank.weights, blank.axes, np.concatenate([away, mirrored]))
        assert {topics.of([text] * rows)[0] for rows in (1, 2, 3, 7, 500)} == {topics.of([text])[0]}


def test_the_same_texts_make_the_same_topics_and_a_file_keeps_them(messages: Callable[..., Any]) -> None:
    texts = [text for _, text in messages(200, 1)]
    first, second = Topics.of_texts(texts, 4), Topics.of_texts(texts, 4)
    read = Topics.from_json(json.loads(json.dumps(first.to_json())))
    assert read.words == first.words and np.array_equal(read.centres, first.centres)
    for other in (second, read):
        assert np.array_equal(other.of(texts), first.of(texts))


@pytest.mark.parametrize("texts", [[], ["a"], ["a b", "a b", "a b", "a b"], ["", "", ""]])
def test_texts_with_nothing_to_tell_apart_are_of_one_topic(texts: list[str]) -> None:
    topics = Topics.of_texts(texts, 8)
    assert topics.count == 1 and topics.of(["anything", "a b"]).tolist() == [0, 0]


@pytest.mark.parametrize(
    "spoiled", [{"weights": [1.0]}, {"axes": [[float("nan")]]}, {"centres": []}, {"words": ["a", "a"]}, {"axes": "x"}]
)
def test_what_is_no_file_of_topics_is_refused(messages: Callable[..., Any], spoiled: dict[str, Any]) -> None:
    tree = Topics.of_texts([text for _, text in messages(200, 1)], 4).to_json()
    with pytest.raises(IntegrityError):
        Topics.from_json({**tree, **spoiled})
    with pytest.raises(IntegrityError):
        Topics.from_json(None)


def test_the_texts_of_a_row_are_one_and_small_tables_have_few_topics() -> None:
    assert text_of(["a", None, "b"]) == "a\nb"
    assert [topics_for(units) for units in (50, 1200, 100_000)] == [8, 20, 64]
