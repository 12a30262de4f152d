"""A run by marginals: charged whole before a row is read, certified, verified, and drawn from as asked."""

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from localsynth.config import EvaluateConfig
from localsynth.errors import BudgetError, Cancelled, ConfigError, IntegrityError
from localsynth.marginals import measure as measuring
from localsynth.marginals.accounting import Spend, total_rho
from localsynth.marginals.file import read_marginals
from localsynth.marginals.mechanisms import PrivateCounts
from localsynth.pipeline import run as running
from localsynth.pipeline.export import export
from localsynth.pipeline.ingest import ingest
from localsynth.pipeline.plan import plan
from localsynth.pipeline.sample import sample
from localsynth.pipeline.session import Session, open_ledger
from localsynth.pipeline.train import train
from localsynth.planning.budgets import shares_of
from localsynth.privacy import account
from localsynth.privacy.gaussian import gaussian_of_rho, rho_for
from localsynth.privacy.noise import REHEARSAL_LABEL, SECURE_LABEL, SecureRandom
from localsynth.privacy.signing import sign
from localsynth.results.as_json import to_json
from localsynth.results.stages import EvaluateResult
from localsynth.schema.columns import Text
from localsynth.store.private import PrivateStore
from localsynth.store.synthetic import SyntheticStore
from localsynth.system.files import file_sha256, read_json, write_json
from localsynth.verification.file import verify_file
from localsynth.verification.marginals import what_is_wrong
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import Run, latest_run
from tests.helpers.private_rows import watch_rows


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


def test_the_synthesizer_follows_from_the_columns(make_session: Any) -> None:
    config = make_session(synthesizer="auto").config
    assert config.synthesizer == "marginals"
    text = config.schema_.model_copy(update={"columns": [*config.schema_.columns, Text(name="note")]})
    assert config.model_copy(update={"schema_": text}).synthesizer == "hybrid"
    alone = config.schema_.model_copy(update={"columns": [Text(name="note")]})
    assert config.model_copy(update={"schema_": alone}).synthesizer == "llm"
    wanted = make_session(synthesizer="marginals").config.model_copy(update={"schema_": text})
    with pytest.raises(ConfigError, match="'note' is a text column"):
        _ = wanted.synthesizer
    assert plan(make_session(synthesizer="auto")).synthesizer == "marginals"


