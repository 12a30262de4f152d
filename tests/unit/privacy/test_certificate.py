"""Certificates: whatever is changed in one, some finding fails."""

import contextlib
import copy
import dataclasses
import datetime as dt
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from localsynth.config import PrivacyConfig, TextCountsConfig, TrainConfig
from localsynth.errors import BudgetError, IntegrityError
from localsynth.ingest.measurement import Measurement
from localsynth.ingest.private_bounds import measure_column, measure_unit_count
from localsynth.presentation import risk_sentences
from localsynth.privacy.account import Account
from localsynth.privacy.accountant import dp_sgd_step
from localsynth.privacy.certificate import CertificateFacts, Work, build, not_covered, stated
from localsynth.privacy.gaussian import gaussian_of_rho, rho_for
from localsynth.privacy.ledger import Ledger
from localsynth.privacy.ledger_chain import Basis, genesis_hash
from localsynth.privacy.noise import SECURE_LABEL, SecureRandom
from localsynth.privacy.signing import fingerprint, sign, signing_key
from localsynth.results.as_json import from_json
from localsynth.results.plans import Risks
from localsynth.schema.columns import Category, Date, Identifier, Integer, Number, Schema, Text
from localsynth.system.canonical_json import sha256_of
from localsynth.verification import certificate
from localsynth.verification.certificate import Finding, check
from tests.helpers.seeded_random import INSECURE_LABEL

RANDOM = SecureRandom()
KEY = Ed25519PrivateKey.generate()
SIGNER = fingerprint(KEY.public_key().public_bytes_raw())
SCHEMA = Schema(
    columns=[
        Integer(name="age", min=0, max=100, measured=["min", "max"]),
        Number(name="weight", min=0.5, max=200.0),
        Category(name="ward", values=["a", "b"], other="other"),
        Text(name="note"),
    ]
)


BASIS = Basis("patient", 3, size_declared=False)


SETTINGS = {
    "train": TrainConfig(synthesizer="llm").model_dump(mode="json"),
    "text_counts": TextCountsConfig().model_dump(mode="json"),
    "privacy": PrivacyConfig(unit="patient", max_rows_per_unit=3).model_dump(mode="json"),
    "data": {"sequence_by": None},
}


def measure(ledger: Ledger, *what: str) -> None:
    for each in what:
        count = {"type": "pure_dp", "epsilon": 0.02}
        values = {"type": "thresholded_gaussian", "noise_multiplier": 60.0, "delta": 1e-9}
        mechanism = count if each.startswith("number") else values
        ledger.charge(budget="schema", run=None, stage="schema", what=each, mechanism=mechanism, details={})


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> CertificateFacts:
    directory = tmp_path_factory.mktemp("ledger")
    ledger = Ledger.open(directory / "ledger.json", directory / "head.json", "0123456789abcdef")
    ledger.open_budget("schema", None, Account(0.4, 1e-7, 64, 1e-8), limit=4.0, limit_delta=1e-6, basis=BASIS)
    measure(ledger, "number of units", "range of column age")
    step = {"type": "repeated", "count": 20, "of": dp_sgd_step(6.0, 0.1)}
    for run in ("r1", "r2"):
        ledger.open_budget(run, run, Account(1.8, 4e-7), limit=4.0, limit_delta=1e-6, basis=BASIS)
        ledger.charge(budget=run, run=run, stage="train", what="20 steps", mechanism=step)
    return CertificateFacts(
        noise_label=SECURE_LABEL,
        ledger=ledger.document(),
        schema=SCHEMA,
        settings=SETTINGS,
        hashes={"model": "00", "marginals": "", "text_counts": "", "base_model": "22"},
        versions={"localsynth": "0.1.0"},
        seal="namespace",
    )


@pytest.fixture(scope="module")
def signed(facts: CertificateFacts) -> dict[str, Any]:
    return json.loads(json.dumps(build(facts, KEY)))


@pytest.fixture(scope="module")
def unsigned(facts: CertificateFacts) -> dict[str, Any]:
    return json.loads(json.dumps(build(facts, None)))


def failed(document: Any, known_key: str | None = None) -> set[str]:
    return {finding.name for finding in check(document, known_key) if finding.status == "failed"}


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))
    else:
        yield path


