"""A stage killed at any moment leaves nothing half-written under its final name, loses no spend, and is finished by the next."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HARNESS = "tests.helpers.kill_harness"


def killed(tmp_path, model, kills, seed, kind, *stages):
    line = [sys.executable, "-m", HARNESS, str(tmp_path), str(model), str(kills), str(seed), kind, *stages]
    # One thread, which waits asleep: a killed process may have left others at work beside it.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=3500, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) == kills * len(stages)
    assert [outcome for outcome in outcomes if outcome["wrong"]] == []
    return outcomes


@pytest.mark.slow
def test_a_few_kills_of_marginals(tiny_model, tmp_path):
    killed(tmp_path, tiny_model(), 1, 1, "marginals", "rehearse", "train", "sample", "evaluate")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        *(("hybrid", stage) for stage in ("ingest", "rehearse", "train", "export", "count_texts", "sample", "evaluate", "audit")),
        *(("marginals", stage) for stage in ("train", "export", "sample", "evaluate")),
        *(("model", stage) for stage in ("train", "export", "count_texts", "sample")),
    ],
)
def test_fifty_kills(tiny_model, tmp_path, kind, stage):
    outcomes = killed(tmp_path, tiny_model(), 50, 2, kind, stage)
    assert sum(outcome["killed"] for outcome in outcomes) == 50
