"""Counting tokens between export and sampling: charged before a row is read, certified, and lost at most once."""

import copy
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from localsynth.config import TextCountsConfig
from localsynth.errors import ConfigError, IntegrityError
from localsynth.pipeline import count_texts as count_texts_stage
from localsynth.pipeline.count_texts import count_texts
from localsynth.pipeline.export import export
from localsynth.pipeline.ingest import ingest
from localsynth.pipeline.plan import plan
from localsynth.pipeline.sample import sample
from localsynth.pipeline.session import Session
from localsynth.pipeline.train import train
from localsynth.privacy.gaussian import gaussian_of_rho, rho_for
from localsynth.results.as_json import to_json
from localsynth.sample.sampler import Sampler
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.columns import Category, Integer, Schema, Text, conform
from localsynth.store.private import PrivateStore
from localsynth.store.synthetic import SyntheticStore
from localsynth.system.files import file_sha256, read_json
from localsynth.text_counts import grouping_columns, token_counts
from localsynth.text_counts.token_counts import read_token_counts
from localsynth.verification.file import verify_file
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import is_kept
from tests.helpers.private_rows import watch_rows
from tests.unit.pipeline.test_hybrid import budgets_and_spends, run_of, with_texts


def counting(session: Session) -> Session:
    """The same session, with a quarter of the model's budget kept for the count."""
    session.config = session.config.model_copy(update={"text_counts": TextCountsConfig(share=0.25)})
    return session


