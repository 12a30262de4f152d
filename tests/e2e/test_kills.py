"""A stage killed at any moment leaves nothing half-written under its final name, loses no spend, and is finished by the next."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("kill_harness.py")


def killed(tmp_path, model, kills, seed, *stages):
    line = [sys.executable, str(HARNESS), str(tmp_path), str(model), str(kills), str(seed), *stages]
    # One thread, which waits asleep: a killed process may have left others at work beside it.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=3500)
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) == kills * len(stages)
    assert [outcome for outcome in outcomes if outcome["wrong"]] == []
    return outcomes


def test_a_few_kills(tiny_model, tmp_path):
    killed(tmp_path, tiny_model(), 1, 1, "ingest", "train", "export")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["ingest", "train", "export"])
def test_fifty_kills(tiny_model, tmp_path, stage):
    outcomes = killed(tmp_path, tiny_model(), 50, 2, stage)
    assert sum(outcome["killed"] for outcome in outcomes) == 50
