"""A run of sequences through its stages: what it verifies as, and how many rows it draws where nobody said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localsynth.pipeline.export import export
from localsynth.pipeline.export_table import export_table
from localsynth.pipeline.ingest import ingest
from localsynth.pipeline.plan import plan
from localsynth.pipeline.sample import sample
from localsynth.pipeline.session import Session
from localsynth.pipeline.train import train
from localsynth.privacy.noise import SecureRandom
from localsynth.store.private import PrivateStore
from localsynth.verification.file import verify_file
from localsynth.workspace.runs import latest_run


def in_order(session: Session) -> Session:
    data = session.config.data.model_copy(update={"sequence_by": "n"})
    session.config = session.config.model_copy(update={"data": data})
    return session


def test_sequences_have_as_many_rows_as_the_original_units(
    make_session: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """150 persons with three rows each, of which two are kept: 300 rows, counted among about seven tenths of the persons."""
    monkeypatch.setattr(SecureRandom, "gaussian", lambda self, n: np.zeros(n))  # noise moves so few rows by a tenth
    session = in_order(make_session(synthesizer="auto"))
    assert plan(session).rows_wanted == 225, "before anything is measured: one and a half a person"
    ingest(session)
    train(session)
    export(session)
    run = latest_run(session.workspace)
    assert run is not None and verify_file(run.certificate_path, None)["valid"]
    with PrivateStore.open(session.workspace) as store:
        counted = len(list(store.records("train", run.effective.schema)))
    assert sample(session).rows == pytest.approx(counted / 0.7, abs=2)
    assert sample(in_order(make_session(synthesizer="auto", more=7))).new_rows == 7
    out = tmp_path / "rows.csv"
    rows = export_table(session.workspace, "csv", out)["rows"]
    findings = verify_file(run.certificate_path, None, out)["findings"]
    assert f"all {rows} rows match" in next(each["text"] for each in findings if each["name"] == "rows")
