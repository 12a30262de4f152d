"""The manifest of an exported table: a signed JSON file beside it that ties its rows to the certificate.

format, file, rows, localsynth (its version)
sha256              of the file
rows_sha256         of the rows' content and order, whatever the file's format
for_spreadsheets    whether texts that look like formulas have an apostrophe
run, certificate_sha256   of the certificate's canonical JSON
jobs                of rows by marginals alone: seed, first_row, rows and asked, to sample them again; else null
signature           by the key of the certificate; null where that is not signed
"""

from pathlib import Path
from typing import Any

from localsynth.errors import IntegrityError
from localsynth.system.files import read_json

FORMAT = 1
_MAX_BYTES = 2**20
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "file": str,
    "sha256": str,
    "rows": int,
    "rows_sha256": str,
    "for_spreadsheets": bool,
    "run": str,
    "certificate_sha256": str,
    "jobs": (list, type(None)),
    "localsynth": str,
    "signature": (dict, type(None)),
}


def manifest_path(table: Path) -> Path:
    """Where the manifest of an exported table lies."""
    return table.with_name(table.name + ".manifest.json")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest in a file that may come from anyone. Raises IntegrityError; its signature is not checked."""
    document = read_json(path) if path.is_file() and path.stat().st_size <= _MAX_BYTES else None
    if (
        not isinstance(document, dict)
        or set(document) != set(_FIELDS)
        or document["format"] != FORMAT
        or not all(isinstance(document[name], kind) for name, kind in _FIELDS.items())
    ):
        raise IntegrityError(f"{path} is no manifest of a table.", "Get it again from its maker.")
    return document