def changed(document: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    result = copy.deepcopy(document)
    place = result
    for key in path[:-1]:
        place = place[key]
    value = place[path[-1]]
    if isinstance(value, bool):
        place[path[-1]] = not value
    elif isinstance(value, int):
        place[path[-1]] = value + 1
    elif isinstance(value, float):
        place[path[-1]] = value * 1.00001 if value else 1e-5
    else:
        place[path[-1]] = "changed" if isinstance(value, str) else "added"
    return result


def test_correct_certificate_is_valid(signed: dict[str, Any]) -> None:
    findings = check(signed, SIGNER)
    (stated_alone,) = [finding for finding in findings if finding.status != "ok"]
    assert (stated_alone.name, stated_alone.status) == ("seal", "stated")
    figures = {"ledger", "guarantee", "epsilon", "delta", "groups", "mechanisms", "summary", "not covered", "schema", "noise"}
    backed = {"target", "measured", "settings", "spends", "products", "risks"}
    assert {finding.name for finding in findings} == figures | backed | {"form", "signature", "signer", "seal"}


def test_seal_is_a_statement_of_the_signer(signed: dict[str, Any], unsigned: dict[str, Any]) -> None:
    assert signed["seal"] == "namespace"
    for level, words in (("audit", "written in C is not blocked"), ("none", "NOT sealed")):
        assert failed({**signed, "seal": level}) == {"signature"}
        (said,) = [finding for finding in check({**unsigned, "seal": level}) if finding.name == "seal"]
        assert said.status == "stated" and level in said.text and words in said.text
    for no_level in ("Namespace", "", None, ["namespace"]):
        assert failed({**unsigned, "seal": no_level}) == {"form"}


def test_contents_of_guarantee_and_summary(signed: dict[str, Any], facts: CertificateFacts) -> None:
    guarantee = signed["guarantee"]
    assert (guarantee["unit"], guarantee["max_rows_per_unit"], guarantee["adjacency"]) == ("patient", 3, "add or remove one unit")
    assert guarantee["runs"] == 2
    assert guarantee["spent_delta"] == 9e-7
    assert [group["units"] for group in guarantee["groups"]] == [2, 5, 10]
    epsilons = [guarantee["spent_epsilon"], *(group["epsilon"] for group in guarantee["groups"])]
    assert epsilons == sorted(epsilons) and epsilons[0] > 0.2
    assert [(m["budget"], m["run"], m["count"]) for m in guarantee["mechanisms"]] == [
        ("schema", None, 1),
        ("schema", None, 1),
        ("r1", "r1", 20),
        ("r2", "r2", 20),
    ]
    assert signed["hashes"]["ledger_head"] == facts.ledger["events"][-1]["hash"]
    for text in (
        f"epsilon {guarantee['spent_epsilon']:g}",
        "in 2 runs",
        "column 'patient' with its up to 3 rows",
        "target was epsilon 4",
    ):
        assert text in signed["summary"]


def test_signature_covers_every_leaf(signed: dict[str, Any]) -> None:
    for path in leaves(signed):
        assert failed(changed(signed, path)), path


def test_every_derived_leaf_of_an_unsigned_one_is_checked(unsigned: dict[str, Any]) -> None:
    assert not failed(unsigned)
    # Hashes of files, versions and most settings are facts of their own: only a signature can vouch for them.
    own = {("hashes", "model"), ("hashes", "marginals"), ("hashes", "text_counts"), ("hashes", "base_model")}
    backed = {("settings", "privacy", name) for name in ("epsilon", "unit", "max_rows_per_unit", "public_size")}
    backed.add(("settings", "data", "sequence_by"))
    paths = [path for path in leaves(unsigned) if path in backed or (path not in own and path[0] not in ("versions", "settings"))]
    assert backed < set(paths)
    assert len(paths) > 80
    for path in paths:
        assert failed(changed(unsigned, path)), path


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_changed_byte_is_detected_without_crash(signed: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(signed)
    position = data.draw(st.integers(0, len(text) - 1))
    try:
        document = json.loads(text[:position] + data.draw(st.sampled_from('0123456789abcdef{}[],:"-')) + text[position + 1 :])
    except ValueError:
        return
    if document != signed:
        assert failed(document)


def test_lowered_figures_are_named(unsigned: dict[str, Any]) -> None:
    for name, path in {
        "epsilon": ("guarantee", "spent_epsilon"),
        "delta": ("guarantee", "spent_delta"),
        "groups": ("guarantee", "groups", 0, "epsilon"),
        "risks": ("guarantee", "risks", "membership", 1, "true_positive_rate"),
        "mechanisms": ("guarantee", "mechanisms", 1, "count"),
        "summary": ("summary",),
        "not covered": ("not_covered", 0),
        "schema": ("schema", "columns", 0, "max"),
        "ledger": ("ledger", "events", 1, "mechanism", "epsilon"),
    }.items():
        assert name in failed(changed(unsigned, path)), path


def test_shortened_ledger_is_detected_without_signature(unsigned: dict[str, Any]) -> None:
    document = copy.deepcopy(unsigned)
    document["ledger"]["events"] = document["ledger"]["events"][:-2]
    assert {"ledger", "epsilon", "mechanisms"} <= failed(document)


def test_unsigned_certificate_says_so(unsigned: dict[str, Any]) -> None:
    assert unsigned["signature"] is None and "not signed" in unsigned["summary"]
    assert {finding.name: finding.status for finding in check(unsigned)}["signature"] == "not checked"
    assert failed(unsigned, SIGNER) == {"signer"}


def test_removed_signature_is_detected(signed: dict[str, Any]) -> None:
    assert failed({**signed, "signature": None}) == {"summary"}


def test_unknown_and_known_signers(signed: dict[str, Any]) -> None:
    findings = {finding.name: finding for finding in check(signed)}
    assert findings["signature"].status == "ok"
    assert findings["signer"].status == "not checked" and SIGNER in findings["signer"].text
    assert failed(signed, "0" * 32) == {"signer"}
    forged = sign({**signed, "versions": {}}, Ed25519PrivateKey.generate())
    assert failed(forged, SIGNER) == {"signer"}


@pytest.mark.parametrize(
    "change", [{"algorithm": "none"}, {"value": ""}, {"public_key": "zz"}, {"public_key": "00" * 32}, {"more": "1"}]
)
def test_malformed_signatures_fail(signed: dict[str, Any], change: dict[str, str]) -> None:
    assert "signature" in failed({**signed, "signature": {**signed["signature"], **change}})
    assert "signature" in failed({**signed, "signature": "yes"})


def test_signature_has_one_encoding(signed: dict[str, Any]) -> None:
    for part in ("public_key", "value"):
        assert "signature" in failed({**signed, "signature": {**signed["signature"], part: signed["signature"][part].upper()}})


def test_insecure_noise_fails(facts: CertificateFacts) -> None:
    document = build(CertificateFacts(**{**facts.__dict__, "noise_label": INSECURE_LABEL}), KEY)
    assert document["guarantee"]["noise"] == "INSECURE, for tests"
    assert failed(document, SIGNER) == {"noise"}


def test_exceeding_the_target_is_stated(tmp_path: Path, facts: CertificateFacts) -> None:
    """The target is the one configured when the first budget was opened; a later, larger one does not hide the excess."""
    ledger = Ledger.open(tmp_path / "ledger.json", tmp_path / "head.json", "0123456789abcdef")
    for run, limit in (("r1", 1.8), ("r2", 20.0)):
        ledger.open_budget(run, run, Account(1.8, 4e-7), limit=limit, limit_delta=1e-6, basis=BASIS, beyond_limit=True)
        ledger.charge(budget=run, run=run, stage="train", what="a step", mechanism=dp_sgd_step(6.0, 0.1))
    document = build(dataclasses.replace(facts, ledger=ledger.document()), KEY)
    assert document["guarantee"]["target_epsilon"] == 1.8
    assert "More was spent than the target allows" in document["summary"]
    # Each run spent one cheap step; whatever made the runs stop, their budgets hold.
    assert document["guarantee"]["guaranteed_epsilon"] == 3.6 > 2 * document["guarantee"]["spent_epsilon"]


def test_unit_is_the_ledgers_and_unique(tmp_path: Path, signed: dict[str, Any]) -> None:
    assert (signed["guarantee"]["unit"], signed["guarantee"]["max_rows_per_unit"]) == ("patient", 3)
    ledger = Ledger.open(tmp_path / "ledger.json", tmp_path / "head.json", "0123456789abcdef")
    ledger.open_budget("train", "r1", Account(1.0, 4e-7), limit=4.0, limit_delta=1e-6, basis=Basis("row", 1, True))
    for other in (BASIS, Basis("row", 2, True)):
        with pytest.raises(BudgetError, match="cannot be added"):
            ledger.open_budget("train-2", "r2", Account(1.0, 4e-7), limit=4.0, limit_delta=1e-6, basis=other)
    ledger.open_budget("train-2", "r2", Account(1.0, 4e-7), limit=4.0, limit_delta=1e-6, basis=Basis("row", 1, False))


@pytest.mark.parametrize("document", [None, [], {}, 3, "x", {"format": 1}])
def test_other_documents_fail(document: Any) -> None:
    assert failed(document) == {"form"}


@pytest.mark.parametrize(
    "change",
    [
        {"guarantee": None},
        {"guarantee": {}},
        {"hashes": {}},
        {"versions": {"a": 1}},
        {"schema": {}},
        {"ledger": None},
        {"format": True},
        {"not_covered": None},
        {"settings": None},
        {"settings": {**SETTINGS, "more": {}}},
        {"settings": {**SETTINGS, "train": {"more": 1}}},
        {"settings": {**SETTINGS, "text_counts": {"share": 2}}},
        {"settings": {**SETTINGS, "privacy": {"epsilon": "much"}}},
        {"settings": {**SETTINGS, "data": {"sequence_by": 7}}},
        {"settings": {**SETTINGS, "data": {}}},
    ],
)
def test_malformed_parts_fail(unsigned: dict[str, Any], change: dict[str, Any]) -> None:
    assert failed({**unsigned, **change})


def test_not_covered_depends_on_schema_unit_and_runs() -> None:
    model, marginals = Work(trains=True, counts=False, counts_tokens=False), Work(trains=False, counts=True, counts_tokens=False)
    guessed = not_covered(SCHEMA, 2, Basis("row", 1, size_declared=True), model, beyond_limit=False)
    assert "weight (kind, nullable, decimals); ward (kind, nullable); note (kind, nullable, max_tokens)" in guessed[-1]
    assert "trained on 2 times" in guessed[-2]
    assert "the number of units" in guessed[-3] and "declared as public" in guessed[-3]
    meant = Schema(columns=[Category(name="unit", descriptions={"ICU": "intensive care"}), *SCHEMA.columns])
    assert any("value descriptions of unit" in said for said in not_covered(meant, 1, BASIS, model, beyond_limit=False))
    key = Identifier(name="card", format="4##", check="luhn")
    written = Schema(columns=[key, Number(name="crp", missing=["?"], below=0.5)])
    assert (
        "card (kind, nullable, format, check); crp (kind, nullable, decimals, missing, below)"
        in (not_covered(written, 1, BASIS, model, beyond_limit=False)[-1])
    )
    sure = Schema(confirmed=True, columns=SCHEMA.columns)
    confirmed = not_covered(sure, 1, Basis("row", 1, size_declared=True), model, beyond_limit=False)
    assert len(confirmed) == len(guessed) - 1 and "trained on once" in confirmed[-1]
    units = not_covered(SCHEMA, 2, BASIS, model, beyond_limit=True)
    assert any("several values or spellings of 'patient'" in sentence for sentence in units)
    assert not any("spellings" in sentence for sentence in guessed)
    assert any("running total" in sentence for sentence in units) and not any("running total" in sentence for sentence in guessed)
    assert any("accepted or refused at all" in sentence for sentence in guessed)
    assert any("Rows without a value of 'patient'" in sentence for sentence in units)
    assert not any("the number of units" in sentence for sentence in units)
    assert any("Conditions" in sentence and "public" in sentence for sentence in guessed)
    counted = " ".join(not_covered(sure, 2, BASIS, marginals, beyond_limit=False))
    assert "Rounding" not in counted and "was measured 2 times" in counted
    assert not any(word in counted for word in ("model", "train", "gradient", "loss", "text"))
    both = " ".join(not_covered(sure, 1, BASIS, Work(trains=True, counts=True, counts_tokens=False), beyond_limit=False))
    assert "gradients" in both and "measured and trained on once" in both


@pytest.mark.parametrize("trains", [False, True])
def test_sentences_follow_from_the_mechanisms(tmp_path: Path, facts: CertificateFacts, trains: bool) -> None:
    ledger = Ledger.open(tmp_path / "ledger.json", tmp_path / "head.json", "0123456789abcdef")
    ledger.open_budget("r1", "r1", Account(3.0, 6e-7), limit=4.0, limit_delta=1e-6, basis=BASIS)
    mechanism = gaussian_of_rho(rho_for(1.0, 2e-7))
    ledger.charge(budget="r1", run="r1", stage="train", what="marginals", mechanism=mechanism)
    if trains:
        ledger.charge(budget="r1", run="r1", stage="train", what="a step", mechanism=dp_sgd_step(6.0, 0.1))
    declared = Schema(confirmed=True, columns=[Integer(name="age", min=0, max=9)])
    document = build(dataclasses.replace(facts, schema=declared, ledger=ledger.document()), None)
    guarantee, summary = document["guarantee"], document["summary"]
    assert ("privacy loss distributions" in guarantee["accountant"]) is trains
    assert ("Gaussian" in guarantee["accountant"]) is not trains
    assert "holdout and --max-units" in guarantee["sampler"] and guarantee["sampler"].startswith("Poisson") is trains
    assert guarantee["mechanisms"][0]["mechanism"] == mechanism
    words = json.dumps([summary, document["not_covered"], guarantee["accountant"], guarantee["sampler"]])
    assert trains is any(word in words for word in ("model", "train", "gradient"))
    assert ("The synthetic table and the marginals and the model" in summary) is trains
    assert "Noise of the marginals" in summary


def test_summary_states_epsilon_and_delta_of_groups(signed: dict[str, Any]) -> None:
    for group in signed["guarantee"]["groups"]:
        told = f"epsilon {group['epsilon']:g}, delta {group['delta']:g}" if group["epsilon"] is not None else "no bound"
        assert f"{group['units']} units: {told}" in signed["summary"]


def test_summary_states_what_attacks_can_gain(tmp_path: Path, facts: CertificateFacts, signed: dict[str, Any]) -> None:
    """With several budgets from epsilon and delta alone; the tighter curve needs one budget with all parameters declared."""
    ledger = Ledger.open(tmp_path / "ledger.json", tmp_path / "head.json", "0123456789abcdef")
    ledger.open_budget("r1", "r1", Account(4.0, 9e-7), limit=4.0, limit_delta=1e-6, basis=BASIS)
    ledger.charge(budget="r1", run="r1", stage="train", what="a step", mechanism=dp_sgd_step(1.2, 0.1))
    declared = build(dataclasses.replace(facts, ledger=ledger.document()), None)
    for document, basis in ((signed, "epsilon and delta"), (declared, "curve")):
        risks = document["guarantee"]["risks"]
        assert risks["basis"] == basis
        assert all(sentence in document["summary"] for sentence in risk_sentences(from_json(Risks, risks)))
    loose, tight = (document["guarantee"]["risks"]["membership"][1] for document in (signed, declared))
    assert loose["true_positive_rate"] == pytest.approx(0.01 * math.exp(signed["guarantee"]["guaranteed_epsilon"]), rel=1e-3)
    assert tight["true_positive_rate"] < loose["true_positive_rate"] / 10
    assert ("alone" in signed["summary"]) is not ("alone" in declared["summary"])


def test_stated_figures_are_rounded_up() -> None:
    assert stated(3.99999901) == 4.0
    assert stated(0.1 + 0.2) == 0.3
    assert stated(1e-6) == 1e-6
    assert stated(1.23456001e-7) == 1.23457e-7
    assert stated(0.0) == 0.0
    assert stated(float("inf")) is None


@settings(max_examples=200, deadline=None)
@given(value=st.floats(1e-12, 1e3))
def test_stated_figures_are_never_too_low(value: float) -> None:
    figure = stated(value)
    assert figure is not None and value * (1 - 1e-11) <= figure <= value * 1.00002


def finding(document: Any, name: str) -> Finding:
    (found,) = [finding for finding in check(document) if finding.name == name]
    return found


def hashed_anew(document: dict[str, Any]) -> dict[str, Any]:
    """What a forger does: the ledger's chain is made to fit its changed events."""
    previous = genesis_hash(document["ledger"]["workspace"])
    for event in document["ledger"]["events"]:
        event["previous"] = previous
        previous = event["hash"] = sha256_of({key: value for key, value in event.items() if key != "hash"})
    return document


def forged(facts: CertificateFacts, change: Callable[[list[dict[str, Any]]], None]) -> dict[str, Any]:
    """A certificate made by the honest code from a ledger that was changed and rehashed."""
    ledger = copy.deepcopy(facts.ledger)
    change(ledger["events"])
    hashed_anew({"ledger": ledger})
    return json.loads(json.dumps(build(dataclasses.replace(facts, ledger=ledger), None)))


def test_measured_fields_must_be_charged(facts: CertificateFacts, unsigned: dict[str, Any]) -> None:
    assert finding(unsigned, "measured").status == "ok"
    by_hand = Schema(columns=[SCHEMA.columns[0], Number(name="weight", min=0.5, max=200.0, measured=["min", "max"])])
    document = build(dataclasses.replace(facts, schema=by_hand), KEY)
    assert "weight" not in " ".join(s for s in document["not_covered"] if "declared as public" in s)
    assert failed(document) == {"measured"}
    listed = Schema(columns=[SCHEMA.columns[0], Category(name="ward", values=["a"], measured=["values"])])
    assert failed(build(dataclasses.replace(facts, schema=listed), KEY)) == {"measured"}
    never = Schema(columns=[SCHEMA.columns[0], Text(name="note", measured=["max_tokens"])])
    assert failed(build(dataclasses.replace(facts, schema=never), KEY)) == {"measured"}


@pytest.mark.parametrize("which", [1, 2], ids=["the number of units", "a range"])
def test_measurements_come_before_the_run_that_used_them(facts: CertificateFacts, which: int) -> None:
    """The newest of two runs: the first may have come before them, since the table can be ingested again."""

    def moved(events: list[dict[str, Any]], place: int) -> None:
        events.insert(place, events.pop(which))
        for index, event in enumerate(events):
            event["index"] = index

    assert [event["run"] for event in facts.ledger["events"]] == [None, None, None, "r1", "r1", "r2", "r2"]
    assert failed(forged(facts, lambda events: moved(events, 5))) == set()
    document = forged(facts, lambda events: moved(events, 6))
    assert failed(document) == {"measured"} and "not charged before the run" in finding(document, "measured").text


@pytest.mark.parametrize("which", [1, 2])
def test_other_spends_do_not_cover_a_measurement(facts: CertificateFacts, which: int) -> None:
    assert failed(forged(facts, lambda events: events[which].update(what="range of column weight"))) >= {"measured"}
    assert failed(forged(facts, lambda events: events[which].update(stage="train"))) == {"measured", "spends"}


def test_names_of_measurements_match_the_charges(facts: CertificateFacts) -> None:
    class Store:
        def column_counts(self, index: int, part: str) -> dict[Any, int]:
            return {"a": 50} if index == 0 else {dt.date(2020, 1, 1): 50}

    names: list[str] = []
    measurement = Measurement(1.0, 1e-3, 1)
    open_columns = [Category(name="ward"), Date(name="born")]
    measure_unit_count(50, 1.0, lambda what, _: names.append(what))
    settled = [
        measure_column(column, index, Store(), measurement, lambda what, _: names.append(what), RANDOM)  # type: ignore[arg-type]
        for index, column in enumerate(open_columns)
    ]
    assert all(column.measured for column in settled)
    schema = Schema(columns=settled)

    def charge(events: list[dict[str, Any]]) -> None:
        for event, what in zip(events[1:4], names, strict=True):
            listed = {"type": "thresholded_gaussian", "noise_multiplier": 60.0, "delta": 1e-9}
            count = {"type": "pure_dp", "epsilon": 0.02}
            event.update(what=what, mechanism=listed if what.split()[0] in ("list", "range") else count)

    ledger = copy.deepcopy(facts.ledger)
    ledger["events"] = [*ledger["events"][:2], *(copy.deepcopy(ledger["events"][1]) for _ in range(2)), *ledger["events"][3:]]
    for index, event in enumerate(ledger["events"]):
        event["index"] = index
    facts = dataclasses.replace(facts, schema=schema, ledger=ledger)
    assert failed(forged(facts, charge)) == set()
    for position in range(3):
        taken, names[position] = names[position], "something else"
        assert "measured" in failed(forged(facts, charge))
        names[position] = taken


@pytest.mark.parametrize(
    ("product", "named"), [("model", False), ("marginals", True), ("text_counts", True)], ids=["no model", "marginals", "counts"]
)
def test_products_are_those_that_the_newest_run_paid_for(facts: CertificateFacts, product: str, named: bool) -> None:
    hashes = {**facts.hashes, product: "44" if named else ""}
    assert failed(build(dataclasses.replace(facts, hashes=hashes), KEY)) == {"products"}


@pytest.mark.parametrize("made", [{"model"}, {"marginals"}, {"model", "marginals"}], ids=lambda made: "+".join(sorted(made)))
@pytest.mark.parametrize("synthesizer", ["auto", "hybrid", "llm", "marginals"])
@pytest.mark.parametrize("columns", [SCHEMA.columns, SCHEMA.columns[:3], SCHEMA.columns[3:]], ids=["both", "no texts", "texts"])
def test_products_are_those_of_the_synthesizer(facts: CertificateFacts, made: set[str], synthesizer: str, columns: Any) -> None:
    """As the settings and the columns resolve it: a hybrid must have paid for marginals and a model, and name both."""
    texts, others = (any(isinstance(column, Text) is text for column in columns) for text in (True, False))
    hybrid, alone = texts and others, {"model"} if texts else {"marginals"}
    expected = {
        "auto": {"model", "marginals"} if hybrid else alone,
        "hybrid": {"model", "marginals"} if hybrid else None,
        "llm": {"model"},
        "marginals": None if texts else {"marginals"},
    }[synthesizer]

    def pay(events: list[dict[str, Any]]) -> None:
        marginals = {**events[-1], "what": "marginals", "mechanism": gaussian_of_rho(0.001)}
        if "marginals" in made:
            events.insert(len(events) - 1, {**marginals, "index": len(events) - 1})
            events[-1]["index"] += 1
        if "model" not in made:
            del events[-1]

    hashes = {**facts.hashes, **{product: "44" if product in made else "" for product in ("model", "marginals")}}
    train = {**SETTINGS["train"], "synthesizer": synthesizer}
    settings, schema = {**SETTINGS, "train": train}, Schema(columns=columns)
    document = forged(dataclasses.replace(facts, hashes=hashes, schema=schema, settings=settings), pay)
    assert ("products" in failed(document)) == (made != expected), finding(document, "products")


def test_token_counts_are_of_texts(facts: CertificateFacts) -> None:
    """Paid for or not, they are in no certificate whose settings or columns ask for none."""

    def pay(events: list[dict[str, Any]]) -> None:
        events.append({**events[-1], "index": len(events), "stage": "count_texts", "mechanism": gaussian_of_rho(0.001)})

    counted = dataclasses.replace(facts, hashes={**facts.hashes, "text_counts": "44"})
    assert failed(forged(counted, pay)) == set()
    for change in ({"schema": Schema(columns=SCHEMA.columns[:3])}, {"settings": {**SETTINGS, "text_counts": {"share": 0}}}):
        assert failed(forged(dataclasses.replace(counted, **change), pay)) == {"products"}


def test_an_earlier_runs_spends_pay_for_no_product(facts: CertificateFacts) -> None:
    def only_counts(events: list[dict[str, Any]]) -> None:
        events[-1].update(what="marginals", mechanism=gaussian_of_rho(0.001))

    assert failed(forged(facts, only_counts)) == {"products"}


@pytest.mark.parametrize(
    ("which", "change"),
    [
        (2, {"mechanism": {"type": "gaussian", "noise_multiplier": 60.0}}),
        (1, {"mechanism": {"type": "thresholded_gaussian", "noise_multiplier": 20.0, "delta": 1e-9}}),
        (-1, {"mechanism": gaussian_of_rho(1e-4)}),
        (-1, {"what": "marginals"}),
        (-1, {"stage": "count_texts"}),
    ],
    ids=["a range without delta", "a count with delta", "training as marginals", "marginals as training", "counts as training"],
)
def test_each_spend_has_the_mechanism_of_its_stage(facts: CertificateFacts, which: int, change: dict[str, Any]) -> None:
    assert "spends" in failed(forged(facts, lambda events: events[which].update(change)))


def test_a_certificate_of_format_1_states_the_corrected_delta_of_its_lists(unsigned: dict[str, Any]) -> None:
    old = copy.deepcopy(unsigned)
    old["format"] = old["ledger"]["format"] = 1
    (finding,) = check(old)
    assert finding.status == "failed" and "format 1" in finding.text and "delta" not in finding.text
    old["ledger"]["events"][1].update(mechanism={"type": "approximate_dp", "epsilon": 3.0, "delta": 1e-7})
    (finding,) = check(old)
    assert "1e-07 in all, and have up to 2.72e-07" in finding.text, "three rows a unit: e to the 1"


@pytest.mark.parametrize("which", ["too much", "steps that change", "two runs", "marginals twice"])
def test_budgets_keep_their_conditions(facts: CertificateFacts, which: str) -> None:
    def change(events: list[dict[str, Any]]) -> None:
        first, second = (copy.deepcopy(events[4]) for _ in range(2))
        if which == "too much":
            events[3].update(epsilon=1e-3)
        if which == "steps that change":
            second.update(mechanism=dp_sgd_step(9.0, 0.1))
        if which == "two runs":
            second.update(run="r9")
        if which == "marginals twice":
            for event in (first, second):
                event.update(what="marginals", mechanism=gaussian_of_rho(1e-6))
        events[4:5] = [first, second] if which != "too much" else [first]
        for index, event in enumerate(events):
            event["index"] = index

    assert "spends" in failed(forged(facts, change))


def test_settings_are_those_of_the_budget_that_the_newest_run_spent_from(facts: CertificateFacts) -> None:
    """A run that joins the budget of a later ingest, whose own name is in none of the budgets."""

    def change(events: list[dict[str, Any]]) -> None:
        joined = copy.deepcopy(events[0])
        joined.update(budget="ingest-2", limit=8.0, beyond_limit=True)
        step = copy.deepcopy(events[-1])
        step.update(budget="ingest-2", run="r3", mechanism=dp_sgd_step(60.0, 0.1))
        events += [joined, step]
        for index, event in enumerate(events):
            event["index"] = index

    settings = {**SETTINGS, "privacy": {**SETTINGS["privacy"], "epsilon": 8.0}}
    assert failed(forged(dataclasses.replace(facts, settings=settings), change)) == set()
    assert failed(forged(facts, change)) == {"settings"}


def test_measured_columns_need_an_account_with_an_order(facts: CertificateFacts) -> None:
    for order in (None, "all"):
        assert "spends" in failed(forged(facts, lambda events, order=order: events[0].update(order=order)))


def test_exceeding_the_target_needs_beyond_limit(facts: CertificateFacts, unsigned: dict[str, Any]) -> None:
    assert finding(unsigned, "target").status == "ok"

    def lower(events: list[dict[str, Any]], again: bool) -> None:
        for event in events:
            if event["kind"] == "budget":
                event.update(limit=1.0 if event is events[0] else 4.0, beyond_limit=again and event is not events[0])

    document = forged(facts, lambda events: lower(events, again=False))
    assert document["guarantee"]["target_epsilon"] == 1.0 and failed(document) == {"target"}
    document = forged(facts, lambda events: lower(events, again=True))
    assert failed(document) == set()
    assert "as --again allowed" in finding(document, "target").text

    assert failed(forged(facts, lambda events: events[0].update(limit_delta=1e-8))) == {"target"}

    def past_its_budget(events: list[dict[str, Any]]) -> None:
        events[0].update(epsilon=0.1)
        events[1].update(mechanism={"type": "pure_dp", "epsilon": 9.0})

    assert failed(forged(facts, past_its_budget)) == {"target", "spends"}

    def later_without(events: list[dict[str, Any]]) -> None:
        lower(events, again=True)
        [event for event in events if event["kind"] == "budget"][-1]["beyond_limit"] = False

    assert failed(forged(facts, later_without)) == {"target"}


def test_running_total_is_not_called_fixed_beforehand(facts: CertificateFacts, unsigned: dict[str, Any]) -> None:
    assert "budgets fixed beforehand" in unsigned["summary"]
    document = forged(facts, lambda events: events[3].update(beyond_limit=True))
    assert document["guarantee"]["beyond_limit"] is True
    assert "running total" in document["summary"] and "fixed beforehand" not in document["summary"]
    assert failed(document) == set()
    for path in (("guarantee", "beyond_limit"), ("summary",)):
        assert failed(changed(document, path))


def test_settings_must_match_the_ledger(facts: CertificateFacts, unsigned: dict[str, Any]) -> None:
    assert unsigned["settings"] == SETTINGS and "config" not in unsigned["hashes"]
    for change in ({"unit": "row"}, {"max_rows_per_unit": 2}, {"epsilon": 1.0}, {"public_size": 10_000}):
        settings = {**SETTINGS, "privacy": {**SETTINGS["privacy"], **change}}
        assert failed(build(dataclasses.replace(facts, settings=settings), KEY)) == {"settings"}


def test_delta_is_the_one_that_follows_from_the_settings(facts: CertificateFacts) -> None:
    """Nobody declared it: it is 1e-6, or from the public size."""

    def state(events: list[dict[str, Any]], delta: float, size_declared: bool) -> None:
        for event in events:
            if event["kind"] == "budget":
                event.update(limit_delta=delta, basis={**event["basis"], "size_declared": size_declared})

    def failures(delta: float, size: int | None) -> set[str]:
        settings = {**SETTINGS, "privacy": {**SETTINGS["privacy"], "public_size": size}}
        changed = dataclasses.replace(facts, settings=settings)
        return failed(forged(changed, lambda events: state(events, delta, size is not None)))

    assert failures(1e-6, None) == failures(1e-5, 30_000) == failures(50_000**-1.1, 50_000) == set()
    assert failures(1e-5, None) == failures(2e-6, 30_000) == failures(1e-5, 50_000) == {"settings"}


def test_certificate_of_sequences_states_the_order(facts: CertificateFacts) -> None:
    settings = {**SETTINGS, "data": {"sequence_by": "day of visit"}}
    document = build(dataclasses.replace(facts, settings=settings), KEY)
    assert "a sequence in the order of 'day of visit'" in document["summary"] and not failed(document)
    unsaid = build(facts, None)
    assert "sequence" not in unsaid["summary"]
    assert failed({**unsaid, "settings": settings}) == {"summary"}


HOSTILE: list[tuple[str, Any]] = [
    *(("gaussian", {"noise_multiplier": n}) for n in (10**400, 1e308, 1e-320, 10**4000, 1e-200)),
    *(("pure_dp", {"epsilon": e}) for e in (10**400, 1e308, 1e-320, 1000.0, 100.0)),
    *(("thresholded_gaussian", {"noise_multiplier": n, "delta": d}) for n, d in ((10**400, 0.1), (9, 1e-320), (9, 1 - 1e-16))),
    *(("poisson_sampled", {"rate": q, "of": {"type": "gaussian", "noise_multiplier": n}}) for q, n in (
        (1e-320, 1.0), (1e-12, 1e6), (10**400, 1.0), (0.5, 10**400), (1.0, 1e308),
    )),
    *(("repeated", {"count": c, "of": m}) for c, m in (
        (10**30, dp_sgd_step(1.0, 0.1)),
        (10**400, dp_sgd_step(1.0, 0.1)),
        (2_000_000, dp_sgd_step(0.5, 0.5)),
        (2_000_000, dp_sgd_step(1e3, 0.001)),
        (1000, {"type": "repeated", "count": 10**6, "of": dp_sgd_step(1.0, 0.1)}),
        (2_000_000, {"type": "pure_dp", "epsilon": 100.0}),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields"), HOSTILE)
def test_huge_numbers_fail_without_crash(unsigned: dict[str, Any], kind: str, fields: dict[str, Any]) -> None:
    for which in (1, 4):
        document = copy.deepcopy(unsigned)
        document["ledger"]["events"][which]["mechanism"] = {"type": kind, **fields}
        assert failed(hashed_anew(document)), which


@pytest.mark.parametrize("value", [10**400, 1e308, 1e-320, -1, float("inf"), float("nan"), 2**63, True, [[]], None])
@pytest.mark.parametrize("field", ["epsilon", "delta", "limit", "limit_delta"])
def test_huge_budgets_fail_without_crash(unsigned: dict[str, Any], field: str, value: Any) -> None:
    document = copy.deepcopy(unsigned)
    document["ledger"]["events"][0][field] = value
    with contextlib.suppress(ValueError):  # canonical JSON has no NaN: left with its old hash
        hashed_anew(document)
    assert failed(document)


def test_hostile_leaves_do_not_crash_the_check(signed: dict[str, Any]) -> None:
    nested: Any = 1
    for _ in range(500):
        nested = [nested]
    for path in leaves(signed):
        for value in (10**400, nested, float("nan")):
            document = copy.deepcopy(signed)
            place = document
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            assert failed(document) == {"form"}, path


def test_figures_too_large_to_compute_fail(unsigned: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (ValueError, OverflowError, MemoryError):

        def compose(*args: Any, raised: type[Exception] = error, **more: Any) -> Any:
            raise raised

        monkeypatch.setattr(certificate, "compose", compose)
        assert failed(unsigned) == {"ledger"}


def test_signing_key_is_created_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))
    first = signing_key().private_bytes_raw()
    assert signing_key().private_bytes_raw() == first
    path = tmp_path / "home" / "signing-key"
    assert path.stat().st_mode & 0o777 == 0o600
    for content in ("not hex", "00"):
        path.write_text(content)
        with pytest.raises(IntegrityError, match="signing-key"):
            signing_key()
