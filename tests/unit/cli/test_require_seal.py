"""`--require-seal`: a process with a weaker seal refuses before it has opened anything."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from localsynth.system.network_seal import available_levels

CHILD = """
import sys
from localsynth.system import network_seal
broken = {"none": ["_move_to_empty_network", "_filter_system_calls", "_refuse_in_python"],
          "audit": ["_move_to_empty_network", "_filter_system_calls"],
          "seccomp": ["_move_to_empty_network"], "namespace": []}
for way in broken[sys.argv[1]]:
    setattr(network_seal, way, lambda: False)
from localsynth.worker import main
place = sys.argv[2]  # the engine gives itself another command line
def watch(event, arguments):
    if event == "open" and str(arguments[0]).startswith(place):
        print("OPENED", arguments[0], file=sys.stderr)
sys.addaudithook(watch)
sys.exit(main())
"""

VERBS = ["init", "ingest", "train", "run", "rehearse"]


def answer(level: str, verb: str, place: Path, requirement: str | None) -> tuple[dict, str]:
    (place / "data.csv").write_text("a\n1\n")
    (place / "ws").mkdir(exist_ok=True)
    (place / "ws" / "localsynth.toml").write_text("nonsense")
    request = {"verb": verb, "workspace": str(place / "ws"), "data": {"source": str(place / "data.csv")}}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, level, str(place)],
        input=json.dumps(request | {"require_seal": requirement}),
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize(
    ("level", "requirement", "verb"),
    [*(("audit", "kernel", verb) for verb in VERBS), ("none", "kernel", "run"), ("none", "any", "run")],
)
def test_a_weaker_seal_is_refused_before_any_file_is_opened(tmp_path: Path, level: str, requirement: str, verb: str) -> None:
    said, opened = answer(level, verb, tmp_path, requirement)
    assert said["kind"] == "failed" and said["code"] == 5 and f"--require-seal {requirement}" in said["message"]
    assert "Nothing was read" in said["message"] and "doctor" in said["hint"]
    assert "OPENED" not in opened, opened


@pytest.mark.parametrize(("level", "requirement"), [("audit", "any"), ("seccomp", "kernel"), ("none", None)])
def test_a_sufficient_seal_lets_the_command_run(tmp_path: Path, level: str, requirement: str | None) -> None:
    if level not in (*available_levels(), "none"):
        pytest.skip(f"this machine allows no {level}")
    said, opened = answer(level, "ingest", tmp_path, requirement)
    assert "not valid TOML" in said["message"] and "OPENED" in opened, "it went on to read the configuration"
