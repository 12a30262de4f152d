"""The ledger: nothing is charged past a budget, nothing in it can be changed unseen, and a crash loses nothing."""

import copy
import datetime as dt
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localsynth.errors import BudgetError, IntegrityError, ResourceError
from localsynth.privacy import ledger as ledger_module
from localsynth.privacy.account import Account
from localsynth.privacy.accountant import dp_sgd_step, epsilon_of, group_epsilon, max_repetitions
from localsynth.privacy.gaussian import epsilon_of_rho, gaussian_of_rho, rho_for
from localsynth.privacy.ledger import Ledger
from localsynth.privacy.ledger_chain import Basis, Budget, break_in_chain, group_bound, recompute
from localsynth.system.canonical_json import sha256_of

BASIS = Basis("row", 1, size_declared=False)

PURE = {"type": "pure_dp", "epsilon": 0.1}
ID = "0123456789abcdef"


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "keys").mkdir()
    return tmp_path / "ledger.json", tmp_path / "keys" / "ledger-head.json"


def start(paths: tuple[Path, Path], epsilon: float = 0.5, delta: float = 0.0) -> Ledger:
    ledger = Ledger.open(*paths, ID)
    ledger.open_budget("schema", None, Account(epsilon, delta), limit=4.0, limit_delta=1e-6, basis=BASIS)
    return ledger


def charge(ledger: Ledger, mechanism: dict[str, Any] = PURE, budget: str = "schema", run: str | None = None) -> None:
    ledger.charge(budget=budget, run=run, stage="schema", what="the range of a column", mechanism=mechanism)


def test_reopened_ledger_is_the_same(paths: tuple[Path, Path]) -> None:
    ledger = start(paths)
    charge(ledger)
    again = Ledger.open(*paths, ID)
    assert again.document() == ledger.document() == json.loads(paths[0].read_text())
    assert again.spent() == ledger.spent()
    assert again.spent().epsilon == 0.1
    assert len(paths[0].read_text().splitlines()) == 4  # one line an event, for people who read it
    assert paths[0].stat().st_mode & 0o777 == 0o600


def test_opening_writes_nothing(paths: tuple[Path, Path]) -> None:
    assert Ledger.open(*paths, ID).spent().epsilon == 0
    assert not paths[0].exists() and not paths[1].exists()


def test_exceeding_charge_is_refused_before_writing(paths: tuple[Path, Path]) -> None:
    ledger = start(paths)
    for _ in range(5):
        charge(ledger)
    before = paths[0].read_bytes(), paths[1].read_bytes()
    with pytest.raises(BudgetError, match="used up"):
        charge(ledger)
    assert (paths[0].read_bytes(), paths[1].read_bytes()) == before
    assert ledger.spent().epsilon == pytest.approx(0.5)
    with pytest.raises(BudgetError):
        charge(Ledger.open(*paths, ID))


def test_charge_needs_an_open_budget(paths: tuple[Path, Path]) -> None:
    ledger = start(paths)
    with pytest.raises(BudgetError, match="No budget 'train'"):
        charge(ledger, budget="train")


def test_budgets_are_composed_separately_and_added(paths: tuple[Path, Path]) -> None:
    ledger = start(paths)
    ledger.open_budget("train", "r1", Account(3.0, 5e-7), limit=4.0, limit_delta=1e-6, basis=BASIS)
    gaussian = {"type": "gaussian", "noise_multiplier": 3.0}
    charge(ledger)
    charge(ledger, gaussian, "train", "r1")
    charge(ledger, gaussian, "train", "r1")
    train = epsilon_of([gaussian] * 2, 5e-7)
    assert ledger.spent().epsilon == pytest.approx(0.1 + train)
    assert ledger.spent().delta == 5e-7
    assert train < 2 * epsilon_of([gaussian], 5e-7)
    events = ledger.document()["events"]
    spent = {run: recompute([event for event in events if event["run"] == run]).epsilon for run in ("r1", None)}
    assert spent == {"r1": pytest.approx(train), None: pytest.approx(0.1)}
    assert [len(ledger.spends(run)) for run in (None, "r1", "r2")] == [3, 2, 0]
    assert recompute(events) == ledger.spent()


STEP = dp_sgd_step(2.0, 0.1)
LIST = {"type": "thresholded_gaussian", "noise_multiplier": 20.0, "delta": 1e-8}


