"""Candidates get slots, wait for each other and finish, without a model: a fake generator writes down one word a step."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localsynth.sample.candidates import Candidate, CandidateGroup, Request
from localsynth.sample.scheduler import Scheduler


@dataclass
class Plan:
    """How a row goes: its columns, its candidates up to a column, and how many attempts fail."""

    columns: int
    candidates: int = 1
    last_condition: int = 0
    failures: int = 0


@dataclass
class FakeGenerator:
    """One column a step. The state of a slot is what its candidate has written, and moves with it."""

    plans: list[Plan]
    batch_size: int
    slots: dict[int, list[str]] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)

    def begin(self, request: Request, attempt: int) -> list[Candidate]:
        plan = self.plans[request.number]
        group = None
        if plan.candidates > 1:
            group = CandidateGroup(request, attempt, min(plan.candidates, self.batch_size), 0, plan.last_condition)
        nothing: Any = None
        return [
            Candidate(request, attempt, index, nothing, nothing, plan.columns, group, [])
            for index in range(group.size if group else 1)
        ]

    def enter(self, candidate: Candidate) -> None:
        self.slots[candidate.slot] = []

    def step(self, candidates: list[Candidate]) -> None:
        assert [candidate.slot for candidate in candidates] == list(range(len(candidates))), "not neighbours"
        assert not any(candidate.done or candidate.pending for candidate in candidates)
        self.steps.append(len(candidates))
        for candidate in candidates:
            written = self.slots[candidate.slot]
            assert written == self.words(candidate), "another candidate's state"
            candidate.field += 1
            self.slots[candidate.slot] = self.words(candidate)

    @staticmethod
    def words(candidate: Candidate) -> list[str]:
        number, attempt, index = candidate.request.number, candidate.attempt, candidate.index
        return [f"row {number} attempt {attempt} candidate {index} column {column}" for column in range(candidate.field)]

    def choose(self, group: CandidateGroup) -> Candidate:
        assert sorted(candidate.index for candidate in group.pending) == list(range(group.size))
        (chosen,) = (candidate for candidate in group.pending if candidate.index == group.request.number % group.size)
        chosen.group = None
        return chosen

    def finish(self, candidate: Candidate) -> dict[str, Any] | None:
        assert candidate.done and self.slots[candidate.slot] == self.words(candidate)
        failed = candidate.attempt < self.plans[candidate.request.number].failures
        return None if failed else {"attempt": candidate.attempt, "candidate": candidate.index}

    def move(self, source: int, target: int) -> None:
        self.slots[target] = self.slots.pop(source)

    def swap(self, one: int, other: int) -> None:
        self.slots[one], self.slots[other] = self.slots[other], self.slots[one]


def generate(plans: list[Plan], batch_size: int) -> tuple[list[tuple[int, Any]], FakeGenerator]:
    generator = FakeGenerator(plans, batch_size)
    return list(Scheduler(generator, batch_size, map(Request, range(len(plans)))).rows()), generator


plan_lists = st.lists(
    st.integers(0, 6).flatmap(
        lambda columns: st.builds(
            Plan,
            columns=st.just(columns),
            candidates=st.integers(1, 5) if columns else st.just(1),
            last_condition=st.integers(0, max(0, columns - 1)),
            failures=st.integers(0, 3),
        )
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(plan_lists, st.integers(1, 8))
def test_every_row_is_yielded_once_and_in_order(plans, batch_size):
    rows, generator = generate(plans, batch_size)
    assert [number for number, _ in rows] == list(range(len(plans)))
    for (number, row), plan in zip(rows, plans, strict=True):
        assert row == {"attempt": plan.failures, "candidate": number % min(plan.candidates, batch_size)}
    assert all(count <= batch_size for count in generator.steps)


def test_a_vacant_slot_is_filled_at_once():
    _, generator = generate([Plan(columns) for columns in (1, 5, 1, 1, 1, 1)], batch_size=2)
    assert generator.steps == [2] * 5


def test_rows_are_yielded_while_later_ones_are_generated():
    generator = FakeGenerator([Plan(1), Plan(9)], 2)
    rows = Scheduler(generator, 2, map(Request, range(2))).rows()
    assert next(rows)[0] == 0 and len(generator.steps) == 1


def test_pending_candidates_are_not_computed():
    _, generator = generate([Plan(3, candidates=3)], batch_size=4)
    assert generator.steps == [3, 1, 1]


def test_requests_are_asked_for_as_slots_become_vacant():
    asked = []

    def requests():
        for number in range(10):
            asked.append(number)
            yield Request(number)

    rows = Scheduler(FakeGenerator([Plan(2)] * 10, 3), 3, requests()).rows()
    assert asked == []
    next(rows)
    assert len(asked) == 6


def test_an_error_of_the_generator_is_raised():
    class Failing(FakeGenerator):
        def step(self, candidates: list[Candidate]) -> None:
            raise MemoryError

    with pytest.raises(MemoryError):
        list(Scheduler(Failing([Plan(1)], 1), 1, [Request(0)]).rows())
