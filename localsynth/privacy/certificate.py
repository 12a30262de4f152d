"""`certificate.json`: what is guaranteed, to whom, by how much, what is not, and everything needed to work it out again.

    {"format", "summary", "guarantee", "not_covered", "ledger", "schema", "settings", "hashes", "versions", "seal",
     "signature"}

All of `summary`, `guarantee` and `not_covered` follow from the ledger, the schema and a few declared facts, so
`localsynth.verify.certificate` regenerates them and compares. Nothing in a certificate depends on the data except through
the ledger's mechanisms.
"""

import math
from collections import Counter
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from importlib.metadata import version
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from localsynth.privacy.accountant import flatten
from localsynth.privacy.ledger_chain import Basis, Event, genesis_hash, group_bound, recompute, the_basis, the_target
from localsynth.privacy.signing import sign
from localsynth.schema.columns import Category, Column, Number, Schema, Text
from localsynth.system.canonical_json import sha256_of

__all__ = [
    "CERTIFICATE_KEY",
    "FORMAT",
    "GROUP_SIZES",
    "CertificateFacts",
    "Work",
    "build",
    "compose",
    "exceeds_target",
    "not_covered",
    "stated",
    "summarize",
    "work_of",
]

FORMAT = 1
RELATION = "add or remove one unit"
POISSON = "Poisson: an independent secret coin for each unit and step"
NO_SAMPLER = "none: every unit takes part but those that a secret coin of their own left out (holdout, --max-units)"
GROUP_SIZES = (2, 5, 10)

_OF_A_MODEL = (
    "The public text that the base model was trained on before: if it holds a person's data, that is neither hidden nor counted.",
    "Third parties named in the text of several units: they are protected only as far as the group figures say.",
    "Rounding: sums of gradients are computed in floating point, and only the noise is hardened against what that can reveal.",
)
_OF_MARGINALS = (
    "Rounding: which columns to count together is chosen in floating point (the exponential mechanism, by Gumbel noise): the "
    "chance of each candidate is off by about 1e-16, and one less likely than that is never chosen. That is not in delta. "
    "Noise on counts is rounded to whole numbers before it is added.",
)
_ALWAYS_NOT_COVERED = (
    "Facts that many units share: what is true of a whole group can be learned, and can be concluded about its members.",
    "The evaluation report: it reads the original table and is not part of the guarantee.",
    "Names of columns, the choice of the unit, and the settings: they count as public, and as chosen without a look at the data.",
    "Conditions, shares and rows to complete that synthetic rows are drawn by: they count as public. The table repeats them, and "
    "says what was asked.",
    "That the table was accepted or refused at all: one value that cannot be read stops the reading, which whoever runs it sees.",
    "Running time and use of memory and disk, to whoever can watch the machine while it runs.",
    "Other workspaces made from the same table or a copy of it, and runs after this certificate: their costs add to this one's.",
)


@dataclass(frozen=True)
class Work:
    """What was done with the rows beside settling the schema; what a certificate says in words follows from it."""

    trains: bool
    """A language model, step by step."""
    counts: bool
    """Marginals: noisy counts, and choices of what to count."""
    counts_tokens: bool
    """One noisy count of the tokens of texts."""

    @property
    def name(self) -> str:
        """As a noun, for what had noise."""
        return _listed(
            ["the marginals"] * self.counts + ["the training"] * self.trains + ["the token counts"] * self.counts_tokens
        )

    @property
    def counted(self) -> str:
        """As a noun, for what was counted once and not sampled for."""
        return _listed(["the marginals"] * self.counts + ["the token counts"] * self.counts_tokens)

    @property
    def done(self) -> str:
        """As a verb, for what the table was to it."""
        return " and ".join(["measured"] * self.counts + ["trained on"] * self.trains)

    @property
    def product(self) -> str:
        """What the synthetic table is drawn from."""
        return _listed(["the marginals"] * self.counts + ["the model"] * self.trains + ["the token counts"] * self.counts_tokens)


def _listed(names: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1])] * (len(names) > 1) + names[-1:])


def work_of(mechanisms: list[dict[str, Any]]) -> Work:
    """What the mechanisms of a guarantee did."""
    kinds = {part["mechanism"]["type"] for part in mechanisms if part["stage"] not in ("schema", "count_texts")}
    return Work(
        trains=bool(kinds - {"zcdp"}),
        counts="zcdp" in kinds,
        counts_tokens=any(part["stage"] == "count_texts" for part in mechanisms),
    )


