"""What the stage hands to the training loop, and what it keeps of what the loop says."""

import itertools
import shutil
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from localsynth.errors import ConfigError, IntegrityError, ResourceError
from localsynth.events import Event
from localsynth.llm.llama_cpp import Vocabulary
from localsynth.llm.row_text import Codec
from localsynth.pipeline.ingest import ingest
from localsynth.pipeline.session import Session
from localsynth.pipeline.train import train
from localsynth.schema.columns import conform
from localsynth.store.private import PrivateStore
from localsynth.system.files import read_json, write_json
from localsynth.train import loop
from localsynth.workspace.runs import latest_run


def tokens_of(units: Any) -> list[list[tuple[int, ...]]]:
    return [[tuple(row.tokens) for row in unit] for unit in units]


def test_the_loop_gets_each_training_unit_with_all_its_rows(ingested: Session, quick_training: list[Any]) -> None:
    train(ingested)
    (given,) = quick_training
    schema = ingested.config.schema_
    with PrivateStore.open(ingested.workspace) as store, Vocabulary(Path(ingested.config.train.model)) as vocabulary:
        codec = Codec(schema, vocabulary.tokenize, vocabulary.start, "")

        def encoded(split: Any) -> list[list[tuple[int, ...]]]:
            units = []
            for unit in store.units(split).tolist():
                rows = [conform(schema, record) for _, record in store.records(split, schema, [unit])]
                units.append([tuple(codec.encode(row).tokens) for row in rows if row is not None])
            return units

        wanted, held_out = encoded("train"), encoded("holdout")
    assert 60 < len(wanted) < 140 and len(held_out) > 10
    assert all(len(rows) == 2 for rows in wanted)
    found = tokens_of(given["units"])
    assert sorted(sorted(rows) for rows in found) == sorted(sorted(rows) for rows in wanted)
    # Every row of this table is unlike all others, so this can be seen.
    assert not set(itertools.chain(*found)) & set(itertools.chain(*held_out))


class Clock:
    """Goes on by `pace` seconds whenever it is looked at."""

    def __init__(self, pace: float) -> None:
        self._now, self._pace = 1000.0, pace

    def monotonic(self) -> float:
        self._now += self._pace
        return self._now