def groups_after(paths: tuple[Path, Path], times: int, mechanism: dict[str, Any], delta: float) -> list[tuple[float, float]]:
    ledger = start(paths, 1.0, delta)
    for _ in range(times):
        charge(ledger, mechanism)
    return [group_bound(ledger.document()["events"], units) for units in (1, 2, 5, 10)]


def test_group_bound_counts_the_whole_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    fit = max_repetitions(lambda times: epsilon_of([STEP] * times, 1e-7) <= 1.0)
    assert 5 < fit < 100
    all_steps = groups_after((tmp_path / "all.json", tmp_path / "all-head.json"), fit, STEP, 1e-7)
    assert groups_after((tmp_path / "one.json", tmp_path / "one-head.json"), 1, STEP, 1e-7) == all_steps
    assert all_steps[1] == group_epsilon([STEP] * fit, 1e-7, 2) and all_steps[1][0] > 1.5


@pytest.mark.parametrize("mechanism", [PURE, STEP])
def test_group_bound_of_an_account_with_an_order_is_that_of_any_mechanism(paths: tuple[Path, Path], mechanism: Any) -> None:
    ledger = Ledger.open(*paths, ID)
    ledger.open_budget("ingest", None, Account(1.0, 1e-7, 16, 1e-8), limit=4.0, limit_delta=1e-6, basis=BASIS)
    charge(ledger, mechanism, "ingest")
    assert group_bound(ledger.document()["events"], 3) == (3.0, pytest.approx(3 * math.exp(2.0) * 1e-7))


def test_group_bound_of_a_measured_size(paths: tuple[Path, Path]) -> None:
    ledger = start(paths, 0.1, 0.0)
    charge(ledger)
    assert group_bound(ledger.document()["events"], 5) == (0.5, 0.0)


def test_an_account_with_an_order_composes_at_it(paths: tuple[Path, Path]) -> None:
    ledger = Ledger.open(*paths, ID)
    account = Account(1.0, 1e-6, 16, 1e-7)
    ledger.open_budget("ingest", None, account, limit=4.0, limit_delta=1e-6, basis=BASIS)
    mechanisms = [PURE, LIST, STEP]
    for mechanism in mechanisms:
        charge(ledger, mechanism, "ingest")
    assert ledger.spent().epsilon == account.spent(mechanisms) == recompute(ledger.document()["events"]).epsilon
    with pytest.raises(BudgetError, match="used up"):
        charge(ledger, {**LIST, "delta": 0.95e-7}, "ingest")
    assert ledger.budget("ingest") == Budget("ingest", account)


def test_group_bound_of_marginals_uses_all_rho_of_the_budget(tmp_path: Path) -> None:
    whole = rho_for(1.0, 1e-7)
    figures = [
        groups_after((tmp_path / f"{times}.json", tmp_path / f"{times}-head.json"), times, gaussian_of_rho(rho), 1e-7)
        for times, rho in ((1, whole), (2, whole / 3))
    ]
    assert figures[0] == figures[1]
    for (epsilon, delta), units in zip(figures[0], (1, 2, 5, 10), strict=True):
        assert delta == 1e-7, "no worse than the delta of a single unit"
        assert epsilon == pytest.approx(epsilon_of_rho(units**2 * whole, 1e-7), rel=1e-9)


def test_rho_slightly_too_large_is_refused(paths: tuple[Path, Path]) -> None:
    ledger = start(paths, 1.0, 1e-7)
    with pytest.raises(BudgetError, match="used up"):
        charge(ledger, gaussian_of_rho(rho_for(1.0, 1e-7) * (1 + 1e-6)))
    charge(ledger, gaussian_of_rho(rho_for(1.0, 1e-7)))
    assert ledger.spent().epsilon == pytest.approx(1.0, rel=1e-6)


def test_uncharged_budget_costs_nothing(paths: tuple[Path, Path]) -> None:
    ledger = start(paths)
    ledger.open_budget("train", "r1", Account(3.0, 1e-6), limit=4.0, limit_delta=1e-6, basis=BASIS)
    assert (ledger.spent().epsilon, ledger.spent().delta) == (0, 0)


def test_budgets_of_all_runs_stay_within_the_limit(paths: tuple[Path, Path]) -> None:
    ledger = start(paths, 0.4)
    ledger.open_budget("train", "r1", Account(3.6, 1e-6), limit=4.0, limit_delta=1e-6, basis=BASIS)
    with pytest.raises(BudgetError, match="does not fit"):
        ledger.open_budget("train-2", "r2", Account(0.01, 0.0), limit=4.0, limit_delta=1e-6, basis=BASIS)
    ledger.open_budget("train-2", "r2", Account(3.6, 1e-6), limit=4.0, limit_delta=1e-6, basis=BASIS, beyond_limit=True)
    assert ledger.document()["events"][-1]["beyond_limit"] is True


def test_raising_the_limit_later_has_no_effect(paths: tuple[Path, Path]) -> None:
    ledger = Ledger.open(*paths, ID)
    ledger.open_budget("schema", None, Account(0.4, 5e-7), limit=1.0, limit_delta=1e-6, basis=BASIS)
    with pytest.raises(BudgetError, match=r"the limit is epsilon 1, delta 1e-06"):
        ledger.open_budget("train", "r1", Account(49.0, 1e-7), limit=50.0, limit_delta=1e-6, basis=BASIS)
    with pytest.raises(BudgetError, match="does not fit"):
        ledger.open_budget("train", "r1", Account(0.1, 1e-3), limit=50.0, limit_delta=1e-2, basis=BASIS)
    with pytest.raises(BudgetError, match="does not fit"):
        ledger.open_budget("train", "r1", Account(0.5, 1e-7), limit=0.8, limit_delta=1e-6, basis=BASIS)
    ledger.open_budget("train", "r1", Account(0.6, 5e-7), limit=50.0, limit_delta=1e-2, basis=BASIS)
    ledger.open_budget("train-2", "r2", Account(49.0, 1e-7), limit=50.0, limit_delta=1e-6, basis=BASIS, beyond_limit=True)


def test_deltas_stay_within_their_limit(paths: tuple[Path, Path]) -> None:
    ledger = start(paths, 0.4, 6e-7)
    with pytest.raises(BudgetError, match="does not fit"):
        ledger.open_budget("train", "r1", Account(1.0, 5e-7), limit=4.0, limit_delta=1e-6, basis=BASIS)
    ledger.open_budget("train", "r1", Account(1.0, 4e-7), limit=4.0, limit_delta=1e-6, basis=BASIS)


def test_budget_is_fixed_but_can_be_reopened(paths: tuple[Path, Path]) -> None:
    ledger = start(paths, 0.4)
    found = ledger.open_budget("schema", None, Account(0.4, 0.0), limit=4.0, limit_delta=1e-6, basis=BASIS)
    assert found == ledger.budget("schema")
    assert len(ledger.document()["events"]) == 1
    with pytest.raises(BudgetError, match="cannot be changed"):
        ledger.open_budget("schema", None, Account(0.5, 0.0), limit=4.0, limit_delta=1e-6, basis=BASIS)
    for epsilon, delta in ((0.0, 0.0), (-1.0, 0.0), (1.0, -1e-9), (float("nan"), 0.0)):
        with pytest.raises(BudgetError, match="nothing to spend"):
            ledger.open_budget("new", None, Account(epsilon, delta), limit=4.0, limit_delta=1e-6, basis=BASIS)


FIELDS = ["index", "time", "run", "kind", "stage", "what", "budget", "mechanism", "details", "previous", "hash"]