def _sampler(mechanisms: list[dict[str, Any]]) -> str:
    if not any(part["mechanism"]["type"] == "poisson_sampled" for part in mechanisms):
        return NO_SAMPLER
    counted = work_of(mechanisms).counted
    return f"{POISSON} of the training; for {counted} {NO_SAMPLER}" if counted else POISSON


def _accountant(mechanisms: list[dict[str, Any]]) -> str:
    kinds = {part["mechanism"]["type"] for part in mechanisms}
    ways = ["privacy loss distributions"] if kinds - {"zcdp"} else []
    if "zcdp" in kinds:
        ways.append(f"zero-concentrated differential privacy, converted to epsilon and delta for {work_of(mechanisms).counted},")
    return f"{' and '.join(ways)} inside a stage's budget, sums over budgets and runs"


@dataclass(frozen=True)
class CertificateFacts:
    """What `build` cannot work out by itself."""

    noise_label: str
    """`label` of the generator that was used."""
    ledger: dict[str, Any]
    """The whole document of the workspace: all runs, finished or not."""
    schema: Schema
    """The effective schema."""
    settings: dict[str, Any]
    """The run's effective "train" and "privacy" settings, as in localsynth.toml, and of "data" `sequence_by`. Public."""
    hashes: dict[str, str]
    """SHA-256 of "model" (`model_hash`), "marginals", "text_counts" (the files) and "base_model"; "" for what the run has not."""
    versions: dict[str, str]
    seal: str
    """The level of the network seal (`localsynth.system.network_seal`). A statement: nobody can check it later."""


def stated(value: float) -> float | None:
    """`value` rounded up at six significant digits, as certificates state ε and δ; None for infinity, which JSON lacks."""
    if math.isinf(value):
        return None
    if value == 0:
        return 0.0
    # The last digits of a sum are rounding: 0.1 + 0.2 is stated as 0.3.
    exact = Decimal(f"{value:.12e}")
    return float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - 5), rounding=ROUND_CEILING))


def count_runs(events: list[Event]) -> int:
    """How many runs charged something."""
    return len({event["run"] for event in events if event["kind"] == "spend" and event["run"] is not None})


def _goes_beyond(events: list[Event]) -> bool:
    """Whether a budget was opened on top of the target (--again): the sum is then decided run by run."""
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
        "beyond_limit": _goes_beyond(events),
        "relation": RELATION,
        "mechanisms": mechanisms,
        "sampler": _sampler(mechanisms),
        "accountant": _accountant(mechanisms),
        "noise": facts.noise_label,
        "runs": count_runs(events),
        "groups": groups,
    }


def _guessed(column: Column) -> str:
    fields = ["kind", "nullable"]
    if isinstance(column, Number):
        fields.append("decimals")
    if isinstance(column, Text):
        fields.append("max_tokens")
    return f"{column.name} ({', '.join(fields)})"


def _is_declared(column: Column) -> bool:
    """Whether any bound or list of the column was written by the user rather than measured."""
    limits = {"values"} if isinstance(column, Category) else {"min", "max"} & set(type(column).model_fields)
    return bool(limits - set(column.measured))


def not_covered(schema: Schema, runs: int, basis: Basis, work: Work, *, beyond_limit: bool) -> list[str]:
    """What the guarantee does not cover, one sentence each. `beyond_limit`: some budget was opened on top of the target."""
    sentences = [*_OF_A_MODEL * work.trains, *_OF_MARGINALS * work.counts, *_ALWAYS_NOT_COVERED]
    if basis.unit != "row":
        sentences.append(f"Rows without a value of {basis.unit!r}: each of them is protected only as a unit of its own.")
        sentences.append(f"One person under several values or spellings of {basis.unit!r}: that is several units.")
    if beyond_limit:
        sentences.append(
            "That the sum of epsilon and delta is what it is: budgets were added with --again, so it is a running total, decided "
            "run by run, not a figure that was fixed beforehand."
        )
    declared = ["the number of units"] if basis.size_declared else []
    declared += [f"bounds or list of {column.name}" for column in schema.learned() if _is_declared(column)]
    declared += [f"value descriptions of {c.name}" for c in schema.learned() if isinstance(c, Category) and c.descriptions]
    declared += [f"the constraint {text}" for text in schema.constraints]
    if declared:
        sentences.append(
            "These were declared as public knowledge; if they were read off the table instead, that is not counted: "
            + "; ".join(declared)
            + "."
        )
    times = "once" if runs == 1 else f"{runs} times"
    sentences.append(
        f"Choosing again after having looked at the report{', the loss' * work.trains} or the holdout is a selection that no "
        f"ledger sees. The table was {work.done} {times}; all of it is charged, the choice among it is not."
    )
    if not schema.confirmed:
        sentences.append(
            "These were guessed from the table and neither declared, confirmed nor measured: "
            + "; ".join(_guessed(column) for column in schema.columns)
            + "."
        )
    return sentences


