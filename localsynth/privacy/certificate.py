"""`certificate.json`: the guarantee, its limits, and everything needed to recompute it.

    {"format", "summary", "guarantee", "not_covered", "ledger", "schema", "settings", "hashes", "versions", "seal",
     "signature"}

`summary`, `guarantee` and `not_covered` follow from the ledger, the schema and a few declared
facts, so `localsynth.verification.certificate` recomputes and compares them. A certificate depends on
the data only through the ledger's mechanisms.
"""

import json
import math
from collections import Counter
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from importlib.metadata import version
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from localsynth.presentation import risk_sentences
from localsynth.privacy.accountant import flatten
from localsynth.privacy.ledger_chain import (
    Basis,
    Budget,
    Event,
    by_budget,
    genesis_hash,
    group_bound,
    recompute,
    the_basis,
    the_target,
)
from localsynth.privacy.risk import risks_of
from localsynth.privacy.signing import sign
from localsynth.results.as_json import from_json, to_json
from localsynth.results.plans import Risks
from localsynth.schema.columns import Category, Column, Number, Schema, Text
from localsynth.system.canonical_json import sha256_of

FORMAT = 2
ADJACENCY = "add or remove one unit"
POISSON = "Poisson sampling: each unit independently at each step, in secret"
NO_SAMPLER = "no subsampling, apart from the holdout and --max-units"
GROUP_SIZES = (2, 5, 10)

_OF_A_MODEL = (
    "The base model's public training data: personal data in it is neither hidden nor counted.",
    "People mentioned in the text of several units: they are protected only as the group figures state.",
    "Rounding: sums of gradients are computed in floating point, and only the noise is hardened against floating-point attacks.",
)
_ALWAYS_NOT_COVERED = (
    "Population-level facts: what is true of a whole group can be learned, and inferred about its members.",
    "The evaluation report: it reads the original table and is not part of the guarantee.",
    "Names of columns, the privacy unit and the settings: they count as public, and as chosen without looking at the data.",
    "Conditions, shares and partial rows requested for synthetic rows: they count as public and are stored with the table.",
    "That the table was accepted or refused at all: one unreadable value stops ingestion, visibly to the person who runs it.",
    "Running time and use of memory and disk, for anyone who can observe the machine.",
    "Other workspaces on the same table or a copy of it, and later runs: their costs add to this one's.",
)


@dataclass(frozen=True)
class Work:
    """The stages of a run besides the schema, from which the certificate's sentences follow."""

    trains: bool
    """A language model was trained."""
    counts: bool
    """Marginals were measured."""
    counts_tokens: bool
    """A token histogram was measured."""

    @property
    def name(self) -> str:
        """The noisy stages, as nouns."""
        return _listed(
            ["the marginals"] * self.counts + ["the training"] * self.trains + ["the token counts"] * self.counts_tokens
        )

    @property
    def counted(self) -> str:
        """The stages without subsampling, as nouns."""
        return _listed(["the marginals"] * self.counts + ["the token counts"] * self.counts_tokens)

    @property
    def done(self) -> str:
        """The stages, as participles."""
        return " and ".join(["measured"] * self.counts + ["trained on"] * self.trains)

    @property
    def product(self) -> str:
        """What the synthetic table is generated from."""
        return _listed(["the marginals"] * self.counts + ["the model"] * self.trains + ["the token counts"] * self.counts_tokens)


def _listed(names: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1])] * (len(names) > 1) + names[-1:])


def work_of(mechanisms: list[dict[str, Any]]) -> Work:
    """The stages whose mechanisms these are."""
    kinds = {part["mechanism"]["type"] for part in mechanisms if part["stage"] not in ("schema", "count_texts")}
    return Work(
        trains="poisson_sampled" in kinds,
        counts="gaussian" in kinds,
        counts_tokens=any(part["stage"] == "count_texts" for part in mechanisms),
    )


