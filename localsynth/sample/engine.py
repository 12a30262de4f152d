"""Draws rows: one llama.cpp context, many rows side by side, a new row in a place as soon as the last one is done.

Each column's value is drawn under the grammar of its field; names and colons, and whatever the grammar leaves no choice
about, are appended without sampling and computed in the same batch. Reads nothing private: the model and the schema only.

A row's randomness depends on the seed and its row number alone, so that a resumed job draws the rows that are missing.
"""

import dataclasses
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from llguidance import LLMatcher

from localsynth.codec import END, Codec
from localsynth.errors import IntegrityError
from localsynth.llama import Decoder, Step, Vocabulary
from localsynth.sample.choose import choose_tokens
from localsynth.sample.grammar import FieldGrammar, TokenMasks
from localsynth.schema import Record, Schema, conform

__all__ = ["Engine", "SampleStatistics"]

_MOST_TRIES = 5
"""Draws of one row before it is given up. The grammar makes a second one improbable."""

_TO_END_A_TEXT = 8


@dataclass
class SampleStatistics:
    """Counts and seconds of a sampling job."""

    rows: int = 0
    tokens: int = 0
    rejected: int = 0
    decode_seconds: float = 0.0
    grammar_seconds: float = 0.0
    choose_seconds: float = 0.0


@dataclass
class _Slot:
    """A row being written in one sequence of the context."""

    row: int
    attempt: int
    random: np.random.Generator
    matcher: LLMatcher
    fields: int
    """How many columns the row has; `field` is the one being written."""
    field: int = 0
    position: int = 0
    pending: list[int] = dataclasses.field(default_factory=list)
    """Tokens decided but not yet computed by the model."""
    value: bytes = b""
    value_tokens: int = 0
    values: list[bytes] = dataclasses.field(default_factory=list)

    @property
    def done(self) -> bool:
        """Every column has its value."""
        return self.field == self.fields