def test_the_record_of_a_run_does_not_depend_on_the_clock(
    make_session: Any, quick_training: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(make_session())
    shown: list[list[Event]] = []
    records = []
    for pace in (0.01, 60.0):
        shown.append([])
        session = make_session(shown[-1].append, again=True)
        monkeypatch.setattr(time, "monotonic", Clock(pace).monotonic)
        train(session)
        run = latest_run(session.workspace)
        assert run is not None
        records.append((run.directory / "events.jsonl").read_text().splitlines())
    fast, slow = ([event["epsilon"] for event in events if event["kind"] == "progress"] for events in shown)
    changed = [[before != after for before, after in pairwise(each)] for each in (fast, slow)]
    assert changed[0] == changed[1] and any(changed[0]), "the log keeps the epsilon of each step, too"
    # But for the last line, with what both runs together have spent.
    assert records[0][:-1] == records[1][:-1] and len(records[0]) == len(fast) + 2


def test_figures_that_depend_on_the_rows_are_marked_private(make_session: Any, quick_training: list[Any]) -> None:
    ingest(make_session())
    events: list[Event] = []
    train(make_session(events.append))
    steps = [event for event in events if event["kind"] == "progress"]
    assert steps
    for event in steps:
        assert set(event) == {"kind", "stage", "step", "steps", "epsilon", "private"}
        assert set(event["private"]) == {"rate", "unit", "seconds_left", "memory", "loss"}


def test_a_store_of_another_ingest_is_refused(make_session: Any, ingested: Session, quick_training: list[Any]) -> None:
    """Each file alone is whole and fits the settings; together they are of two readings."""
    workspace = ingested.workspace
    earlier = workspace.private_path.with_name("earlier")
    shutil.copy(workspace.private_path, earlier)
    document = read_json(workspace.schema_path)
    ingest(make_session(again=True))
    assert read_json(workspace.schema_path) != document, "everything is declared, yet the reading is another"
    earlier.replace(workspace.private_path)
    with pytest.raises(IntegrityError, match="not of the same ingest"):
        train(ingested)
    assert not quick_training and latest_run(workspace) is None, "no run has begun"
    write_json(workspace.schema_path, document)
    train(ingested)


def begin(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that ends before its first step."""

    def stop(**given: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop, "train", stop)
        with pytest.raises(KeyboardInterrupt):
            train(session)


def test_a_run_does_not_resume_with_a_table_ingested_again(
    make_session: Any, ingested: Session, quick_training: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With everything declared nothing but the reading's own name tells the tables apart."""
    begin(ingested, monkeypatch)
    begun = latest_run(ingested.workspace)
    assert begun is not None and begun.record.train is None
    ingest(make_session(again=True))
    with pytest.raises(ConfigError, match=f"ingested again since run {begun.id} began"):
        train(ingested)
    assert not quick_training


def test_a_resumed_run_keeps_its_layers_and_micro_batch(
    ingested: Session, quick_training: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version may choose other layers, and less memory may be free by then."""
    begin(ingested, monkeypatch)
    begun = latest_run(ingested.workspace)
    assert begun is not None and begun.model.targets == ["v_proj", "down_proj"], "so few units get much noise"
    assert begun.model.micro_batch_tokens == 1024
    begun.note(model=begun.model.model_copy(update={"targets": ["q_proj"], "micro_batch_tokens": 100}))
    train(ingested)
    (given,) = quick_training
    assert given["targets"] == ["q_proj"] and given["micro_batch_tokens"] == 100


def test_a_run_goes_on_with_what_a_machine_can(
    ingested: Session, quick_training: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less at once, or in another way: as the messages say where memory runs out or rounding is unsteady."""
    begin(ingested, monkeypatch)
    train_settings = ingested.config.train.model_copy(update={"micro_batch_tokens": 128, "device": "auto", "precision": "bf16"})
    train(replace(ingested, config=ingested.config.model_copy(update={"train": train_settings})))
    (given,) = quick_training
    assert given["micro_batch_tokens"] == 128 and given["settings"] == train_settings


def test_the_record_of_a_run_names_its_adapter_and_versions(ingested: Session, quick_training: list[Any]) -> None:
    train(ingested)
    run = latest_run(ingested.workspace)
    assert run is not None and run.training.adapter_sha256 == run.adapter_sha256()
    assert {"python", "localsynth", "torch", "opendp"} <= set(run.training.versions)


def test_only_training_a_model_needs_the_train_extra(
    ingested: Session, make_session: Any, quick_training: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from localsynth.pipeline import export, plan, run, train

    def missing() -> None:
        raise ResourceError("missing")

    train.train(ingested)
    for module in (run, export, plan, train):
        monkeypatch.setattr(module, "need_training_parts", missing)
    for verb in (run.run, plan.plan, train.train_or_resume, export.export):
        with pytest.raises(ResourceError, match="missing"):
            verb(make_session(rows=3))
    marginals = make_session(synthesizer="marginals", rows=3, again=True)
    assert plan.plan(marginals).synthesizer == "marginals"
    train.train_or_resume(marginals)
    export.export(marginals)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_missing_gpu_is_an_error_before_anything_is_charged(ingested: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    from localsynth.pipeline import run
    from localsynth.pipeline.plan import plan

    def too_late(session: Session) -> None:
        raise AssertionError("the schema may have been charged by now")

    monkeypatch.setattr(run, "ingest_if_needed", too_late)
    settings = ingested.config.train.model_copy(update={"device": "cuda"})
    session = replace(ingested, config=ingested.config.model_copy(update={"train": settings}))
    for verb in (run.run, train):
        with pytest.raises(ResourceError, match="CUDA"):
            verb(session)
    assert any("No CUDA device" in warning for warning in plan(session).warnings)
    assert not ingested.workspace.ledger_path.exists() and latest_run(ingested.workspace) is None


def test_plan_warns_of_training_that_does_not_fit(ingested: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    from localsynth.pipeline.plan import plan
    from localsynth.train import memory

    def warnings() -> list[str]:
        return [warning for warning in plan(ingested).warnings if "of memory" in warning]

    assert not warnings()
    monkeypatch.setattr(memory, "memory_room", lambda device: 2 * 10**8)
    (warning,) = warnings()
    assert "only 0.2 GB" in warning
    assert plan(ingested).micro_batch_tokens == 64