def _sampler(mechanisms: list[dict[str, Any]]) -> str:
    if not any(part["mechanism"]["type"] == "poisson_sampled" for part in mechanisms):
        return NO_SAMPLER
    counted = work_of(mechanisms).counted
    return f"{POISSON} (the training); {NO_SAMPLER} ({counted})" if counted else POISSON


def _accountant(budgets: list[Budget], mechanisms: list[dict[str, Any]]) -> str:
    """How the mechanisms of the charged budgets compose."""
    methods = []
    for budget in budgets:
        kinds = {part["mechanism"]["type"] for part in mechanisms if part["budget"] == budget.name}
        if (order := budget.account.order) == "all":
            methods.append("Gaussian differential privacy, also where parameters follow noisy results,")
        elif order is not None:
            methods.append(
                f"Renyi differential privacy of order {order}, fixed beforehand, where parameters follow noisy results,"
            )
        elif kinds == {"gaussian"}:
            methods.append("Gaussian differential privacy, converted exactly to epsilon and delta,")
        elif kinds != {"pure_dp"}:
            methods.append("privacy loss distributions, all parameters fixed beforehand,")
    return f"{' and '.join([*dict.fromkeys(methods)] or ['basic composition'])} inside a budget, sums over budgets"


@dataclass(frozen=True)
class CertificateFacts:
    """The facts that `build` cannot derive."""

    noise_label: str
    """`label` of the generator that was used."""
    ledger: dict[str, Any]
    """The ledger's document: all runs, finished or not."""
    schema: Schema
    """The effective schema."""
    settings: dict[str, Any]
    """The run's effective "train" and "privacy" settings, as in localsynth.toml, and of "data" `sequence_by`. Public."""
    hashes: dict[str, str]
    """SHA-256 of "model" (`model_hash`), "marginals", "text_counts" (the files) and "base_model"; "" if there is none."""
    versions: dict[str, str]
    seal: str
    """The level of the network seal (`localsynth.system.network_seal`). It cannot be verified later."""


def stated(value: float) -> float | None:
    """`value` rounded up at six significant digits, as certificates state ε and δ; None for infinity, which JSON lacks."""
    if math.isinf(value):
        return None
    if value == 0:
        return 0.0
    # The last digits of a sum are rounding errors: 0.1 + 0.2 is stated as 0.3.
    exact = Decimal(f"{value:.12e}")
    return float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - 5), rounding=ROUND_CEILING))


def count_runs(events: list[Event]) -> int:
    """The number of runs with a charge."""
    return len({event["run"] for event in events if event["kind"] == "spend" and event["run"] is not None})


def _is_beyond_limit(events: list[Event]) -> bool:
    """Whether a budget was opened on top of the target (--again), so that the sum was decided run by run."""
    return any(event["kind"] == "budget" and event["beyond_limit"] for event in events)


def _mechanisms(events: list[Event]) -> list[dict[str, Any]]:
    counts: Counter[tuple[str, str | None, str, str]] = Counter()
    described: dict[str, Any] = {}
    for event in events:
        if event["kind"] == "spend":
            for text, count in flatten([event["mechanism"]]).items():
                mechanism = event["mechanism"]
                while mechanism["type"] == "repeated":
                    mechanism = mechanism["of"]
                described[text] = mechanism
                counts[event["budget"], event["run"], event["stage"], text] += count
    return [
        {"budget": budget, "run": run, "stage": stage, "mechanism": described[text], "count": count}
        for (budget, run, stage, text), count in counts.items()
    ]


