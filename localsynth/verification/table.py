"""Whether a table that was handed on is the one that the certificate's maker exported. Its manifest may be forged, too.

A signed manifest is as good as the signature of the certificate, which must be by the same key. Rows by marginals alone can be
sampled again: then nobody's word is needed for them.
"""

from pathlib import Path
from typing import Any

from localsynth.errors import DataError, LocalsynthError
from localsynth.privacy.manifest import manifest_path, read_manifest
from localsynth.privacy.signing import is_signature_valid
from localsynth.schema.columns import Schema
from localsynth.store.synthetic import Job, escape_formula
from localsynth.store.table_file import canonical_row, hash_table, read_rows
from localsynth.system.canonical_json import sha256_of
from localsynth.system.files import file_sha256
from localsynth.verification.certificate import Finding

NO_TABLE = Finding(
    "table",
    "not checked",
    "No table was given (--table): that rows came from this model is their sender's word.",
)


def check_table(document: dict[str, Any], certificate: Path, table: Path) -> list[Finding]:
    """What there is to say of a table and its manifest. Raises DataError where there is no such table.

    `document` is a certificate of the right form; `marginals.json` is looked for beside the file `certificate`.
    """
    if not table.is_file():
        raise DataError(f"There is no file {table}.", "Give the path of an exported table.")
    path = manifest_path(table)
    if not path.is_file():
        text = f"{table.name} has no manifest beside it ({path.name}): that its rows came from this model is their sender's word."
        return [Finding("table", "not checked", text)]
    try:
        manifest, schema = read_manifest(path), Schema.model_validate(document["schema"])
        if wrong := _what_is_wrong(manifest, document):
            return [Finding("table", "failed", f"{path.name} {wrong}.")]
        found = _compare(manifest, schema, table)
        if found.status != "failed" and not document["hashes"]["model"]:
            return [found, _sample_again(manifest, document, certificate.parent / "marginals.json", table)]
    except LocalsynthError as error:
        return [Finding("table", "failed", error.message)]
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError, RecursionError):
        return [Finding("table", "failed", f"{path.name} cannot be compared with the table.")]
    return [found]


def _what_is_wrong(manifest: dict[str, Any], document: dict[str, Any]) -> str:
    """Why the manifest does not belong to the certificate; "" if it does."""
    certified, signed = document["signature"], manifest["signature"]
    if signed is not None and not is_signature_valid(manifest):
        return "was changed since it was signed"
    if certified is not None and signed is None:
        return "is not signed, though the certificate is"
    if signed is not None and (certified is None or signed["public_key"] != certified["public_key"]):
        return "is signed by another key than the certificate"
    if manifest["certificate_sha256"] != sha256_of(document):
        return "belongs to another certificate"
    return ""


def _compare(manifest: dict[str, Any], schema: Schema, table: Path) -> Finding:
    """The table against a manifest that belongs to the certificate."""
    found = hash_table(table, schema)
    if found.rows != manifest["rows"]:
        return Finding("table", "failed", f"{table.name} has {found.rows:,} rows, and {manifest['rows']:,} were exported.")
    if found.sha256 != manifest["rows_sha256"]:
        return Finding("table", "failed", f"{table.name} does not hold the rows that were exported, or not in their order.")
    if file_sha256(table) == manifest["sha256"]:
        text = f"{table.name} is the table that was exported with this certificate, {found.rows:,} rows."
    else:
        text = f"{table.name} holds the {found.rows:,} rows that were exported with this certificate; the file was written again."
    if manifest["signature"] is None:
        return Finding("table", "not checked", f"{text} Neither is signed: their author is unknown.")
    return Finding("table", "ok", text)


def _sample_again(manifest: dict[str, Any], document: dict[str, Any], marginals: Path, table: Path) -> Finding:
    """Rows by marginals alone, sampled again and compared with the table, one by one."""
    if not marginals.is_file() or file_sha256(marginals) != document["hashes"]["marginals"]:
        return Finding("rows", "not checked", "Not sampled again: marginals.json is not beside the certificate.")
    if manifest["jobs"] is None:
        return Finding("rows", "not checked", "Not sampled again: the manifest does not state how the rows were made.")
    if any("seeds" in job["asked"] for job in manifest["jobs"]):
        return Finding("rows", "not checked", "Not sampled again: some rows continue a file (--seeds) that is not at hand.")
    number = _first_difference(manifest, document, marginals, table)
    if number is None:
        text = f"Sampled again from marginals.json: all {manifest['rows']:,} rows match."
        if asked := sum(job["rows"] for job in manifest["jobs"] if job["asked"]):
            text += f" {asked:,} of them were made under conditions, which choose among the rows that can be made."
        return Finding("rows", "ok", text)
    return Finding("rows", "failed", f"Sampled again from marginals.json: row {number:,} is the first that differs.")


def _first_difference(manifest: dict[str, Any], document: dict[str, Any], marginals: Path, table: Path) -> int | None:
    """The number (from 1) of the first row that marginals, seed and conditions do not give; None where there is none."""
    from localsynth.sample.row_requests import read_row_requests
    from localsynth.sample.surrogates import Surrogates
    from localsynth.sample.tabular import rows_by_marginals

    schema, settings = Schema.model_validate(document["schema"]), document["settings"]
    unit = settings["privacy"]["unit"] if settings["data"]["sequence_by"] else None
    rows, number = read_rows(table, schema), 0
    for job in manifest["jobs"]:
        if job["first_row"] != number:
            break
        requested = read_row_requests(schema, job["asked"].get("where"), job["asked"].get("balance"), None, [])
        surrogates = Surrogates(schema, job["seed"], unit)
        for made in rows_by_marginals(marginals, surrogates, Job(1, number, job["rows"], 0), requested.conditions):
            values = list(made.values())
            if manifest["for_spreadsheets"]:
                values = [escape_formula(value) if isinstance(value, str) else value for value in values]
            number += 1
            if next(rows, None) != canonical_row(values, schema):
                return number
    return None if number == manifest["rows"] else number + 1