@pytest.mark.parametrize("field", FIELDS)
def test_changed_field_is_detected(paths: tuple[Path, Path], field: str) -> None:
    ledger = start(paths)
    charge(ledger)
    charge(ledger)
    document = json.loads(paths[0].read_text())
    document["events"][1][field] = {"epsilon": 0.01, "type": "pure_dp"} if field == "mechanism" else "x"
    paths[0].write_text(json.dumps(document))
    assert break_in_chain(document)
    with pytest.raises(IntegrityError, match=r"was edited: event 1"):
        Ledger.open(*paths, ID)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_byte_is_detected(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    directory = tmp_path_factory.mktemp("bytes")
    paths = directory / "ledger.json", directory / "head.json"
    charge(start(paths))
    text = paths[0].read_bytes()
    position = data.draw(st.integers(0, len(text) - 1))
    changed = text[:position] + bytes([data.draw(st.integers(32, 126))]) + text[position + 1 :]
    paths[0].write_bytes(changed)
    try:
        same = json.loads(changed) == json.loads(text)
    except ValueError:
        same = False
    if same:  # a space for a line break
        Ledger.open(*paths, ID)
    else:
        with pytest.raises(IntegrityError):
            Ledger.open(*paths, ID)


def test_rehashed_chain_is_detected_by_its_head(paths: tuple[Path, Path], tmp_path: Path) -> None:
    charge(start(paths))
    other = tmp_path / "other"
    other.mkdir()
    forged = start((other / "ledger.json", other / "head.json"))
    charge(forged, {"type": "pure_dp", "epsilon": 0.01})
    assert not break_in_chain(forged.document())
    paths[0].write_bytes((other / "ledger.json").read_bytes())
    with pytest.raises(IntegrityError, match="was replaced"):
        Ledger.open(*paths, ID)


def test_truncated_and_rolled_back_ledgers_are_detected(paths: tuple[Path, Path]) -> None:
    ledger = start(paths)
    old = paths[0].read_bytes()
    charge(ledger)
    paths[0].write_bytes(old)
    with pytest.raises(IntegrityError, match="cut or rolled back: it has 1 events, and 2 were written"):
        Ledger.open(*paths, ID)
    paths[0].unlink()
    with pytest.raises(IntegrityError, match="is missing, though 2 events"):
        Ledger.open(*paths, ID)


def test_missing_or_damaged_head_is_detected(paths: tuple[Path, Path]) -> None:
    start(paths)
    whole = paths[1].read_bytes()
    for content in (b'{"count": "1", "hash": ""}', b"[]", b"not json", whole[:-9], b"", b"\xff\xfe"):
        paths[1].write_bytes(content)
        with pytest.raises(IntegrityError, match=re.escape(f"The head of the ledger, {paths[1]}, is damaged")) as caught:
            Ledger.open(*paths, ID)
        assert "backup of your configuration directory" in caught.value.hint and "new workspace" in caught.value.hint
    paths[1].write_bytes(whole)
    Ledger.open(*paths, ID)
    paths[1].unlink()
    with pytest.raises(IntegrityError, match=r"head of the ledger.*is missing"):
        Ledger.open(*paths, ID)


def test_ledger_of_another_workspace_is_detected(paths: tuple[Path, Path]) -> None:
    start(paths)
    with pytest.raises(IntegrityError, match="another workspace"):
        Ledger.open(*paths, "another")


def crash_before_the_head(monkeypatch: pytest.MonkeyPatch, from_count: int = 0) -> None:
    write = ledger_module.write_json

    def write_json(path: Path, value: Any) -> None:
        if value["count"] >= from_count:
            raise KeyboardInterrupt
        write(path, value)

    monkeypatch.setattr(ledger_module, "write_json", write_json)


def test_crash_between_ledger_and_head_is_repaired(paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = start(paths)
    with monkeypatch.context() as patch:
        crash_before_the_head(patch)
        with pytest.raises(KeyboardInterrupt):
            charge(ledger)
    assert json.loads(paths[1].read_text())["count"] == 1
    mended = Ledger.open(*paths, ID)
    assert mended.spent().epsilon == 0.1  # charged, though what it was charged for never ran
    assert json.loads(paths[1].read_text())["count"] == 2
    charge(mended)
    assert Ledger.open(*paths, ID).spent().epsilon == pytest.approx(0.2)


def test_process_continues_after_failed_write_of_head(paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = start(paths)
    with monkeypatch.context() as patch:
        crash_before_the_head(patch)
        with pytest.raises(KeyboardInterrupt):
            charge(ledger)
    charge(ledger)
    assert Ledger.open(*paths, ID).spent().epsilon == pytest.approx(0.2)


def test_crash_in_the_first_event_is_repaired(paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        crash_before_the_head(patch, from_count=1)
        with pytest.raises(KeyboardInterrupt):
            start(paths)
    assert len(Ledger.open(*paths, ID).document()["events"]) == 1


def test_two_events_ahead_of_the_head_are_refused(paths: tuple[Path, Path]) -> None:
    ledger = start(paths)
    head = paths[1].read_bytes()
    charge(ledger)
    charge(ledger)
    paths[1].write_bytes(head)
    with pytest.raises(IntegrityError, match="was replaced"):
        Ledger.open(*paths, ID)


def test_second_writer_is_refused(paths: tuple[Path, Path]) -> None:
    first = start(paths)
    second = Ledger.open(*paths, ID)
    charge(first)
    with pytest.raises(ResourceError, match="Another process"):
        charge(second)
    assert Ledger.open(*paths, ID).spent().epsilon == 0.1


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("format"),
        lambda d: d.update(format=1),
        lambda d: d.update(more=1),
        lambda d: d.update(events={}),
        lambda d: d["events"].reverse(),
        lambda d: d["events"].pop(0),
        lambda d: d["events"][0].update(epsilon="4"),
        lambda d: d["events"][0].update(epsilon=float("nan")),
        lambda d: d["events"][1]["details"].update(x=float("nan")),
        lambda d: d["events"].append(None),
    ],
)
def test_break_in_chain_of_malformed_documents(paths: tuple[Path, Path], change: Any) -> None:
    ledger = start(paths)
    charge(ledger)
    document = copy.deepcopy(ledger.document())
    assert break_in_chain(document) == ""
    change(document)
    assert break_in_chain(document)
    assert break_in_chain(None)


def test_rehashed_event_breaks_the_next(paths: tuple[Path, Path]) -> None:
    ledger = start(paths)
    charge(ledger)
    document = copy.deepcopy(ledger.document())
    first = document["events"][0]
    first["epsilon"] = 9.0
    first["hash"] = sha256_of({key: value for key, value in first.items() if key != "hash"})
    assert break_in_chain(document) == "event 1 does not follow from the one before it"


def test_recompute_refuses_spends_outside_their_budgets(paths: tuple[Path, Path]) -> None:
    ledger = start(paths)
    charge(ledger)
    events = ledger.document()["events"]
    with pytest.raises(IntegrityError, match="before opening"):
        recompute(events[1:])
    with pytest.raises(IntegrityError, match="twice"):
        recompute([events[0], *events])


def test_what_fits_is_exact(paths: tuple[Path, Path]) -> None:
    ledger = start(paths)
    assert ledger.fits("schema", [PURE] * 5) and not ledger.fits("schema", [PURE] * 6)
    charge(ledger)
    charge(ledger)
    assert ledger.fits("schema", [PURE] * 3) and not ledger.fits("schema", [PURE] * 4)
    assert not ledger.fits("schema", [{"type": "pure_dp", "epsilon": 0.4}])
    assert ledger.charged("schema") == [{"type": "repeated", "count": 2, "of": PURE}]


def test_charges_known_to_fit_are_not_composed(paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # many charges would mostly wait for the disk
    account = Account(3.6, 1e-6)
    ledger = start(paths, 0.4)
    ledger.open_budget("r1", "r1", account, limit=4.0, limit_delta=1e-6, basis=BASIS)
    step = dp_sgd_step(account.noise(0.3, 60), 0.3)
    assert ledger.fits("r1", [{"type": "repeated", "count": 60, "of": step}])
    composed: list[Any] = []
    monkeypatch.setattr(Account, "spent", lambda self, mechanisms: composed.append(mechanisms) or math.inf)
    for _ in range(60):
        charge(ledger, step, "r1", "r1")
    assert not composed
    with pytest.raises(BudgetError, match="used up"):
        charge(ledger, step, "r1", "r1")
    monkeypatch.undo()
    assert 0.99 * 3.6 < Ledger.open(*paths, ID).spent().budgets[-1][1] <= 3.6


def test_events_have_a_date_and_no_time(paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The time between two steps would tell how large their batches were."""

    class Clock(dt.datetime):
        at = dt.datetime(2026, 11, 23, 23, 58, 30, 123, tzinfo=dt.UTC)

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            cls.at += dt.timedelta(seconds=7)
            return cls.at.astimezone(tz)

    monkeypatch.setattr(dt, "datetime", Clock)
    ledger = start(paths)
    charge(ledger)
    ledger.open_budget("train", "r1", Account(1.0, 1e-7), limit=4.0, limit_delta=1e-6, basis=BASIS)
    charge(ledger, budget="train", run="r1")
    Clock.at += dt.timedelta(minutes=3)
    charge(ledger)
    events = json.loads(paths[0].read_text())["events"]
    assert [event["kind"] for event in events] == ["budget", "spend", "budget", "spend", "spend"]
    assert [event["time"] for event in events] == ["2026-11-23"] * 4 + ["2026-11-24"]
    written = paths[0].read_text() + paths[1].read_text()
    assert "23:5" not in written and "00:0" not in written
    assert all(not isinstance(v, int | float) or v < 1e6 for event in events for v in event.values()), (
        "nor a timestamp as a number"
    )


def test_open_budget_is_not_taken_over_for_another_unit(paths: tuple[Path, Path]) -> None:
    ledger = start(paths, 0.4)
    with pytest.raises(BudgetError, match="protect unit 'row'"):
        ledger.open_budget(
            "schema", None, Account(0.4, 0.0), limit=4.0, limit_delta=1e-6, basis=Basis("who", 2, size_declared=False)
        )
