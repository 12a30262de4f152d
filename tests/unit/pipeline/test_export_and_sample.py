"""From a trained run to a model and rows: only what that run made is used, and a run has one model."""

import re
from pathlib import Path
from typing import Any

import pytest

from localsynth.cli.pipeline import run_text
from localsynth.errors import Cancelled, ConfigError, IntegrityError
from localsynth.llm.adapter import write_adapter
from localsynth.pipeline.evaluate import evaluate
from localsynth.pipeline.export import export, fastest_type
from localsynth.pipeline.run import summary
from localsynth.pipeline.sample import sample
from localsynth.pipeline.session import Session
from localsynth.pipeline.train import train
from localsynth.store.synthetic import SyntheticStore
from localsynth.system.files import file_sha256, read_json, write_json
from localsynth.verification.file import verify_file
from localsynth.workspace.runs import Run, latest_run
from tests.helpers.tiny_model import random_adapter, write_tiny_model


def current_run(session: Session) -> Run:
    run = latest_run(session.workspace)
    assert run is not None
    return run


def raising(error: type[BaseException]) -> Any:
    def raise_it(*_given: Any) -> Any:
        raise error

    return raise_it


@pytest.fixture
def trained(ingested: Session, quick_training: list[Any]) -> Session:
    train(ingested)
    return ingested


# --- swaps ------------------------------------------------------------------------------------------------------------


def test_another_base_model_is_not_exported(trained: Session) -> None:
    base = Path(trained.config.train.model)
    own = base.read_bytes()
    write_tiny_model(base, seed=5)
    with pytest.raises(IntegrityError, match="not the base model that run"):
        export(trained)
    assert not list(current_run(trained).directory.glob("*.gguf"))
    base.write_bytes(own)
    export(trained)


@pytest.mark.parametrize("name", ["adapter.safetensors", "adapter.json"])
def test_another_adapter_is_not_exported(trained: Session, tmp_path: Path, name: str) -> None:
    """One trained without noise, say, would get a certificate."""
    run = current_run(trained)
    own = (run.adapter_path / name).read_bytes()
    other = tmp_path / "other"
    write_adapter(other, random_adapter(Path(trained.config.train.model), seed=9), 4, 16)
    (run.adapter_path / name).write_bytes((other / name).read_bytes())
    with pytest.raises(IntegrityError, match="not the adapter that run"):
        export(trained)
    assert not list(run.directory.glob("*.gguf"))
    (run.adapter_path / name).unlink()
    with pytest.raises(IntegrityError, match=f"{name} is missing"):
        export(trained)
    (run.adapter_path / name).write_bytes(own)
    export(trained)


def test_a_changed_model_is_refused_and_exported_again(trained: Session, make_session: Any) -> None:
    export(trained)
    run = current_run(trained)
    path = run.model_path("Q8_0")
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError) as caught:
        sample(make_session(rows=3))
    assert str(path) in caught.value.message and f"localsynth export {trained.workspace.root}" in caught.value.hint
    assert not trained.workspace.synthetic_path.exists()
    assert not export(trained).done_before
    assert sample(make_session(rows=3)).rows == 3
    assert export(trained).done_before


def test_a_report_needs_the_model_of_the_run(trained: Session, make_session: Any) -> None:
    export(trained)
    run, base = current_run(trained), Path(trained.config.train.model)
    sample(make_session(rows=3))
    for path, wrong in ((base, "not the base model that run"), (run.model_path("Q8_0"), "not the model that run")):
        whole = path.read_bytes()
        content = bytearray(whole)
        content[-100] ^= 1
        path.write_bytes(content)
        with pytest.raises(IntegrityError, match=wrong):
            evaluate(make_session())
        path.write_bytes(whole)
    run.model_path("Q8_0").unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        evaluate(make_session())
    assert not (run.directory / "report.html").exists()


# --- what the certificate is made of ----------------------------------------------------------------------------------