@pytest.fixture
def session(make_session: Any, quick_training: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setattr(grouping_columns, "_MIN_ROWS", -math.inf)  # the table is small: by the usual one all rows share a group
    session = counting(with_texts(make_session(synthesizer="auto", rows=12)))
    ingest(session)
    train(session)
    export(session)
    return session


def test_plan_shows_the_budget_of_token_counts(session: Session) -> None:
    planned = plan(session)
    alone = planned.epsilon
    assert list(alone) == ["total", "marginals", "train", "text_counts"] and alone["total"] == 4.0
    assert 0.7 < alone["text_counts"] < 0.8 and alone["text_counts"] == pytest.approx(alone["marginals"]), "both have a fifth"
    assert planned.seconds["count_texts"] > 0


def test_sampling_waits_for_the_count_which_the_certificate_names(session: Session, make_session: Any) -> None:
    before = read_json(run_of(session).certificate_path)
    assert before["guarantee"]["guaranteed_epsilon"] == 4.0 > before["guarantee"]["spent_epsilon"]
    planned = to_json(plan(session).risks)
    assert before["guarantee"]["risks"] != planned, "without what is not charged yet"
    with pytest.raises(ConfigError, match="nothing was counted yet"):
        sample(session)
    counted = count_texts(session)
    assert counted.tokens >= 1 and not counted.done_before
    assert counted.columns == ["kind"]
    run = run_of(session)
    budgets, spends = budgets_and_spends(session)
    assert budgets == [run_of(session).id] and spends[-1] == "tokens of the texts"
    assert read_token_counts(run.text_counts_path).rho == RHO and charged(session) == gaussian_of_rho(RHO)

    for path in (run.certificate_path, run.product_path):
        report = verify_file(path, None)
        assert report["valid"], report["findings"]
    certificate = read_json(run.certificate_path)
    assert certificate["guarantee"]["guaranteed_epsilon"] == pytest.approx(4.0)
    assert before["guarantee"]["spent_epsilon"] < certificate["guarantee"]["spent_epsilon"] <= 4.0
    assert certificate["guarantee"]["risks"] == planned
    assert certificate["hashes"]["text_counts"] == file_sha256(run.text_counts_path)
    assert "the marginals, the model and the token counts are differentially private" in certificate["summary"]
    status = [(f["name"], f["status"]) for f in verify_file(run.certificate_path, None)["findings"]]
    assert status.count(("text_counts", "ok")) == 2 and is_kept(run.text_counts_path)

    assert sample(session).rows == 12
    again = count_texts(session)
    assert again.done_before and again.tokens == counted.tokens and budgets_and_spends(session)[0] == budgets
    rows = list(SyntheticStore(session.workspace.synthetic_path).records())
    learned = [{"kind": row["kind"], "n": row["n"]} for row in rows]
    assert all(conform(session.config.schema_, row) == row for row in learned)
    # In one job or in two, the same seed gives the same rows.
    session.workspace.synthetic_path.unlink()
    for wanted in (5, 12):
        sample(counting(with_texts(make_session(synthesizer="auto", rows=wanted))))
    assert list(SyntheticStore(session.workspace.synthetic_path).records()) == rows


RHO = rho_for((1 - 0.2) * 0.25 * 4.0, (1 - 0.2) * 0.25 * 1e-5)
"""A quarter of what the marginals leave, as if it ran alone."""


def charged(session: Session) -> dict[str, Any]:
    (event,) = [e for e in json.loads(session.workspace.ledger_path.read_text())["events"] if e["stage"] == "count_texts"]
    return dict(event["mechanism"])


def test_the_count_is_charged_before_the_first_row_is_read(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watch_rows(monkeypatch, lambda: budgets_and_spends(session)[1][-1])
    count_texts(session)
    assert set(seen) == {"tokens of the texts"}


def test_the_written_counts_follow_from_noisy_tables_alone(
    session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two tables with the same noisy histogram leave the same file, byte for byte."""
    shutil.copytree(session.workspace.root, tmp_path / "again")
    shutil.copytree(tmp_path / "home", tmp_path / "home again")
    told: list[Any] = []
    real = token_counts.count_tokens

    def watched(columns: Any, original: Any, *asked: Any) -> Any:
        *public, _ = asked
        if not told:
            told.extend([(columns, public), copy.deepcopy(real(columns, original, *asked)), len(original)])
        else:
            assert (columns, public) == told[0], "what is asked of other rows is something else"
            assert len(original) == len(few) != told[2]
        return copy.deepcopy(told[1])

    monkeypatch.setattr(token_counts, "count_tokens", watched)
    count_texts(session)
    first = run_of(session).text_counts_path.read_bytes()

    session.workspace = Workspace(tmp_path / "again")
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home again"))
    few = [{"kind": "b", "n": "other"}] * 3
    monkeypatch.setattr(PrivateStore, "records", lambda store, *given: enumerate(few))
    count_texts(session)
    again = run_of(session).text_counts_path
    assert tmp_path / "again" in again.parents and again.read_bytes() == first


@pytest.mark.parametrize("written", [False, True])
def test_a_killed_count_is_not_made_twice(session: Session, monkeypatch: pytest.MonkeyPatch, written: bool) -> None:
    """Killed before its file was written it is lost; killed after, it is kept. Either way it is charged once."""
    place = "localsynth.pipeline.count_texts." + ("certify_model" if written else "write_json")
    with monkeypatch.context() as patched:
        patched.setattr(place, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            count_texts(session)
    assert run_of(session).record.text_counts is None
    with monkeypatch.context() as patched:
        patched.setattr(PrivateStore, "records", lambda *_: pytest.fail("the table was read again without a charge"))
        counted = count_texts(session)
    assert (counted.tokens > 0) == written and run_of(session).text_counts_path.exists() == written
    assert budgets_and_spends(session)[1].count("tokens of the texts") == 1
    assert verify_file(run_of(session).certificate_path, None)["valid"]
    assert sample(session).rows == 12


def test_verify_reports_token_counts_unchecked_until_certified(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while the model writes with them, which takes minutes, the run goes on without another count."""
    with monkeypatch.context() as patched:
        patched.setattr(count_texts_stage, "_refined", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            count_texts(session)
    run = run_of(session)
    report = verify_file(run.certificate_path, None)
    (finding,) = [finding for finding in report["findings"] if finding["name"] == "text_counts"]
    assert report["valid"] and finding["status"] == "not checked" and "does not cover it" in finding["text"]
    with pytest.raises(ConfigError, match="nothing was counted yet"):
        sample(session)
    before = read_json(run.text_counts_path)
    with monkeypatch.context() as patched:
        patched.setattr(PrivateStore, "records", lambda *_: pytest.fail("the table was read again without a charge"))
        count_texts(session)
    after = read_json(run.text_counts_path)
    assert after["refined"] and not before["refined"] and after["target"] == before["target"]
    assert [f["status"] for f in verify_file(run.certificate_path, None)["findings"] if f["name"] == "text_counts"] == [
        "ok",
        "ok",
    ]


def test_the_budget_is_that_of_the_settings_of_the_run(session: Session) -> None:
    session.config = session.config.model_copy(update={"text_counts": TextCountsConfig(share=0.9)})
    count_texts(session)
    assert charged(session) == gaussian_of_rho(RHO)


@pytest.mark.parametrize(
    "columns",
    [
        [Category(name="kind"), Text(name="n", max_tokens=8)],  # something to measure, which would take a part of the budget
        [Category(name="kind", values=["a", "b"]), Integer(name="n", min=0, max=9999)],  # no text any more
        [Text(name="kind", max_tokens=8), Text(name="n", max_tokens=8)],  # texts alone: no marginals that take a part
    ],
    ids=["open", "no text", "only texts"],
)
def test_the_budget_is_split_by_the_ingested_schema(session: Session, columns: list[Any]) -> None:
    session.config = session.config.model_copy(update={"schema_": Schema(columns=columns)})
    assert count_texts(session).tokens >= 1
    assert charged(session) == gaussian_of_rho(RHO)


def test_comparison_and_sampling_use_the_prompt_of_the_training(
    make_session: Any, quick_training: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The description and the value descriptions stand in it as they did then, whatever the configuration says now."""
    sample_settings = {"temperature": 0.8, "top_p": 0.9, "batch_size": 5}
    monkeypatch.setattr(grouping_columns, "_MIN_ROWS", -math.inf)
    session = counting(with_texts(make_session(synthesizer="auto", sample=sample_settings, rows=4)))
    ingested = session.config.schema_
    kind = Category(name="kind", values=["a", "b"], descriptions={"a": "an apple", "b": "a bee"})
    schema = ingested.model_copy(update={"columns": [kind if c.name == "kind" else c for c in ingested.columns]})
    described = session.config.data.model_copy(update={"description": "What a person said of apples and bees"})
    today = session.config.model_copy(update={"schema_": ingested})
    session.config = session.config.model_copy(update={"schema_": schema, "data": described})
    ingest(session)
    train(session)
    export(session)
    (call,) = quick_training
    with PrivateStore.open(session.workspace) as store:
        records = [conform(schema, record) for _, record in store.records("train", schema)]
    rows = [ColumnSplit(schema, hybrid=True).with_lengths(record) for record in records if record is not None]

    begin, made = Sampler.__init__, []

    def watched(sampler: Sampler, *arguments: Any, **options: Any) -> None:
        begin(sampler, *arguments, **options)
        settings = sampler._settings
        assert settings.batch_size == 5 and sampler._plan.hybrid
        made.append(([sampler._codec.encode(row).tokens for row in rows], settings.temperature, settings.top_p))

    monkeypatch.setattr(Sampler, "__init__", watched)
    session.config = today
    counted = count_texts(session)
    assert counted.tokens >= 1 and counted.columns == ["kind"]
    assert sample(session).rows == 4
    assert verify_file(run_of(session).certificate_path, None)["valid"]
    taught = [row.tokens for unit in call["units"] for row in unit]
    assert made == [(taught, 0.8, 0.9)] * 3


def test_a_table_ingested_again_is_not_counted_for_an_older_run(session: Session) -> None:
    session.options = type(session.options)(again=True, max_units=100)
    ingest(session)
    with pytest.raises(IntegrityError, match="not of the same ingest"):
        count_texts(session)


def test_changed_token_counts_are_refused(session: Session) -> None:
    count_texts(session)
    run = run_of(session)
    tree = read_json(run.text_counts_path)
    run.text_counts_path.write_text(json.dumps({**tree, "sigma": tree["sigma"] / 2}))
    with pytest.raises(IntegrityError, match="not what run"):
        sample(session)
    report = verify_file(run.certificate_path, None)
    assert not report["valid"]


def test_token_counts_of_other_columns_are_refused(session: Session) -> None:
    count_texts(session)
    run = run_of(session)
    tree = read_json(run.text_counts_path)
    tree["grouping_columns"][0]["attribute"]["column"]["values"] = ["a", "c"]
    run.text_counts_path.write_text(json.dumps(tree))
    run.note(text_counts_sha256=file_sha256(run.text_counts_path))
    with pytest.raises(IntegrityError, match="other columns"):
        sample(session)


def test_a_run_without_a_share_counts_nothing(
    make_session: Any, quick_training: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = with_texts(make_session(synthesizer="auto", rows=4))
    ingest(session)
    train(session)
    export(session)
    monkeypatch.setattr(count_texts_stage, "_count", lambda *_: pytest.fail("counted"))
    assert count_texts(session).tokens == 0
    assert sample(session).rows == 4
