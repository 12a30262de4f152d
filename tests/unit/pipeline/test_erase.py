"""Erasing: the key first, nothing private left, what was promised is kept, and a killed erasure is finished by the next."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from localsynth.errors import ConfigError, ResourceError
from localsynth.pipeline.erase import erase
from localsynth.privacy.signing import fingerprint, is_signature_valid, signing_key
from localsynth.system.files import file_sha256, write_json
from localsynth.system.lock import file_lock, work_lock
from localsynth.workspace.erasure_record import OUT_OF_REACH, read_statement, refuse_erased
from localsynth.workspace.paths import Workspace

KEPT = {
    "localsynth.toml": "[data]",
    "ledger.json": '{"events": [{"hash": "ab"}]}',
    "schema.json": "{}",
    "synthetic.duckdb": "synthetic",
    "runs/001/run.json": "{}",
    "runs/001/certificate.json": "{}",
    "runs/001/audit.json": "{}",
    "runs/001/events.jsonl": "",
    "runs/001/adapter/adapter.safetensors": "weights",
    "runs/001/model.Q8_0.gguf": "model",
}
PRIVATE = {
    "private.duckdb": "rows",
    "private.duckdb.wal": "rows",
    ".private.duckdb.0011.part": "rows",
    ".private.spill/duckdb_temp": "rows",
    ".schema.json.77.part": "{",
    "runs/001/checkpoint/state.pt": "state",
    "runs/001/.model.Q8_0.gguf.99.part": "part",
    "runs/001/.audit.json.12.part": "part",
}
REPORTS = {"runs/001/report.html": "<p>", "runs/001/report.json": "{}"}


def fill(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))
    workspace = Workspace.create(tmp_path / "ws")
    fill(workspace.root, KEPT | PRIVATE | REPORTS)
    for name in ("private.key", ".private.key.12.part"):
        (workspace.keys_path / name).write_text("0" * 64)
    rehearsal = Workspace.create(workspace.root / "rehearsal")
    write_json(rehearsal.identity_path, {"id": rehearsal.id, "rehearsal": True})
    fill(rehearsal.root, {"random-rows.jsonl": "{}", "runs/001/run.json": "{}"})
    (rehearsal.keys_path / "private.key").write_text("1" * 64)
    return workspace


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and not path.name.endswith(".lock")}


def is_erased(workspace: Workspace, reports: bool = False) -> None:
    assert files(workspace.root) == {*KEPT, "workspace.json", "erasure.json", *(REPORTS if reports else ())}
    assert not [path for path in (workspace.root.parent / "home").rglob("*.key*") if path.is_file()]
    record = json.loads(workspace.erasure_path.read_text())
    assert record["complete"] and is_signature_valid(record)
    assert set(PRIVATE) - {"runs/001/checkpoint/state.pt", ".private.spill/duckdb_temp"} <= set(record["removed"])
    assert record["out_of_reach"] == list(OUT_OF_REACH)


def test_erase_removes_the_private_side_only(workspace: Workspace) -> None:
    before = file_sha256(workspace.private_path)
    done = erase(workspace)
    is_erased(workspace)
    assert done.record["hashes"]["private.duckdb"] == before and done.record["report"] == "removed"
    assert not (workspace.root / "rehearsal").exists() and done.unknown == ()
    assert all(name in "".join(OUT_OF_REACH) for name in ("source file", "backups", "snapshots", "swap"))


def test_keep_report_keeps_the_reports(workspace: Workspace) -> None:
    assert erase(workspace, keep_report=True).record["report"] == "kept"
    is_erased(workspace, reports=True)


def test_unknown_files_are_kept_and_named(workspace: Workspace) -> None:
    (workspace.root / "notes.txt").write_text("mine")
    (workspace.root / "rehearsal" / "workspace.json").unlink()
    done = erase(workspace)
    assert done.unknown == ("notes.txt", "rehearsal") and (workspace.root / "notes.txt").read_text() == "mine"


def test_the_key_is_overwritten_and_removed_first(workspace: Workspace) -> None:
    key = workspace.keys_path / "private.key"
    os.link(key, workspace.root.parent / "same-inode")
    seen: list[set[str]] = []
    erase(workspace, between=lambda: seen.append(files(workspace.root)))
    assert set(PRIVATE) <= seen[0], "nothing was removed before the key"
    assert (workspace.root.parent / "same-inode").read_bytes() == bytes(64)


KILL = """
import os, signal, sys
from pathlib import Path
from localsynth.pipeline.erase import erase
from localsynth.workspace.paths import Workspace
left = int(sys.argv[2])
def between():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
erase(Workspace(Path(sys.argv[1])), between=between)
"""


@pytest.mark.parametrize("step", [1, 2, 3, 8, 12, 13])
def test_an_erasure_killed_after_any_step_is_finished_by_the_next(workspace: Workspace, step: int) -> None:
    hashed = file_sha256(workspace.private_path)
    killed = subprocess.run([sys.executable, "-c", KILL, str(workspace.root), str(step)])
    assert killed.returncode == -signal.SIGKILL
    assert not (workspace.keys_path / "private.key").exists()
    done = erase(workspace)
    is_erased(workspace)
    assert done.record["hashes"]["private.duckdb"] == hashed


def test_twice_is_once(workspace: Workspace) -> None:
    first = erase(workspace).record
    second = erase(workspace)
    assert second.removed == () and second.record["removed"] == first["removed"] and second.record["hashes"] == first["hashes"]


@pytest.mark.parametrize("lock", [".work.lock", ".private.lock"])
def test_erase_is_refused_while_a_command_runs(workspace: Workspace, lock: str) -> None:
    with file_lock(workspace.root / lock, "it"), pytest.raises(ResourceError, match="in use"):
        erase(workspace)
    assert (workspace.keys_path / "private.key").exists()
    with work_lock(workspace.root, "train"):
        pass


def test_stages_are_refused_after_an_erasure(workspace: Workspace) -> None:
    refuse_erased(workspace)
    erase(workspace)
    with pytest.raises(ConfigError, match="were erased") as caught:
        refuse_erased(workspace)
    assert "localsynth init" in caught.value.hint


# --- what verify says


def signer() -> str:
    return fingerprint(signing_key().public_key().public_bytes_raw())


def test_a_statement_is_found_beside_the_certificate_or_at_the_root(workspace: Workspace, tmp_path: Path) -> None:
    certificate = workspace.root / "runs" / "001" / "certificate.json"
    assert read_statement(certificate, workspace.id, signer()) is None
    erase(workspace)
    said = read_statement(certificate, workspace.id, signer())
    assert said is not None and said.status == "stated" and "the signer of this certificate" in said.text
    (tmp_path / "handed-on").mkdir()
    (tmp_path / "handed-on" / "erasure.json").write_text(workspace.erasure_path.read_text())
    handed = read_statement(tmp_path / "handed-on" / "certificate.json", workspace.id, None)
    assert handed is not None and handed.status == "stated" and "somebody other" in handed.text


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda record: record | {"erased": "2020-01-01"}, "failed"),
        (lambda record: record | {"workspace": "other"}, "failed"),
        (lambda record: record | {"signature": None, "complete": False}, "not checked"),
        (lambda record: {"workspace": record["workspace"]}, "failed"),
        (lambda record: [record], "failed"),
        (lambda record: record | {"signature": 7}, "failed"),
        (lambda record: record | {"signature": None, "erased": 7}, "failed"),
    ],
)
def test_a_statement_that_is_damaged_or_foreign_fails(workspace: Workspace, change, status) -> None:
    erase(workspace)
    workspace.erasure_path.write_text(json.dumps(change(json.loads(workspace.erasure_path.read_text()))))
    said = read_statement(workspace.root / "certificate.json", workspace.id, None)
    assert said is not None and said.status == status
