"""Texts are chosen so that they go with their rows as the original's do, where the count says so beyond its noise."""

from collections.abc import Callable
from typing import Any

import numpy as np

from localsynth.sample.job import _chosen
from localsynth.text_counts.grouping_columns import Aspect
from localsynth.text_counts.resampling import Chooser
from localsynth.text_counts.topic_counts import count_topics
from localsynth.text_counts.topics import Topics
from tests.helpers.seeded_random import InsecureRandom


def chooser(messages: Callable[..., Any], aspects: list[Aspect], original: list[Any], rho: float = 0.5) -> Chooser:
    # A model that heeds no column, and writes as much spam as not.
    written = messages(600, 9, linked=False, spam=0.5)
    topics = Topics.of_texts([text for _, text in written], 6)
    return Chooser(count_topics(topics, aspects, original, written, rho, 1, InsecureRandom(1)))


def share_that_agrees(chosen: Chooser, messages: Callable[..., Any], times: int = 4) -> float:
    """Of rows whose texts were written without regard to them, how many get one of their sort."""
    spam = {text for row, text in messages(500, 3) if row["sort"] == "spam"}
    rows = messages(2000, 5, linked=False, spam=0.5)
    requests = [(i // times if i % times == 0 else i, {**rows[i - i % times][0], "text": rows[i][1]}) for i in range(len(rows))]
    kept = list(_chosen(iter(requests), times, chosen, ["text"], seed=0))
    assert len(kept) == len(rows) // times and [number for number, _ in kept] == list(range(len(kept)))
    return float(np.mean([(row["text"] in spam) == (row["sort"] == "spam") for _, row in kept]))


def test_rows_get_texts_of_their_sort(messages: Callable[..., Any], aspects: list[Aspect]) -> None:
    linked = chooser(messages, aspects, messages(2000, 1))
    assert share_that_agrees(linked, messages) > 0.9
    assert set(linked._log_given) == {0}, "the coin says nothing of the texts, and is not heeded"


def test_where_nothing_is_linked_nothing_is_made_up(messages: Callable[..., Any], aspects: list[Aspect]) -> None:
    for original, rho in ((messages(2000, 1, linked=False, spam=0.5), 0.5), (messages(60, 1), 1e-5)):
        assert 0.4 < share_that_agrees(chooser(messages, aspects, original, rho), messages) < 0.6


def test_topics_are_as_frequent_as_in_the_original(messages: Callable[..., Any]) -> None:
    """Also where there is no other column: a fifth of the original is spam, half of what the model writes."""
    spam = {text for row, text in messages(500, 3) if row["sort"] == "spam"}
    rows = [(i, {"text": text}) for i, (_, text) in enumerate(messages(8000, 5, linked=False, spam=0.5))]
    kept = list(_chosen(iter(rows), 8, chooser(messages, [], messages(2000, 1)), ["text"], seed=0))
    assert 0.15 < np.mean([row["text"] in spam for _, row in kept]) < 0.27


def test_the_same_seed_keeps_the_same_texts(messages: Callable[..., Any], aspects: list[Aspect]) -> None:
    linked = chooser(messages, aspects, messages(2000, 1), rho=0.01)
    rows = [(i, {**row, "text": text}) for i, (row, text) in enumerate(messages(400, 5, linked=False))]

    def kept(seed: int) -> list[Any]:
        return list(_chosen(iter(rows), 4, linked, ["text"], seed))

    assert kept(1) == kept(1) != kept(2)
