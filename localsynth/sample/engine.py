"""Draws rows: one llama.cpp context, many rows side by side, a new row in a place as soon as the last one is done.

Each column's value is drawn under the grammar of its field; names and colons, and whatever the grammar leaves no choice
about, are appended without sampling and computed in the same batch. Reads nothing private: the model and the schema only.

A row may be asked for under conditions on some columns. Columns written before a condition know nothing of it, so several
candidates of the row are written up to the last condition, each weighed by how probable its conditions were to the model
where they stood, and one is drawn by these weights and finished (sampling importance resampling, Rubin 1987): with one
candidate the earlier columns would follow the table at large, with many they follow the rows that meet the condition.

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
import psutil
from llguidance import LLMatcher

from localsynth.codec import END, Codec
from localsynth.conditions import Conditions
from localsynth.errors import ConfigError, IntegrityError
from localsynth.llama import Decoder, Step, Vocabulary, sequence_bytes
from localsynth.sample.choose import choose_tokens, log_share
from localsynth.sample.grammar import Grammars, TokenMasks
from localsynth.schema import Record, Schema, Text, conform

__all__ = ["Engine", "Request", "SampleStatistics"]

_MOST_TRIES = 5
"""Draws of one row before it is given up. The grammar makes a second one improbable."""

_TO_END_A_TEXT = 8


_MOST_SEQUENCES = 128
"""More rows side by side decode hardly faster (docs/experiments.md), and each takes memory."""

_MEMORY_SHARE = 0.25
"""Of the free memory, for what the model keeps of the rows being written."""


def _sequences(model: Path, length: int) -> int:
    room = _MEMORY_SHARE * psutil.virtual_memory().available
    return int(max(1, min(_MOST_SEQUENCES, room // sequence_bytes(model, length))))


@dataclass
class SampleStatistics:
    """Counts and seconds of a sampling job."""

    rows: int = 0
    tokens: int = 0
    rejected: int = 0
    decode_seconds: float = 0.0
    grammar_seconds: float = 0.0
    choose_seconds: float = 0.0


@dataclass(frozen=True)
class Request:
    """A row to draw: its number, and the conditions it must meet."""

    number: int
    given: Conditions = dataclasses.field(default_factory=dict)


@dataclass
class _Group:
    """The candidates of one row, and those of them that have reached the row's last condition: sequence → slot."""

    request: Request
    attempt: int
    candidates: int
    last: int
    """The last column with a condition."""
    reached: dict[int, "_Slot"] = dataclasses.field(default_factory=dict)


@dataclass
class _Slot:
    """A row, or a candidate for it, being written in one sequence of the context."""

    request: Request
    attempt: int
    random: np.random.Generator
    matcher: LLMatcher
    fields: int
    """How many columns the row has; `field` is the one being written."""
    group: _Group | None
    field: int = 0
    position: int = 0
    pending: list[int] = dataclasses.field(default_factory=list)
    """Tokens decided but not yet computed by the model."""
    value: bytes = b""
    value_tokens: int = 0
    values: list[bytes] = dataclasses.field(default_factory=list)
    free: LLMatcher | None = None
    """In a candidate's column with a condition: the grammar without the condition."""
    log_weight: float = 0.0

    @property
    def done(self) -> bool:
        """Every column has its value."""
        return self.field == self.fields

    @property
    def waits(self) -> bool:
        """A candidate that is written up to the last condition, so that its weight is known."""
        return self.group is not None and self.field > self.group.last


