"""Checks a certificate by working out again everything in it that can be. Needs no private data, no key and no network."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from localsynth.config import PrivacyConfig, TextCountsConfig, TrainConfig
from localsynth.errors import LocalsynthError
from localsynth.privacy.accountant import TOLERANCE
from localsynth.privacy.certificate import FORMAT, CertificateFacts, compose, exceeds_target
from localsynth.privacy.ledger_chain import Event, break_in_chain, the_basis, the_target
from localsynth.privacy.noise import SECURE_LABEL
from localsynth.privacy.signing import fingerprint, is_signature_valid
from localsynth.schema.columns import Category, Schema
from localsynth.system.network_seal import IN_WORDS

__all__ = ["Finding", "check", "check_signature"]

_KEYS = {
    "format",
    "summary",
    "guarantee",
    "not_covered",
    "ledger",
    "schema",
    "settings",
    "hashes",
    "versions",
    "seal",
    "signature",
}
_HASHES = {"model", "marginals", "text_counts", "base_model", "schema", "ledger_head"}
_LARGEST_INTEGER = 2**63
_DEEPEST = 40
"""Levels of nesting; a certificate has about ten."""


@dataclass(frozen=True)
class Finding:
    """One thing that was checked, or that is stated and no one but its maker can know."""

    name: str
    status: Literal["ok", "failed", "not checked", "stated"]
    text: str


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Whether it is JSON that can be computed with: no NaN, no infinity, no integer beyond 64 bits, no deep nesting."""
    if depth > _DEEPEST:
        return False
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(inner, depth + 1) for key, inner in value.items())
    if isinstance(value, list):
        return all(_is_plain(inner, depth + 1) for inner in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str) or (isinstance(value, int) and abs(value) <= _LARGEST_INTEGER)


def _form(document: Any) -> str:
    """What is wrong with the form of the certificate; "" if nothing."""
    if not isinstance(document, dict) or set(document) != _KEYS:
        return "It is not a certificate: its parts are not those of one."
    if not _is_plain(document):
        return "It holds a number or a nesting that no certificate has."
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
    if not isinstance(document["seal"], str) or document["seal"] not in IN_WORDS:
        return "Its network seal is none that there is."
    settings = document["settings"]
    if not isinstance(settings, dict) or set(settings) != {"train", "text_counts", "privacy", "data"}:
        return "Its settings are not those for training, token counts, privacy and the data."
    data = settings["data"]
    if not isinstance(data, dict) or set(data) != {"sequence_by"} or not isinstance(data["sequence_by"], str | None):
        return "Its settings for the data are not those that say what rows are ordered by."
    return ""


def _same(found: Any, expected: Any) -> bool:
    """Equal in value and, unlike ==, in type: 1 is not True."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_same(found[key], expected[key]) for key in expected)
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(_same, found, expected))
    return type(found) is type(expected) and bool(found == expected)


def check_signature(document: dict[str, Any], known_key: str | None = None) -> list[Finding]:
    """The findings on the signature and, with `known_key`, on the signer. The document has the form of a certificate."""
    if document["signature"] is None:
        unsigned = Finding("signature", "not checked", "The certificate is not signed: nothing shows who made it.")
        if known_key is None:
            return [unsigned]
        return [unsigned, Finding("signer", "failed", "A known signer was asked for, and there is no signature.")]
    if not is_signature_valid(document):
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
    """Every finding on a certificate, a parsed JSON document; none "failed" means it holds. Takes seconds, never raises.

    `known_key` is the fingerprint of the signer who is expected. The hashes of files are for the caller, who has the files.
    """
    wrong = _form(document)
    if wrong:
        return [Finding("form", "failed", wrong)]
    findings = [Finding("form", "ok", "It has all the parts of a certificate.")]
    findings += check_signature(document, known_key)
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
            settings=document["settings"],
            hashes={},
            versions={},
            seal=document["seal"],
        )
        expected = compose(facts, signed=document["signature"] is not None)
    except ValidationError:
        return [*findings, Finding("schema", "failed", "The schema in it is not one that localsynth writes.")]
    except LocalsynthError as error:
        return [*findings, Finding("ledger", "failed", f"The ledger cannot be accounted for: {error.message}")]
    except (ValueError, OverflowError, MemoryError):
        return [*findings, Finding("ledger", "failed", "The ledger cannot be accounted for: its figures are beyond computing.")]
    events = document["ledger"]["events"]
    return [
        *findings,
        *_compare_parts(document, expected),
        _check_target(events, expected["guarantee"]),
        _check_measured(schema, events),
        _check_settings(document["settings"], events),
        Finding("seal", "stated", f"Of the run ({document['seal']}): {IN_WORDS[document['seal']]}."),
    ]


def _check_target(events: list[Event], made: dict[str, Any]) -> Finding:
    if not exceeds_target(made):
        return Finding("target", "ok", "No more was spent than the target.")
    (epsilon, delta), total, total_delta = the_target(events), 0.0, 0.0
    unsaid = not made["beyond_limit"]
    for event in events:
        if event["kind"] == "budget":
            total, total_delta = total + event["epsilon"], total_delta + event["delta"]
            over = total > epsilon * (1 + TOLERANCE) or total_delta > delta * (1 + TOLERANCE)
            unsaid = unsaid or (over and not event["beyond_limit"])
    if unsaid:
        return Finding("target", "failed", "More was spent than the target, and nothing in the ledger says that it may.")
    bound, spent_delta = made["guaranteed_epsilon"], made["spent_delta"]
    text = f"More was spent than the target, and --again said so: epsilon {bound} and delta {spent_delta} in all."
    return Finding("target", "ok", text)


def _check_measured(schema: Schema, events: list[Event]) -> Finding:
    """Whatever counts as measured must have been paid for, under the names by which `ingest.private_bounds` charges."""
    charged = {event["what"] for event in events if event["kind"] == "spend" and event["stage"] == "schema"}
    needed = [] if the_basis(events).size_declared else ["number of units"]
    for column in schema.columns:
        if not column.measured:
            continue
        is_list = isinstance(column, Category)
        if not set(column.measured) <= ({"values"} if is_list else {"min", "max"} & set(type(column).model_fields)):
            return Finding("measured", "failed", f"Of column {column.name!r} something counts as measured that never is.")
        needed.append(f"{'list of values' if is_list else 'range'} of column {column.name}")
    missing = [what for what in needed if what not in charged]
    if missing:
        return Finding("measured", "failed", f"It counts as measured, but the ledger has no spend for it: {missing[0]!r}.")
    return Finding("measured", "ok", "Every bound, list and number that counts as measured was charged.")


def _check_settings(settings: dict[str, Any], events: list[Event]) -> Finding:
    """The settings are well formed, and say what the ledger says of the newest run."""
    try:
        privacy = PrivacyConfig.model_validate(settings["privacy"])
        TrainConfig.model_validate(settings["train"])
        TextCountsConfig.model_validate(settings["text_counts"])
    except ValidationError:
        return Finding("settings", "failed", "The settings in it are not ones that localsynth writes.")
    budgets = [event for event in events if event["kind"] == "budget"]
    newest = [event for event in budgets if event["run"] is not None] or budgets
    event = newest[-1]
    stated = (privacy.unit, privacy.rows_per_unit, privacy.public_size is not None, privacy.epsilon)
    basis = event["basis"]
    if stated != (basis["unit"], basis["max_rows_per_unit"], basis["size_declared"], event["limit"]):
        return Finding("settings", "failed", "The privacy settings are not those that the ledger was written with.")
    return Finding("settings", "ok", "The privacy settings are those that the ledger was written with.")


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
