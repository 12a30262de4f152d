"""The stage: what it reads again and when, what it pays, and whom it warns before."""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from localsynth.config import Config, DataConfig, PrivacyConfig, TrainConfig
from localsynth.errors import BudgetError, ConfigError, DataError, IntegrityError, ResourceError
from localsynth.events import Event
from localsynth.ingest import load, private_bounds
from localsynth.pipeline.ingest import ingest, ingest_if_needed
from localsynth.pipeline.init import initialise
from localsynth.pipeline.session import Options, Session, open_ledger
from localsynth.privacy.account import Account
from localsynth.privacy.gaussian import gaussian_of_rho
from localsynth.privacy.ledger import Ledger
from localsynth.privacy.mechanisms import RangePlan
from localsynth.privacy.noise import RandomSource, SecureRandom
from localsynth.privacy.spend_registry import register_spend, registry_total
from localsynth.schema.columns import Category, Column, Identifier, Integer, Schema
from localsynth.store.private import PrivateStore
from localsynth.system.files import file_sha256
from localsynth.workspace.effective_schema import finished_ingest
from localsynth.workspace.paths import Workspace

UNITS = 300
DECLARED: list[Column] = [Identifier(name="who"), Integer(name="n", min=0, max=999), Category(name="kind", values=["a", "b"])]
OPEN: list[Column] = [Identifier(name="who"), Integer(name="n"), Category(name="kind", values=["a", "b"])]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    write(path, 0)
    return path


def write(path: Path, first: int) -> None:
    path.write_text("who,n,kind\n" + "".join(f"p{i},{first + i},{'ab'[i % 2]}\n" for i in range(UNITS)))


def session(workspace: Workspace, source: Path, columns: list[Column], events: Any = None, **options: Any) -> Session:
    size = UNITS if columns is DECLARED else None
    config = Config(
        data=DataConfig(source=str(source)),
        schema=Schema(columns=columns),
        privacy=PrivacyConfig(epsilon=8, schema_epsilon=1, public_size=size, holdout=0.0),
    )
    return Session(workspace, config, (events if events is not None else []).append, lambda: False, Options(**options))


def document(workspace: Workspace) -> dict[str, Any]:
    return dict(json.loads(workspace.schema_path.read_text()))


def ledger(workspace: Workspace) -> list[dict[str, Any]]:
    return list(json.loads(workspace.ledger_path.read_text())["events"]) if workspace.ledger_path.exists() else []


def stored(workspace: Workspace, columns: list[Column]) -> tuple[set[Any], str]:
    with PrivateStore.open(workspace) as store:
        return {record["n"] for _, record in store.records("train", Schema(columns=columns))}, store.info()["ingest"]


@pytest.mark.parametrize("confirmed", [True, False])
def test_the_schema_of_the_table_is_confirmed_as_the_declared_one(workspace: Workspace, source: Path, confirmed: bool) -> None:
    asked = session(workspace, source, DECLARED)
    schema = asked.config.schema_.model_copy(update={"confirmed": confirmed})
    ingest(replace(asked, config=asked.config.model_copy(update={"schema_": schema})))
    assert finished_ingest(workspace).effective.schema.confirmed is confirmed


# --- reading again ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [DECLARED, OPEN], ids=["declared", "open"])
def test_again_reads_the_source_and_charges_what_it_measures(workspace: Workspace, source: Path, columns: list[Column]) -> None:
    ingest(session(workspace, source, columns))
    rows, name = stored(workspace, columns)
    assert min(rows) == 0 and document(workspace)["ingest"] == name and len(name) == 16
    write(source, 500)
    assert ingest(session(workspace, source, columns)).done_before
    assert stored(workspace, columns) == (rows, name)
    assert not ingest(session(workspace, source, columns, again=True)).done_before
    again, second = stored(workspace, columns)
    assert min(again) == 500 and second != name and document(workspace)["ingest"] == second
    budgets = [event["budget"] for event in ledger(workspace) if event["kind"] == "budget"]
    assert budgets == ([] if columns is DECLARED else ["ingest-size", "ingest", "ingest-2-size", "ingest-2"])
    # An unchanged source is read again, too.
    ingest(session(workspace, source, columns, again=True))
    assert stored(workspace, columns)[1] != second