class Engine:
    """Samples rows of an effective schema from a merged GGUF.

    `sequences` rows are written side by side (None: as many as decode fastest and memory has room for, but at most `most`)
    on `threads` threads, with `gpu_layers` of the model on the GPU (-1: all). A row under conditions is chosen out of
    `candidates`. Use as a context manager.
    """

    def __init__(
        self,
        model: Path,
        schema: Schema,
        description: str,
        *,
        threads: int,
        seed: int,
        sequences: int | None = None,
        most: int = 256,
        temperature: float = 1.0,
        top_p: float = 1.0,
        gpu_layers: int = 0,
        candidates: int = 8,
    ) -> None:
        self._schema, self._seed, self._temperature, self._top_p = schema, seed, temperature, top_p
        self._vocabulary = Vocabulary(model)
        self._codec = Codec(schema, self._vocabulary.tokenize, self._vocabulary.start, description)
        self._grammars = Grammars(self._vocabulary.grammar_tokenizer(), self._codec.fields)
        self._end = self._vocabulary.tokenize(END)
        # A text that reaches its budget inside a character or an escape may need a few tokens more to end properly.
        length = self._codec.longest_row + _TO_END_A_TEXT * len(self._codec.fields)
        sequences = min(most, sequences or _sequences(model, length))
        self._decoder = Decoder(model, sequences, length, threads, gpu_layers)
        self.device = f"GPU ({gpu_layers if gpu_layers >= 0 else 'all'} layers)" if gpu_layers else f"CPU ({threads} threads)"
        # A slot under a condition needs two masks: with the condition and without.
        self._masks = TokenMasks(2 * sequences, self._decoder.vocabulary_size, threads)
        self.sequences = sequences
        self._candidates = min(candidates, sequences)
        self._prefix = self._codec.fields[0].key[:-1]
        """Tokens all rows begin with, computed once. The last token of the key is computed anew for its logits."""
        if self._prefix:
            self._decoder.decode([Step(0, 0, self._prefix)])
            for sequence in range(1, sequences):
                self._decoder.copy(0, sequence)
        self.statistics = SampleStatistics()

    def check(self, request: Request) -> None:
        """Raise ConfigError where a text that is given for the row does not fit the column."""
        for field in self._codec.fields:
            if isinstance(field.column, Text) and field.column.name in request.given:
                for value in request.given[field.column.name].values:
                    if self._codec.decode_value(field, self._piece(self._codec.encode_value(field, value))) != value:
                        raise ConfigError(
                            f"Row {request.number + 1}: the text given for column {field.column.name!r} is longer than its "
                            f"{field.column.max_tokens} tokens.",
                            "Shorten it.",
                        )

    def rows(self, requests: Iterable[Request]) -> Iterator[tuple[int, Record]]:
        """Draw the requested rows; yields (number, learned columns) in the order of the requests."""
        waiting = iter(requests)
        unplaced: deque[_Slot] = deque()
        order: deque[int] = deque()
        finished: dict[int, Record] = {}
        slots: dict[int, _Slot] = {}
        vacant = list(range(self.sequences - 1, -1, -1))

        def place() -> None:
            """Give a sequence to each slot that is to be written, as long as there are sequences."""
            while vacant:
                if not unplaced:
                    request = next(waiting, None)
                    if request is None:
                        return
                    order.append(request.number)
                    unplaced.extend(self._begin(request, 0))
                    continue
                slot, sequence = unplaced.popleft(), vacant.pop()
                self._decoder.truncate(sequence, len(self._prefix))
                slots[sequence] = slot
                advance(sequence)

        def advance(sequence: int) -> None:
            """Move a slot on after its latest token: to its end, or into the choice among its row's candidates."""
            slot = slots[sequence]
            if slot.waits:
                group = slot.group
                assert group is not None
                group.reached[sequence] = slots.pop(sequence)
                if len(group.reached) < group.candidates:
                    return
                sequence, slot = self._choose(group)
                vacant.extend(other for other in group.reached if other != sequence)
                slots[sequence] = slot
            if slot.done:
                record = self._record(slot)
                if record is None:
                    # Behind the others: only the row begun last may have some of its candidates unplaced, or two could wait
                    # for each other's sequences.
                    unplaced.extend(self._begin(slot.request, slot.attempt + 1))
                else:
                    finished[slot.request.number] = record
                del slots[sequence]
                vacant.append(sequence)

        place()
        while slots:
            self._step(slots)
            for sequence in list(slots):
                if sequence in slots:
                    advance(sequence)
            place()
            while order and order[0] in finished:
                number = order.popleft()
                yield number, finished.pop(number)
        while order:
            number = order.popleft()
            yield number, finished.pop(number)

    def _begin(self, request: Request, attempt: int) -> list[_Slot]:
        """The slots of a row: one, or its candidates."""
        if attempt >= _MOST_TRIES:
            raise IntegrityError(
                f"Row {request.number} broke the schema {attempt} times in a row.",
                "Please report this as a bug, with the schema.",
            )
        given = [i for i, field in enumerate(self._codec.fields) if field.column.name in request.given]
        group = None
        # Values that are settled from the first column on leave nothing before them that could disagree.
        if any(request.given[self._codec.fields[i].column.name].single is None or i != place for place, i in enumerate(given)):
            group = _Group(request, attempt, self._candidates, given[-1])
        return [self._slot(request, attempt, candidate, group) for candidate in range(group.candidates if group else 1)]

    def _slot(self, request: Request, attempt: int, candidate: int, group: _Group | None) -> _Slot:
        random = np.random.Generator(np.random.Philox(key=[self._seed, request.number], counter=[0, 0, candidate, attempt]))
        slot = _Slot(request, attempt, random, self._grammars.matcher(0), len(self._codec.fields), group)
        slot.position, slot.pending = len(self._prefix), self._codec.fields[0].key[-1:]
        self._enter(slot)
        self._settle(slot)
        return slot

    def _choose(self, group: _Group) -> tuple[int, _Slot]:
        """One of a row's candidates, drawn by their weights; it goes on as a row of its own."""
        found = sorted(group.reached.items(), key=lambda item: item[0])
        logs = np.array([slot.log_weight for _, slot in found])
        shares = np.cumsum(np.exp(logs - logs.max()))
        random = np.random.Generator(
            np.random.Philox(key=[self._seed, group.request.number], counter=[0, 0, group.candidates, group.attempt])
        )
        index = min(int(np.searchsorted(shares, random.random() * shares[-1], side="right")), len(found) - 1)
        sequence, slot = found[index]
        slot.group = None
        self._settle(slot)
        return sequence, slot

    def _step(self, slots: dict[int, _Slot]) -> None:
        """Compute all pending tokens in one batch and draw one token for every slot."""
        active = list(slots.items())
        begun = time.perf_counter()
        logits = self._decoder.decode([Step(sequence, slot.position, slot.pending) for sequence, slot in active])
        decoded = time.perf_counter()
        weighed = [(i, slot) for i, (_, slot) in enumerate(active) if slot.free is not None]
        free = [slot.free for _, slot in weighed if slot.free is not None]
        allowed = self._masks.compute([slot.matcher for _, slot in active] + free)
        masked = time.perf_counter()
        for (i, slot), whole in zip(weighed, allowed[len(active) :], strict=True):
            slot.log_weight += log_share(logits[i], allowed[i], whole, self._temperature)
        uniform = np.array([slot.random.random() for _, slot in active])
        tokens = choose_tokens(logits, allowed[: len(active)], uniform, self._temperature, self._top_p)
        chosen = time.perf_counter()
        statistics = self.statistics
        for (_, slot), token in zip(active, tokens, strict=True):
            statistics.tokens += len(slot.pending)
            slot.position += len(slot.pending)
            slot.pending = []
            self._append(slot, [int(token)])
            self._settle(slot)
        statistics.decode_seconds += decoded - begun
        statistics.grammar_seconds += masked - decoded + time.perf_counter() - chosen
        statistics.choose_seconds += chosen - masked

    def _piece(self, tokens: list[int]) -> bytes:
        return b"".join(self._vocabulary.piece(token) for token in tokens)

    def _append(self, slot: _Slot, tokens: list[int]) -> None:
        for matcher in (slot.matcher, slot.free):
            if matcher is not None and not matcher.consume_tokens(tokens):
                raise AssertionError(f"the grammar refuses its own token: {matcher.get_error()}")
        slot.pending += tokens
        slot.value += self._piece(tokens)
        slot.value_tokens += len(tokens)

    def _enter(self, slot: _Slot) -> None:
        """Set the grammar of the column that begins; a value that is settled needs none."""
        slot.value, slot.value_tokens, slot.free = b"", 0, None
        while not slot.done:
            field = self._codec.fields[slot.field]
            allowed = slot.request.given.get(field.column.name)
            if allowed is None:
                slot.matcher = self._grammars.matcher(slot.field)
                return
            if slot.group is not None or allowed.single is None:
                slot.matcher = self._grammars.matcher(slot.field, allowed)
                slot.free = self._grammars.matcher(slot.field) if slot.group is not None else None
                return
            tokens = self._codec.encode_value(field, allowed.single.value)
            slot.pending += tokens
            slot.values.append(self._piece(tokens))
            self._next(slot)

    def _next(self, slot: _Slot) -> None:
        slot.field += 1
        if not slot.done:
            slot.pending += self._codec.fields[slot.field].key

    def _settle(self, slot: _Slot) -> None:
        """Append everything that needs no drawing: forced tokens, the end of a text at its budget, the next column's key."""
        while not (slot.done or slot.waits):
            if slot.value.endswith(b"\n"):
                slot.values.append(slot.value)
                self._next(slot)
                self._enter(slot)
                continue
            # What a condition forces is not certain to the model, so a candidate draws it, to be weighed for it.
            forced = (slot.free or slot.matcher).compute_ff_tokens()
            if not forced and slot.value_tokens >= self._codec.fields[slot.field].budget - len(self._end):
                # Inside a character or an escape the line break is not allowed yet: then the model goes on for a token.
                forced = self._end if slot.matcher.validate_tokens(self._end) == len(self._end) else []
            if not forced:
                return
            self._append(slot, forced)

    def _record(self, slot: _Slot) -> Record | None:
        """The finished record, checked once more; None (and counted) where it does not satisfy the schema or the conditions."""
        try:
            record = self._codec.decode(slot.values)
        except ValueError:
            record = {}
        given = slot.request.given.items()
        if not record or conform(self._schema, record) != record or not all(record[name] in allowed for name, allowed in given):
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
