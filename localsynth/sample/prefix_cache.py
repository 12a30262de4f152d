"""The sequences of a llama.cpp context and the tokens that each of them holds, so that what rows begin with is computed once.

Rows of a table often begin alike: the description, the first columns, or all the values that are given before a text. A new row
takes over the longest beginning that any sequence holds.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from localsynth.llm.llama_cpp import Decoder, Step

__all__ = ["Sequences"]


class Sequences:
    """`decoder` holds `count` sequences, all empty, each with room for `length` tokens."""

    def __init__(self, decoder: Decoder, count: int, length: int) -> None:
        self._decoder, self._tokens = decoder, [list[int]() for _ in range(count)]
        self._alike = 0
        """How many tokens all sequences begin with."""
        # A copy is of all that a sequence has room for: of 1,024 tokens it took 0.8 times as long as computing one.
        self._worth_a_copy = 1 + length // 1024

    def begin_all(self, tokens: list[int]) -> None:
        """Let all sequences, which must be empty, hold `tokens`, computed once."""
        if tokens:
            self.decode([Step(0, 0, tokens, wanted=False)])
            for sequence in range(1, len(self._tokens)):
                self.copy(0, sequence)
        self._alike = len(tokens)

    def begin(self, sequence: int, tokens: list[int]) -> int:
        """Let the sequence hold a beginning of `tokens`, as long as any sequence has, but not all; returns its length.

        `tokens` begin with those that all sequences do.
        """
        most, length = len(tokens) - 1, self._common(sequence, tokens)
        source, longest = sequence, length
        for other in range(len(self._tokens)):
            if longest == most:
                break
            if (shared := self._common(other, tokens)) > longest:
                source, longest = other, shared
        if longest >= length + self._worth_a_copy:
            self.copy(source, sequence)
            length = longest
        self.keep(sequence, length)
        return length

    def _common(self, sequence: int, tokens: list[int]) -> int:
        """How many tokens the sequence and `tokens` begin with, but not all of `tokens`."""
        length = self._alike
        for held, token in zip(self._tokens[sequence][length:], tokens[length:-1], strict=False):
            if held != token:
                break
            length += 1
        return length

    def decode(self, steps: Sequence[Step]) -> NDArray[np.float32]:
        """`Decoder.decode`, remembering what each sequence then holds."""
        for step in steps:
            assert step.position == len(self._tokens[step.sequence])
            self._tokens[step.sequence] += step.tokens
        return self._decoder.decode(steps)

    def keep(self, sequence: int, length: int) -> None:
        """Keep only a sequence's first `length` tokens."""
        del self._tokens[sequence][length:]
        self._decoder.truncate(sequence, length)

    def copy(self, source: int, target: int) -> None:
        """Make the whole of sequence `source` the content of sequence `target`."""
        self._tokens[target] = self._tokens[source].copy()
        self._decoder.copy(source, target)
