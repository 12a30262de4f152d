"""The report of a run, from the command line: what it holds, and that the one for release holds nothing of the original."""

import json
import re

import pytest

from localsynth.store.synthetic import SyntheticStore


@pytest.fixture
def finished(localsynth, tickets, tmp_path):
    localsynth.init("ws", tickets)
    result = localsynth.ok("run", "ws", "--rows", 60, "--json", *localsynth.quick(), "--set", "evaluate.report=true").json()
    assert result["stages"][-1]["stage"] == "evaluate" and "do not publish" in (tmp_path / result["report"]).read_text()
    return localsynth


def test_a_report_and_one_for_release(finished, tmp_path):
    wrong = finished("evaluate", "ws", "--target", "sort")
    assert wrong.code == 2 and "no learned column 'sort'" in wrong.err
    # Rows under conditions are in the table, and not in the report.
    finished.ok("sample", "ws", "--more", 7, "--where", "ok", *finished.quick())
    result = finished.ok("evaluate", "ws", "--target", "kind", "--quasi-identifiers", "amount, day", "--json").json()
    run = next((tmp_path / "ws" / "runs").iterdir())
    assert result["report"].endswith(f"{run.name}/report.html")
    page = (run / "report.html").read_text()
    document = json.loads((run / "report.json").read_text())
    figures = document["figures"]
    assert figures["rows"]["synthetic"] == 60
    assert figures["rows"]["original"] + figures["rows"]["holdout"] == 400
    names = [attack["name"] for attack in figures["attacks"]]
    assert "membership, surest cases" in names and "membership, surest cases (the model)" in names and "linkage" in names
    assert "do not publish" in page and not re.search(r"(src|href)\s*=\s*.?(http|//)|@import|url\(", page)
    assert "planted" not in page + json.dumps(document), "not even the report quotes a value"

    finished.ok("evaluate", "ws", "--release")
    released = (run / "report-release.html").read_text() + (run / "report-release.json").read_text()
    assert "planted" not in released and "holdout" not in json.loads((run / "report-release.json").read_text())
    assert "figures" not in json.loads((run / "report-release.json").read_text())
    rows = SyntheticStore(tmp_path / "ws" / "synthetic.duckdb")
    assert len(list(rows.records())) == 67 and len(list(rows.records(plain=True))) == 60


def test_nothing_can_be_evaluated_before_a_run(localsynth, tickets):
    localsynth.init("ws", tickets)
    early = localsynth("evaluate", "ws")
    assert early.code == 2 and "no trained run" in early.err