def _guarantee(facts: CertificateFacts) -> dict[str, Any]:
    events = facts.ledger["events"]
    spent, basis, target = recompute(events), the_basis(events), the_target(events)
    mechanisms = _mechanisms(events)
    groups = []
    for units in GROUP_SIZES:
        epsilon, delta = group_bound(events, units)
        groups.append({"units": units, "epsilon": None if delta >= 1 else stated(epsilon), "delta": stated(delta)})
    return {
        "target_epsilon": stated(target[0]),
        "target_delta": stated(target[1]),
        "guaranteed_epsilon": stated(spent.bound),
        "spent_epsilon": stated(spent.epsilon),
        "spent_delta": stated(spent.delta),
        "unit": basis.unit,
        "max_rows_per_unit": basis.max_rows_per_unit,
        "size_declared": basis.size_declared,
        "beyond_limit": _is_beyond_limit(events),
        "adjacency": ADJACENCY,
        "mechanisms": mechanisms,
        "sampler": _sampler(mechanisms),
        "accountant": _accountant([budget for budget, _ in spent.budgets], mechanisms),
        "noise": facts.noise_label,
        "runs": count_runs(events),
        "groups": groups,
        "risks": to_json(risks_of([(budget.account, charged) for budget, charged in by_budget(events) if charged])),
    }


def _guessed(column: Column) -> str:
    fields = ["kind", "nullable"]
    if isinstance(column, Number):
        fields.append("decimals")
    if isinstance(column, Text):
        fields.append("max_tokens")
    written = ("format", "check", "missing", "below", "above")
    fields += [field for field in written if getattr(column, field, None) is not None]
    return f"{column.name} ({', '.join(fields)})"


def _is_declared(column: Column) -> bool:
    """Whether the user declared any bound or list of the column."""
    limits = ("values", "min", "max", "edges", "common", "step", "below", "above")
    return any(getattr(column, field, None) is not None and field not in column.measured for field in limits)


def not_covered(schema: Schema, runs: int, basis: Basis, work: Work, *, beyond_limit: bool) -> list[str]:
    """The limits of the guarantee, one sentence each. `beyond_limit`: a budget was opened on top of the target."""
    sentences = [*_OF_A_MODEL * work.trains, *_ALWAYS_NOT_COVERED]
    if basis.unit != "row":
        sentences.append(f"Rows without a value of {basis.unit!r}: each is protected only as a unit of its own.")
        sentences.append(f"One person under several values or spellings of {basis.unit!r}: they count as several units.")
    if beyond_limit:
        sentences.append(
            "The choice of the total: budgets were added with --again, so epsilon and delta are a running total, decided run by "
            "run, not figures that were fixed beforehand."
        )
    declared = ["the number of units"] if basis.size_declared else []
    declared += [f"bounds or list of {column.name}" for column in schema.learned() if _is_declared(column)]
    declared += [f"value descriptions of {c.name}" for c in schema.learned() if isinstance(c, Category) and c.descriptions]
    declared += [f"the constraint {text}" for text in schema.constraints]
    if declared:
        sentences.append(
            "Values declared as public knowledge; if they were read from the table instead, that is not counted: "
            + "; ".join(declared)
            + "."
        )
    times = "once" if runs == 1 else f"{runs} times"
    sentences.append(
        f"Rerunning after looking at the report{', the loss' * work.trains} or the holdout: each run is charged, but the choice "
        f"among runs is not accounted for. The table was {work.done} {times}."
    )
    if not schema.confirmed:
        sentences.append(
            "Properties guessed from the table and neither declared, confirmed nor measured: "
            + "; ".join(_guessed(column) for column in schema.columns)
            + "."
        )
    return sentences


def _figure(value: float | None) -> str:
    return "unbounded" if value is None else f"{value:g}"


def _group(units: int, epsilon: float | None, delta: float) -> str:
    return f"{units} units: " + (f"epsilon {epsilon:g}, delta {delta:g}" if epsilon is not None else "no bound")


def exceeds_target(guarantee: dict[str, Any]) -> bool:
    """Whether the guaranteed ε or δ exceeds the target configured when the first budget was opened."""
    bound = guarantee["guaranteed_epsilon"]
    return bound is None or bound > guarantee["target_epsilon"] or guarantee["spent_delta"] > guarantee["target_delta"]