def test_draws_and_noise_come_from_secure_randomness(workspace: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which rows are held out or left out, and the noise of lists and ranges."""
    sources: list[tuple[str, type]] = []

    def watch(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def watched(*given: Any) -> Any:
            sources.extend((name, type(one)) for one in given if isinstance(one, RandomSource))
            return real(*given)

        monkeypatch.setattr(module, name, watched)

    watch(load, "load_table")
    watch(private_bounds, "measure_column")
    ingest(session(workspace, source, [Identifier(name="who"), Integer(name="n"), Category(name="kind")]))
    assert sources == [("load_table", SecureRandom), *[("measure_column", SecureRandom)] * 2]


def test_nothing_is_measured_on_rows_of_another_ingest(workspace: Workspace, source: Path) -> None:
    """As where an ingest was stopped before it had measured, and private.duckdb was replaced by a copy of another time."""
    ingest(session(workspace, source, OPEN))
    spent = ledger(workspace)
    begun = document(workspace) | {"complete": False, "ingest": "0" * 16}
    begun["schema"] = Schema(columns=OPEN).model_dump(mode="json")
    workspace.schema_path.write_text(json.dumps(begun))
    with pytest.raises(IntegrityError, match="not of the same ingest"):
        ingest(session(workspace, source, OPEN))
    assert ledger(workspace) == spent


def test_schema_file_does_not_reveal_where_the_source_lies(workspace: Workspace, tmp_path: Path) -> None:
    places = [tmp_path / name / "mueller.csv" for name in ("here", "there")]
    for place in places:
        place.parent.mkdir()
        write(place, 0)
    ingest(session(workspace, places[0], DECLARED))
    written = workspace.schema_path.read_text()
    assert str(tmp_path) not in written and "here" not in written and "mueller" not in written
    assert hashlib.sha256(str(places[0]).encode()).hexdigest() not in written, "could be found by trying paths"
    assert ingest(session(workspace, places[0], DECLARED)).done_before
    with pytest.raises(ConfigError, match="have changed"):
        ingest(session(workspace, places[1], DECLARED))


def test_another_run_does_not_ingest_an_unchanged_table_again(workspace: Workspace, source: Path) -> None:
    ingest(session(workspace, source, OPEN))
    before, spent = document(workspace), ledger(workspace)
    assert ingest_if_needed(session(workspace, source, OPEN, again=True)).done_before
    assert (document(workspace), ledger(workspace)) == (before, spent)


@pytest.mark.parametrize("columns", [DECLARED, OPEN], ids=["declared", "open"])
@pytest.mark.parametrize("stage", [ingest, ingest_if_needed])
def test_a_lost_store_is_read_again_without_new_charges(
    workspace: Workspace, source: Path, columns: list[Column], stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(session(workspace, source, columns))
    before, spent = document(workspace), ledger(workspace)
    workspace.private_path.unlink()
    for name in ("measure_unit_count", "measure_column"):
        monkeypatch.setattr(private_bounds, name, lambda *_: pytest.fail("measured again"))
    events: list[Event] = []
    assert not stage(session(workspace, source, columns, events)).done_before
    (note,) = [event["text"] for event in events if event["kind"] == "note"]
    assert str(workspace.private_path) in note and "not charged again" in note
    after = document(workspace)
    assert after.pop("ingest") != before.pop("ingest"), "a run that began with the other rows must notice"
    assert after == before and after["complete"] and ledger(workspace) == spent
    assert len(stored(workspace, columns)[0]) == UNITS


@pytest.mark.parametrize("stage", [ingest, ingest_if_needed])
def test_other_settings_of_the_run_do_not_hinder_a_lost_store(workspace: Workspace, source: Path, stage: Any) -> None:
    """The order of the account that was opened stays, though another would be chosen for these settings."""
    now = session(workspace, source, OPEN)
    ingest(now)
    opened = ledger(workspace)
    workspace.private_path.unlink()
    with pytest.MonkeyPatch.context() as patched:
        other = Account(*(opened[2][key] for key in ("epsilon", "delta")), order=2)
        patched.setattr("localsynth.pipeline.ingest.account_of", lambda *_: other)
        assert not stage(now).done_before
    assert opened[2]["order"] != 2 and ledger(workspace) == opened


@pytest.mark.parametrize(("killed", "times"), [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1)])
def test_a_charge_without_a_result_is_repeated_from_what_is_left(
    workspace: Workspace, source: Path, killed: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the charge for the size, the range and the list, once or twice: it ends right, and in all within epsilon."""
    wanted = ["number of units", "range of column n", "list of values of column kind"]
    all_open: list[Column] = [Identifier(name="who"), Integer(name="n"), Category(name="kind")]
    charge = Ledger.charge

    def killed_after(self: Ledger, **given: Any) -> Any:
        event = charge(self, **given)
        if given["what"] == wanted[killed]:
            raise KeyboardInterrupt
        return event

    for _ in range(times):
        with monkeypatch.context() as patched:
            patched.setattr(Ledger, "charge", killed_after)
            with pytest.raises(KeyboardInterrupt):
                ingest(session(workspace, source, all_open))
    events: list[Event] = []
    now = session(workspace, source, all_open, events)
    assert not ingest(now).done_before and document(workspace)["complete"]
    (warned,) = [event["text"] for event in events if event["kind"] == "warning" and "kept no result" in event["text"]]
    assert wanted[killed] in warned and "taken from what is left" in warned
    opened = open_ledger(now)
    spends = [event["what"] for event in opened.spends()]
    assert sorted(spends) == sorted([*wanted, *[wanted[killed]] * times])
    sizes = ["ingest-size", *[f"ingest-size-{i + 2}" for i in range(times * (killed == 0))]]
    assert [event["budget"] for event in opened.budgets()] == [*sizes, "ingest"]
    assert math.fsum(event["epsilon"] for event in opened.budgets()) == pytest.approx(8.0)
    # What the lost measurements cost is missing from the rest, and the whole is within the target.
    account = opened.budgets()[-1]
    rho = Account(*(account[key] for key in ("epsilon", "delta", "order", "failure"))).rho(opened.charged("ingest"))
    opened.charge(budget="ingest", run="r", stage="train", what="marginals", mechanism=gaussian_of_rho(rho))
    assert 7.99 < opened.spent().bound <= 8.0 + 1e-9
    # Another ingest has budgets of its own, under the next name.
    ingest(session(workspace, source, all_open, again=True))
    assert [event["budget"] for event in ledger(workspace) if event["kind"] == "budget"][-1] == "ingest-2"


@pytest.mark.parametrize("again", [False, True])
def test_a_hidden_range_is_measured_again_in_its_budget(
    workspace: Workspace, source: Path, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At another charge; --again opens a second budget, which the hint of the stop says."""
    release, events = RangePlan.release, list[Event]()
    with monkeypatch.context() as patched:
        patched.setattr(RangePlan, "release", lambda *given: replace(release(*given), hidden=True))
        with pytest.raises(ConfigError, match="hides the range") as caught:
            ingest(session(workspace, source, OPEN))
    assert "--again" in caught.value.hint and "second budget" in caught.value.hint
    ingest(now := session(workspace, source, OPEN, events, again=again))
    opened = open_ledger(now)
    assert [event["what"] for event in opened.spends()].count("range of column n") == 2
    bounds = math.fsum(event["epsilon"] for event in opened.budgets())
    assert bounds == pytest.approx(16.0 if again else 8.0)
    warned = [event["text"] for event in events if event["kind"] == "warning" and "kept no result" in event["text"]]
    assert len(warned) == (0 if again else 1) and "interrupted" not in "".join(warned)


def test_another_ingest_after_one_for_marginals_has_room_for_a_model(workspace: Workspace, source: Path) -> None:
    ingest(session(workspace, source, OPEN))
    now = session(workspace, source, OPEN, again=True)
    now.config = now.config.model_copy(update={"train": TrainConfig(synthesizer="llm")})
    ingest(now)
    accounts = [event for event in open_ledger(now).budgets() if event["budget"] in ("ingest", "ingest-2")]
    assert accounts[0]["order"] == "all" and isinstance(accounts[1]["order"], int)


def test_a_kill_after_opening_the_budget_leads_to_no_second_one(
    workspace: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Ledger.open_budget

    def killed(self: Ledger, *given: Any, **options: Any) -> None:
        opened(self, *given, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "open_budget", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest(session(workspace, source, OPEN))
    ingest(session(workspace, source, OPEN))
    assert [event["budget"] for event in ledger(workspace) if event["kind"] == "budget"] == ["ingest-size", "ingest"]


def test_a_spend_that_could_not_be_registered_is_registered_by_the_next_attempt_once(
    workspace: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: set[float] = set()

    def full_at_first(source_sha256: str, workspace_id: str, epsilon: float) -> None:
        if epsilon not in refused:
            refused.add(epsilon)
            raise ResourceError("The disk is full.")
        register_spend(source_sha256, workspace_id, epsilon)

    def reserved() -> float:
        return sum(event["epsilon"] for event in ledger(workspace) if event["kind"] == "budget")

    monkeypatch.setattr("localsynth.privacy.spend_registry.register_spend", full_at_first)
    for _ in ("of the size", "of the columns"):
        with pytest.raises(ResourceError):
            ingest(session(workspace, source, OPEN))
        assert registry_total(file_sha256(source)).epsilon < reserved()
    for _ in range(2):
        ingest(session(workspace, source, OPEN))
        assert registry_total(file_sha256(source)).workspaces == {workspace.id: reserved()}


def test_a_file_replaced_during_an_interruption_is_charged_nothing(
    workspace: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is measured after the interruption is of the rows that were read before it."""
    with monkeypatch.context() as patched:
        patched.setattr(private_bounds, "measure_column", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ingest(session(workspace, source, OPEN))
    before = file_sha256(source)
    write(source, 10_000)
    ingest(session(workspace, source, OPEN))
    reserved = sum(event["epsilon"] for event in ledger(workspace) if event["kind"] == "budget")
    assert registry_total(file_sha256(source)).workspaces == {}
    assert registry_total(before).workspaces == {workspace.id: reserved}
    assert max(stored(workspace, OPEN)[0]) < UNITS


def test_an_ingest_whose_budget_is_refused_leaves_the_earlier_one(
    workspace: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_given: Any, **_options: Any) -> None:
        raise BudgetError("refused")

    ingest(session(workspace, source, OPEN))
    before = document(workspace)
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "open_budget", refused)
        with pytest.raises(BudgetError, match="refused"):
            ingest(session(workspace, source, OPEN, again=True))
    assert document(workspace) == before and ingest(session(workspace, source, OPEN)).done_before


def test_a_failed_reading_leaves_the_ingest_unfinished(workspace: Workspace, source: Path) -> None:
    ingest(session(workspace, source, OPEN))
    spent = ledger(workspace)
    workspace.private_path.unlink()
    good = source.read_text()
    source.write_text(good + "p,x,a\n")
    with pytest.raises(DataError):
        ingest(session(workspace, source, OPEN))
    source.write_text(good)
    assert not ingest(session(workspace, source, OPEN)).done_before
    assert document(workspace)["complete"] and ledger(workspace) == spent


@pytest.mark.parametrize("declared_size", [True, False])
def test_a_table_that_does_not_fit_binds_the_workspace_to_nothing(
    workspace: Workspace, source: Path, declared_size: bool
) -> None:
    """The kind can be changed as the message says, and ingested without --again: nothing was measured or charged."""
    source.write_text(source.read_text().replace("p7,7,", "p7,seven,"))
    asked = session(workspace, source, OPEN)
    if declared_size:
        privacy = asked.config.privacy.model_copy(update={"public_size": UNITS})
        asked = replace(asked, config=asked.config.model_copy(update={"privacy": privacy}))
    with pytest.raises(DataError, match="row 8, column 'n': not a whole number"):
        ingest(asked)
    assert ledger(workspace) == [] and not workspace.schema_path.exists() and not workspace.private_path.exists()
    changed = Schema(columns=[OPEN[0], Category(name="n"), Category(name="kind")])
    assert not ingest(replace(asked, config=asked.config.model_copy(update={"schema_": changed}))).done_before
    assert [event["budget"] for event in ledger(workspace) if event["kind"] == "budget"][-1] == "ingest"


def test_all_bad_rows_are_named_or_left_out(workspace: Workspace, source: Path) -> None:
    source.write_text(source.read_text().replace("p7,7,", "p7,secret,").replace("p9,9,b", "p9,9").replace("p11,11,", "p11,x,"))
    asked = session(workspace, source, DECLARED)
    with pytest.raises(DataError) as caught:
        ingest(asked)
    message = caught.value.message
    assert "3 rows cannot be read" in message and "line 11: 2 fields" in message and "secret" not in message
    assert "row 8, column 'n'" in message
    events: list[Event] = []
    dropping = asked.config.model_copy(update={"data": asked.config.data.model_copy(update={"bad_rows": "drop"})})
    ingest(replace(asked, config=dropping, emit=events.append))
    assert len(stored(workspace, DECLARED)[0]) == UNITS - 3
    (said,) = [event for event in events if "left out" in str(event.get("private"))]
    assert "3 rows" in said["private"]["text"] and "text" not in said, "a count of rows is for the screen alone"


def test_progress_counts_the_columns_that_are_measured(workspace: Workspace, source: Path) -> None:
    events: list[Event] = []
    ingest(session(workspace, source, [Identifier(name="who"), Integer(name="n"), Category(name="kind")], events))
    steps = [(event["step"], event["steps"]) for event in events if event.get("work") == "columns"]
    assert steps == [(1, 2), (2, 2)]


# --- the public size --------------------------------------------------------------------------------------------------


def test_the_keep_probability_follows_the_measured_size(
    workspace: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_bounds, "measure_unit_count", lambda units, parts, charge: 1000)
    ingest(session(workspace, source, OPEN, max_units=250))
    assert document(workspace)["size"] == {"units": 1000, "origin": "measured"}
    assert document(workspace)["keep_probability"] == 0.25
    rows, _ = stored(workspace, OPEN)
    assert abs(len(rows) - UNITS * 0.25) < 6 * math.sqrt(UNITS * 0.25 * 0.75)


# --- the warning ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [DECLARED, OPEN], ids=["declared", "open"])
def test_spends_of_other_workspaces_are_warned_of_first(workspace: Workspace, source: Path, columns: list[Column]) -> None:
    class Watching(list[Event]):
        def append(self, event: Event) -> None:
            super().append({**event, "ledger": len(ledger(workspace)), "read": workspace.private_path.exists()})

    events = Watching()
    register_spend(file_sha256(source), "another workspace", 2.5)
    ingest(session(workspace, source, columns, events))
    (warning,) = [event for event in events if event["kind"] == "warning" and "other workspace" in event["text"]]
    assert "epsilon 2.5" in warning["text"] and warning["ledger"] == 0 and not warning["read"]


def test_there_is_no_warning_of_own_spends(workspace: Workspace, source: Path) -> None:
    events: list[Event] = []
    ingest(session(workspace, source, OPEN))
    ingest(session(workspace, source, OPEN, events, again=True))
    assert not [event for event in events if event["kind"] == "warning" and "other workspace" in event["text"]]


# --- init -------------------------------------------------------------------------------------------------------------


def test_init_notes_keys_that_few_records_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))
    path = tmp_path / "t.jsonl"
    records = ({"n": i * 7 % 50, "kind": "ab"[i % 2]} | ({f"Ann {i}": 1} if i < 12 else {}) for i in range(2000))
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    events: list[Event] = []
    initialise(tmp_path / "ws", {"source": str(path)}, events.append)
    (note,) = [event["text"] for event in events if "1 in 100" in event["text"]]
    assert "'Ann 0'" in note and "'Ann 9' and 2 more" in note and "data.columns" in note
    events.clear()
    initialise(tmp_path / "other", {"source": str(path), "columns": ["n", "kind"]}, events.append)
    assert not [event for event in events if "1 in 100" in event["text"]]


def test_init_of_a_wide_table_shows_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))
    path = tmp_path / "t.csv"
    path.write_text("\n".join(",".join(f"{sign}{n}" for n in range(200)) for sign in ("", "-", "5")) + "\n")
    events: list[Event] = []
    initialise(tmp_path / "ws", {"source": str(path), "header": True}, events.append)
    assert [event["step"] for event in events if event["kind"] == "progress"] == list(range(1, 201))
