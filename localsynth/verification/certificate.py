"""Verify a certificate by recomputing its contents. Needs no private data, no key and no network."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from localsynth.config import PrivacyConfig, Synthesizer, TextCountsConfig, TrainConfig, text_columns
from localsynth.errors import ConfigError, LocalsynthError
from localsynth.presentation import risk_figures
from localsynth.privacy.accountant import TOLERANCE, flatten_parsed
from localsynth.privacy.certificate import FORMAT, CertificateFacts, compose, exceeds_target
from localsynth.privacy.ledger_chain import Event, break_in_chain, newest_run, recompute, the_basis, the_target
from localsynth.privacy.noise import SECURE_LABEL
from localsynth.privacy.signing import fingerprint, is_signature_valid
from localsynth.results.as_json import from_json
from localsynth.results.plans import Risks
from localsynth.schema.columns import Category, Schema
from localsynth.system.canonical_json import canonical_json
from localsynth.system.network_seal import IN_WORDS

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
_MAX_INTEGER = 2**63
_MAX_DEPTH = 40
"""Levels of nesting; a certificate has about ten."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check, or a statement that only the certificate's author can know."""

    name: str
    status: Literal["ok", "failed", "not checked", "stated"]
    text: str


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Whether it is safe JSON: no NaN, no infinity, no integer beyond 64 bits, no deep nesting."""
    if depth > _MAX_DEPTH:
        return False
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(inner, depth + 1) for key, inner in value.items())
    if isinstance(value, list):
        return all(_is_plain(inner, depth + 1) for inner in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str) or (isinstance(value, int) and abs(value) <= _MAX_INTEGER)


def _form_error(document: Any) -> str:
    """The first error in the form of the certificate; "" if there is none."""
    if not isinstance(document, dict) or set(document) != _KEYS:
        return "It is not a certificate: it has other parts."
    if not _is_plain(document):
        return "It holds a number or a nesting that no certificate has."
    if type(document["format"]) is not int or document["format"] != FORMAT:
        return "This version does not know its format."
    if not isinstance(document["guarantee"], dict):
        return "Its guarantee is not an object."
    for part in ("hashes", "versions"):
        if not isinstance(document[part], dict) or not all(isinstance(value, str) for value in document[part].values()):
            return f"Its {part} are not an object of strings."
    if set(document["hashes"]) != _HASHES:
        return f"Its hashes are not the expected ones: {', '.join(sorted(_HASHES))}."
    guarantee = document["guarantee"]
    if not isinstance(guarantee.get("noise"), str):
        return "Its source of noise is not a string."
    if not isinstance(document["seal"], str) or document["seal"] not in IN_WORDS:
        return "Its network seal is not a known level."
    settings = document["settings"]
    if not isinstance(settings, dict) or set(settings) != {"train", "text_counts", "privacy", "data"}:
        return "Its settings are not those for training, token counts, privacy and the data."
    data = settings["data"]
    if not isinstance(data, dict) or set(data) != {"sequence_by"} or not isinstance(data["sequence_by"], str | None):
        return "Its data settings are not the expected ones."
    return ""


def _earlier_format_error(document: Any) -> str:
    """For a certificate of format 1, that it is one, and what δ its measured lists have; else ""."""
    try:
        if document["format"] != 1:
            return ""
        events = document["ledger"]["events"]
        rows = the_basis(events).max_rows_per_unit
        lists = [m for event in events for m in [event.get("mechanism", {})] if m.get("type") == "approximate_dp"]
        corrected = math.fsum(m["delta"] * math.exp(m["epsilon"] / rows) for m in lists)
    except (LocalsynthError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return ""
    text = "It is of format 1, which an earlier version wrote; get it again from its maker, exported by the present one."
    if lists:
        stated = math.fsum(m["delta"] for m in lists)
        text += f" Its delta is too low: its measured lists are charged {stated:.3g} in all, and have up to {corrected:.3g}."
    return text


def _same(found: Any, expected: Any) -> bool:
    """Equal in value and, unlike ==, in type: 1 is not True."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_same(found[key], expected[key]) for key in expected)
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(_same, found, expected))
    return type(found) is type(expected) and bool(found == expected)