def test_the_certificate_has_the_settings_and_versions_of_the_run(
    trained: Session, make_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = current_run(trained)
    run.note(train=run.training.model_copy(update={"versions": {**run.training.versions, "torch": "9.9"}}))
    export(trained)
    certificate = read_json(run.certificate_path)
    assert certificate["versions"]["torch"] == "9.9", "the torch that trained, not the one installed by now"
    assert certificate["settings"]["train"]["model"] == "base.gguf", "a folder's name may say who the user is"
    certificate["settings"]["train"]["model"] = run.settings.train.model
    assert certificate["settings"] == run.settings.model_dump(mode="json")
    assert certificate["settings"]["train"]["batch_size"] == 50


# --- one model a run --------------------------------------------------------------------------------------------------


def test_a_second_export_replaces_model_and_certificate(trained: Session, make_session: Any) -> None:
    export(trained)
    run = current_run(trained)
    first = read_json(run.certificate_path)["hashes"]["model"]
    export(make_session(sample={"quantization": "F16"}))
    assert [path.name for path in run.directory.glob("*.gguf")] == ["model.F16.gguf"]
    assert current_run(trained).exported.quantization == "F16"
    assert read_json(run.certificate_path)["hashes"]["model"] != first
    for path in (run.certificate_path, run.model_path("F16")):
        report = verify_file(path, None)
        assert report["valid"], report["verdict"]


def test_an_export_killed_before_removing_the_old_model_resumes(
    trained: Session, make_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificate is the new model's then, and the record the earlier one's: no row is drawn before they agree."""
    export(trained)
    run = current_run(trained)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "remove_other_models", raising(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            export(make_session(sample={"quantization": "F16"}))
    with pytest.raises(IntegrityError, match="is not the certificate"):
        sample(make_session(rows=3))
    export(trained)
    assert [path.name for path in run.directory.glob("*.gguf")] == ["model.Q8_0.gguf"]
    assert verify_file(run.certificate_path, None)["valid"]
    sample(make_session(rows=3))


# --- the figure to rely on --------------------------------------------------------------------------------------------


def test_the_summary_shows_the_guaranteed_epsilon(trained: Session, make_session: Any) -> None:
    session = make_session(rows=3)
    export(session)
    sample(session)
    run = current_run(session)
    guarantee = read_json(run.certificate_path)["guarantee"]
    assert guarantee["spent_epsilon"] < guarantee["guaranteed_epsilon"] == session.config.privacy.epsilon
    (row,) = SyntheticStore(session.workspace.synthetic_path).jobs()
    assert (row["epsilon"], row["delta"]) == (guarantee["guaranteed_epsilon"], guarantee["spent_delta"])
    told = summary(session.workspace, session.config, run)
    assert told.epsilon_guaranteed == guarantee["guaranteed_epsilon"]
    assert told.epsilon_spent == guarantee["spent_epsilon"]
    spent = f"guaranteed epsilon 4 of 4 (spent {guarantee['spent_epsilon']:.3f}), delta {guarantee['spent_delta']:.1e}"
    assert f"privacy      {spent}\n" in run_text(told)


def lower_the_epsilon(run: Run) -> None:
    document = read_json(run.certificate_path)
    document["guarantee"]["guaranteed_epsilon"] = 0.1
    write_json(run.certificate_path, document)


def test_an_edited_certificate_is_refused_by_sample_and_evaluate(trained: Session, make_session: Any) -> None:
    export(trained)
    sample(make_session(rows=3))
    session, run = make_session(more=3), current_run(trained)

    def refused(wrong: str) -> None:
        for stage in (sample, evaluate):
            with pytest.raises(IntegrityError, match=re.escape(f"{run.certificate_path} {wrong}")) as caught:
                stage(session)
            assert f"localsynth export {session.workspace.root}" in caught.value.hint
        # What that hint promises: made anew, inside the model too, and nothing is charged.
        ledger = session.workspace.ledger_path.read_bytes()
        assert not export(session).done_before and export(session).done_before
        assert session.workspace.ledger_path.read_bytes() == ledger
        assert verify_file(run.certificate_path, None)["valid"] and verify_file(run.model_path("Q8_0"), None)["valid"]

    lower_the_epsilon(run)
    refused("is not the certificate that run")
    run.certificate_path.unlink()
    refused("is missing")
    # The record edited along with it: the ledger's head lies elsewhere.
    lower_the_epsilon(run)
    run = current_run(trained)
    run.note(export=run.exported.model_copy(update={"certificate_sha256": file_sha256(run.certificate_path)}))
    refused("does not state what the ledger")
    document = read_json(run.certificate_path)
    document["ledger"]["events"] = []
    document["guarantee"] |= {"guaranteed_epsilon": 0.0, "spent_delta": 0.0}
    write_json(run.certificate_path, document)
    run.note(export=run.exported.model_copy(update={"certificate_sha256": file_sha256(run.certificate_path)}))
    refused("does not state what the ledger")
    # Its figures kept: the words of a signed one, and the model that it is of.
    document = read_json(run.certificate_path)
    assert document["signature"] is not None
    write_json(run.certificate_path, {**document, "summary": "Nothing is known of anybody."})
    run.note(export=run.exported.model_copy(update={"certificate_sha256": file_sha256(run.certificate_path)}))
    refused("does not state what the ledger")
    document = read_json(run.certificate_path) | {"signature": None}
    document["hashes"]["model"] = "0" * 64
    write_json(run.certificate_path, document)
    run.note(export=run.exported.model_copy(update={"certificate_sha256": file_sha256(run.certificate_path)}))
    refused("does not state what the ledger")
    assert len(drawn(trained)) == 3
    sample(session)
    (job,) = SyntheticStore(session.workspace.synthetic_path).jobs()
    assert job["rows"] == 6 and job["epsilon"] == session.config.privacy.epsilon


# --- asked-for rows ---------------------------------------------------------------------------------------------------


def drawn(session: Session) -> list[Any]:
    return list(SyntheticStore(session.workspace.synthetic_path).records())


def test_sample_follows_rows_and_more(trained: Session, make_session: Any, tmp_path: Any) -> None:
    export(trained)
    assert sample(make_session(rows=5)).rows == 5
    sample(make_session(more=6, where="kind = 'b' AND n < 100"))
    sample(make_session(more=10, balance="kind=a:0.9,b:0.1"))
    seeds = tmp_path / "seeds.csv"
    seeds.write_text("n\n3\n17\n")
    assert sample(make_session(seeds=str(seeds))).new_rows == 2
    rows = drawn(trained)
    assert [row["who"] for row in rows] == list(range(1, 24)), "identifiers go on"
    assert all(row["kind"] == "b" and (row["n"] is None or row["n"] < 100) for row in rows[5:11])
    assert [row["n"] for row in rows[21:]] == [3, 17]
    asked = [job["asked"] for job in SyntheticStore(trained.workspace.synthetic_path).jobs()]
    assert asked[:3] == [{}, {"where": "kind = 'b' AND n < 100"}, {"balance": "kind=a:0.9,b:0.1"}]
    assert list(asked[3]) == ["seeds"]
    with pytest.raises(ConfigError, match="says itself how many"):
        sample(make_session(seeds=str(seeds), more=3))
    with pytest.raises(ConfigError, match="leaves no value"):
        sample(make_session(more=3, where="kind = 'c'"))
    assert drawn(trained) == rows


def test_a_stopped_job_is_finished_by_the_same_command(
    trained: Session, make_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localsynth.sample.job._MIN_SECONDS_BETWEEN_CHUNKS", 0.0)
    export(trained)
    sample(make_session(rows=4))
    stopped = make_session(more=30, sample={"chunk_rows": 5})
    stopped.should_stop = lambda: True
    with pytest.raises(Cancelled):
        sample(stopped)
    assert len(drawn(trained)) == 9
    assert sample(make_session(more=30, sample={"chunk_rows": 5})).rows == 34
    whole = drawn(trained)
    assert [row["who"] for row in whole] == list(range(1, 35))


def test_rows_of_a_model_exported_again_have_its_hash(trained: Session, make_session: Any) -> None:
    export(trained)
    sample(make_session(rows=3))
    again = {"quantization": "F16"}
    export(make_session(sample=again))
    assert sample(make_session(rows=5, sample=again)).rows == 5
    first, second = SyntheticStore(trained.workspace.synthetic_path).jobs()
    assert first["model_sha256"] != second["model_sha256"] and (second["first_row"], second["rows"]) == (3, 2)


def test_the_fastest_quantization_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localsynth.pipeline.export.multiplies_bf16", lambda: True)
    assert fastest_type(135_000_000) == "BF16" and fastest_type(8_000_000_000) == "Q8_0"
    monkeypatch.setattr("localsynth.pipeline.export.multiplies_bf16", lambda: False)
    assert fastest_type(135_000_000) == "Q8_0"
