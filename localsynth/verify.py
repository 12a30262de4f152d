"""`localsynth verify`: checks a certificate, alone or inside a GGUF, against everything that can be checked here."""

import dataclasses
from pathlib import Path
from typing import Any

from localsynth.erasure import read_statement
from localsynth.errors import DataError, IntegrityError, LocalsynthError
from localsynth.privacy.canonical import parse_json
from localsynth.privacy.model_hash import OWN_PREFIX, model_hash
from localsynth.privacy.signing import fingerprint
from localsynth.privacy.verification import Finding, check, check_signature
from localsynth.workspace import file_sha256

__all__ = ["CERTIFICATE_KEY", "verify_file"]

CERTIFICATE_KEY = "localsynth.certificate"
"""The metadata key under which a GGUF carries its certificate."""

_MOST_BYTES = 64 * 2**20

_TABLE = Finding(
    "table",
    "not checked",
    "No hash ties a table of synthetic rows to this certificate: that rows came from this model is their sender's word.",
)


def _read(path: Path) -> tuple[Any, list[Path]]:
    """(certificate, models it should describe) of a certificate or a GGUF file."""
    if not path.is_file():
        raise DataError(f"There is no file {path}.", "Give the path of a certificate.json or of a model's .gguf file.")
    with path.open("rb") as file:
        is_model = file.read(4) == b"GGUF"
    if is_model:
        from localsynth.gguf_file import GgufFile

        text = GgufFile(path).value(CERTIFICATE_KEY)
        if not isinstance(text, str):
            raise IntegrityError(f"{path} carries no certificate.", "It was not made by localsynth, or was converted since.")
        models = [path]
    else:
        if path.stat().st_size > _MOST_BYTES:
            raise IntegrityError(f"{path} is not a certificate: it is too large.", "Give a certificate.json.")
        text = path.read_bytes().decode("utf-8", "replace")
        models = sorted([*path.parent.glob("model.*.gguf"), *path.parent.glob("marginals.json")])
    try:
        return parse_json(text), models
    except ValueError as error:
        raise IntegrityError(
            f"{path} holds no readable certificate: it {error}.", "It is damaged: get it again from its maker."
        ) from None


def _what_is_wrong(model: Path, stated: str) -> str:
    """Why the model is not the one whose hash is `stated`; "" if it is."""
    from localsynth.gguf_file import GgufFile

    try:
        # The hash leaves out what localsynth adds to the file, so nothing else may stand under such a name.
        if more := [key for key in GgufFile(model).fields if key.startswith(OWN_PREFIX) and key != CERTIFICATE_KEY]:
            return f"holds {more[0]!r}, which localsynth does not write"
        return "" if model_hash(model) == stated else "is not the model the certificate names"
    except LocalsynthError:
        return "cannot be read as a model"


def _check_marginals(document: dict[str, Any], path: Path) -> list[Finding]:
    """Whether the marginals are those of the certificate, and what was measured for them fits what was charged."""
    from localsynth.marginals.accounting import epsilon_of_rho, total_rho
    from localsynth.marginals.sequence_model import SequenceModel
    from localsynth.sample.from_marginals import read_marginals

    if file_sha256(path) != document["hashes"]["model"]:
        return [Finding("model", "failed", f"{path.name} is not what the certificate names.")]
    same = Finding("model", "ok", f"{path.name} is what the certificate names.")
    charged = [e for e in document["ledger"]["events"] if e["kind"] == "spend" and e["what"] == "marginals"]
    try:
        model = read_marginals(path)
        mechanism = charged[-1]["mechanism"]
        fits = total_rho(model.spends) <= model.rho <= charged[-1]["details"]["rho"]
        # To a billionth: rho was found by halving, and what it costs was capped at the budget.
        paid = epsilon_of_rho(model.rho, mechanism["delta"]) <= mechanism["epsilon"] * (1 + 1e-9)
        secure = model.noise == document["guarantee"]["noise"]
        told = isinstance(model, SequenceModel) == (document["settings"]["data"]["sequence_by"] is not None)
    except (LocalsynthError, IndexError, KeyError, TypeError, ValueError, OverflowError):
        return [same, Finding("marginals", "failed", "What was measured cannot be compared with what was charged.")]
    if not (fits and paid and secure):
        return [same, Finding("marginals", "failed", "More was measured than was charged, or with other noise.")]
    if not told:
        return [same, Finding("marginals", "failed", "It and the certificate differ on whether rows are sequences.")]
    text = f"The {len(model.spends)} noisy counts and choices in it cost no more than was charged (zCDP rho {model.rho:.4g})."
    return [same, Finding("marginals", "ok", text)]


def _check_models(document: dict[str, Any], models: list[Path]) -> list[Finding]:
    if not models:
        return [Finding("model", "not checked", "The model is not beside the certificate.")]
    findings = []
    for model in models:
        if model.name == "marginals.json":
            findings += _check_marginals(document, model)
        elif wrong := _what_is_wrong(model, document["hashes"]["model"]):
            findings.append(Finding("model", "failed", f"{model.name} {wrong}."))
        else:
            findings.append(Finding("model", "ok", f"{model.name} is the model the certificate names."))
    return findings


def _erasure(document: dict[str, Any], path: Path) -> list[Finding]:
    """What an erasure.json beside the certificate says, where there is one."""
    ledger, signature = document["ledger"], document["signature"]
    if not isinstance(ledger, dict) or any(finding.status == "failed" for finding in check_signature(document)):
        return []
    signer = fingerprint(bytes.fromhex(signature["public_key"])) if signature is not None else None
    said = read_statement(path, ledger.get("workspace", ""), signer)
    return [] if said is None else [Finding("erasure", said.status, said.text)]


def verify_file(path: Path, known_key: str | None) -> dict[str, Any]:
    """Every finding as a JSON object: valid, verdict, summary, not_covered, findings.

    `known_key` is the fingerprint of the expected signer. Raises DataError for a missing file, IntegrityError for one that
    is no certificate at all.
    """
    document, models = _read(path)
    findings = check(document, known_key)
    if not (len(findings) == 1 and findings[0].status == "failed"):
        findings += [*_check_models(document, models), *_erasure(document, path)]
    findings.append(_TABLE)
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
