"""`erasure.json`: what an erased workspace says of itself."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from localsynth.errors import ConfigError
from localsynth.privacy.signing import fingerprint, is_signature_valid
from localsynth.system.canonical_json import parse_json
from localsynth.system.files import read_json
from localsynth.workspace.paths import Workspace

FORMAT = 1


OUT_OF_REACH = (
    "the source file, which stays where it was",
    "backups and snapshots of the source, of this workspace or of your configuration directory (with a copy of the key and a "
    "copy of private.duckdb, the rows can be read again)",
    "what the operating system swapped to disk, or keeps of files that were removed: solid-state disks and journaling or "
    "copy-on-write file systems may hold overwritten bytes for a while",
    "what a terminal UI that was killed left in memory (/dev/shm), until the workspace is opened there again or "
    "the machine restarted",
    "what was copied out of the workspace: reports, rows shown on a screen, printed pages",
)
"""What no program that runs here can destroy; each is for the owner of the data to think of."""


def refuse_erased(workspace: Workspace) -> None:
    """Raise ConfigError where the workspace's original rows were erased: no stage may bring them back unseen."""
    if not workspace.erasure_path.exists():
        return
    when = read_json(workspace.erasure_path).get("erased", "an unknown day")
    raise ConfigError(
        f"The original rows of {workspace.root} were erased ({when}).",
        "Its model and synthetic rows can still be used: sample, query, export-data, verify. To work on a table again, "
        "make a new workspace: localsynth init",
    )


@dataclass(frozen=True)
class Statement:
    """What an erasure.json beside a certificate says."""

    status: Literal["stated", "not checked", "failed"]
    text: str


def read_statement(certificate: Path, workspace_id: str, signer: str | None) -> Statement | None:
    """The erasure.json that belongs to a certificate, beside it or at the root of its workspace; None where there is none.

    `workspace_id` and `signer` (a fingerprint; None: unsigned) are the certificate's. Never raises.
    """
    places = [certificate.parent]
    if certificate.parent.parent.name == "runs":
        places.append(certificate.parent.parent.parent)
    path = next((place / "erasure.json" for place in places if (place / "erasure.json").is_file()), None)
    if path is None:
        return None
    try:
        record = parse_json(path.read_text(encoding="utf-8"))
        if record["workspace"] != workspace_id:
            return Statement("failed", "The erasure.json here is another workspace's.")
        signed = record["signature"] is not None
        if signed and not is_signature_valid(record):
            return Statement("failed", "The erasure.json here was changed after it was signed.")
        if not record["complete"]:
            return Statement("not checked", "The erasure of the original rows was begun and not finished.")
        by = fingerprint(bytes.fromhex(record["signature"]["public_key"])) if signed else None
        day, report = dt.date.fromisoformat(record["erased"]).isoformat(), "kept" if record["report"] == "kept" else "removed"
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return Statement("failed", "The erasure.json here is damaged.")
    who = "the signer of this certificate" if by is not None and by == signer else "somebody other than the certificate's signer"
    return Statement(
        "stated",
        f"On {day} the key of the original rows was destroyed and the private side removed, the report {report}; so says {who}. "
        "That no copy is left elsewhere cannot be checked.",
    )
