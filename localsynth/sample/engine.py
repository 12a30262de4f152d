"""Draws rows: one llama.cpp context, many rows side by side, a new row in a place as soon as the last one is done.

Each column's value is drawn under the grammar of its field; names and colons, and whatever the grammar leaves no choice
about, are appended without sampling and computed in the same batch. Reads nothing private: the model and the schema only.

A row may be asked for under conditions on some columns. Columns written before a condition know nothing of it, so several
candidates of the row are written up to the last condition, each weighed by how probable its conditions were to the model
where they stood, and one is drawn by these weights and finished (sampling importance resampling, Rubin 1987): with one
candidate the earlier columns would follow the table at large, with many they follow the rows that meet the condition.

Constraints of the schema leave each column the values that keep them with what the row has so far; a row that still breaks one is
drawn again.

A row's randomness depends on the seed and its row number alone, so that a resumed job draws the rows that are missing.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import psutil

from localsynth.codec import END, Codec
from localsynth.conditions import Allowed, whole
from localsynth.errors import ConfigError, IntegrityError
from localsynth.llama import Decoder, Step, Vocabulary, sequence_bytes
from localsynth.possible import Possible
from localsynth.sample.choose import choose_tokens, log_share
from localsynth.sample.grammar import Grammars, TokenMasks
from localsynth.sample.sequences import Sequences
from localsynth.sample.slots import Group, Request, Slot
from localsynth.schema import Column, Record, Schema, Text, conform

__all__ = ["Engine", "Request", "SampleStatistics"]

_MOST_TRIES = 5
"""Draws of one row before it is given up. The grammar makes a second one improbable; in the last one the columns of constraints
have the values of an example that keeps them."""

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
        most: int = 255,
        temperature: float = 1.0,
        top_p: float = 1.0,
        gpu_layers: int = 0,
        candidates: int = 8,
        decoder: type[Decoder] = Decoder,
    ) -> None:
        self._possible = Possible(schema)
        self._schema, self._seed, self._temperature, self._top_p = schema, seed, temperature, top_p
        self._vocabulary = Vocabulary(model)
        self._codec = Codec(schema, self._vocabulary.tokenize, self._vocabulary.start, description)
        self._grammars = Grammars(self._vocabulary.grammar_tokenizer(), self._codec.fields)
        self._end = self._vocabulary.tokenize(END)
        # A text that reaches its budget inside a character or an escape may need a few tokens more to end properly.
        length = self._codec.longest_row + _TO_END_A_TEXT * len(self._codec.fields)
        sequences = min(most, sequences or _sequences(model, length))
        self.decoder = decoder(model, sequences + 1, length, threads, gpu_layers)
        self._spare = sequences
        """A sequence beyond those in use, for two to change places."""
        self.device = f"GPU ({gpu_layers if gpu_layers >= 0 else 'all'} layers)" if gpu_layers else f"CPU ({threads} threads)"
        # A slot under a condition needs two masks: with the condition and without.
        self._masks = TokenMasks(2 * sequences, self.decoder.vocabulary_size, threads)
        self.sequences = sequences
        self._candidates = min(candidates, sequences)
        self._held = Sequences(self.decoder, sequences + 1, length)
        self._held.begin_all(self._codec.fields[0].key[:-1])
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
        unplaced: deque[Slot] = deque()
        order: deque[int] = deque()
        finished: dict[int, Record] = {}
        writing: dict[int, Slot] = {}
        held: dict[int, Slot] = {}  # candidates that wait for the others of their row
        vacant = list(range(self.sequences))

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
                slot = unplaced.popleft()
                slot.sequence = vacant.pop()
                slot.position = self._held.begin(slot.sequence, slot.pending)
                slot.pending = slot.pending[slot.position :]
                advance(slot)

        def advance(slot: Slot) -> None:
            """Write a slot on, or end it: the row is finished, or its candidates are there to choose from."""
            writing.pop(slot.sequence, None)
            if slot.waits:
                group = slot.group
                assert group is not None
                held[slot.sequence] = slot
                group.reached.append(slot)
                if len(group.reached) < group.candidates:
                    return
                slot = self._choose(group)
                for other in group.reached:
                    del held[other.sequence]
                    if other is not slot:
                        vacant.append(other.sequence)
            if not slot.done:
                writing[slot.sequence] = slot
                return
            vacant.append(slot.sequence)
            record = self._record(slot)
            if record is not None:
                finished[slot.request.number] = record
                return
            # Behind the others: only the row begun last may have candidates without a place, or two rows could wait for each
            # other's sequences.
            unplaced.extend(self._begin(slot.request, slot.attempt + 1))

        def close_ranks() -> None:
            """Bring what is being written into the first sequences: llama.cpp computes only neighbours together.

            With 63 of 128 sequences in use, scattered, a step took 0.99 s; with all 128 in use it took 0.19 s.
            """
            last = [sequence for sequence in writing if sequence >= len(writing)]
            for target in [sequence for sequence in range(len(writing)) if sequence not in writing]:
                sequence = last.pop()
                if target in held:  # they change places
                    self._held.copy(target, self._spare)
                    self._held.copy(sequence, target)
                    self._held.copy(self._spare, sequence)
                    held[sequence] = held.pop(target)
                    held[sequence].sequence = sequence
                else:
                    self._held.copy(sequence, target)
                    vacant[vacant.index(target)] = sequence
                writing[target] = writing.pop(sequence)
                writing[target].sequence = target

        place()
        while writing:
            close_ranks()
            self._step([writing[sequence] for sequence in range(len(writing))])
            for slot in list(writing.values()):
                advance(slot)
            place()
            while order and order[0] in finished:
                number = order.popleft()
                yield number, finished.pop(number)
        while order:
            number = order.popleft()
            yield number, finished.pop(number)

    def _begin(self, request: Request, attempt: int) -> list[Slot]:
        """The slots of a row: one, or its candidates."""
        if attempt >= _MOST_TRIES:
            raise IntegrityError(
                f"Row {request.number} broke the schema {attempt} times in a row.",
                "Please report this as a bug, with the schema.",
            )
        if attempt == _MOST_TRIES - 1 and (example := self._possible.example(request.given)):
            request = Request(request.number, {**request.given, **self._possible.settled(example)})
        given = [i for i, field in enumerate(self._codec.fields) if field.column.name in request.given]
        group = None
        # Values that are settled from the first column on leave nothing before them that could disagree.
        if any(request.given[self._codec.fields[i].column.name].single is None or i != place for place, i in enumerate(given)):
            group = Group(request, attempt, self._candidates, given[-1])
        return [self._slot(request, attempt, candidate, group) for candidate in range(group.candidates if group else 1)]

    def _slot(self, request: Request, attempt: int, candidate: int, group: Group | None) -> Slot:
        random = self._random(request, attempt, candidate)
        slot = Slot(request, attempt, candidate, random, self._grammars.matcher(0), len(self._codec.fields), group)
        slot.pending = self._codec.fields[0].key.copy()
        self._enter(slot)
        self._settle(slot)
        return slot

    def _random(self, request: Request, attempt: int, candidate: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self._seed, request.number], counter=[0, 0, candidate, attempt]))

    def _choose(self, group: Group) -> Slot:
        """One of a row's candidates, drawn by their weights; it goes on as a row of its own."""
        candidates = sorted(group.reached, key=lambda slot: slot.candidate)
        logs = np.array([slot.log_weight for slot in candidates])
        shares = np.cumsum(np.exp(logs - logs.max()))
        draw = self._random(group.request, group.attempt, group.candidates).random() * shares[-1]
        slot = candidates[min(int(np.searchsorted(shares, draw, side="right")), len(candidates) - 1)]
        slot.group = None
        self._settle(slot)
        return slot

    def _step(self, slots: list[Slot]) -> None:
        """Compute the next pending tokens of all slots in one batch, and draw a token for each slot that has no more of them.

        As many tokens of each slot as the slot with the fewest has, so that all steps are of one length (see `Decoder.decode`).
        """
        begun = time.perf_counter()
        width = min(len(slot.pending) for slot in slots)
        logits = self._held.decode(
            [Step(slot.sequence, slot.position, slot.pending[:width], wanted=len(slot.pending) == width) for slot in slots]
        )
        decoded = time.perf_counter()
        self.statistics.tokens += width * len(slots)
        self.statistics.decode_seconds += decoded - begun
        for slot in slots:
            slot.position += width
            slot.pending = slot.pending[width:]
        active = [slot for slot in slots if not slot.pending]
        weighed = [(i, slot, slot.free) for i, slot in enumerate(active) if slot.free is not None]
        allowed = self._masks.compute([slot.matcher for slot in active] + [free for _, _, free in weighed])
        masked = time.perf_counter()
        for (i, slot, _), unconditional in zip(weighed, allowed[len(active) :], strict=True):
            slot.log_weight += log_share(logits[i], allowed[i], unconditional, self._temperature)
        uniform = np.array([slot.random.random() for slot in active])
        tokens = choose_tokens(logits, allowed[: len(active)], uniform, self._temperature, self._top_p)
        chosen = time.perf_counter()
        for slot, token in zip(active, tokens, strict=True):
            self._append(slot, [int(token)])
            self._settle(slot)
        self.statistics.grammar_seconds += masked - decoded + time.perf_counter() - chosen
        self.statistics.choose_seconds += chosen - masked

    def _piece(self, tokens: list[int]) -> bytes:
        return b"".join(self._vocabulary.piece(token) for token in tokens)

    def _append(self, slot: Slot, tokens: list[int]) -> None:
        for matcher in (slot.matcher, slot.free):
            if matcher is not None and not matcher.consume_tokens(tokens):
                raise AssertionError(f"the grammar refuses its own token: {matcher.get_error()}")
        slot.pending += tokens
        slot.value += self._piece(tokens)
        slot.value_tokens += len(tokens)

    def _enter(self, slot: Slot) -> None:
        """Set the grammar of the column that begins; a value that is settled needs none."""
        slot.value, slot.value_tokens, slot.free = b"", 0, None
        while not slot.done:
            field = self._codec.fields[slot.field]
            allowed = self._allowed(slot, field.column)
            if allowed is None:
                slot.matcher = self._grammars.matcher(slot.field)
                return
            if slot.group is not None or allowed.single is None:
                slot.matcher = self._grammars.matcher(slot.field, allowed)
                slot.free = self._grammars.matcher(slot.field) if slot.group is not None else None
                return
            tokens = self._codec.encode_value(field, allowed.single.value)
            slot.pending += tokens
            self._keep(slot, self._piece(tokens))
            self._next(slot)

    def _allowed(self, slot: Slot, column: Column) -> Allowed | None:
        """The values of a column that are asked for and, with those the row has so far, break no constraint; None for all."""
        asked = slot.request.given.get(column.name)
        if column.name not in self._possible.names or (asked is not None and asked.single is not None):
            return asked
        allowed = self._possible.of_column(column.name, slot.row, slot.request.given)
        # Where nothing is left, the row is finished like any other, and drawn again.
        return asked if allowed.empty or allowed == whole(column) else allowed

    def _keep(self, slot: Slot, value: bytes) -> None:
        """Add the finished value of the column that is being written."""
        slot.values.append(value)
        field = self._codec.fields[slot.field]
        if field.column.name in self._possible.names:
            slot.row[field.column.name] = self._codec.decode_value(field, value)

    def _next(self, slot: Slot) -> None:
        slot.field += 1
        if not slot.done:
            slot.pending += self._codec.fields[slot.field].key

    def _settle(self, slot: Slot) -> None:
        """Append everything that needs no drawing: forced tokens, the end of a text at its budget, the next column's key."""
        while not (slot.done or slot.waits):
            if slot.value.endswith(b"\n"):
                self._keep(slot, slot.value)
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

    def _record(self, slot: Slot) -> Record | None:
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
        self.decoder.close()
        self._vocabulary.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