def summarize(guarantee: dict[str, Any], signed: bool, sequence_by: str | None = None) -> str:
    """The guarantee in plain words, from its figures and the column that orders the rows of a unit."""
    unit, rows = guarantee["unit"], guarantee["max_rows_per_unit"]
    if unit == "row":
        who, one = "each single row", "row"
    else:
        who, one = f"each value of the column {unit!r} with its up to {rows} row{'' if rows == 1 else 's'}", f"value of {unit!r}"
    work = work_of(guarantee["mechanisms"])
    bound, target = guarantee["guaranteed_epsilon"], guarantee["target_epsilon"]
    running = "a running total of budgets added run by run"
    how = running if guarantee["beyond_limit"] else "the sum of budgets fixed beforehand"
    text = (
        f"The synthetic table and {work.product} are differentially private for {who} of the original table: adding or removing "
        f"that {one} changes the probability of any outcome by at most a factor of e to the epsilon, except for a small delta. "
        f"Everything that this workspace computed on the table until this certificate was made is within epsilon "
        f"{_figure(bound)} and delta {_figure(guarantee['spent_delta'])}, {how}, in {guarantee['runs']} "
        f"run{'' if guarantee['runs'] == 1 else 's'}. Of that, epsilon {_figure(guarantee['spent_epsilon'])} is spent. "
        f"The target was epsilon {_figure(target)} and delta {_figure(guarantee['target_delta'])}."
    )
    if exceeds_target(guarantee):
        text += " More was spent than the target allows."
    if sequence_by is not None:
        text += (
            f" The rows of a unit are learned and generated as a sequence in the order of {sequence_by!r}; the order "
            "is protected like the rows."
        )
    parts = [_group(**group) for group in guarantee["groups"]]
    text += f" Groups of related units are protected less: {'; '.join(parts)}."
    text += " " + " ".join(risk_sentences(from_json(Risks, guarantee["risks"])))
    text += " The list of what is not covered is part of this statement. It is no legal assessment."
    text += f" Noise of {work.name}: {guarantee['noise']}."
    if any(part["mechanism"]["type"] == "pure_dp" for part in guarantee["mechanisms"]):
        text += " Noise of the number of units: OpenDP's discrete Laplace mechanism."
    if not signed:
        text += " This certificate is not signed: its figures can be recomputed, but its author is unknown."
    return text


def compose(facts: CertificateFacts, *, signed: bool) -> dict[str, Any]:
    """The certificate without its signature; its summary depends on whether it will be `signed`. Takes seconds.

    Raises IntegrityError, ConfigError where the ledger cannot be accounted for.
    """
    guarantee = _guarantee(facts)
    schema = facts.schema.model_dump(mode="json")
    events = facts.ledger["events"]
    head = events[-1]["hash"] if events else genesis_hash(facts.ledger["workspace"])
    return {
        "format": FORMAT,
        "summary": summarize(guarantee, signed, facts.settings["data"]["sequence_by"]),
        "guarantee": guarantee,
        "not_covered": not_covered(
            facts.schema,
            guarantee["runs"],
            the_basis(events),
            work_of(guarantee["mechanisms"]),
            beyond_limit=guarantee["beyond_limit"],
        ),
        "ledger": facts.ledger,
        "schema": schema,
        "settings": facts.settings,
        "hashes": {**facts.hashes, "schema": sha256_of(schema), "ledger_head": head},
        "versions": {**facts.versions, "dp-accounting": version("dp-accounting")},
        "seal": facts.seal,
        "signature": None,
    }


def build(facts: CertificateFacts, key: Ed25519PrivateKey | None) -> dict[str, Any]:
    """The certificate, signed with `key`; without one its signature is null and its summary states it. Raises as `compose`."""
    document = compose(facts, signed=key is not None)
    return document if key is None else sign(document, key)


CERTIFICATE_KEY = "localsynth.certificate"


def certificate_text(document: Any) -> str:
    """A certificate as it stands in a model: JSON of one spelling, since a space in it is under no signature."""
    return json.dumps(document, ensure_ascii=False)


"""The metadata key under which a GGUF carries its certificate."""
