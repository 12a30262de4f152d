"""Generates rows with a merged GGUF: a batch of llama.cpp sequences, each value under the grammar of its column.

A column's value is sampled token by token. Column names, colons and whatever the grammar leaves no choice about are
appended without sampling, and computed in the same batch. Reads nothing private: the model and the schema only.

Conditions: columns before a condition do not depend on it. So several candidates of the row are generated up to its last
condition. Each gets a weight, the probability of its conditions under the model where they stood. One is sampled by these
weights and continues (sampling importance resampling, Rubin 1987). With one candidate the earlier columns would follow the
whole table, with many they follow the rows that meet the conditions.

Guidance: a row is read twice, in two sequences: after its own values, and after those of a contrast row. Its logits are
moved away from the contrast row's (classifier-free guidance, Sanchez et al. 2023, arXiv:2306.17806).

Logit bias: tokens that the model generates too rarely or too often have a bias in texts. A positive bias ends once a text
of the row holds the token.

Constraints of the schema restrict each column to values that are feasible with the row so far. A row that still violates
one is generated again.

A row's random numbers depend on the seed and its number alone, so a resumed job generates the missing rows.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from localsynth.config import SampleConfig
from localsynth.errors import ConfigError, IntegrityError
from localsynth.llm.llama_cpp import ALL_LAYERS, Decoder, Step, Vocabulary, gpu_offload, sequence_bytes
from localsynth.llm.row_text import END, NULL, Codec
from localsynth.sample.candidates import Candidate, CandidateGroup, Request, Stream
from localsynth.sample.grammar import Grammars, TokenMasks
from localsynth.sample.prefix_cache import PrefixCache
from localsynth.sample.row_plan import RowPlan
from localsynth.sample.scheduler import Scheduler
from localsynth.sample.token_choice import choose_index, choose_tokens, guided, log_share
from localsynth.schema.columns import Column, Record, Text, conform
from localsynth.schema.conditions import Allowed, whole
from localsynth.schema.feasible import FeasibleSet
from localsynth.system import random_streams
from localsynth.system.closing import Closing
from localsynth.system.cpu import default_threads
from localsynth.text_counts.logit_bias import LogitBias

MAX_ATTEMPTS = 5
"""Attempts at one row. The grammar makes a second one improbable. In the last one, the columns with constraints have the
values of a witness, which satisfies them."""

_TO_END_A_TEXT = 8
"""Tokens beyond its maximum that a text may need to end, where it reaches the maximum inside a character or an escape."""

_MAX_BATCH_SIZE = 128
"""A larger batch decodes hardly faster (docs/lab/sampling-speed.md), and each row takes memory."""

_MAX_SEQUENCES = 255
"""llama.cpp holds at most 256 sequences, and one is spare."""

_MEMORY_FRACTION = 0.125
"""Of the memory, for the KV cache. Not of what is free now: that depends on what this process has read, and rows depend on the
batch size by rounding."""


def _default_batch_size(model: Path, length: int, sequences_per_slot: int) -> int:
    room = _MEMORY_FRACTION * psutil.virtual_memory().total
    sequences = int(min(_MAX_BATCH_SIZE, room // sequence_bytes(model, length)))
    return max(1, sequences // sequences_per_slot)


@dataclass
class SampleStatistics:
    """Counts and seconds of a sampling job."""

    rows: int = 0
    tokens: int = 0
    rejected: int = 0
    decode_seconds: float = 0.0
    grammar_seconds: float = 0.0
    choose_seconds: float = 0.0


class Sampler(Closing):
    """Generates the rows of a plan with the user's settings. Use as a context manager.

    `batch_size` is how many rows are generated at a time: as many as decode fastest and fit into memory where the settings
    leave it open. It is not more than `max_rows`, the number of rows that will be requested, or the number of candidates.
    """

    def __init__(
        self, plan: RowPlan, settings: SampleConfig, max_rows: int = _MAX_SEQUENCES, decoder: type[Decoder] = Decoder
    ) -> None:
        self._plan, self._settings = plan, settings
        self._guidance = settings.guidance if plan.contrast is not None else 0.0
        self._feasible = FeasibleSet(plan.schema)
        self._vocabulary = Vocabulary(plan.model)
        bias = plan.bias
        if bias is not None and len(bias.tokens) and bias.tokens[-1] >= self._vocabulary.size:
            raise IntegrityError("The token counts are of another model's tokens.", "Restore it from a backup, or train again.")
        self._biased = {} if bias is None else {int(token): place for place, token in enumerate(bias.tokens)}
        self._codec = Codec(plan.schema, self._vocabulary.tokenize, self._vocabulary.start, plan.description)
        self._grammars = Grammars(self._vocabulary.grammar_tokenizer(), self._codec.fields)
        self._end = self._vocabulary.tokenize(END)
        length = self._codec.longest_row + _TO_END_A_TEXT * len(self._codec.fields)
        self._sequences_per_slot = 2 if self._guidance else 1
        batch_size = settings.batch_size or _default_batch_size(plan.model, length, self._sequences_per_slot)
        self.batch_size = min(max(max_rows, settings.candidates), batch_size, _MAX_SEQUENCES // self._sequences_per_slot)
        sequences = self._sequences_per_slot * self.batch_size
        threads = settings.threads or default_threads()
        gpu_layers = settings.gpu_layers if settings.gpu_layers is not None else ALL_LAYERS if gpu_offload() else 0
        self.decoder = decoder(plan.model, sequences + 1, length, threads, gpu_layers)
        self._cache = PrefixCache(self.decoder, sequences, length)
        self._cache.fill(self._codec.fields[0].key[:-1])
        self.device = f"GPU ({gpu_layers if gpu_layers >= 0 else 'all'} layers)" if gpu_layers else f"CPU ({threads} threads)"
        # A candidate under a condition needs two masks: with the condition and without.
        self._masks = TokenMasks(2 * self.batch_size, self.decoder.vocabulary_size, threads)
        self._candidates = min(settings.candidates, self.batch_size)
        self.statistics = SampleStatistics()

    def check(self, request: Request) -> None:
        """Raise ConfigError where a text that the request fixes does not fit its column."""
        for field in self._codec.fields:
            if isinstance(field.column, Text) and field.column.name in request.conditions:
                for value in request.conditions[field.column.name].values:
                    if self._codec.decode_value(field, self._bytes(self._codec.encode_value(field, value))) != value:
                        raise ConfigError(
                            f"Row {request.number + 1}: the text given for column {field.column.name!r} is longer than its "
                            f"{field.column.max_tokens} tokens.",
                            "Shorten it.",
                        )

    def rows(self, requests: Iterable[Request]) -> Iterator[tuple[int, Record]]:
        """Generate the requested rows; yields (number, learned columns) in the order of the requests."""
        return Scheduler(self, self.batch_size, requests).rows()

    # --- what the scheduler drives ---------------------------------------------------------------------------------------

    def begin(self, request: Request, attempt: int) -> list[Candidate]:
        """The candidates of a row; one where no condition stands behind a free column. Raises IntegrityError."""
        if attempt >= MAX_ATTEMPTS:
            raise IntegrityError(
                f"Row {request.number} violated the schema {attempt} times.", "Please report this as a bug, with the schema."
            )
        if attempt == MAX_ATTEMPTS - 1 and (witness := self._feasible.witness(request.conditions)):
            request = replace(request, conditions={**request.conditions, **self._feasible.fixed(witness)})
        conditions = [request.conditions.get(field.column.name) for field in self._codec.fields]
        weighted = [i for i, allowed in enumerate(conditions) if allowed is not None and not self._merely_read(allowed)]
        first_free = next(
            (i for i, allowed in enumerate(conditions) if allowed is None or allowed.single is None), len(conditions)
        )
        group = None
        # Values that are fixed from the first column on leave nothing before them that could disagree.
        if weighted and weighted[-1] >= first_free:
            group = CandidateGroup(request, attempt, self._candidates, first_free, weighted[-1])
        return [self._candidate(request, attempt, index, group) for index in range(group.size if group else 1)]

    def _candidate(self, request: Request, attempt: int, index: int, group: CandidateGroup | None) -> Candidate:
        random = random_streams.tokens(self._settings.seed, request.number, attempt, index)
        streams = [Stream(pending=self._codec.fields[0].key.copy()) for _ in range(self._sequences_per_slot)]
        candidate = Candidate(request, attempt, index, random, self._grammars.matcher(0), len(self._codec.fields), group, streams)
        self._begin_column(candidate)
        self._append_forced(candidate)
        return candidate

    def enter(self, candidate: Candidate) -> None:
        """Let the candidate's slot hold as much of its tokens as any slot does."""
        if candidate.done:
            return  # It generates nothing, and the slot's tokens may be a prefix of the next row.
        for sequence, stream in self._sequences(candidate):
            stream.position = self._cache.reuse(sequence, stream.pending)
            stream.pending = stream.pending[stream.position :]

    def step(self, candidates: list[Candidate]) -> None:
        """Compute pending tokens of all candidates in one batch, and sample a token for each that has no more of them."""
        begun = time.perf_counter()
        ready, logits = self._decode(candidates)
        decoded = time.perf_counter()
        self.statistics.decode_seconds += decoded - begun
        if not ready:
            return
        # Candidates with a condition on the column that they generate.
        weighted = [(i, candidate.unconditional) for i, candidate in enumerate(ready) if candidate.unconditional is not None]
        allowed = self._masks.compute([candidate.matcher for candidate in ready] + [matcher for _, matcher in weighted])
        masked = time.perf_counter()
        if self._guidance:
            logits = guided(logits[::2], logits[1::2], self._guidance)
        self._add_bias(logits, ready)
        for (i, _), unconditional in zip(weighted, allowed[len(ready) :], strict=True):
            ready[i].log_weight += log_share(logits[i], allowed[i], unconditional, self._settings.temperature)
        uniform = np.array([candidate.random.random() for candidate in ready])
        tokens = choose_tokens(logits, allowed[: len(ready)], uniform, self._settings.temperature, self._settings.top_p)
        chosen = time.perf_counter()
        for candidate, token in zip(ready, tokens, strict=True):
            self._append(candidate, [int(token)])
            self._append_forced(candidate)
        self.statistics.grammar_seconds += masked - decoded + time.perf_counter() - chosen
        self.statistics.choose_seconds += chosen - masked

    def choose(self, group: CandidateGroup) -> Candidate:
        """One of a row's candidates, sampled by their weights; it continues as a row without others."""
        candidates = sorted(group.pending, key=lambda candidate: candidate.index)
        uniform = random_streams.candidate_choice(self._settings.seed, group.request.number, group.attempt).random()
        chosen = candidates[choose_index(np.array([candidate.log_weight for candidate in candidates]), uniform)]
        chosen.group = None
        self._append_forced(chosen)
        return chosen

    def finish(self, candidate: Candidate) -> Record | None:
        """The finished row, checked once more; None (and counted) where it violates the schema or the conditions."""
        try:
            record = self._codec.decode(candidate.values)
        except ValueError:
            record = {}
        conditions = candidate.request.conditions.items()
        if (
            not record
            or conform(self._plan.schema, record) != record
            or not all(record[name] in allowed for name, allowed in conditions)
        ):
            self.statistics.rejected += 1
            return None
        self.statistics.rows += 1
        return record

    def move(self, source: int, target: int) -> None:
        """Copy the KV cache of slot `source` to slot `target`."""
        for one, other in zip(self._sequences_of(source), self._sequences_of(target), strict=True):
            self._cache.copy(one, other)

    def swap(self, one: int, other: int) -> None:
        """Exchange the KV caches of two slots."""
        for here, there in zip(self._sequences_of(one), self._sequences_of(other), strict=True):
            self._cache.swap(here, there)

    # --- decoding --------------------------------------------------------------------------------------------------------

    def _sequences_of(self, slot: int) -> range:
        return range(self._sequences_per_slot * slot, self._sequences_per_slot * (slot + 1))

    def _sequences(self, candidate: Candidate) -> Iterator[tuple[int, Stream]]:
        """The candidate's streams and the sequences of the KV cache that hold them."""
        return zip(self._sequences_of(candidate.slot), candidate.streams, strict=True)

    def _decode(self, candidates: list[Candidate]) -> tuple[list[Candidate], NDArray[np.float32]]:
        """Compute pending tokens; returns the candidates that have no more of them, and the logits of their streams.

        All streams compute as many tokens as the shortest one has: steps are of one length (see `Decoder.decode`). Where
        one stream of a candidate ends before the other, it idles: its last token is computed again until the other's last
        one is. A sequence left out would separate its neighbours, which costs more.
        """
        width = min(len(stream.pending) for candidate in candidates for stream in candidate.streams)
        ready = [candidate for candidate in candidates if all(len(stream.pending) == width for stream in candidate.streams)]
        slots = {candidate.slot for candidate in ready}
        steps = [
            Step(sequence, stream.position, stream.pending[:width], wanted=candidate.slot in slots)
            for candidate in candidates
            for sequence, stream in self._sequences(candidate)
        ]
        logits = self._cache.decode(steps)
        self.statistics.tokens += width * len(steps)
        for candidate in candidates:
            for sequence, stream in self._sequences(candidate):
                idles = len(stream.pending) == width and candidate.slot not in slots
                computed = width - idles
                stream.position += computed
                stream.pending = stream.pending[computed:]
                if idles:
                    self._cache.truncate(sequence, stream.position)
        return ready, logits

    def _add_bias(self, logits: NDArray[np.float32], candidates: list[Candidate]) -> None:
        """Add the bias of each candidate that generates a text to its row of `logits`, in place."""
        if self._plan.bias is None:
            return
        for row, candidate in zip(logits, candidates, strict=True):
            column = self._codec.fields[candidate.field].column
            # While the text may turn out to be null, the next token is not certain to be of a text.
            not_null = self._plan.hybrid or not column.nullable or not f" {NULL}".encode().startswith(candidate.value)
            if candidate.bias is not None and isinstance(column, Text) and not_null:
                row[self._plan.bias.tokens] += candidate.bias

    # --- grammar ---------------------------------------------------------------------------------------------------------

    def _bytes(self, tokens: list[int]) -> bytes:
        return b"".join(self._vocabulary.piece(token) for token in tokens)

    def _append(self, candidate: Candidate, tokens: list[int]) -> None:
        for matcher in (candidate.matcher, candidate.unconditional):
            if matcher is not None and not matcher.consume_tokens(tokens):
                raise AssertionError(f"the grammar refuses its own token: {matcher.get_error()}")
        self._read(candidate, tokens, tokens)
        self._end_bias(candidate, tokens)
        candidate.value += self._bytes(tokens)
        candidate.value_tokens += len(tokens)

    def _append_forced(self, candidate: Candidate) -> None:
        """Append all that needs no sampling: forced tokens, the end of a text at its maximum, the next column's key."""
        while not (candidate.done or candidate.pending):
            if candidate.value.endswith(b"\n"):
                self._keep(candidate, candidate.value)
                self._next_column(candidate)
                self._begin_column(candidate)
                continue
            # What only a condition forces is not certain to the model: it is sampled, to be weighted.
            forced = (candidate.unconditional or candidate.matcher).compute_ff_tokens()
            if not forced and candidate.value_tokens >= self._codec.fields[candidate.field].budget - len(self._end):
                # Inside a character or an escape the line break is not allowed yet: then another token is sampled.
                forced = self._end if candidate.matcher.validate_tokens(self._end) == len(self._end) else []
            if not forced:
                return
            self._append(candidate, forced)

    def _end_bias(self, candidate: Candidate, tokens: list[int]) -> None:
        """A text of the row now holds these tokens: end their positive bias."""
        if candidate.bias is not None and isinstance(self._codec.fields[candidate.field].column, Text):
            for place in [self._biased[token] for token in tokens if token in self._biased]:
                candidate.bias[place] = min(candidate.bias[place], 0.0)

    def _read(self, candidate: Candidate, tokens: list[int], contrast: list[int]) -> None:
        """Let the model read these tokens next and, with guidance, `contrast` in the contrast row's stream."""
        for stream, its in zip(candidate.streams, (tokens, contrast), strict=False):
            stream.pending += its

    def _begin_column(self, candidate: Candidate) -> None:
        """Set the grammar of the next column that is to be generated; append the columns before it whose value is fixed."""
        candidate.value, candidate.value_tokens, candidate.unconditional = b"", 0, None
        while not candidate.done:
            field = self._codec.fields[candidate.field]
            if self._plan.bias is not None and candidate.bias is None and isinstance(field.column, Text):
                candidate.bias = self._bias_of(self._plan.bias, candidate.request)
            allowed = self._allowed(candidate, field.column)
            if allowed is None:
                candidate.matcher = self._grammars.matcher(candidate.field)
                return
            in_group = candidate.group is not None and candidate.field >= candidate.group.first
            if allowed.single is None or (in_group and not self._merely_read(allowed)):
                candidate.matcher = self._grammars.matcher(candidate.field, allowed)
                candidate.unconditional = self._grammars.matcher(candidate.field) if candidate.group is not None else None
                return
            tokens = self._codec.encode_value(field, allowed.single.value)
            contrast = candidate.request.contrast or {}
            name = field.column.name
            self._read(candidate, tokens, self._codec.encode_value(field, contrast[name]) if name in contrast else tokens)
            if allowed.single.value is not None:
                self._end_bias(candidate, tokens)
            self._keep(candidate, self._bytes(tokens))
            self._next_column(candidate)

    def _bias_of(self, bias: LogitBias, request: Request) -> NDArray[np.float32]:
        """The bias of a row's texts, by the values that its conditions fix."""
        fixed = {name: allowed.single for name, allowed in request.conditions.items() if allowed.single is not None}
        # A logit is divided by the temperature later.
        return self._settings.temperature * bias.of({name: single.value for name, single in fixed.items()})

    def _merely_read(self, allowed: Allowed) -> bool:
        """Whether a condition is a null that the model is told of, and has not learned to generate."""
        return self._plan.hybrid and allowed.single is not None and allowed.single.value is None

    def _allowed(self, candidate: Candidate, column: Column) -> Allowed | None:
        """The values of a column that meet its condition and are feasible with the row so far; None for all."""
        condition = candidate.request.conditions.get(column.name)
        if column.name not in self._feasible.names or (condition is not None and condition.single is not None):
            return condition
        allowed = self._feasible.of_column(column.name, candidate.row, candidate.request.conditions)
        # Where no value is feasible, the row is finished like any other, and generated again.
        return condition if allowed.empty or allowed == whole(column) else allowed

    def _keep(self, candidate: Candidate, value: bytes) -> None:
        """Add the finished value of the current column."""
        candidate.values.append(value)
        field = self._codec.fields[candidate.field]
        if field.column.name in self._feasible.names:
            candidate.row[field.column.name] = self._codec.decode_value(field, value)

    def _next_column(self, candidate: Candidate) -> None:
        candidate.field += 1
        if not candidate.done:
            key = self._codec.fields[candidate.field].key
            self._read(candidate, key, key)

    def close(self) -> None:
        """Free the model."""
        self.decoder.close()
        self._vocabulary.close()
