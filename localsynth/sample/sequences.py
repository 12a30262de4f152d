"""The sequences of a llama.cpp context and the tokens that each of them holds, so that what rows begin with is computed once.

Rows of a table often begin alike: the description, the first columns, or all the values that are given before a text. A new row
takes over the longest beginning that any sequence holds.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from localsynth.llama import Decoder, Step

__all__ = ["Sequences"]


class Sequences:
    """`decoder` holds `count` sequences, all empty, each with room for `length` tokens."""

    def __init__(self, decoder: Decoder, count: int, length: int) -> None:
        self._decoder, self._tokens = decoder, [list[int]() for _ in range(count)]
        # What takes as long as computing one token (docs/performance.md): a copy is of all that a sequence has room for.
        self._worth_a_copy = 1 + length // 256

    def begin_all(self, tokens: list[int]) -> None:
        """Let all sequences, which must be empty, hold `tokens`, computed once."""
        if tokens:
            self.decode([Step(0, 0, tokens, wanted=False)])
            for sequence in range(1, len(self._tokens)):
                self.copy(0, sequence)

    def begin(self, sequence: int, tokens: list[int]) -> int:
        """Let the sequence hold a beginning of `tokens`, as long as any sequence has, but not all; returns its length."""
        most = len(tokens) - 1
        shared = [_common(held, tokens, most) for held in self._tokens]
        source = max(range(len(shared)), key=shared.__getitem__)
        if shared[source] >= shared[sequence] + self._worth_a_copy:
            self.copy(source, sequence)
            self.keep(sequence, shared[source])
        else:
            self.keep(sequence, shared[sequence])
        return len(self._tokens[sequence])

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


def _common(held: list[int], tokens: list[int], most: int) -> int:
    """How many tokens both begin with, at most `most`."""
    length = 0
    for ours, theirs in zip(held, tokens[:most], strict=False):
        if ours != theirs:
            break
        length += 1
    return length
