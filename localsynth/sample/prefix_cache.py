"""The KV cache of a llama.cpp context, so that a prefix which rows share is computed once.

Rows of a table often share a prefix: the description, the first columns, or all the values that are given before a text. A
new row reuses the longest prefix that any sequence of the cache holds.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from localsynth.llm.llama_cpp import Decoder, Step


class PrefixCache:
    """The tokens that each sequence of `decoder` holds: `count` sequences, all empty, with room for `length` tokens each.

    The decoder has one sequence more, with number `count`, for `swap`.
    """

    def __init__(self, decoder: Decoder, count: int, length: int) -> None:
        self._decoder, self._spare = decoder, count
        self._tokens = [list[int]() for _ in range(count + 1)]
        self._shared = 0
        """Length of the prefix that all sequences have."""
        # A copy is of all that a sequence has room for: of 1,024 tokens it took 0.8 times as long as computing one.
        self._min_gain = 1 + length // 1024

    def fill(self, tokens: list[int]) -> None:
        """Let all sequences, which must be empty, hold `tokens`, computed once. Later rows must begin with these."""
        if tokens:
            self.decode([Step(0, 0, tokens, wanted=False)])
            for sequence in range(1, len(self._tokens)):
                self.copy(0, sequence)
        self._shared = len(tokens)

    def reuse(self, sequence: int, tokens: list[int]) -> int:
        """Let a sequence hold the longest prefix of `tokens` that any sequence holds; returns its length.

        That is never the whole of `tokens`: the last one is left to be computed, for its logits.
        """
        longest, length = len(tokens) - 1, self._common(sequence, tokens)
        source, best = sequence, length
        for other in range(len(self._tokens)):
            if best == longest:
                break
            if (common := self._common(other, tokens)) > best:
                source, best = other, common
        if best >= length + self._min_gain:
            self.copy(source, sequence)
            length = best
        self.truncate(sequence, length)
        return length

    def _common(self, sequence: int, tokens: list[int]) -> int:
        """Length of the longest common prefix of the sequence and `tokens`, without the last of `tokens`."""
        length = self._shared
        for cached, token in zip(self._tokens[sequence][length:], tokens[length:-1], strict=False):
            if cached != token:
                break
            length += 1
        return length

    def decode(self, steps: Sequence[Step]) -> NDArray[np.float32]:
        """`Decoder.decode`, with a record of the tokens that each sequence then holds."""
        for step in steps:
            assert step.position == len(self._tokens[step.sequence])
            self._tokens[step.sequence] += step.tokens
        return self._decoder.decode(steps)

    def truncate(self, sequence: int, length: int) -> None:
        """Keep only a sequence's first `length` tokens."""
        del self._tokens[sequence][length:]
        self._decoder.truncate(sequence, length)

    def copy(self, source: int, target: int) -> None:
        """Make the whole of sequence `source` the content of sequence `target`."""
        self._tokens[target] = self._tokens[source].copy()
        self._decoder.copy(source, target)

    def swap(self, one: int, other: int) -> None:
        """Exchange the content of two sequences."""
        self.copy(other, self._spare)
        self.copy(one, other)
        self.copy(self._spare, one)
