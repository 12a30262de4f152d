"""Texts about erasing: what it will remove, and the record of what it removed."""

from collections.abc import Mapping, Sequence
from typing import Any

from localsynth_tui.text.formatting import plain

_STAYS = (
    "the synthetic rows, the model, its certificate, the ledger and the configuration: rows can still be generated, viewed, "
    "exported and verified",
)


def _list(items: Sequence[str]) -> list[str]:
    return [f"  – {plain(item)}" for item in items]


def before_text(goes: Sequence[str]) -> str:
    """What is erased (`goes`: paths in the workspace), what stays, and what is out of reach."""
    from localsynth.workspace.erasure_record import OUT_OF_REACH

    lines = ["ERASED, for good:", *_list(["the key of the original rows: without it nobody can read them", *goes])]
    lines += ["STAYS:", *_list(_STAYS), "OUT OF REACH, for you to check:", *_list(OUT_OF_REACH)]
    return "\n".join(lines)


def record_text(record: Mapping[str, Any], unknown: Sequence[str] = (), source: str | None = None) -> str:
    """The record of an erasure; `unknown` are files that were kept because localsynth did not write them."""
    done = "finished" if record["complete"] else "started, NOT finished: run it again"
    lines = [f"Erased on {record['erased']}, {done}. The key: {record['key']}. The reports: {record['report']}.", ""]
    lines += ["Removed:", *_list(record["removed"] or ["nothing: there was nothing to remove"])]
    if record["hashes"]:
        lines += ["SHA-256 of the removed files:", *_list([f"{name} {value}" for name, value in record["hashes"].items()])]
    if unknown:
        lines += ["Kept, because localsynth did not write it:", *_list(unknown)]
    lines += ["Out of reach, for you to check:", *_list(record["out_of_reach"])]
    if source is not None:
        lines += ["The source file:", *_list([source])]
    return "\n".join(
        [*lines, "", "This record is erasure.json. It is signed; `localsynth verify` shows it with the certificate."]
    )
