"""`localsynth verify`: checks a certificate, alone or inside a GGUF, against everything that can be checked here."""

import dataclasses
from pathlib import Path
from typing import Any

from localsynth.errors import DataError, IntegrityError, LocalsynthError
from localsynth.privacy.certificate import CERTIFICATE_KEY, certificate_text
from localsynth.privacy.signing import fingerprint
from localsynth.system.canonical_json import canonical_json, parse_json
from localsynth.system.files import file_sha256
from localsynth.verification.certificate import Finding, check, check_signature
from localsynth.verification.table import NO_TABLE, check_table
from localsynth.workspace.erasure_record import read_statement

_MAX_BYTES = 64 * 2**20
_MODELS = "model.*.gguf"


def _is_model(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def _read(path: Path) -> Any:
    """The certificate in a file of its own or in a GGUF file. Raises IntegrityError where there is none."""
    if _is_model(path):
        from localsynth.llm.gguf_file import GgufFile

        text = GgufFile(path).value(CERTIFICATE_KEY)
        if not isinstance(text, str):
            raise IntegrityError(f"{path} carries no certificate.", "It was not made by localsynth, or was converted since.")
    else:
        if path.stat().st_size > _MAX_BYTES:
            raise IntegrityError(f"{path} is not a certificate: it is too large.", "Give a certificate.json.")
        text = path.read_bytes().decode("utf-8", "replace")
    try:
        document = parse_json(text)
        if _is_model(path) and certificate_text(document) != text:
            raise ValueError("is spelled otherwise than localsynth does")
    except (ValueError, RecursionError) as error:
        raise IntegrityError(
            f"{path} holds no readable certificate: it {error}.", "It is damaged: get it again from its maker."
        ) from None
    return document


def _products(path: Path) -> list[Path]:
    """Models, marginals and token counts that the certificate in `path` should describe."""
    if _is_model(path):
        return [path]
    return sorted(found for name in (_MODELS, "marginals.json", "text_counts.json") for found in path.parent.glob(name))


def _check_copies(document: dict[str, Any], path: Path) -> list[Finding]:
    """Whether the certificate in a model and the one beside it, of which `path` holds one, are the same."""
    others = [path.parent / "certificate.json"] if _is_model(path) else sorted(path.parent.glob(_MODELS))
    findings = []
    for other in others:
        if not other.is_file():
            continue
        try:
            same = canonical_json(_read(other)) == canonical_json(document)
        except (LocalsynthError, ValueError):
            same = False
        text = f"{other.name} holds the same certificate." if same else f"{other.name} does not hold the same certificate."
        findings.append(Finding("copies", "ok" if same else "failed", text))
    return findings


def _what_is_wrong(model: Path, stated: str) -> str:
    """Why the model is not the one whose hash is `stated`; "" if it is."""
    from localsynth.export.model_hash import model_hash

    try:
        return "" if model_hash(model) == stated else "is not the model the certificate names"
    except LocalsynthError as error:
        return f"cannot be read as a model: {error.message.rstrip('.')}"


def _check_marginals(document: dict[str, Any], path: Path) -> list[Finding]:
    """Whether the marginals are those of the certificate, and what was measured for them is what was charged."""
    from localsynth.marginals.file import read_marginals
    from localsynth.verification.marginals import what_is_wrong

    if file_sha256(path) != document["hashes"]["marginals"]:
        return [Finding("marginals", "failed", f"{path.name} is not what the certificate names.")]
    same = Finding("marginals", "ok", f"{path.name} is what the certificate names.")
    try:
        model = read_marginals(path)
    except LocalsynthError:
        return [same, Finding("marginals", "failed", f"{path.name} does not hold marginals.")]
    if wrong := what_is_wrong(model, document):
        return [same, Finding("marginals", "failed", f"{wrong}.")]
    text = f"The {len(model.spends)} noisy measurements in it cost no more than was charged (rho {model.rho:.4g})."
    return [same, Finding("marginals", "ok", text)]


def _check_text_counts(document: dict[str, Any], path: Path) -> list[Finding]:
    """Whether the token counts are those of the certificate, and what was charged."""
    from localsynth.text_counts.token_counts import read_token_counts
    from localsynth.verification.text_counts import what_is_wrong

    if not document["hashes"]["text_counts"]:
        # The counts are still being compared with what the model generates: no row was sampled with them yet.
        text = f"{path.name} was counted after this certificate was made, which does not cover it."
        return [Finding("text_counts", "not checked", text)]
    if file_sha256(path) != document["hashes"]["text_counts"]:
        return [Finding("text_counts", "failed", f"{path.name} is not what the certificate names.")]
    same = Finding("text_counts", "ok", f"{path.name} is what the certificate names.")
    try:
        counts = read_token_counts(path)
    except LocalsynthError:
        return [same, Finding("text_counts", "failed", f"{path.name} does not hold token counts.")]
    if wrong := what_is_wrong(counts, document):
        return [same, Finding("text_counts", "failed", f"{wrong}.")]
    tables = len(counts.spends)
    several = f"{tables} noisy token histograms in it cost" if tables > 1 else "one noisy token histogram in it costs"
    text = f"The {several} no more than was charged (rho {counts.rho:.4g})."
    return [same, Finding("text_counts", "ok", text)]


def _check_products(document: dict[str, Any], products: list[Path]) -> list[Finding]:
    """Models and marginals that lie there against those that the certificate names."""
    findings = []
    for path in products:
        if path.name == "marginals.json":
            findings += _check_marginals(document, path)
        elif path.name == "text_counts.json":
            findings += _check_text_counts(document, path)
        elif wrong := _what_is_wrong(path, document["hashes"]["model"]):
            findings.append(Finding("model", "failed", f"{path.name} {wrong}."))
        else:
            findings.append(Finding("model", "ok", f"{path.name} is the model the certificate names."))
    for name in ("model", "marginals", "text_counts"):
        if document["hashes"][name] and not any(finding.name == name for finding in findings):
            findings.append(Finding(name, "not checked", f"The {name} that the certificate names: not beside it."))
    return findings


def _erasure(document: dict[str, Any], path: Path) -> list[Finding]:
    """What an erasure.json beside the certificate says, where there is one."""
    ledger, signature = document["ledger"], document["signature"]
    if not isinstance(ledger, dict) or any(finding.status == "failed" for finding in check_signature(document)):
        return []
    signer = fingerprint(bytes.fromhex(signature["public_key"])) if signature is not None else None
    said = read_statement(path, ledger.get("workspace", ""), signer)
    return [] if said is None else [Finding("erasure", said.status, said.text)]


def verify_file(path: Path, known_key: str | None, table: Path | None = None) -> dict[str, Any]:
    """Every finding as a JSON object: valid, verdict, summary, not_covered, findings.

    `known_key` is the fingerprint of the expected signer, `table` an exported table with its manifest beside it. Raises
    DataError for a missing file, IntegrityError for one that is no certificate at all.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path}.", "Give the path of a certificate.json or of a model's .gguf file.")
    document = _read(path)
    findings = check(document, known_key)
    if not (len(findings) == 1 and findings[0].status == "failed"):
        findings += [*_check_products(document, _products(path)), *_check_copies(document, path), *_erasure(document, path)]
        findings += [NO_TABLE] if table is None else check_table(document, path, table)
    else:
        findings.append(Finding("table", "not checked", "No table can be tied to a certificate that does not hold."))
    valid = all(finding.status != "failed" for finding in findings)
    failed = sum(finding.status == "failed" for finding in findings)
    unchecked = [finding.name for finding in findings if finding.status == "not checked"]
    if not valid:
        verdict = f"NOT VALID: {failed} check{'s' if failed > 1 else ''} failed."
    else:
        verdict = "Valid." + (f" Could not be checked here: {', '.join(unchecked)}." if unchecked else "")
    return {
        "file": str(path),
        "valid": valid,
        "verdict": verdict,
        "summary": document.get("summary", "") if valid else "The certificate does not hold; what it says is not to be trusted.",
        "not_covered": document.get("not_covered", []) if valid else [],
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }
