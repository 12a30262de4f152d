"""Every stage of a run by marginals under faults of the machine: it names the fault and resumes correctly once it is gone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HARNESS = "tests.helpers.fault_harness"
STAGES = ("ingest", "rehearse", "train", "export", "sample", "evaluate")


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["disk", "memory", "read-only", "clock"])
def test_each_stage_under_a_fault(tiny_model, tmp_path, fault):
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this system does not allow a mount namespace of one's own")
    line = [sys.executable, "-m", HARNESS, str(tmp_path), str(tiny_model()), fault, "3", "1", "marginals", *STAGES]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(["unshare", "-rm", *line], env=environment, capture_output=True, text=True, timeout=3500, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert {outcome["stage"] for outcome in outcomes} == set(STAGES)
    assert [outcome for outcome in outcomes if outcome["wrong"]] == []
    if fault in ("disk", "read-only"):
        assert {outcome["stage"] for outcome in outcomes if outcome["code"] == 5} == set(STAGES)