def test_run_makes_a_report_that_was_interrupted(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise Cancelled("Stopped during evaluate.")

    def made(session: Session, current: Run) -> EvaluateResult:
        (current.directory / "report.html").touch()
        return EvaluateResult(current.id, False, "report.html", "report.json")

    monkeypatch.setattr(running, "evaluate_run", interrupted)
    with pytest.raises(Cancelled):
        running.run(session)
    spent = open_ledger(session).document()
    monkeypatch.setattr(running, "evaluate_run", made)
    assert running.needs_key(session.workspace, "run")
    result = running.run(session)
    assert [stage.stage for stage in result.stages] == ["evaluate"] and result.report is not None
    assert open_ledger(session).document() == spent and not running.needs_key(session.workspace, "run")
    with pytest.raises(ConfigError, match="finished"):
        running.run(session)


def test_marginals_are_charged_before_a_row_is_read(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watch_rows(monkeypatch, lambda: len(spends(session)))
    train(session)
    assert set(seen) == {1}
    (event,) = spends(session)
    model = read_marginals(run_of(session).marginals_path)
    rho = rho_for(session.config.privacy.epsilon, session.config.privacy.resolved_delta)
    assert event["mechanism"] == gaussian_of_rho(rho) and event["details"] == {}
    assert total_rho(model.spends) <= model.rho == rho
    assert open_ledger(session).spent().epsilon == pytest.approx(session.config.privacy.epsilon, rel=1e-6)


def test_a_rho_beyond_the_budget_is_refused_before_a_row_is_read(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "rho_for", lambda *share: rho_for(*share) * (1 + 1e-6))
    monkeypatch.setattr(PrivateStore, "records", lambda *_: pytest.fail("the table was read"))
    with pytest.raises(BudgetError, match="used up"):
        train(session)
    assert spends(session) == []


class Transcript:
    """Records what is told of the rows, then tells the same of any others: what is made of it may depend on nothing else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[tuple[Any, Any]] = []
        self.replayed: Iterator[tuple[Any, Any]] | None = None
        for name in ("noisy_counts", "noisy_distances"):
            self._watch(monkeypatch, name, getattr(PrivateCounts, name))

    def _watch(self, monkeypatch: pytest.MonkeyPatch, name: str, real: Any) -> None:
        def watched(table: PrivateCounts, *arguments: Any) -> Any:
            asked = repr((name, arguments))
            if self.replayed is None:
                self.told.append((asked, copy.deepcopy(real(table, *arguments))))
                return copy.deepcopy(self.told[-1][1])
            before, answer = next(self.replayed)
            if asked != before:
                pytest.fail(f"what is asked of other rows is something else: {name}")
            table._budget.charge(_spend(name, arguments))
            return copy.deepcopy(answer)

        monkeypatch.setattr(PrivateCounts, name, watched)

    def replay(self) -> None:
        self.replayed = iter(self.told)


def _spend(name: str, arguments: Any) -> Spend:
    return Spend("gaussian", arguments[1], arguments[0]) if name == "noisy_counts" else Spend("distances", arguments[1], ())


def test_the_written_model_follows_from_noisy_measurements_alone(
    session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two tables of which the same is told leave the same files, byte for byte: exact counts, how many rows there are among
    them, are in none and decide nothing."""
    shutil.copytree(session.workspace.root, tmp_path / "again")
    shutil.copytree(tmp_path / "home", tmp_path / "home again")
    transcript = Transcript(monkeypatch)
    train(session)
    first = {path.name: path.read_bytes() for path in run_of(session).directory.iterdir()}

    transcript.replay()
    session.workspace = Workspace(tmp_path / "again")
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home again"))
    read = PrivateStore.records
    few = [{"kind": "b", "n": 9000 + number % 7} for number in range(40)]
    monkeypatch.setattr(PrivateStore, "records", lambda store, *given: [(i, row) for i, row in enumerate(few)])
    train(session)
    monkeypatch.setattr(PrivateStore, "records", read)
    again = {path.name: path.read_bytes() for path in run_of(session).directory.iterdir()}
    assert [name for name in first if again[name] != first[name]] == []
    assert set(again) == set(first) == {"run.json", "events.jsonl", "marginals.json"}


def test_a_unit_counts_with_all_its_rows_under_secure_noise(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert rows == sum(store.column_counts(0, "train").values()) and store.column_counts(0, "holdout")


@pytest.mark.parametrize(("named", "preferred"), [("kind", "kind"), ("who", None), ("nothing", None), (None, None)])
def test_pairs_of_the_configured_target_are_preferred(
    session: Session, monkeypatch: pytest.MonkeyPatch, named: str | None, preferred: str | None
) -> None:
    """A key is not learned; what is no column at all is refused by the report."""

    def watched(*given: Any) -> Any:
        assert given[4].target == preferred
        raise Cancelled("Seen.")

    monkeypatch.setattr(measuring, "measure_marginals", watched)
    session.config = session.config.model_copy(update={"evaluate": EvaluateConfig(target=named)})
    with pytest.raises(Cancelled, match="Seen"):
        train(session)


def test_verify_recomputes_the_certificate_of_marginals(session: Session) -> None:
    train(session)
    export(session)
    run = run_of(session)
    certificate = read_json(run.certificate_path)
    guarantee = certificate["guarantee"]
    assert guarantee["spent_epsilon"] <= guarantee["guaranteed_epsilon"] <= session.config.privacy.epsilon
    assert guarantee["risks"] == to_json(plan(session).risks), "known before anything is spent"
    assert guarantee["sampler"].startswith("no subsampling") and guarantee["noise"] == SECURE_LABEL
    report = verify_file(run.certificate_path, None)
    status = {finding["name"]: finding["status"] for finding in report["findings"]}
    assert report["valid"] and status["marginals"] == "ok" and "model" not in status
    assert export(session).done_before


def _less_noise_charged(tree: dict[str, Any]) -> None:
    tree["spends"][0]["parameter"] /= 2


def _less_noise_drawn(tree: dict[str, Any]) -> None:
    for measured in tree["measured"]:
        measured["sigma"] /= 2


def _less_noise_everywhere(tree: dict[str, Any]) -> None:
    tree["spends"][0]["parameter"] /= 2
    tree["measured"][0]["sigma"] /= 2


def _a_little_less_noise(tree: dict[str, Any]) -> None:
    for spend, measured in zip(tree["spends"], tree["measured"], strict=False):
        spend["parameter"] *= 1 - 1e-6
        measured["sigma"] *= 1 - 1e-6


def _another_column(tree: dict[str, Any]) -> None:
    tree["attributes"][0]["column"]["values"] = ["a", "c"]


def _other_bins(tree: dict[str, Any]) -> None:
    """More of them than is public: where the bounds of the bins lie could tell of the rows."""
    del tree["attributes"][1]["starts"][5]
    grouping = tree["merged_bins"]["n"]
    del grouping["groups"][5], grouping["shares"][5]
    groups = sorted(set(grouping["groups"]))
    tree["merged_bins"]["n"]["groups"] = [groups.index(group) for group in grouping["groups"]]
    for group in groups:
        mass = sum(s for g, s in zip(grouping["groups"], grouping["shares"], strict=True) if g == groups.index(group))
        grouping["shares"] = [
            s / mass if g == groups.index(group) and mass else s
            for g, s in zip(grouping["groups"], grouping["shares"], strict=True)
        ]


TAMPERED: dict[str, Any] = {
    "no spends": lambda tree: tree.update(spends=[]),
    "one spend less": lambda tree: tree["spends"].pop(),
    "distances less": lambda tree: tree.update(spends=[s for s in tree["spends"] if s["kind"] != "distances"]),
    "another kind": lambda tree: tree["spends"][0].update(kind="foo"),
    "other columns counted": lambda tree: tree["spends"][0].update(columns=["n"]),
    "less noise charged": _less_noise_charged,
    "less noise drawn": _less_noise_drawn,
    "less noise everywhere": _less_noise_everywhere,
    "a little less noise": _a_little_less_noise,
    "another budget": lambda tree: tree.update(rho=tree["rho"] * (1 + 1e-6)),
    "a smaller budget": lambda tree: tree.update(rho=tree["rho"] * (1 - 1e-6)),
    "another generator": lambda tree: tree.update(noise="INSECURE, for tests"),
    "another column": _another_column,
    "other bins": _other_bins,
    "a column less": lambda tree: tree["attributes"].pop(),
    "a potential more": lambda tree: tree["potentials"].append({"columns": ["n", "kind"], "logarithms": [[0.0]]}),
    "a potential less": lambda tree: tree["potentials"].pop(),
    "one more key": lambda tree: tree.update(rows=450),
    "one more key of a spend": lambda tree: tree["spends"][0].update(rows=450),
    "one more key of a count": lambda tree: tree["measured"][0].update(exact=[1]),
    "an impossible parameter": lambda tree: tree["spends"][0].update(parameter=1e-200),
    "no merged_bins": lambda tree: tree.update(merged_bins=[]),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where a finished run lies, once the first test of a tampered file has made it."""
    return {}


@pytest.mark.parametrize("how", list(TAMPERED))
def test_measuring_more_than_was_charged_is_found(
    how: str, finished: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    """As if the run itself had measured so: the certificate names the very file."""
    if not finished:
        session = request.getfixturevalue("session")
        train(session)
        export(session)
        kept = tmp_path_factory.mktemp("finished")
        for path in (run_of(session).marginals_path, run_of(session).certificate_path):
            shutil.copy(path, kept)
        finished["run"] = kept
    kept = finished["run"]
    tree, certificate = (json.loads((kept / name).read_text()) for name in ("marginals.json", "certificate.json"))

    def findings() -> list[str]:
        certificate["hashes"]["marginals"] = file_sha256(kept / "marginals.json")
        write_json(kept / "certificate.json", sign({**certificate, "signature": None}, Ed25519PrivateKey.generate()))
        return [f["status"] for f in verify_file(kept / "certificate.json", None)["findings"] if f["name"] == "marginals"]

    try:
        assert findings() == ["ok", "ok"]
        changed = copy.deepcopy(tree)
        TAMPERED[how](changed)
        assert changed != tree
        write_json(kept / "marginals.json", changed)
        assert findings() == ["ok", "failed"], "the file is the one named, and what is in it was not paid for"
    finally:
        write_json(kept / "marginals.json", tree)


def test_a_file_of_marginals_that_is_too_large_is_not_read(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    train(session)
    export(session)
    monkeypatch.setattr("localsynth.marginals.file._MAX_BYTES", 100)
    findings = [f["status"] for f in verify_file(run_of(session).certificate_path, None)["findings"] if f["name"] == "marginals"]
    assert findings == ["ok", "failed"]
    with pytest.raises(IntegrityError, match="too large"):
        sample(session)


def test_verify_takes_the_charge_of_the_newest_run(session: Session, make_session: Any) -> None:
    train(session)
    export(session)
    session = make_session(synthesizer="auto", rows=30, again=True)
    train(session)
    export(session)
    run = run_of(session)
    assert verify_file(run.certificate_path, None)["valid"]
    document = read_json(run.certificate_path)
    model = read_marginals(run.marginals_path)
    assert what_is_wrong(model, document) == ""
    events = document["ledger"]["events"]
    last = [event for event in events if event["kind"] == "spend"][-1]
    last["run"] = next(event["run"] for event in events if event["run"] != run.id)
    assert "charged for this run" in what_is_wrong(model, document), "an earlier run's charge, though it is the last"
    unordered = read_json(run.certificate_path)
    unordered["settings"]["data"]["sequence_by"] = "n"
    assert "Its columns are not those" in what_is_wrong(model, unordered), "no sequences"
    last.update(run=run.id, mechanism={"type": "pure_dp", "epsilon": 4.0})
    assert what_is_wrong(model, document)


def test_marginals_get_the_budget_that_the_schema_leaves(make_session: Any) -> None:
    session = make_session(synthesizer="auto", rows=30)
    privacy = session.config.privacy.model_copy(update={"public_size": None})
    session.config = session.config.model_copy(update={"privacy": privacy})
    ingest(session)
    train(session)
    export(session)
    share = shares_of(session.config)
    model = read_marginals(run_of(session).marginals_path)
    assert share.size_epsilon > 0 and model.rho == rho_for(
        privacy.epsilon - share.size_epsilon, session.config.privacy.resolved_delta
    )
    assert verify_file(run_of(session).certificate_path, None)["valid"]


def test_changed_marginals_are_not_certified_or_sampled_from(session: Session) -> None:
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


def test_an_edited_certificate_is_made_again(session: Session) -> None:
    train(session)
    export(session)
    run = run_of(session)
    whole = run.certificate_path.read_bytes()
    run.certificate_path.write_bytes(whole.replace(b"guaranteed", b"promised"))
    with pytest.raises(IntegrityError, match="is not the certificate that run"):
        sample(session)
    assert not export(session).done_before
    assert run.certificate_path.read_bytes() == whole
    sample(session)


def test_a_run_killed_after_its_charge_does_not_measure_again(
    session: Session, make_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert "interrupted" in error.value.message and "--again" in error.value.hint and len(spends(session)) == 1
    monkeypatch.setattr(PrivateStore, "records", read)
    lost = run_of(session).id
    train(make_session(synthesizer="auto", rows=30, again=True))
    first, second = spends(session)
    assert (first["run"], second["run"]) == (lost, run_of(session).id) and first["budget"] != second["budget"]
    export(session)
    assert run_of(session).certificate()["guarantee"]["spent_epsilon"] > 1.9 * session.config.privacy.epsilon


def test_rows_are_valid_continue_and_follow_conditions(session: Session, make_session: Any) -> None:
    train(session)
    export(session)
    assert sample(session).rows == 30
    first = list(SyntheticStore(session.workspace.synthetic_path).records())
    asked: dict[str, Any] = {"synthesizer": "auto"}
    sample(make_session(**asked, more=40, where="kind = 'b' AND n BETWEEN 10 AND 5000"))
    sample(make_session(**asked, more=60, balance="kind=a:0.25,b:0.75"))
    rows = list(SyntheticStore(session.workspace.synthetic_path).records())
    assert rows[:30] == first and [row["who"] for row in rows] == list(range(1, 131))
    assert all(row["kind"] == "b" and 10 <= row["n"] <= 5000 for row in rows[30:70])
    assert abs(sum(row["kind"] == "b" for row in rows[70:]) - 45) <= 2
    assert all(row["kind"] in ("a", "b", None) and (row["n"] is None or 0 <= row["n"] <= 9999) for row in rows)


def test_a_resumed_job_generates_the_same_rows(session: Session, make_session: Any, tmp_path: Path) -> None:
    train(session)
    export(session)
    sample(session)
    sample(make_session(synthesizer="auto", rows=55))
    rows = list(SyntheticStore(session.workspace.synthetic_path).records())
    session.workspace.synthetic_path.unlink()
    sample(make_session(synthesizer="auto", rows=55))
    assert list(SyntheticStore(session.workspace.synthetic_path).records()) == rows


def test_marginals_of_a_rehearsal_are_labelled(make_session: Any) -> None:
    session = make_session(synthesizer="auto", rehearsal_steps=3)
    ingest(session)
    train(session)
    assert run_of(session).training.noise == REHEARSAL_LABEL
    assert read_json(run_of(session).marginals_path)["noise"] == REHEARSAL_LABEL
    export(session)
    assert not verify_file(run_of(session).certificate_path, None)["valid"]
