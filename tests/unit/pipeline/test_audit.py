"""The audit of a run: with its settings, on made-up rows, without a spend and without a look at the original."""

from typing import Any

import numpy as np
import pytest

from localsynth.errors import ConfigError, IntegrityError
from localsynth.evaluate.audit import canaries, training
from localsynth.evaluate.audit.outcome import right_guesses
from localsynth.pipeline.audit import audit
from localsynth.pipeline.ingest import ingest
from localsynth.pipeline.session import Session
from localsynth.pipeline.train import train
from localsynth.privacy import noise
from localsynth.store.key import change_passphrase
from localsynth.store.private import PrivateStore
from localsynth.system.files import read_json
from localsynth.train import loop
from localsynth.workspace.runs import is_kept, latest_run
from tests.helpers.seeded_random import INSECURE_LABEL, InsecureRandom


@pytest.fixture
def trained(ingested: Session) -> Session:
    train(ingested)
    return ingested


def test_an_audit_reads_nothing_private_and_spends_nothing(
    trained: Session, make_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, run = trained.workspace, latest_run(trained.workspace)
    assert run is not None
    workspace.private_path.unlink()
    before = workspace.ledger_path.read_bytes()
    given: list[dict[str, Any]] = []
    honest = loop.train

    def watched(**arguments: Any) -> Any:
        given.append({**arguments, "units": arguments["load_units"]()})
        return honest(**arguments)

    monkeypatch.setattr(training, "train", watched)
    events: list[dict[str, Any]] = []
    found = audit(make_session(events.append, canaries=40))
    assert workspace.ledger_path.read_bytes() == before
    written = read_json(run.audit_path)
    assert written["run"] == run.id and written["canaries"] == 40 and written["adapter_sha256"] == run.training.adapter_sha256
    assert found.status == "too weak to say", "were all guesses right, so few would not contradict the claim"
    assert written["training"]["noise"] == noise.SECURE_LABEL
    assert (written["training"]["device"], written["training"]["precision"]) == ("cpu", run.training.precision)
    assert is_kept(run.audit_path) and not (run.directory / "audit").exists()
    (arguments,) = given
    assert vars(arguments["plan"]) == run.model.plan, "the very settings of the run"
    assert arguments["targets"] == run.model.targets == ["v_proj", "down_proj"]
    assert arguments["micro_batch_tokens"] == run.model.micro_batch_tokens
    assert written["trained_on"] == len(arguments["units"]) < 40 and {len(unit) for unit in arguments["units"]} == {2}
    assert {event["stage"] for event in events} == {"audit"} and not any("epsilon" in event for event in events)


def test_the_stored_evidence_reproduces_the_figures(trained: Session, make_session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, run, schema = trained.workspace, latest_run(trained.workspace), trained.config.schema_
    assert run is not None
    with PrivateStore.open(workspace) as store:
        before = list(store.records("train", schema))
        assert store.artifact(f"audit of {run.id}") is None
    made: list[Any] = []
    honest = canaries.canary_units
    monkeypatch.setattr(canaries, "canary_units", lambda *given: made.append(honest(*given)) or made[-1])
    first, second = (audit(make_session(canaries=60)) for _ in range(2))
    with PrivateStore.open(workspace) as store:
        kept = store.artifact(f"audit of {run.id}")
        assert list(store.records("train", schema)) == before
    assert first.evidence == second.evidence == "private.duckdb"
    assert kept["canaries"] == made[1][0] != made[0][0], "those of the last audit"
    scores, included = np.array(kept["scores"]), np.array(kept["included"])
    assert right_guesses(scores, included, second.guesses) == second.right and included.sum() == second.trained_on
    assert b"canaries" not in workspace.private_path.read_bytes() and not list(workspace.root.glob(".private.duckdb.*"))
    assert "scores" not in read_json(run.audit_path) and "included" not in read_json(run.audit_path)


def test_an_audit_trains_in_the_precision_of_the_run(
    trained: Session, make_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = latest_run(trained.workspace)
    assert run is not None and run.training.precision == "fp32"
    honest = loop.choose_precision
    monkeypatch.setattr(loop, "choose_precision", lambda wanted, device: honest("bf16" if wanted == "auto" else wanted, device))

    def audited(precision: Any) -> str:
        session = make_session(canaries=40)
        train_settings = session.config.train.model_copy(update={"precision": precision})
        session.config = session.config.model_copy(update={"train": train_settings})
        return audit(session).training.precision

    assert audited("auto") == "fp32"
    # Where it cannot be had here, another one can be asked for.
    assert audited("bf16") == "bf16"


def test_a_locked_store_gets_no_evidence(trained: Session, make_session: Any) -> None:
    change_passphrase(trained.workspace, "correct horse")
    before = trained.workspace.private_path.read_bytes()
    assert audit(make_session(canaries=60)).evidence is None
    assert trained.workspace.private_path.read_bytes() == before


def test_an_audit_catches_a_run_without_noise(trained: Session, make_session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoNoise(InsecureRandom):
        def gaussian(self, n: int) -> Any:
            return np.zeros(n)

    monkeypatch.setattr(noise, "SecureRandom", lambda: NoNoise(1))
    found = audit(make_session(canaries=200))
    assert found.status == "failed" and found.right > 0.9 * found.guesses and found.p_value < 0.05
    assert found.training.noise == INSECURE_LABEL


def test_an_audit_needs_a_trained_run_and_its_base_model(make_session: Any, ingested: Session, quick_training: list[Any]) -> None:
    with pytest.raises(ConfigError, match="no trained run"):
        audit(ingested)
    train(ingested)
    with pytest.raises(ConfigError, match="3 canaries"):
        audit(make_session(canaries=3))
    run = latest_run(ingested.workspace)
    assert run is not None
    run.note(model=run.model.model_copy(update={"base_sha256": "0" * 64}))
    with pytest.raises(IntegrityError, match="not the base model"):
        audit(ingested)


def test_a_run_of_marginals_cannot_be_audited(make_session: Any) -> None:
    session = make_session(synthesizer="marginals")
    ingest(session)
    train(session)
    with pytest.raises(ConfigError, match="marginals"):
        audit(session)
