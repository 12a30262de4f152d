"""Synthetic rows → a file, and its manifest beside it."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from localsynth.errors import LocalsynthError
from localsynth.store.synthetic import ExportFormat, SyntheticStore
from localsynth.system.canonical_json import sha256_of
from localsynth.system.files import file_sha256, write_json
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import Run


def export_table(
    workspace: Workspace, file_format: ExportFormat, out: Path, overwrite: bool = False, for_spreadsheets: bool = False
) -> dict[str, Any]:
    """Write the synthetic rows to `out` and their manifest beside it. Raises as `SyntheticStore.export`.

    The manifest is signed where the certificate is. Without a certificate there is none: `manifest` is then None.
    """
    from localsynth.privacy.manifest import manifest_path

    store = SyntheticStore(workspace.synthetic_path)
    rows = store.export(file_format, out, overwrite, for_spreadsheets)
    manifest, jobs = manifest_path(out), store.jobs()
    # That of an earlier table.
    manifest.unlink(missing_ok=True)
    try:
        certificate = Run(workspace.run_path(jobs[-1]["run"])).certificate() if jobs else None
    except LocalsynthError:
        certificate = None
    if certificate is not None:
        write_json(manifest, _manifest(certificate, jobs, out, rows, for_spreadsheets))
    written = str(manifest) if certificate is not None else None
    return {"rows": rows, "out": str(out), "format": file_format, "manifest": written}


def _manifest(
    certificate: dict[str, Any], jobs: list[dict[str, Any]], out: Path, rows: int, for_spreadsheets: bool
) -> dict[str, Any]:
    from localsynth.privacy.manifest import FORMAT
    from localsynth.privacy.signing import sign, signing_key
    from localsynth.schema.columns import Schema
    from localsynth.store.table_file import hash_table

    again = None
    if not certificate["hashes"]["model"]:
        # A job that is still running has fewer rows than were requested.
        again = [
            {
                **{key: job[key] for key in ("seed", "first_row", "asked")},
                "rows": max(0, min(job["rows"], rows - job["first_row"])),
            }
            for job in jobs
        ]
    document = {
        "format": FORMAT,
        "file": out.name,
        "sha256": file_sha256(out),
        "rows": rows,
        "rows_sha256": hash_table(out, Schema.model_validate(certificate["schema"])).sha256,
        "for_spreadsheets": for_spreadsheets,
        "run": jobs[-1]["run"],
        "certificate_sha256": sha256_of(certificate),
        "jobs": again,
        "localsynth": version("localsynth"),
        "signature": None,
    }
    return document if certificate["signature"] is None else sign(document, signing_key())
