"""The log-likelihood of rows under a trained model relative to its base model, by llama.cpp."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from localsynth.llm.llama_cpp import Decoder, Vocabulary
from localsynth.llm.row_text import Codec, Encoded
from localsynth.schema.columns import Record, Schema


def likelihood_gain(
    base: Path,
    model: Path,
    schema: Schema,
    description: str,
    rows: Sequence[Record],
    threads: int,
    given: frozenset[str] = frozenset(),
    report: Callable[[float], None] = lambda _: None,
) -> NDArray[np.float64]:
    """For each row, the mean log-likelihood of its learned tokens under the model minus that under its base, in nats.

    `given` are columns that the model does not learn; a row without learned tokens is left out.
    `report` is called with the fraction done.
    """
    with Vocabulary(base) as vocabulary:
        codec = Codec(schema, vocabulary.tokenize, vocabulary.start, description, given)
        encoded = [example for example in map(codec.encode, rows) if any(example.learned)]
    if not encoded:
        return np.empty(0)
    likelihoods = []
    for number, path in enumerate((model, base)):
        found = []
        with Decoder(path, 1, max(512, *(len(row.tokens) for row in encoded)), threads) as decoder:
            for i, row in enumerate(encoded):
                report((number + i / len(encoded)) / 2)
                found.append(_likelihood(decoder, row))
        likelihoods.append(np.array(found))
    result: NDArray[np.float64] = likelihoods[0] - likelihoods[1]
    return result


def _likelihood(decoder: Decoder, row: Encoded) -> float:
    logits = decoder.all_logits(row.tokens)[:-1]
    logits -= logits.max(axis=1, keepdims=True)
    totals = np.log(np.exp(logits).sum(axis=1, dtype=np.float64))
    following = np.asarray(row.tokens[1:])
    learned = np.asarray(row.learned[1:])
    found = logits[np.arange(len(following)), following] - totals
    return float(found[learned].mean())