class Engine:
    """Samples rows of an effective schema from a merged GGUF.

    `sequences` rows are written side by side on `threads` threads. Use as a context manager.
    """

    def __init__(
        self,
        model: Path,
        schema: Schema,
        description: str,
        *,
        sequences: int,
        threads: int,
        seed: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        gpu_layers: int = 0,
    ) -> None:
        self._schema, self._seed, self._temperature, self._top_p = schema, seed, temperature, top_p
        self._vocabulary = Vocabulary(model)
        self._codec = Codec(schema, self._vocabulary.tokenize, self._vocabulary.start, description)
        tokenizer = self._vocabulary.grammar_tokenizer()
        self._grammars = [FieldGrammar(tokenizer, field) for field in self._codec.fields]
        self._end = self._vocabulary.tokenize(END)
        # A text that reaches its budget inside a character or an escape may need a few tokens more to end properly.
        length = self._codec.longest_row + _TO_END_A_TEXT * len(self._codec.fields)
        self._decoder = Decoder(model, sequences, length, threads, gpu_layers)
        self._masks = TokenMasks(sequences, self._decoder.vocabulary_size, threads)
        self._sequences = sequences
        self._prefix = self._codec.fields[0].key[:-1]
        """Tokens all rows begin with. They stay in each sequence; the last token of the key is computed anew for its logits."""
        self._prepared: set[int] = set()
        self.statistics = SampleStatistics()

    def rows(self, numbers: Iterable[int]) -> Iterator[tuple[int, Record]]:
        """Draw the rows of the given numbers; yields (number, learned columns) in the order of `numbers`."""
        waiting = iter(numbers)
        order: deque[int] = deque()
        finished: dict[int, Record] = {}
        slots: dict[int, _Slot] = {}

        def fill(sequence: int) -> None:
            for number in waiting:
                order.append(number)
                slot = self._begin(sequence, number, attempt=0)
                record = self._record(slot) if slot.done else None
                if record is None:
                    slots[sequence] = slot
                    return
                finished[number] = record

        for sequence in range(self._sequences):
            fill(sequence)
        while slots:
            self._step(slots)
            for sequence, slot in [(k, s) for k, s in slots.items() if s.done]:
                record = self._record(slot)
                if record is None:
                    slots[sequence] = self._begin(sequence, slot.row, slot.attempt + 1)
                    continue
                finished[slot.row] = record
                del slots[sequence]
                fill(sequence)
            while order and order[0] in finished:
                number = order.popleft()
                yield number, finished.pop(number)
        while order:
            number = order.popleft()
            yield number, finished.pop(number)

    def _begin(self, sequence: int, row: int, attempt: int) -> _Slot:
        if attempt >= _MOST_TRIES:
            raise IntegrityError(
                f"Row {row} broke the schema {attempt} times in a row.", "Please report this as a bug, with the schema."
            )
        random = np.random.Generator(np.random.Philox(key=[self._seed, row * _MOST_TRIES + attempt]))
        slot = _Slot(row, attempt, random, self._grammars[0].matcher(), len(self._grammars))
        key = self._codec.fields[0].key
        if sequence in self._prepared:
            self._decoder.truncate(sequence, len(self._prefix))
            slot.position, slot.pending = len(self._prefix), key[-1:]
        else:
            slot.position, slot.pending = 0, list(key)
            self._prepared.add(sequence)
        self._settle(slot)
        return slot

    def _step(self, slots: dict[int, _Slot]) -> None:
        """Compute all pending tokens in one batch and draw one token for every slot."""
        active = list(slots.items())
        begun = time.perf_counter()
        logits = self._decoder.decode([Step(sequence, slot.position, slot.pending) for sequence, slot in active])
        decoded = time.perf_counter()
        allowed = self._masks.compute([slot.matcher for _, slot in active])
        masked = time.perf_counter()
        uniform = np.array([slot.random.random() for _, slot in active])
        tokens = choose_tokens(logits, allowed, uniform, self._temperature, self._top_p)
        statistics = self.statistics
        for (_, slot), token in zip(active, tokens, strict=True):
            statistics.tokens += len(slot.pending)
            slot.position += len(slot.pending)
            slot.pending = []
            self._append(slot, [int(token)])
            self._settle(slot)
        statistics.decode_seconds += decoded - begun
        statistics.grammar_seconds += masked - decoded
        statistics.choose_seconds += time.perf_counter() - masked

    def _append(self, slot: _Slot, tokens: list[int]) -> None:
        if not slot.matcher.consume_tokens(tokens):
            raise AssertionError(f"the grammar refuses its own token: {slot.matcher.get_error()}")
        slot.pending += tokens
        slot.value += b"".join(self._vocabulary.piece(token) for token in tokens)
        slot.value_tokens += len(tokens)

    def _settle(self, slot: _Slot) -> None:
        """Append everything that needs no drawing: forced tokens, the end of a text at its budget, the next column's key."""
        while True:
            if slot.value.endswith(b"\n"):
                slot.values.append(slot.value)
                slot.field += 1
                if slot.done:
                    return
                slot.pending += self._codec.fields[slot.field].key
                slot.value, slot.value_tokens = b"", 0
                slot.matcher = self._grammars[slot.field].matcher()
            forced = slot.matcher.compute_ff_tokens()
            if not forced and slot.value_tokens >= self._codec.fields[slot.field].budget - len(self._end):
                # Inside a character or an escape the line break is not allowed yet: then the model goes on for a token.
                forced = self._end if slot.matcher.validate_tokens(self._end) == len(self._end) else []
            if not forced:
                return
            self._append(slot, forced)

    def _record(self, slot: _Slot) -> Record | None:
        """The finished record, checked once more; None (and counted) where it does not satisfy the schema."""
        try:
            record = self._codec.decode(slot.values)
        except ValueError:
            record = {}
        if not record or conform(self._schema, record) != record:
            self.statistics.rejected += 1
            return None
        self.statistics.rows += 1
        return record

    def close(self) -> None:
        """Free the model."""
        self._decoder.close()
        self._vocabulary.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
