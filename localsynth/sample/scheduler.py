"""Continuous batching: which candidate is generated in which slot of the batch, and when a row is finished.

A slot is filled again as soon as its row is finished. What a step of generation does is left to a `Generator`.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol

from localsynth.sample.candidates import Candidate, CandidateGroup, Request
from localsynth.schema.columns import Record


class Generator(Protocol):
    """What a scheduler drives. Its state has one part for each slot."""

    def begin(self, request: Request, attempt: int) -> list[Candidate]:
        """The candidates of a row, not yet in a slot. There are never more than slots."""

    def enter(self, candidate: Candidate) -> None:
        """Prepare the slot that the candidate has just got."""

    def step(self, candidates: list[Candidate]) -> None:
        """Generate on for one step. The i-th candidate is in slot i."""

    def choose(self, group: CandidateGroup) -> Candidate:
        """One of a group's candidates, all of which are pending. It continues as a row without a group."""

    def finish(self, candidate: Candidate) -> Record | None:
        """The row of a candidate that is done; None where it must be attempted again."""

    def move(self, source: int, target: int) -> None:
        """Copy the state of slot `source` to slot `target`, which nobody needs any more."""

    def swap(self, one: int, other: int) -> None:
        """Exchange the states of two slots."""


class Scheduler:
    """Assigns the candidates of the requested rows to `batch_size` slots; used once."""

    def __init__(self, generator: Generator, batch_size: int, requests: Iterable[Request]) -> None:
        self._generator = generator
        self._requests = iter(requests)
        self._queue: deque[Candidate] = deque()
        """Candidates without a slot, first in, first out. So only one row is ever partly in slots; two could block each other."""
        self._order: deque[int] = deque()
        """The numbers of the rows that are begun and not yet yielded, in the order of the requests."""
        self._finished: dict[int, Record] = {}
        self._active: dict[int, Candidate] = {}
        """By slot: candidates that are being generated."""
        self._pending: dict[int, Candidate] = {}
        """By slot: candidates that wait for the others of their row."""
        self._vacant = list(range(batch_size))

    def rows(self) -> Iterator[tuple[int, Record]]:
        """Generate all rows; yields (number, row) in the order of the requests."""
        self._fill()
        while self._active:
            self._compact()
            self._generator.step([self._active[slot] for slot in range(len(self._active))])
            for candidate in list(self._active.values()):
                self._advance(candidate)
            self._fill()
            yield from self._in_order()
        yield from self._in_order()
        assert not self._order, "rows were begun that nobody generates"

    def _in_order(self) -> Iterator[tuple[int, Record]]:
        while self._order and self._order[0] in self._finished:
            number = self._order.popleft()
            yield number, self._finished.pop(number)

    def _fill(self) -> None:
        """Give vacant slots to waiting candidates, and to those of the next requests."""
        while self._vacant:
            if not self._queue:
                request = next(self._requests, None)
                if request is None:
                    return
                self._order.append(request.number)
                self._queue.extend(self._generator.begin(request, 0))
                continue
            candidate = self._queue.popleft()
            candidate.slot = self._vacant.pop()
            self._generator.enter(candidate)
            self._advance(candidate)

    def _advance(self, candidate: Candidate) -> None:
        """Keep a candidate active, let it wait for the others of its row, or finish its row."""
        self._active.pop(candidate.slot, None)
        if candidate.pending:
            chosen = self._wait(candidate)
            if chosen is None:
                return
            candidate = chosen
        if not candidate.done:
            self._active[candidate.slot] = candidate
            return
        self._vacant.append(candidate.slot)
        row = self._generator.finish(candidate)
        if row is not None:
            self._finished[candidate.request.number] = row
        else:
            self._queue.extend(self._generator.begin(candidate.request, candidate.attempt + 1))

    def _wait(self, candidate: Candidate) -> Candidate | None:
        """Let a candidate wait; the chosen one of its group once all of them do."""
        group = candidate.group
        assert group is not None
        self._pending[candidate.slot] = candidate
        group.pending.append(candidate)
        if len(group.pending) < group.size:
            return None
        chosen = self._generator.choose(group)
        for other in group.pending:
            del self._pending[other.slot]
            if other is not chosen:
                self._vacant.append(other.slot)
        return chosen

    def _compact(self) -> None:
        """Bring the active candidates into the first slots: llama.cpp computes only neighbouring sequences together.

        With 63 of 128 sequences in use, scattered, a step took 0.99 s; with all 128 in use it took 0.19 s.
        """
        count = len(self._active)
        sources = [slot for slot in self._active if slot >= count]
        for target in [slot for slot in range(count) if slot not in self._active]:
            source = sources.pop()
            if target in self._pending:
                self._generator.swap(source, target)
                self._pending[source] = self._pending.pop(target)
                self._pending[source].slot = source
            else:
                self._generator.move(source, target)
                self._vacant[self._vacant.index(target)] = source
            self._active[target] = self._active.pop(source)
            self._active[target].slot = target
