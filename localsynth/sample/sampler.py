"""Draws rows: one llama.cpp context, many rows side by side, a new row in a place as soon as the last one is done.

Each column's value is drawn under the grammar of its field; names and colons, and whatever the grammar leaves no choice
about, are appended without sampling and computed in the same batch. Reads nothing private: the model and the schema only.

A row may be asked for under conditions on some columns. Columns written before a condition know nothing of it, so several
candidates of the row are written up to the last condition, each weighed by how probable its conditions were to the model
where they stood, and one is drawn by these weights and finished (sampling importance resampling, Rubin 1987): with one
candidate the earlier columns would follow the table at large, with many they follow the rows that meet the condition.

With guidance, a row is read twice: after its own values and, in a second sequence, after other ones; what it writes is moved away
from what it would write after those (classifier-free guidance, Sanchez et al. 2023, arXiv:2306.17806).

With a logit bias, tokens that the model writes too seldom or too often are moved in texts; a positive bias ends once
the row's texts hold the token.

Constraints of the schema leave each column the values that keep them with what the row has so far; a row that still breaks one is
drawn again.

A row's randomness depends on the seed and its row number alone, so that a resumed job draws the rows that are missing.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
import psutil

from localsynth.errors import ConfigError, IntegrityError
from localsynth.llm.llama_cpp import Decoder, Step, Vocabulary, sequence_bytes
from localsynth.llm.row_text import END, NULL, Codec
from localsynth.sample.grammar import Grammars, TokenMasks
from localsynth.sample.prefix_cache import Sequences
from localsynth.sample.slots import Group, Request, Slot, Stream
from localsynth.sample.token_choice import choose_tokens, guided, log_share
from localsynth.schema.columns import Column, Record, Schema, Text, conform
from localsynth.schema.conditions import Allowed, whole
from localsynth.schema.feasible import FeasibleSet
from localsynth.system import random_streams
from localsynth.text_counts.logit_bias import LogitBias

__all__ = ["Engine", "Request", "SampleStatistics"]

_MOST_TRIES = 5
"""Draws of one row before it is given up. The grammar makes a second one improbable; in the last one the columns of constraints
have the values of an example that keeps them."""

_TO_END_A_TEXT = 8


_MOST_SEQUENCES = 128
"""Unless more are asked for: each row that is generated at once takes memory."""

_MOST_OF_LLAMA = 255
"""llama.cpp holds 256 sequences at most, and one is spare."""

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
    `candidates`. Where requests say what rows are to be told apart from, they are, by `guidance`. `bias` corrects which tokens
    texts are written with, by what their row is given. With `nulls_given`, which columns are empty was settled before: an empty
    one is read and nothing is chosen by it, since the model has not learned when it is. Use as a context manager.
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
        guidance: float = 0.0,
        bias: LogitBias | None = None,
        nulls_given: bool = False,
        decoder: type[Decoder] = Decoder,
    ) -> None:
        self._feasible = FeasibleSet(schema)
        self._schema, self._seed, self._temperature, self._top_p = schema, seed, temperature, top_p
        self._vocabulary = Vocabulary(model)
        if bias is not None and len(bias.tokens) and bias.tokens[-1] >= self._vocabulary.size:
            raise IntegrityError("The token counts are of another model's tokens.", "Restore it from a backup, or train again.")
        self._bias = bias
        self._biased = {} if bias is None else {int(token): place for place, token in enumerate(bias.tokens)}
        self._codec = Codec(schema, self._vocabulary.tokenize, self._vocabulary.start, description)
        self._grammars = Grammars(self._vocabulary.grammar_tokenizer(), self._codec.fields)
        self._end = self._vocabulary.tokenize(END)
        # A text that reaches its budget inside a character or an escape may need a few tokens more to end properly.
        length = self._codec.longest_row + _TO_END_A_TEXT * len(self._codec.fields)
        self._guidance, self._nulls_given = guidance, nulls_given
        self.sequences_a_row = 2 if guidance else 1
        """The row in place i has the sequences from i * sequences_a_row on."""
        sequences = min(
            most, sequences or max(1, _sequences(model, length) // self.sequences_a_row), _MOST_OF_LLAMA // self.sequences_a_row
        )
        self._spare = self.sequences_a_row * sequences
        """A sequence beyond those in use, for two to change places."""
        self.decoder = decoder(model, self._spare + 1, length, threads, gpu_layers)
        self.device = f"GPU ({gpu_layers if gpu_layers >= 0 else 'all'} layers)" if gpu_layers else f"CPU ({threads} threads)"
        # A slot under a condition needs two masks: with the condition and without.
        self._masks = TokenMasks(2 * sequences, self.decoder.vocabulary_size, threads)
        self.sequences = sequences
        self._candidates = min(candidates, sequences)
        self._held = Sequences(self.decoder, self._spare + 1, length)
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
        held: dict[int, Slot] = {}  # by place like those being written: candidates that wait for the others of their row
        vacant = list(range(self.sequences))

        def place() -> None:
            """Give a place to each slot that is to be written, as long as there are places."""
            while vacant:
                if not unplaced:
                    request = next(waiting, None)
                    if request is None:
                        return
                    order.append(request.number)
                    unplaced.extend(self._begin(request, 0))
                    continue
                slot = unplaced.popleft()
                slot.place = vacant.pop()
                # A row with nothing left to write leaves the place what it holds.
                for sequence, stream in zip(self._sequences_of(slot.place), () if slot.done else slot.streams, strict=False):
                    stream.position = self._held.begin(sequence, stream.pending)
                    stream.pending = stream.pending[stream.position :]
                advance(slot)

        def advance(slot: Slot) -> None:
            """Write a slot on, or end it: the row is finished, or its candidates are there to choose from."""
            writing.pop(slot.place, None)
            if slot.waits:
                group = slot.group
                assert group is not None
                held[slot.place] = slot
                group.reached.append(slot)
                if len(group.reached) < group.candidates:
                    return
                slot = self._choose(group)
                for other in group.reached:
                    del held[other.place]
                    if other is not slot:
                        vacant.append(other.place)
            if not slot.done:
                writing[slot.place] = slot
                return
            vacant.append(slot.place)
            record = self._record(slot)
            if record is not None:
                finished[slot.request.number] = record
                return
            # Behind the others: only the row begun last may have candidates without a place, or two rows could wait for each
            # other's places.
            unplaced.extend(self._begin(slot.request, slot.attempt + 1))

        def close_ranks() -> None:
            """Bring what is being written into the first places: llama.cpp computes only neighbours together.

            With 63 of 128 sequences in use, scattered, a step took 0.99 s; with all 128 in use it took 0.19 s.
            """
            last = [place for place in writing if place >= len(writing)]
            for target in [place for place in range(len(writing)) if place not in writing]:
                place = last.pop()
                for here, there in zip(self._sequences_of(place), self._sequences_of(target), strict=True):
                    if target in held:  # they change places
                        self._held.copy(there, self._spare)
                        self._held.copy(here, there)
                        self._held.copy(self._spare, here)
                    else:
                        self._held.copy(here, there)
                if target in held:
                    held[place] = held.pop(target)
                    held[place].place = place
                else:
                    vacant[vacant.index(target)] = place
                writing[target] = writing.pop(place)
                writing[target].place = target

        place()
        while writing:
            close_ranks()
            self._step([writing[place] for place in range(len(writing))])
            for slot in list(writing.values()):
                advance(slot)
            place()
            while order and order[0] in finished:
                number = order.popleft()
                yield number, finished.pop(number)
        while order:
            number = order.popleft()
            yield number, finished.pop(number)

    def _sequences_of(self, place: int) -> range:
        return range(self.sequences_a_row * place, self.sequences_a_row * (place + 1))

    def _begin(self, request: Request, attempt: int) -> list[Slot]:
        """The slots of a row: one, or its candidates."""
        if attempt >= _MOST_TRIES:
            raise IntegrityError(
                f"Row {request.number} broke the schema {attempt} times in a row.",
                "Please report this as a bug, with the schema.",
            )
        if attempt == _MOST_TRIES - 1 and (example := self._feasible.witness(request.given)):
            request = replace(request, given={**request.given, **self._feasible.fixed(example)})
        asked = [request.given.get(field.column.name) for field in self._codec.fields]
        given = [i for i, allowed in enumerate(asked) if allowed is not None and not self._merely_read(allowed)]
        settled = next((i for i, allowed in enumerate(asked) if allowed is None or allowed.single is None), len(asked))
        group = None
        # Values that are settled from the first column on leave nothing before them that could disagree.
        if given and given[-1] >= settled:
            group = Group(request, attempt, self._candidates, settled, given[-1])
        return [self._slot(request, attempt, candidate, group) for candidate in range(group.candidates if group else 1)]

    def _slot(self, request: Request, attempt: int, candidate: int, group: Group | None) -> Slot:
        random = random_streams.tokens(self._seed, request.number, attempt, candidate)
        streams = [Stream(pending=self._codec.fields[0].key.copy()) for _ in range(self.sequences_a_row)]
        slot = Slot(request, attempt, candidate, random, self._grammars.matcher(0), len(self._codec.fields), group, streams)
        self._enter(slot)
        self._settle(slot)
        return slot

    def _choose(self, group: Group) -> Slot:
        """One of a row's candidates, drawn by their weights; it goes on as a row of its own."""
        candidates = sorted(group.reached, key=lambda slot: slot.candidate)
        logs = np.array([slot.log_weight for slot in candidates])
        shares = np.cumsum(np.exp(logs - logs.max()))
        draw = random_streams.candidate_choice(self._seed, group.request.number, group.attempt).random() * shares[-1]
        slot = candidates[min(int(np.searchsorted(shares, draw, side="right")), len(candidates) - 1)]
        slot.group = None
        self._settle(slot)
        return slot

    def _step(self, slots: list[Slot]) -> None:
        """Compute the next pending tokens of all slots in one batch, and draw a token for each slot that has no more of them.

        As many tokens of each stream as the one with the fewest has, so that steps are of one length (see `Decoder.decode`).
        Where one stream of a slot comes to its end before the other, it marks time: its last token is computed again until the
        other's last one is, since a sequence left out would part its neighbours, which costs more.
        """
        begun = time.perf_counter()
        width = min(len(stream.pending) for slot in slots for stream in slot.streams)
        active = [slot for slot in slots if all(len(stream.pending) == width for stream in slot.streams)]
        ready = {slot.place for slot in active}
        steps = [
            Step(sequence, stream.position, stream.pending[:width], wanted=slot.place in ready)
            for slot in slots
            for sequence, stream in zip(self._sequences_of(slot.place), slot.streams, strict=True)
        ]
        logits = self._held.decode(steps)
        decoded = time.perf_counter()
        self.statistics.tokens += width * len(steps)
        self.statistics.decode_seconds += decoded - begun
        for slot in slots:
            for sequence, stream in zip(self._sequences_of(slot.place), slot.streams, strict=True):
                marks_time = len(stream.pending) == width and slot.place not in ready
                computed = width - marks_time
                stream.position += computed
                stream.pending = stream.pending[computed:]
                if marks_time:
                    self._held.keep(sequence, stream.position)
        if not active:
            return
        weighed = [(i, slot, slot.free) for i, slot in enumerate(active) if slot.free is not None]
        allowed = self._masks.compute([slot.matcher for slot in active] + [free for _, _, free in weighed])
        masked = time.perf_counter()
        if self._guidance:
            logits = guided(logits[::2], logits[1::2], self._guidance)
        for own, slot in zip(logits, active, strict=True):
            if self._has_bias(slot):
                assert self._bias is not None
                own[self._bias.tokens] += slot.bias
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
        self._read(slot, tokens, tokens)
        self._held_now(slot, tokens)
        slot.value += self._piece(tokens)
        slot.value_tokens += len(tokens)

    def _held_now(self, slot: Slot, tokens: list[int]) -> None:
        """A text of the row holds these tokens now: none of them needs to be written more."""
        if slot.bias is not None and isinstance(self._codec.fields[slot.field].column, Text):
            for place in [self._biased[token] for token in tokens if token in self._biased]:
                slot.bias[place] = min(slot.bias[place], 0.0)

    def _has_bias(self, slot: Slot) -> bool:
        """Whether what is drawn next is of a text; where that may turn out to be missing, it is not yet."""
        column = self._codec.fields[slot.field].column
        settled = self._nulls_given or not column.nullable or not f" {NULL}".encode().startswith(slot.value)
        return slot.bias is not None and isinstance(column, Text) and settled

    def _read(self, slot: Slot, tokens: list[int], against: list[int]) -> None:
        """Let the model read these tokens next and, where the row is told apart from other values, `against` instead."""
        for stream, its in zip(slot.streams, (tokens, against), strict=False):
            stream.pending += its

    def _enter(self, slot: Slot) -> None:
        """Set the grammar of the column that begins; a value that is settled needs none."""
        slot.value, slot.value_tokens, slot.free = b"", 0, None
        while not slot.done:
            field = self._codec.fields[slot.field]
            if self._bias is not None and slot.bias is None and isinstance(field.column, Text):
                settled = {name: one.single for name, one in slot.request.given.items() if one.single is not None}
                # A logit is divided by the temperature later.
                slot.bias = self._temperature * self._bias.of({name: single.value for name, single in settled.items()})
            allowed = self._allowed(slot, field.column)
            if allowed is None:
                slot.matcher = self._grammars.matcher(slot.field)
                return
            weighed = slot.group is not None and slot.field >= slot.group.first and not self._merely_read(allowed)
            if allowed.single is None or weighed:
                slot.matcher = self._grammars.matcher(slot.field, allowed)
                slot.free = self._grammars.matcher(slot.field) if slot.group is not None else None
                return
            tokens = self._codec.encode_value(field, allowed.single.value)
            against = slot.request.against or {}
            name = field.column.name
            self._read(slot, tokens, self._codec.encode_value(field, against[name]) if name in against else tokens)
            if allowed.single.value is not None:
                self._held_now(slot, tokens)
            self._keep(slot, self._piece(tokens))
            self._next(slot)

    def _merely_read(self, allowed: Allowed) -> bool:
        return self._nulls_given and allowed.single is not None and allowed.single.value is None

    def _allowed(self, slot: Slot, column: Column) -> Allowed | None:
        """The values of a column that are asked for and, with those the row has so far, break no constraint; None for all."""
        asked = slot.request.given.get(column.name)
        if column.name not in self._feasible.names or (asked is not None and asked.single is not None):
            return asked
        allowed = self._feasible.of_column(column.name, slot.row, slot.request.given)
        # Where nothing is left, the row is finished like any other, and drawn again.
        return asked if allowed.empty or allowed == whole(column) else allowed

    def _keep(self, slot: Slot, value: bytes) -> None:
        """Add the finished value of the column that is being written."""
        slot.values.append(value)
        field = self._codec.fields[slot.field]
        if field.column.name in self._feasible.names:
            slot.row[field.column.name] = self._codec.decode_value(field, value)

    def _next(self, slot: Slot) -> None:
        slot.field += 1
        if not slot.done:
            key = self._codec.fields[slot.field].key
            self._read(slot, key, key)

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
