"""`localsynth erase`: destroys the key of the original rows, removes everything private, and says so in `erasure.json`.

The key goes first: from then on the rows cannot be read by anyone, wherever copies of `private.duckdb` lie. Every step may be
repeated, so an erasure that was killed is finished by the next one.

Reaches the workspace and its key alone; `OUT_OF_REACH` lists what it cannot. What it does not know, it leaves and names.
"""

import datetime as dt
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localsynth.config import load_config
from localsynth.errors import LocalsynthError, ResourceError
from localsynth.privacy.signing import sign, signing_key
from localsynth.store.key import destroy_key
from localsynth.system.files import file_sha256, read_json, write_json
from localsynth.system.lock import file_lock, work_lock
from localsynth.workspace.erasure_record import FORMAT, OUT_OF_REACH
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import is_kept

_PRIVATE = ("private.duckdb", "private.duckdb.wal")
_PRIVATE_PARTS = (".private.duckdb.*", ".private.spill", "*.part")
_REPORT = "report.*"
_KEPT = {
    "localsynth.toml",
    "workspace.json",
    "schema.json",
    "ledger.json",
    "synthetic.duckdb",
    "synthetic.duckdb.wal",
    "erasure.json",
    "runs",
}


@dataclass(frozen=True)
class Erasure:
    """What was done."""

    removed: tuple[str, ...]
    """Files and directories, relative to the workspace, that were removed now."""
    unknown: tuple[str, ...]
    """Files in the workspace that localsynth did not make; they were left alone."""
    source: str | None
    """The path of the source file, which was not touched; None where the configuration cannot be read."""
    record: dict[str, Any]
    """The content of erasure.json."""


def erase(workspace: Workspace, keep_report: bool = False, between: Callable[[], None] = lambda: None) -> Erasure:
    """Destroy the key, remove the private side (reports too, unless `keep_report`) and write erasure.json.

    Kept: the configuration, effective schema, ledger, synthetic rows, and of each run its record, adapter, model and certificate.
    `between` is called after every step. Raises ResourceError where a command is at work, or where a file cannot be removed;
    started again, it resumes.
    """
    with work_lock(workspace.root, "erase"), file_lock(workspace.root / ".private.lock", "The private data of this workspace"):
        earlier = _earlier_record(workspace)
        doomed = list(_doomed(workspace, keep_report))
        removed = tuple(str(path.relative_to(workspace.root)) for path in doomed)
        hashes = dict(earlier.get("hashes", {}))
        hashes |= {name: file_sha256(workspace.root / name) for name in _PRIVATE if (workspace.root / name).is_file()}
        destroy_key(workspace)
        between()
        record = {
            "format": FORMAT,
            "workspace": workspace.id,
            "ledger_head": _ledger_head(workspace),
            "erased": earlier.get("erased") or dt.datetime.now(dt.UTC).date().isoformat(),
            "complete": False,
            "key": "destroyed",
            "removed": sorted({*earlier.get("removed", []), *removed}),
            "report": "kept" if keep_report else "removed",
            "hashes": hashes,
            "out_of_reach": list(OUT_OF_REACH),
            "signature": None,
        }
        with suppress(ResourceError):
            # For the next one, should this one be killed. On a full disk it is done without: removing makes room.
            write_json(workspace.erasure_path, record)
        between()
        for path in doomed:
            _remove(path)
            between()
        _remove_rehearsal(workspace)
        record["complete"] = True
        record = sign(record, signing_key())
        write_json(workspace.erasure_path, record)
        between()
    return Erasure(removed, tuple(_unknown(workspace)), _source(workspace), record)


def what_goes(workspace: Workspace, keep_report: bool = False) -> tuple[str, ...]:
    """What `erase` would remove beside the key: files and directories, relative to the workspace."""
    return tuple(str(path.relative_to(workspace.root)) for path in _doomed(workspace, keep_report))


def _earlier_record(workspace: Workspace) -> dict[str, Any]:
    try:
        record = read_json(workspace.erasure_path)
    except LocalsynthError:
        return {}
    return record if isinstance(record, dict) and isinstance(record.get("hashes"), dict) else {}


def _ledger_head(workspace: Workspace) -> str | None:
    """The hash of the newest event: which state of the workspace this is about. None where nothing was ever spent."""
    try:
        events = read_json(workspace.ledger_path)["events"]
        return str(events[-1]["hash"]) if events else None
    except (LocalsynthError, LookupError, TypeError):
        return None


def _source(workspace: Workspace) -> str | None:
    try:
        return load_config(workspace.config_path).data.source
    except LocalsynthError:
        return None


def _run_directories(workspace: Workspace) -> list[Path]:
    return sorted(path for path in workspace.runs_path.glob("*") if path.is_dir())


def _doomed(workspace: Workspace, keep_report: bool) -> Iterator[Path]:
    """What is removed, the rehearsal aside."""
    root = workspace.root
    yield from (root / name for name in _PRIVATE if (root / name).exists())
    yield from sorted({path for pattern in _PRIVATE_PARTS for path in root.glob(pattern)})
    for run in _run_directories(workspace):
        yield from (path for path in sorted(run.iterdir()) if not is_kept(path) and not path.match(_REPORT))
    if not keep_report:
        for place in (root, *_run_directories(workspace)):
            yield from sorted(place.glob(_REPORT))


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(
            f"Cannot remove {path}: {error.strerror}. The key is destroyed: the original rows cannot be read any more.",
            "Check the permissions, then start the command again: it resumes.",
        ) from None


def _remove_rehearsal(workspace: Workspace) -> None:
    """Random rows: nothing private, but nobody needs them any more."""
    rehearsal = Workspace(workspace.root / "rehearsal")
    if not rehearsal.root.is_dir():
        return
    try:
        keys = rehearsal.keys_path if read_json(rehearsal.identity_path).get("rehearsal") else None
    except LocalsynthError:
        keys = None  # killed on the way, or no rehearsal at all: then it is left, and named as unknown
    if keys is not None:
        _remove(keys)
        # Its identity last: without it, the next erasure would not know what this is.
        for path in rehearsal.root.iterdir():
            if path != rehearsal.identity_path:
                _remove(path)
        _remove(rehearsal.root)


def _unknown(workspace: Workspace) -> Iterator[str]:
    for path in sorted(workspace.root.iterdir()):
        if path.name not in _KEPT and not path.name.endswith(".lock") and not path.match(_REPORT):
            yield path.name


# --- what `verify` says of it