def _figure(value: float | None) -> str:
    return "without bound" if value is None else f"{value:g}"


def _group(units: int, epsilon: float | None, delta: float) -> str:
    return f"{units} together, " + (f"epsilon {epsilon:g} and delta {delta:g}" if epsilon is not None else "without bound")


def exceeds_target(guarantee: dict[str, Any]) -> bool:
    """Whether more is guaranteed than was configured when the first budget was opened, in ε or in δ."""
    bound = guarantee["guaranteed_epsilon"]
    return bound is None or bound > guarantee["target_epsilon"] or guarantee["spent_delta"] > guarantee["target_delta"]


def summarize(guarantee: dict[str, Any], signed: bool, sequence_by: str | None = None) -> str:
    """The guarantee in plain words, made of its figures and of what the rows of a unit are ordered by."""
    unit, rows = guarantee["unit"], guarantee["max_rows_per_unit"]
    if unit == "row":
        who, one = "each single row", "row"
    else:
        who, one = f"each value of the column {unit!r} with its up to {rows} row{'' if rows == 1 else 's'}", f"value of {unit!r}"
    work = work_of(guarantee["mechanisms"])
    bound, target = guarantee["guaranteed_epsilon"], guarantee["target_epsilon"]
    running = "the running total of budgets that were added run by run"
    how = running if guarantee["beyond_limit"] else "the budgets that were fixed beforehand"
    text = (
        f"The synthetic table and {work.product} are differentially private for {who} of the original table: whether or not that "
        f"{one} was in it changes the chance of any outcome by at most a factor of e to the epsilon, but for a small delta. "
        f"Everything that this workspace ran on the table until this certificate was made is within epsilon {_figure(bound)} and "
        f"delta {_figure(guarantee['spent_delta'])}, {how}, in {guarantee['runs']} "
        f"run{'' if guarantee['runs'] == 1 else 's'}; what was executed comes to epsilon {_figure(guarantee['spent_epsilon'])}. "
        f"The target was epsilon {_figure(target)} and delta {_figure(guarantee['target_delta'])}."
    )
    if exceeds_target(guarantee):
        text += " More was spent than the target allows."
    if sequence_by is not None:
        text += (
            f" The rows of a unit are learned and drawn as a sequence in the order of {sequence_by!r}; the order of its rows is "
            "protected as they are."
        )
    parts = [_group(**group) for group in guarantee["groups"]]
    text += f" Units that belong together are protected less: {'; '.join(parts)}."
    text += " The list of what is not covered is part of this statement; whether it satisfies a law is for a lawyer to judge."
    text += f" Noise of {work.name}: {guarantee['noise']}."
    if any(part["stage"] == "schema" for part in guarantee["mechanisms"]):
        text += " Noise of the counts, lists and ranges: OpenDP's discrete mechanisms."
    if not signed:
        text += " This certificate is not signed: its figures can be worked out again, but not who made it."
    return text


def compose(facts: CertificateFacts, *, signed: bool) -> dict[str, Any]:
    """The certificate without its signature, worded for one that will be `signed` or not. Takes seconds.

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
    """The certificate, signed with `key`; without one its signature is null and its summary says so. Raises as `compose`."""
    document = compose(facts, signed=key is not None)
    return document if key is None else sign(document, key)


CERTIFICATE_KEY = "localsynth.certificate"
"""The metadata key under which a GGUF carries its certificate."""
