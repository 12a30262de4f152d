"""A run by marginals: charged whole before a row is read, certified, verified, and drawn from as asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from localsynth.errors import BudgetError, ConfigError, IntegrityError
from localsynth.marginals import measure as measuring
from localsynth.marginals.accounting import epsilon_of_rho, total_rho
from localsynth.planning import synthesizer_of
from localsynth.privacy.noise import REHEARSAL_LABEL, SECURE_LABEL, SecureRandom
from localsynth.runs import Run, latest_run
from localsynth.sample.from_marginals import read_marginals
from localsynth.schema import Text
from localsynth.stages.export import export
from localsynth.stages.ingest import ingest
from localsynth.stages.plan import plan
from localsynth.stages.sample import sample
from localsynth.stages.session import Session, open_ledger
from localsynth.stages.train import train
from localsynth.store.private import PrivateStore
from localsynth.store.synthetic import SyntheticStore
from localsynth.verify import verify_file
from localsynth.workspace import read_json, write_json


def run_of(session: Session) -> Run:
    run = latest_run(session.workspace)
    assert run is not None
    return run


@pytest.fixture
def session(make_session: Any) -> Session:
    session: Session = make_session(synthesizer="auto", rows=30)
    ingest(session)
    return session


def spends(session: Session) -> list[dict[str, Any]]:
    return [e for e in open_ledger(session).document()["events"] if e["kind"] == "spend" and e["stage"] == "train"]


def test_what_makes_the_rows(make_session: Any) -> None:
    config = make_session(synthesizer="auto").config
    assert synthesizer_of(config) == "marginals"
    text = config.schema_.model_copy(update={"columns": [*config.schema_.columns, Text(name="note")]})
    assert synthesizer_of(config.model_copy(update={"schema_": text})) == "hybrid"
    alone = config.schema_.model_copy(update={"columns": [Text(name="note")]})
    assert synthesizer_of(config.model_copy(update={"schema_": alone})) == "llm"
    wanted = make_session(synthesizer="marginals").config.model_copy(update={"schema_": text})
    with pytest.raises(ConfigError, match="'note' is a text column"):
        synthesizer_of(wanted)
    assert plan(make_session(synthesizer="auto"))["synthesizer"] == "marginals"


def test_everything_is_charged_before_a_row_is_read(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    read = PrivateStore.records

    def watched(self: PrivateStore, *arguments: Any) -> Any:
        seen.append(len(spends(session)))
        return read(self, *arguments)

    monkeypatch.setattr(PrivateStore, "records", watched)
    train(session)
    assert seen == [1]
    (event,) = spends(session)
    model = read_marginals(run_of(session).marginals_path)
    privacy = session.config.privacy
    assert event["mechanism"] == {
        "type": "approximate_dp",
        "epsilon": pytest.approx(privacy.epsilon, rel=1e-6),
        "delta": session.config.delta(),
    }
    assert total_rho(model.spends) <= model.rho == event["details"]["rho"]
    assert epsilon_of_rho(model.rho, event["mechanism"]["delta"]) <= event["mechanism"]["epsilon"] * (1 + 1e-9)


def test_units_count_with_all_their_rows_and_noise_is_secure(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    real = measuring.measure_marginals

    def watched(domain: Any, codes: Any, rho: float, random: Any, settings: Any, report: Any) -> Any:
        given.append((len(next(iter(codes.values()))), random, settings))
        return real(domain, codes, rho, random, settings, report)

    monkeypatch.setattr(measuring, "measure_marginals", watched)
    train(session)
    ((rows, random, settings),) = given
    assert settings.rows_per_unit == session.config.privacy.max_rows_per_unit == 2
    assert settings.public_rows is None, "the number of units may be public, that of rows is not"
    assert type(random) is SecureRandom
    with PrivateStore.open(session.workspace) as store:
        assert rows == store.row_count("train") < store.row_count("train") + store.row_count("holdout")


def test_a_certificate_that_verify_works_out_again(session: Session) -> None:
    train(session)
    export(session)
    run = run_of(session)
    certificate = read_json(run.certificate_path)
    guarantee = certificate["guarantee"]
    assert guarantee["spent_epsilon"] <= guarantee["guaranteed_epsilon"] <= session.config.privacy.epsilon
    assert guarantee["sampler"].startswith("none") and guarantee["noise"] == SECURE_LABEL
    report = verify_file(run.certificate_path, None)
    status = {finding["name"]: finding["status"] for finding in report["findings"]}
    assert report["valid"] and status["marginals"] == "ok" and "model" not in status
    assert export(session)["done_before"]


def tampered(tree: dict[str, Any], how: str) -> dict[str, Any]:
    if how == "less noise":
        tree["spends"][0]["parameter"] /= 2
    elif how == "another budget":
        tree["rho"] *= 2
    elif how == "another generator":
        tree["noise"] = "INSECURE, for tests"
    return tree


@pytest.mark.parametrize("how", ["less noise", "another budget", "another generator"])
def test_measuring_more_than_was_charged_is_found(session: Session, how: str) -> None:
    """As if the run itself had measured so: the certificate names the very file."""
    train(session)
    run = run_of(session)
    write_json(run.marginals_path, tampered(json.loads(run.marginals_path.read_text()), how))
    run.note(marginals_sha256=run.marginals_sha256())
    export(session)
    findings = [f["status"] for f in verify_file(run.certificate_path, None)["findings"] if f["name"] == "marginals"]
    assert findings == ["ok", "failed"], "the file is the one named, and what is in it was not paid for"


def test_marginals_that_were_changed_are_not_certified_and_not_drawn_from(session: Session) -> None:
    train(session)
    run = run_of(session)
    whole = run.marginals_path.read_bytes()
    run.marginals_path.write_bytes(whole.replace(b"0.", b"1.", 1))
    with pytest.raises(IntegrityError, match="not what run"):
        export(session)
    run.marginals_path.write_bytes(whole)
    export(session)
    run.marginals_path.write_bytes(whole + b"\n")
    with pytest.raises(IntegrityError):
        sample(session)
    assert not verify_file(run.certificate_path, None)["valid"]


def test_a_run_killed_after_its_charge_does_not_measure_for_nothing(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_arguments: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(measuring, "measure_marginals", killed)
        with pytest.raises(KeyboardInterrupt):
            train(session)
    read = PrivateStore.records
    monkeypatch.setattr(PrivateStore, "records", lambda *_: pytest.fail("the table was read without a charge"))
    with pytest.raises(BudgetError) as error:
        train(session)
    assert "interrupted" in error.value.hint and len(spends(session)) == 1
    monkeypatch.setattr(PrivateStore, "records", read)


def test_rows_are_valid_go_on_and_follow_conditions(session: Session, make_session: Any) -> None:
    train(session)
    export(session)
    assert sample(session)["rows"] == 30
    first = list(SyntheticStore(session.workspace.synthetic_path).records())
    asked: dict[str, Any] = {"synthesizer": "auto"}
    sample(make_session(**asked, more=40, where="kind = 'b' AND n BETWEEN 10 AND 5000"))
    sample(make_session(**asked, more=60, balance="kind=a:0.25,b:0.75"))
    rows = list(SyntheticStore(session.workspace.synthetic_path).records())
    assert rows[:30] == first and [row["who"] for row in rows] == list(range(1, 131))
    assert all(row["kind"] == "b" and 10 <= row["n"] <= 5000 for row in rows[30:70])
    assert abs(sum(row["kind"] == "b" for row in rows[70:]) - 45) <= 2
    assert all(row["kind"] in ("a", "b", None) and (row["n"] is None or 0 <= row["n"] <= 9999) for row in rows)


def test_a_job_gone_on_with_draws_the_same_rows(session: Session, make_session: Any, tmp_path: Path) -> None:
    train(session)
    export(session)
    sample(session)
    sample(make_session(synthesizer="auto", rows=55))
    rows = list(SyntheticStore(session.workspace.synthetic_path).records())
    session.workspace.synthetic_path.unlink()
    sample(make_session(synthesizer="auto", rows=55))
    assert list(SyntheticStore(session.workspace.synthetic_path).records()) == rows


def test_a_rehearsal_says_so(make_session: Any) -> None:
    session = make_session(synthesizer="auto", rehearsal_steps=3)
    ingest(session)
    train(session)
    assert run_of(session)["train"]["noise"] == REHEARSAL_LABEL
    export(session)
    assert not verify_file(run_of(session).certificate_path, None)["valid"]
