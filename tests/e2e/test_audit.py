"""The audit as a user runs it: nothing private is opened, nothing is spent, and the report shows what it found."""

import pytest

from localsynth.privacy.accountant import dp_sgd_step, epsilon_of
from localsynth.system.files import read_json


@pytest.mark.slow
def test_from_the_command_to_the_report(localsynth, tickets, tmp_path):
    localsynth.ok("init", "ws", "--data", tickets)
    quick = [*localsynth.quick(), "--set", "privacy.public_size=400", "--set", "sample.threads=1"]
    localsynth.ok("run", "ws", "--rows", 30, *quick)
    workspace = tmp_path / "ws"
    (run,) = (workspace / "runs").iterdir()
    private = workspace / "private.duckdb"
    rows, ledger, registry = private.read_bytes(), (workspace / "ledger.json").read_bytes(), tmp_path / "home" / "registry.json"
    spent = registry.read_bytes()
    private.unlink()
    outcome = localsynth("audit", "ws", "--canaries", 100, "--search", 3, "--json", *quick)
    found = outcome.json()
    assert outcome.code == (6 if found["status"] == "failed" else 0), outcome.err
    assert found["canaries"] == 100 and found["search"]["rows"] == 3 and found["search"]["found"] == 0
    plan = read_json(run / "run.json")["model"]["plan"]
    steps = [{"type": "repeated", "count": plan["steps"], "of": dp_sgd_step(plan["noise_multiplier"], plan["sample_rate"])}]
    claimed = found["claimed"]
    assert found["epsilon"] <= found["ceiling"] and claimed["epsilon"] == epsilon_of(steps, claimed["delta"])
    assert (workspace / "ledger.json").read_bytes() == ledger and registry.read_bytes() == spent and not private.exists()
    assert not (run / "audit").exists()
    text = localsynth("audit", "ws", "--canaries", 60, "--search", 0, *quick).out
    assert "Nothing was spent" in text and "the most this audit could have shown" in text and "random endings" not in text
    assert read_json(run / "audit.json")["canaries"] == 60, "the newer one"

    private.write_bytes(rows)
    localsynth.ok("evaluate", "ws", *quick)
    audit = read_json(run / "report.json")["figures"]["audit"]
    assert audit == read_json(run / "audit.json")
    assert audit["sentence"].split(";")[0] in (run / "report.html").read_text()