def check_signature(document: dict[str, Any], known_key: str | None = None) -> list[Finding]:
    """The findings on the signature and, with `known_key`, on the signer. The document must be well formed."""
    if document["signature"] is None:
        unsigned = Finding("signature", "not checked", "The certificate is not signed: its author is unknown.")
        if known_key is None:
            return [unsigned]
        return [unsigned, Finding("signer", "failed", "A known signer is required, and there is no signature.")]
    if not is_signature_valid(document):
        return [Finding("signature", "failed", "The signature does not match: the certificate was changed after signing.")]
    signer = fingerprint(bytes.fromhex(document["signature"]["public_key"]))
    good = Finding("signature", "ok", "It was not changed since it was signed.")
    if known_key is None:
        return [
            good,
            Finding("signer", "not checked", f"Unknown signer {signer}: compare it with the fingerprint you were given."),
        ]
    if known_key.strip().lower() == signer:
        return [good, Finding("signer", "ok", f"Known signer {signer}.")]
    return [good, Finding("signer", "failed", f"Signed by {signer}, which is not the required key.")]


def check(document: Any, known_key: str | None = None) -> list[Finding]:
    """All findings on a certificate, a parsed JSON document; it is valid if none is "failed". Takes seconds, never raises.

    `known_key` is the fingerprint of the expected signer. The caller, who has the files, checks their hashes.
    """
    wrong = _earlier_format_error(document) or _form_error(document)
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
        return [*findings, Finding("schema", "failed", "Its schema is not one that localsynth writes.")]
    except LocalsynthError as error:
        return [*findings, Finding("ledger", "failed", f"The ledger cannot be composed: {error.message}")]
    except (ValueError, OverflowError, MemoryError):
        return [*findings, Finding("ledger", "failed", "The ledger cannot be composed: its numbers are too large.")]
    events = document["ledger"]["events"]
    return [
        *findings,
        *_compare_parts(document, expected),
        _check_target(events, expected["guarantee"]),
        _check_measured(schema, events),
        _check_spends(events),
        _check_products(document, schema, events),
        _check_settings(document["settings"], events),
        Finding("seal", "stated", f"Seal of the run ({document['seal']}): {IN_WORDS[document['seal']]}."),
    ]


def _check_target(events: list[Event], made: dict[str, Any]) -> Finding:
    if not exceeds_target(made):
        return Finding("target", "ok", "The guarantee is within the target.")
    (epsilon, delta), total, total_delta = the_target(events), 0.0, 0.0
    unrecorded = not made["beyond_limit"]
    for event in events:
        if event["kind"] == "budget":
            total, total_delta = total + event["epsilon"], total_delta + event["delta"]
            over = total > epsilon * (1 + TOLERANCE) or total_delta > delta * (1 + TOLERANCE)
            unrecorded = unrecorded or (over and not event["beyond_limit"])
    if unrecorded:
        return Finding("target", "failed", "The guarantee exceeds the target, and the ledger does not record that it may.")
    bound, spent_delta = made["guaranteed_epsilon"], made["spent_delta"]
    text = f"The guarantee exceeds the target, as --again allowed: epsilon {bound} and delta {spent_delta} in all."
    return Finding("target", "ok", text)


def _check_measured(schema: Schema, events: list[Event]) -> Finding:
    """Everything marked as measured must be charged before the run used it, under the names that `ingest.private_bounds` uses."""
    run = newest_run(events)
    before = events[: run[0]["index"]] if run else events
    charged = {event["what"] for event in before if event["kind"] == "spend" and event["stage"] == "schema"}
    declared = all(event["basis"]["size_declared"] for event in before if event["kind"] == "budget")
    needed = [] if declared else ["number of units"]
    for column in schema.columns:
        if not column.measured:
            continue
        is_list = isinstance(column, Category)
        if not set(column.measured) <= (
            {"values"} if is_list else {"min", "max", "edges", "common", "step"} & set(type(column).model_fields)
        ):
            return Finding("measured", "failed", f"Column {column.name!r} has a field marked as measured that is never measured.")
        needed.append(f"{'list of values' if is_list else 'range'} of column {column.name}")
    missing = [what for what in needed if what not in charged]
    if missing:
        return Finding("measured", "failed", f"Marked as measured, but not charged before the run: {missing[0]!r}.")
    return Finding("measured", "ok", "Every bound, list and number marked as measured was charged before the run.")


