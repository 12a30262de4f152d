"""Checks a certificate by working out again everything in it that can be. Needs no private data, no key and no network."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from localsynth.errors import LocalsynthError
from localsynth.privacy.certificate import FORMAT, CertificateFacts, compose
from localsynth.privacy.chain import break_in_chain
from localsynth.privacy.noise import SECURE_LABEL
from localsynth.privacy.signing import fingerprint, signature_holds
from localsynth.schema import Schema

__all__ = ["Finding", "check"]

_KEYS = {"format", "summary", "guarantee", "not_covered", "ledger", "schema", "hashes", "versions", "signature"}
_HASHES = {"model", "config", "base_model", "schema", "ledger_head"}


@dataclass(frozen=True)
class Finding:
    """One thing that was checked."""

    name: str
    status: Literal["ok", "failed", "not checked"]
    text: str


def _form(document: Any) -> str:
    """What is wrong with the form of the certificate; "" if nothing."""
    if not isinstance(document, dict) or set(document) != _KEYS:
        return "It is not a certificate: its parts are not those of one."
    if type(document["format"]) is not int or document["format"] != FORMAT:
        return "Its format is not known to this version."
    if not isinstance(document["guarantee"], dict):
        return "Its guarantee is not a table of figures."
    for part in ("hashes", "versions"):
        if not isinstance(document[part], dict) or not all(isinstance(value, str) for value in document[part].values()):
            return f"Its {part} are not a table of texts."
    if set(document["hashes"]) != _HASHES:
        return f"Its hashes are not the expected ones: {', '.join(sorted(_HASHES))}."
    guarantee = document["guarantee"]
    if not isinstance(guarantee.get("noise"), str):
        return "Its source of noise is not a text."
    return ""


def _same(found: Any, expected: Any) -> bool:
    """Equal in value and, unlike ==, in type: 1 is not True."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_same(found[key], expected[key]) for key in expected)
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(_same, found, expected))
    return type(found) is type(expected) and bool(found == expected)


def _check_signature(document: dict[str, Any], known_key: str | None) -> list[Finding]:
    if document["signature"] is None:
        unsigned = Finding("signature", "not checked", "The certificate is not signed: nothing shows who made it.")
        if known_key is None:
            return [unsigned]
        return [unsigned, Finding("signer", "failed", "A known signer was asked for, and there is no signature.")]
    if not signature_holds(document):
        return [Finding("signature", "failed", "The signature does not fit: the certificate was changed after signing.")]
    signer = fingerprint(bytes.fromhex(document["signature"]["public_key"]))
    good = Finding("signature", "ok", "Nothing was changed since it was signed.")
    if known_key is None:
        return [
            good,
            Finding("signer", "not checked", f"Unknown signer {signer}: compare it with the one you were given."),
        ]
    if known_key.strip().lower() == signer:
        return [good, Finding("signer", "ok", f"Known signer {signer}.")]
    return [good, Finding("signer", "failed", f"Signed by {signer}, which is not the key asked for.")]


def check(document: Any, known_key: str | None = None) -> list[Finding]:
    """Every finding on a certificate, of which none "failed" means it holds. Takes seconds, never raises on a bad one.

    `known_key` is the fingerprint of the signer who is expected. The hashes of files are for the caller, who has the files.
    """
    wrong = _form(document)
    if wrong:
        return [Finding("form", "failed", wrong)]
    findings = [Finding("form", "ok", "It has all the parts of a certificate.")]
    findings += _check_signature(document, known_key)
    broken = break_in_chain(document["ledger"])
    if broken:
        return [*findings, Finding("ledger", "failed", f"The ledger was edited: {broken}.")]
    guarantee = document["guarantee"]
    try:
        schema = Schema.model_validate(document["schema"])
        facts = CertificateFacts(
            noise_label=guarantee["noise"],
            ledger=document["ledger"],
            schema=schema,
            hashes={},
            versions={},
        )
        expected = compose(facts, signed=document["signature"] is not None)
    except ValidationError:
        return [*findings, Finding("schema", "failed", "The schema in it is not one that localsynth writes.")]
    except LocalsynthError as error:
        return [*findings, Finding("ledger", "failed", f"The ledger cannot be accounted for: {error.message}")]
    return findings + _compare_parts(document, expected)


def _compare_parts(document: dict[str, Any], expected: dict[str, Any]) -> list[Finding]:
    found, made = document["guarantee"], expected["guarantee"]
    figures = {"guaranteed_epsilon", "spent_epsilon", "spent_delta", "groups"}

    def besides_figures(guarantee: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in guarantee.items() if key not in figures}

    def schema_and_hash(whole: dict[str, Any]) -> list[Any]:
        return [whole["schema"], whole["hashes"]["schema"]]

    epsilon, delta = made["spent_epsilon"], made["spent_delta"]
    compared: list[tuple[str, Any, Any, str]] = [
        ("ledger", document["hashes"]["ledger_head"], expected["hashes"]["ledger_head"], "The ledger is the one its hash names"),
        ("guarantee", found.get("guaranteed_epsilon"), made["guaranteed_epsilon"], "The epsilon guaranteed is the ledger's"),
        ("epsilon", found.get("spent_epsilon"), epsilon, f"The epsilon spent is the ledger's, {epsilon}"),
        ("delta", found.get("spent_delta"), delta, f"The delta spent is the ledger's, {delta}"),
        ("groups", found.get("groups"), made["groups"], "The group figures are the ledger's"),
        ("mechanisms", besides_figures(found), besides_figures(made), "Mechanisms, sampler and number of runs are the ledger's"),
        ("summary", document["summary"], expected["summary"], "The summary says what the figures say"),
        ("not covered", document["not_covered"], expected["not_covered"], "The list of what is not covered is whole"),
        ("schema", schema_and_hash(document), schema_and_hash(expected), "The schema is the one its hash names"),
        ("noise", found["noise"], SECURE_LABEL, f"The noise came from the secure generator: {SECURE_LABEL}"),
    ]
    return [
        Finding(name, "ok", f"{claim}.") if _same(is_, should_be) else Finding(name, "failed", f"This does not hold: {claim}.")
        for name, is_, should_be, claim in compared
    ]
