"""A hybrid run on the tiny model: marginals first, then texts to go with them."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

from localsynth.config import SampleConfig, TextCountsConfig
from localsynth.errors import BudgetError, IntegrityError
from localsynth.evaluate.audit import attack
from localsynth.llm.row_text import Encoded
from localsynth.marginals.file import read_marginals
from localsynth.pipeline.audit import audit
from localsynth.pipeline.export import export
from localsynth.pipeline.ingest import ingest
from localsynth.pipeline.plan import plan
from localsynth.pipeline.sample import sample
from localsynth.pipeline.session import Options, Session, open_ledger
from localsynth.pipeline.train import train, train_or_resume
from localsynth.privacy.account import Account
from localsynth.privacy.gaussian import gaussian_of_rho
from localsynth.sample.candidates import Request
from localsynth.sample.sampler import Sampler
from localsynth.schema.columns import Record, Schema, Text, conform
from localsynth.store.private import PrivateStore
from localsynth.store.synthetic import SyntheticStore
from localsynth.system.files import read_json
from localsynth.train import loop
from localsynth.verification.file import verify_file
from localsynth.workspace.runs import Run, latest_run


def with_texts(session: Session) -> Session:
    """The same table, its number read as a text."""
    columns = [Text(name="n", max_tokens=8) if c.name == "n" else c for c in session.config.schema_.columns]
    session.config = session.config.model_copy(update={"schema_": Schema(confirmed=True, columns=columns)})
    return session


@pytest.fixture
def session(make_session: Any) -> Session:
    session = with_texts(make_session(synthesizer="auto", rows=12))
    ingest(session)
    return session


def run_of(session: Session) -> Run:
    run = latest_run(session.workspace)
    assert run is not None
    return run


def budgets_and_spends(session: Session) -> tuple[list[str], list[str]]:
    events = open_ledger(session).document()["events"]
    return (
        [event["budget"] for event in events if event["kind"] == "budget"],
        [event["what"] for event in events if event["kind"] == "spend"],
    )


def test_plan_shows_what_each_stage_costs_alone(session: Session) -> None:
    planned = plan(session)
    assert planned.synthesizer == "hybrid"
    alone = planned.epsilon
    assert list(alone) == ["total", "marginals", "train"] and alone["total"] == 4.0
    # A fifth of δ as well as of ε makes its ε at the whole δ less than 0.8.
    assert 0.7 < alone["marginals"] < 0.8 and alone["train"] < 4.0 < alone["marginals"] + alone["train"]
    session.config = session.config.model_copy(update={"text_counts": TextCountsConfig()})
    counted = plan(session).epsilon
    assert 0.5 < counted["text_counts"] < 0.64 and counted["marginals"] == alone["marginals"]
    assert counted["train"] < alone["train"]


def test_marginals_are_charged_first_and_the_model_learns_texts(session: Session, quick_training: list[dict[str, Any]]) -> None:
    train(session)
    budgets, spends = budgets_and_spends(session)
    assert budgets == [run_of(session).id] and spends[0] == "marginals" and set(spends[1:]) == {"DP-SGD step"}
    marginals = read_json(run_of(session).marginals_path)
    assert [attribute["column"]["name"] for attribute in marginals["attributes"]] == ["kind", "length of n"]
    (call,) = quick_training
    account = Account(4.0, session.config.privacy.resolved_delta)
    charged = [gaussian_of_rho(marginals["rho"]), call["plan"].all_steps]
    assert 0.98 * 4.0 < account.spent(charged) <= 4.0
    rows: list[Encoded] = [row for unit in call["units"] for row in unit]
    # " 1234\n" of "kind: a\nlength of n: 1\nn: 1234\n" is what carries loss.
    assert rows and all(0 < sum(row.learned) < len(row.tokens) / 2 for row in rows)
    assert all(not any(row.learned[: row.learned.index(True)]) and all(row.learned[row.learned.index(True) :]) for row in rows)


def test_the_certificate_names_both_and_rows_follow_the_marginals(
    session: Session, quick_training: list[dict[str, Any]], make_session: Any
) -> None:
    train(session)
    export(session)
    run = run_of(session)
    report = verify_file(run.certificate_path, None)
    status = [(finding["name"], finding["status"]) for finding in report["findings"]]
    assert report["valid"] and ("model", "ok") in status and status.count(("marginals", "ok")) == 2
    alone = verify_file(run.product_path, None)
    assert alone["valid"] and ("marginals", "not checked") in [(f["name"], f["status"]) for f in alone["findings"]]

    assert sample(session).rows == 12
    sample(with_texts(make_session(synthesizer="auto", more=6, where="kind = 'b' AND n = 'told'")))
    rows = list(SyntheticStore(session.workspace.synthetic_path).records())
    learned = [{"kind": row["kind"], "n": row["n"]} for row in rows]
    assert all(conform(session.config.schema_, {"kind": row["kind"], "n": row["n"]}) == row for row in learned)
    assert learned[12:] == [{"kind": "b", "n": "told"}] * 6
    drawn = read_marginals(run.marginals_path).sample(12, session.config.sample.seed)
    assert [row["kind"] for row in learned[:12]] == [row["kind"] for row in drawn]
    assert [row["n"] is None for row in learned[:12]] == [row["length of n"] is None for row in drawn]
    # The same seed draws the same rows, whatever the jobs they are drawn in.
    session.workspace.synthetic_path.unlink()
    sample(with_texts(make_session(synthesizer="auto", rows=5)))
    sample(with_texts(make_session(synthesizer="auto", rows=12)))
    again = list(SyntheticStore(session.workspace.synthetic_path).records())
    assert again == rows[:12]


def test_guidance_contrasts_texts_with_those_of_other_values(
    session: Session, quick_training: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    train(session)
    export(session)
    asked: list[tuple[int, list[Request]]] = []
    drawing = Sampler.rows

    def rows(sampler: Sampler, requests: Iterable[Request]) -> Iterator[tuple[int, Record]]:
        requests = list(requests)
        assert sampler._plan.hybrid, "a missing text is the marginals' choice, which the model has not learned"
        asked.append((sampler._sequences_per_slot, requests))
        return drawing(sampler, requests)

    monkeypatch.setattr(Sampler, "rows", rows)
    tables = []
    for guidance in (0.0, 2.0):
        session.config = session.config.model_copy(update={"sample": SampleConfig(rows=12, guidance=guidance)})
        sample(session)
        tables.append([row["n"] for row in SyntheticStore(session.workspace.synthetic_path).records()])
        session.workspace.synthetic_path.unlink()
    assert tables[0] != tables[1]
    (plain, unguided), (twice, guided) = asked
    assert (plain, twice) == (1, 2)
    assert [request.conditions for request in unguided] == [request.conditions for request in guided], "nothing else changes"
    assert all(request.contrast is None for request in unguided)
    for request in guided:
        own = request.conditions["kind"].single
        assert own is not None and request.contrast is not None and set(request.contrast) == {"kind"}
        assert request.contrast["kind"] != own.value


def test_the_rows_shown_before_training_are_those_of_the_table(session: Session, quick_training: list[dict[str, Any]]) -> None:
    told: list[str] = []
    session.emit = lambda event: told.append(event["text"]) if event["kind"] == "note" else None
    train(session)
    assert told.pop(0).startswith("Computing the number of training steps")  # loading the training is not silent
    assert "Their texts follow" in told[0] and not any("n:" in text for text in told[1:])
    export(session)
    sample(session)
    rows = list(SyntheticStore(session.workspace.synthetic_path).records())[:3]
    assert told[1:4] == [f"who: {row['who']} | kind: {row['kind']}" for row in rows]


def test_changed_marginals_of_a_hybrid_are_refused(session: Session, quick_training: list[dict[str, Any]]) -> None:
    train(session)
    path = run_of(session).marginals_path
    whole = path.read_bytes()
    path.write_bytes(whole + b"\n")
    with pytest.raises(IntegrityError, match="not what run"):
        export(session)
    path.write_bytes(whole)
    export(session)
    path.write_text(json.dumps(read_json(path)))
    with pytest.raises(IntegrityError, match="not what run"):
        sample(session)
    assert not verify_file(run_of(session).certificate_path, None)["valid"]


def test_a_run_stopped_in_training_keeps_its_marginals(
    session: Session, quick_training: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(**_given: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("localsynth.train.loop.train", killed)
        with pytest.raises(KeyboardInterrupt):
            train(session)
    before = run_of(session).marginals_path.read_bytes()
    train_or_resume(session)
    assert run_of(session).marginals_path.read_bytes() == before
    assert budgets_and_spends(session)[1].count("marginals") == 1
    session.options = type(session.options)(again=True)
    with monkeypatch.context() as patched:
        patched.setattr("localsynth.marginals.measure.measure_marginals", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(session)
    session.options = type(session.options)()
    monkeypatch.setattr(PrivateStore, "records", lambda *_: pytest.fail("the table was read without a charge"))
    with pytest.raises(BudgetError):
        train_or_resume(session)


def test_a_damaged_store_is_found_before_anything_is_charged(session: Session, quick_training: list[dict[str, Any]]) -> None:
    path = session.workspace.private_path
    whole = path.read_bytes()

    def opens_and_has_no_rows(place: int) -> bool:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            with PrivateStore.open(session.workspace) as store:
                store.info()
        except IntegrityError:
            return False
        with pytest.raises(IntegrityError), PrivateStore.open(session.workspace) as store:
            list(store.records("train", session.config.schema_))
        return True

    # A byte of the rows' values: what opening reads is whole.
    assert any(opens_and_has_no_rows(place) for place in range(len(whole) - 1, 0, -4096))
    with pytest.raises(IntegrityError, match="damaged"):
        train(session)
    assert "marginals" not in budgets_and_spends(session)[1]
    path.write_bytes(whole)
    train_or_resume(session)
    assert budgets_and_spends(session)[1].count("marginals") == 1


def test_the_audit_trains_on_texts_alone_too(
    session: Session, quick_training: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    train(session)
    seen: list[Any] = []

    def attacked(canaries: list[Any], *others: Any) -> Any:
        seen.append(canaries)
        nothing = np.zeros(len(canaries))
        return attack.Attacked("fp32", nothing.astype(bool), nothing, nothing)

    monkeypatch.setattr(attack, "attack_training", attacked)
    session.options = Options(canaries=40)
    found = audit(session)
    assert 2.5 < found.claimed.epsilon < 3.6, "the training's part, not that of the marginals"
    (canaries,) = seen
    assert len(canaries) == 40
    assert all(0 < sum(row.learned) < len(row.tokens) / 2 for unit in canaries for row in unit)


def test_training_takes_no_more_than_its_steps_and_reserve(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is left of the budget then is for counting the texts."""
    session.config = session.config.model_copy(update={"text_counts": TextCountsConfig()})
    ingest(session)
    charged = 0

    def without_end(**given: Any) -> None:
        nonlocal charged
        while True:
            given["charge_step"]()
            charged += 1

    monkeypatch.setattr(loop, "train", without_end)
    monkeypatch.setattr("localsynth.pipeline.train._check_own_model", lambda name, path: None)
    with pytest.raises(BudgetError, match="reserve"):
        train(session)
    plan = run_of(session).model.plan
    assert charged == plan["steps"] + plan["reserve"]