def _spends(events: list[Event]) -> list[tuple[Event, str]]:
    """Each spend with the type of its mechanism, whose form the accountant has checked."""
    return [
        (event, kind["type"]) for event in events if event["kind"] == "spend" for kind, _ in flatten_parsed([event["mechanism"]])
    ]


def _check_spends(events: list[Event]) -> Finding:
    """Every spend is of its stage's mechanism, and every budget keeps the conditions under which its spends compose."""
    spends: dict[str, list[tuple[Event, str]]] = {}
    for event, kind in _spends(events):
        what = event["what"]
        if event["stage"] == "schema":
            expected = "thresholded_gaussian" if what.startswith(("list of values", "range")) else "pure_dp"
        else:
            expected = "gaussian" if event["stage"] == "count_texts" or what == "marginals" else "poisson_sampled"
        if event["stage"] not in ("schema", "train", "count_texts") or (event["stage"] == "schema") != (event["run"] is None):
            return Finding("spends", "failed", f"{what!r} is charged to a stage or a run that it does not belong to.")
        if kind != expected:
            return Finding("spends", "failed", f"The mechanism charged for {what!r} is not the one that measures it: {kind}.")
        spends.setdefault(event["budget"], []).append((event, kind))
    for budget, epsilon in recompute(events).budgets:
        if epsilon > budget.account.epsilon + TOLERANCE:
            return Finding("spends", "failed", f"More was charged to the budget {budget.name!r} than it holds.")
        if budget.account.order is None and not _are_fixed_beforehand(spends[budget.name]):
            text = f"The budget {budget.name!r} needs parameters fixed beforehand, and its spends could follow from one another."
            return Finding("spends", "failed", text)
    return Finding("spends", "ok", "Every spend is of its stage's mechanism, in a budget that holds it.")


_UNITS = ("number of units", "schema", "pure_dp", None)


def _are_fixed_beforehand(spends: list[tuple[Event, str]]) -> bool:
    """Whether these are the number of units alone, or the marginals, the equal steps and the token counts of one run."""
    if all((event["what"], event["stage"], kind, event["run"]) == _UNITS for event, kind in spends):
        return True
    stages = Counter((event["stage"], kind) for event, kind in spends)
    steps = {canonical_json(flatten_parsed([event["mechanism"]])[0][0]) for event, kind in spends if kind == "poisson_sampled"}
    runs = {event["run"] for event, _ in spends}
    return (
        len(runs) == 1
        and None not in runs
        and len(steps) <= 1
        and max(stages[stage, "gaussian"] for stage in ("train", "count_texts")) <= 1
    )


_PRODUCTS = {
    "model": ("a model", ("train", "poisson_sampled")),
    "marginals": ("marginals", ("train", "gaussian")),
    "text_counts": ("token counts", ("count_texts", "gaussian")),
}
"""What each is called, and the spend that pays for it."""
_MADE_BY: dict[Synthesizer, set[str]] = {"hybrid": {"model", "marginals"}, "llm": {"model"}, "marginals": {"marginals"}}


def _check_products(document: dict[str, Any], schema: Schema, events: list[Event]) -> Finding:
    """What the certificate names is what its settings and columns ask for, paid for by the newest run, and the reverse."""
    try:
        synthesizer = TrainConfig.model_validate(document["settings"]["train"]).resolved(schema)
        counts = text_columns(schema) and TextCountsConfig.model_validate(document["settings"]["text_counts"]).share > 0
    except (ValidationError, ConfigError):
        return Finding("products", "failed", "Its settings are not those of a run on its columns.")
    due = _MADE_BY[synthesizer] | ({"text_counts"} if counts else set())
    newest = [(event["stage"], kind) for event, kind in _spends(newest_run(events))]
    for product, (what, spend) in _PRODUCTS.items():
        named, paid = bool(document["hashes"][product]), spend in newest
        # A count that was interrupted stays charged, and there is none.
        optional = product == "text_counts"
        if named and not paid:
            return Finding("products", "failed", f"The certificate names {what}, which its newest run did not pay for.")
        if paid and not named and not optional:
            return Finding("products", "failed", f"The newest run paid for {what}, which the certificate does not name.")
        if product in due and not paid and not optional:
            return Finding("products", "failed", f"Its settings ask for {what}, which its newest run did not pay for.")
        if paid and product not in due:
            return Finding("products", "failed", f"Its newest run paid for {what}, which its settings do not ask for.")
    return Finding("products", "ok", "What the certificate names is what its newest run paid for.")


