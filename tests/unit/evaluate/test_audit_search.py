"""Endings are found where they are written, exposures are ranks, and a model that remembers is caught."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localsynth.config import SampleConfig, TrainConfig
from localsynth.evaluate.audit import search, training
from localsynth.evaluate.audit.outcome import audit_figures, exposures, written_endings
from localsynth.privacy.account import Account
from localsynth.results.audit import AuditSearch
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.columns import Category, Schema, Text
from localsynth.train.plan import make_train_plan
from tests.helpers.seeded_random import InsecureRandom

SCHEMA = Schema(columns=[Category(name="k", values=["a", "b"]), Text(name="t", max_tokens=24)])
SETTINGS = TrainConfig(rank=4, alpha=8, device="cpu", precision="fp32")


def test_written_endings_are_found_letter_by_letter() -> None:
    rows = [{"t": "hello abc123 there", "n": 4}, {"t": None, "n": 5}, {"t": "abc"}, {"t": "999"}]
    assert written_endings(["abc123", "abc999", "zzz"], rows) == 1, "not across two rows"


def test_exposure_is_a_rank_in_bits() -> None:
    withheld = [0.0, 1.0, 2.0]
    assert exposures([5.0, 1.5, -1.0], withheld) == [math.log2(4), math.log2(2), 0.0]
    assert exposures([1.0], [1.0] * 7) == [0.0], "no better than equal is no exposure"


@pytest.mark.parametrize("found", [0, 2])
def test_a_written_ending_fails_the_audit(found: int) -> None:
    searched = AuditSearch(40, 40, rows=100, found=found, exposure=1.0, highest=5.4, share_at_most=None)
    audit = audit_figures(200, 50, 27, 50, [(1.0, 1e-6), (0.2, 0.1)], searched)
    assert audit.status == ("failed" if found else "passed")


@pytest.mark.parametrize("hybrid", [False, True])
def test_a_search_from_training_to_rows(hybrid: bool, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    honest = training.train

    def watched(**arguments: Any) -> Any:
        given.append({**arguments, "units": arguments["load_units"]()})
        return honest(**arguments)

    monkeypatch.setattr(training, "train", watched)
    plan = make_train_plan(SETTINGS, 600, Account(8.0, 1e-6).noise)
    events: list[dict[str, Any]] = []
    found = search.search_endings(
        schema=SCHEMA,
        split=ColumnSplit(SCHEMA, hybrid=hybrid),
        description="",
        rows_per_unit=1,
        directory=tmp_path,
        rows=7,
        sampling=SampleConfig(threads=1),
        training=training.AuditedTraining(
            base=tiny_model(),
            targets=["q_proj", "v_proj"],
            micro_batch_tokens=512,
            plan=plan,
            settings=SETTINGS,
            random=InsecureRandom(1),
            emit=events.append,
            should_stop=lambda: False,
        ),
    )
    assert found.rows == 7 and found.found == 0 and 0 <= found.exposure <= found.highest
    (arguments,) = given
    assert arguments["settings"] == SETTINGS and arguments["plan"] == plan, "at the run's own learning rate"
    assert len(arguments["units"]) == 160 and {event["stage"] for event in events} == {"audit"}


def test_a_model_that_remembers_is_exposed(tiny_model: Any, tmp_path: Path) -> None:
    class NoNoise(InsecureRandom):
        def gaussian(self, n: int) -> Any:
            return np.zeros(n)

    settings = SETTINGS.model_copy(update={"epochs": 24.0, "batch_size": 40, "learning_rate": 3e-2})
    found = search.search_endings(
        schema=SCHEMA,
        split=ColumnSplit(SCHEMA, hybrid=False),
        description="",
        rows_per_unit=1,
        directory=tmp_path,
        rows=1,
        sampling=SampleConfig(threads=1),
        training=training.AuditedTraining(
            base=tiny_model(),
            targets=["q_proj", "v_proj", "down_proj"],
            micro_batch_tokens=512,
            plan=make_train_plan(settings, 160, Account(8.0, 1e-6).noise),
            settings=settings,
            random=NoNoise(1),
            emit=lambda event: None,
            should_stop=lambda: False,
        ),
    )
    assert found.exposure > 1.7, found
