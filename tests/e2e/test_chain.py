"""The whole chain on the tiny model, driven as a user drives it."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import duckdb
import pytest

from localsynth.config import MACHINES_PART, PrivacyConfig, TrainConfig
from localsynth.schema.columns import Schema, conform
from localsynth.store.synthetic import SyntheticStore


def events(workspace):
    return json.loads((workspace / "ledger.json").read_text())["events"]


def test_from_a_csv_to_rows_and_a_certificate(localsynth, tickets, tmp_path):
    made = localsynth.ok("init", "ws", "--data", tickets, "--json").json()
    kinds = {column["name"]: column["kind"] for column in made["columns"]}
    assert list(kinds.values()) == ["identifier", "surrogate", "category", "integer", "number", "date", "boolean", "text"]
    localsynth.shorten_texts("ws", 48)  # none is longer
    planned = localsynth.ok("plan", "ws", *localsynth.quick(count_texts=True), "--json").json()
    assert planned["units_origin"] == "assumed" and planned["noise_multiplier"] > 0
    assert not (tmp_path / "ws" / "ledger.json").exists(), "plan must spend nothing"

    result = localsynth.ok("run", "ws", "--rows", 70, *localsynth.quick(count_texts=True), "--json").json()
    workspace = tmp_path / "ws"
    assert result["rows"] == 70
    assert 0 < result["epsilon_spent"] < result["epsilon_guaranteed"] <= 4.0

    effective = json.loads((workspace / "schema.json").read_text())
    schema = Schema.model_validate(effective["schema"])
    assert not schema.unmeasured() and effective["size"]["origin"] == "measured"
    rows = list(SyntheticStore(workspace / "synthetic.duckdb").records())
    assert len(rows) == 70
    for row in rows:
        learned = {column.name: row[column.name] for column in schema.learned()}
        assert conform(schema, learned) == learned
    assert [row["id"] for row in rows] == list(range(1, 71))

    plan = json.loads(next((workspace / "runs").glob("*/run.json")).read_text())
    steps = [e for e in events(workspace) if e["kind"] == "spend" and e["what"] == "DP-SGD step"]
    assert len(steps) == plan["train"]["steps"] == plan["model"]["plan"]["steps"]
    only_public_facts(plan)

    for target in (result["certificate"], result["model"]):
        verified = localsynth.ok("verify", target, "--json").json()
        assert (
            verified["valid"]
            and {"name": "model", "status": "ok"}.items() <= next(f for f in verified["findings"] if f["name"] == "model").items()
        )
    certificate = json.loads((workspace / "runs" / plan_id(workspace) / "certificate.json").read_text())
    assert any("guessed from the table" in sentence for sentence in certificate["not_covered"])

    counted = localsynth.ok("query", "ws", "select count(*) as n from synthetic", "--json").json()
    assert counted == [{"n": 70}]
    manifests = set()
    for kind in ("csv", "parquet", "jsonl"):
        localsynth.ok("export-data", "ws", "--format", kind, "--out", f"out.{kind}")
        assert duckdb.sql(f"select count(*) from '{tmp_path}/out.{kind}'").fetchone() == (70,)
        tied = localsynth.ok("verify", result["model"], "--table", f"out.{kind}", "--json").json()["findings"]
        assert [finding["status"] for finding in tied if finding["name"] == "table"] == ["ok"]
        manifests.add(json.loads((tmp_path / f"out.{kind}.manifest.json").read_text())["rows_sha256"])
    assert len(manifests) == 1, "the same rows, whatever the format"

    assert localsynth("run", "ws", *localsynth.quick(count_texts=True)).code == 2, "a finished run needs --again"
    assert localsynth.ok("sample", "ws", "--more", 5, *localsynth.quick(count_texts=True), "--json").json()["rows"] == 75
    no_planted_value_outside_the_private_store(workspace)


RUN_FACTS = {
    "settings": {
        "train": set(TrainConfig.model_fields) - MACHINES_PART,
        "text_counts": {"share"},
        "privacy": set(PrivacyConfig.model_fields),
        "data": {"sequence_by"},
    },
    # The layers follow from the plan's noise, the micro-batch from the machine's memory: both public.
    "model": {"plan", "targets", "micro_batch_tokens", "base_sha256"},
    "reruns": None,
    "synthesizer": None,
    "marginals": {"sha256", "measured"},
    "budget": None,
    "table": {"budget", "complete", "ingest", "settings", "schema", "size", "keep_probability", "measured_by"},
    "train": {"steps", "precision", "noise", "seal", "versions", "adapter_sha256"},
    "export": {"quantization", "kl", "shift", "size_bytes", "seconds", "model_hash", "signed", "certificate_sha256"},
    "text_counts": {"tokens", "columns"},
    "text_counts_sha256": None,
    "sample": {"rows", "rejected", "seconds"},
}
"""Every key of run.json, which stays. A new one must be public: no loss, no count of rows, no time of the training."""


def only_public_facts(record):
    assert set(record) == set(RUN_FACTS)
    for key, allowed in RUN_FACTS.items():
        if allowed is None:
            assert not isinstance(record[key], dict | list), key
        else:
            assert set(record[key]) == set(allowed), key
            for part in allowed if isinstance(allowed, dict) else ():
                assert set(record[key][part]) == allowed[part], (key, part)
    assert set(record["table"]["size"]) == {"units", "origin"}
    assert set(record["table"]["settings"]) == {"data", "schema", "privacy", "max_units"}


def plan_id(workspace):
    return next((workspace / "runs").iterdir()).name


def no_planted_value_outside_the_private_store(workspace):
    planted = re.compile(rb"[Pp]lanted\d{5}")
    for path in workspace.rglob("*"):
        if path.is_file():
            assert not planted.search(path.read_bytes()), path


def test_a_changed_digit_makes_verify_fail(localsynth, tickets, tmp_path):
    localsynth.init("ws", tickets)
    result = localsynth.ok("run", "ws", "--rows", 3, *localsynth.quick(), "--json").json()
    text = (tmp_path / result["certificate"]).read_text()
    spent = str(json.loads(text)["guarantee"]["spent_epsilon"])
    (tmp_path / result["certificate"]).write_text(text.replace(spent, spent[:-1] + str((int(spent[-1]) + 1) % 10)))
    assert localsynth("verify", result["certificate"]).code == 6
    model = bytearray((tmp_path / result["model"]).read_bytes())
    model[-100] ^= 1
    (tmp_path / result["model"]).write_bytes(model)
    assert localsynth("verify", result["model"]).code == 6


@pytest.mark.parametrize("sent", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_stopped_run_resumes_within_its_budget(localsynth, tickets, tmp_path, sent):
    localsynth.init("ws", tickets)
    slow = [*localsynth.quick(), "--set", "train.epochs=5"]
    line = [sys.executable, "-m", "localsynth.cli.main", "run", "ws", "--rows", "20", *slow]
    process = subprocess.Popen(
        line,
        cwd=tmp_path,
        env=localsynth.environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    workspace = tmp_path / "ws"
    while time.monotonic() < deadline and not train_steps(workspace):
        time.sleep(0.1)
    before = train_steps(workspace)
    os.killpg(process.pid, sent)
    process.communicate(timeout=240)
    if sent == signal.SIGINT:
        assert process.returncode == 130
    result = localsynth.ok("run", "ws", "--rows", 20, *slow, "--json").json()
    assert result["rows"] == 20
    assert result["epsilon_spent"] <= 4.0
    record = json.loads(next((workspace / "runs").glob("*/run.json")).read_text())
    assert record["reruns"] == 1 and 0 < before < record["model"]["plan"]["steps"]
    repeated = train_steps(workspace) - record["train"]["steps"]
    assert train_steps(workspace) <= record["model"]["plan"]["steps"] + record["model"]["plan"]["reserve"]
    # A killed run repeats what came after its last checkpoint; past the reserve it ends early rather than overspend.
    assert record["train"]["steps"] == record["model"]["plan"]["steps"] or repeated > record["model"]["plan"]["reserve"]
    if sent == signal.SIGINT:
        assert repeated == 0


def train_steps(workspace):
    if not (workspace / "ledger.json").exists():
        return 0
    return sum(e["kind"] == "spend" and e["what"] == "DP-SGD step" for e in events(workspace))


def test_stages_one_by_one(localsynth, tickets, tmp_path):
    localsynth.init("ws", tickets)
    quick = localsynth.quick(count_texts=True)
    assert localsynth("train", "ws").code == 2  # nothing ingested
    assert localsynth("export", "ws").code == 2  # nothing trained
    assert localsynth("sample", "ws").code == 2
    localsynth.ok("ingest", "ws", "--max-units", 300)
    facts = localsynth.ok("ingest", "ws", "--json").json()
    assert facts["done_before"] and 225 < facts["kept_units"] < 375
    localsynth.ok("train", "ws", *quick)
    assert localsynth("train", "ws", *quick).code == 2  # would be charged again
    localsynth.ok("export", "ws", "--no-sign", *quick)
    refused = localsynth("sample", "ws", "--rows", 9, *quick)
    assert refused.code == 2 and "localsynth count-texts" in refused.err
    localsynth.ok("count-texts", "ws", "--no-sign", *quick)
    localsynth.ok("sample", "ws", "--rows", 9, *quick)
    certificate = next((tmp_path / "ws" / "runs").glob("*/certificate.json"))
    verified = localsynth.ok("verify", certificate, "--json").json()
    assert "not signed" in verified["summary"]
    before = json.loads(certificate.read_text())["guarantee"]["spent_epsilon"]
    refused = localsynth("run", "ws", *quick)
    assert refused.code == 2 and "--again" in refused.err
    again = localsynth.ok("run", "ws", "--again", "--rows", 9, *quick, "--json").json()
    assert again["epsilon_spent"] > before + 1
    latest = json.loads((tmp_path / again["certificate"]).read_text())
    assert latest["guarantee"]["runs"] == 2 and "More was spent than the target allows" in latest["summary"]