def _check_settings(settings: dict[str, Any], events: list[Event]) -> Finding:
    """Whether the settings are well formed and match the newest run in the ledger."""
    try:
        privacy = PrivacyConfig.model_validate(settings["privacy"])
        TrainConfig.model_validate(settings["train"])
        TextCountsConfig.model_validate(settings["text_counts"])
    except ValidationError:
        return Finding("settings", "failed", "Its settings are not ones that localsynth writes.")
    budgets = {event["budget"]: event for event in events if event["kind"] == "budget"}
    spends = [event for event in events if event["kind"] == "spend"]
    event = budgets[(newest_run(events) or spends)[-1]["budget"]]
    stated = (privacy.unit, privacy.rows_per_unit, privacy.public_size is not None, privacy.epsilon)
    basis = event["basis"]
    if stated != (basis["unit"], basis["max_rows_per_unit"], basis["size_declared"], event["limit"]):
        return Finding("settings", "failed", "The privacy settings do not match the ledger.")
    # A power, whose last digit depends on the machine.
    if not math.isclose(privacy.resolved_delta, event["limit_delta"], rel_tol=1e-12):
        return Finding("settings", "failed", "The delta of the settings is not the ledger's.")
    return Finding("settings", "ok", "The privacy settings match the ledger.")


def _compare_parts(document: dict[str, Any], expected: dict[str, Any]) -> list[Finding]:
    found, made = document["guarantee"], expected["guarantee"]
    figures = {"guaranteed_epsilon", "spent_epsilon", "spent_delta", "groups", "risks"}

    def without_figures(guarantee: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in guarantee.items() if key not in figures}

    def schema_and_hash(whole: dict[str, Any]) -> list[Any]:
        return [whole["schema"], whole["hashes"]["schema"]]

    epsilon, delta = made["spent_epsilon"], made["spent_delta"]
    risks = "; ".join(risk_figures(from_json(Risks, made["risks"])))
    compared: list[tuple[str, Any, Any, str]] = [
        ("ledger", document["hashes"]["ledger_head"], expected["hashes"]["ledger_head"], "The ledger matches its hash"),
        ("guarantee", found.get("guaranteed_epsilon"), made["guaranteed_epsilon"], "The guaranteed epsilon is the ledger's"),
        ("epsilon", found.get("spent_epsilon"), epsilon, f"The spent epsilon is the ledger's, {epsilon}"),
        ("delta", found.get("spent_delta"), delta, f"The spent delta is the ledger's, {delta}"),
        ("groups", found.get("groups"), made["groups"], "The group figures are the ledger's"),
        ("risks", found.get("risks"), made["risks"], f"The risks are the ledger's: {risks}"),
        ("mechanisms", without_figures(found), without_figures(made), "Mechanisms, sampler and number of runs are the ledger's"),
        ("summary", document["summary"], expected["summary"], "The summary matches the figures"),
        ("not covered", document["not_covered"], expected["not_covered"], "The list of what is not covered is complete"),
        ("schema", schema_and_hash(document), schema_and_hash(expected), "The schema matches its hash"),
        ("noise", found["noise"], SECURE_LABEL, f"The noise came from the secure generator: {SECURE_LABEL}"),
    ]
    return [
        Finding(name, "ok", f"{claim}.") if _same(is_, should_be) else Finding(name, "failed", f"This is not true: {claim}.")
        for name, is_, should_be, claim in compared
    ]
