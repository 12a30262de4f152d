"""The weaknesses for the report's first page, worst first.

Privacy comes before usefulness, and both before what could not be judged:

1. privacy     A failed attack, by the distance of its interval from its control's. Of several attacks of a kind (exact and near
               copies) the worst one stands for all and names the others. A failed canary audit. Personal strings shared more
               often with the original than with as many holdout rows.
2. usefulness  By the fraction lost, 0 to 1: values and rows cut by the schema, TSTR score, distance of the worst column beyond
               its split-half baseline, pairwise associations (mean difference beyond the baseline, times three, since a
               difference of 0.33 is an association lost), rare values, duplicate texts, MAUVE below its split-half baseline.
3. unknown     Attacks with too few rows to say, an audit too weak to say, usefulness that could not be measured.

Within a class the greater severity comes first. In class 2, less than 0.05 is no weakness.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from localsynth.evaluate.stats import Rate

_MIN_SEVERITY = 0.05
_MIN_TEXTS = 100
"""With 300 texts, MAUVE varied by 0.035 between the best and the worst of twelve samples of one distribution."""

Class = Literal["privacy", "usefulness", "unknown"]
_COPIES = ("exact copies", "near copies", "shared passages")
_ORDER = ("privacy", "usefulness", "unknown")


@dataclass(frozen=True)
class Weakness:
    """A weakness, described in a few sentences."""

    kind: Class
    severity: float
    title: str
    text: str
    section: str
    """The anchor of the section with the figures."""


def percent(share: float) -> str:
    """The share in percent, with a decimal where it is below ten, and a space that no line break separates."""
    return f"{100 * share:.{0 if share == 0 or abs(share) >= 0.1 else 1}f}\u00a0%"


def _rows_of(n: dict[str, int], what: str = "rows") -> str:
    return f"{n['original']:,} original and {n['synthetic']:,} synthetic {what}"


def _of_tries(rate: dict[str, Any]) -> str:
    return f"{percent(rate['value'])} of {rate['n']:,} tries"


def _kind_of(attack: dict[str, Any]) -> str:
    """The kind of an attack: "membership, surest cases" is of the kind "membership"."""
    name = str(attack["name"])
    return "copies" if name in _COPIES else name.split(",")[0]


def _margin(attack: dict[str, Any]) -> float:
    return float(attack["risk"]["low"] - attack["control"]["high"])


def _of_attacks(figures: dict[str, Any]) -> Iterator[Weakness]:
    failed = [attack for attack in figures["attacks"] if attack["status"] == "failed"]
    for kind in dict.fromkeys(map(_kind_of, failed)):
        # Three ways to notice one copied row are one weakness.
        alike = sorted((attack for attack in failed if _kind_of(attack) == kind), key=_margin, reverse=True)
        worst, *others = alike
        # One of 300: two 95 % intervals of equal width that just touch are 2 x 1.96 / sqrt(2) = 2.8 standard errors of the
        # difference apart; where there is none, one lies so far above the other with a chance of 0.003.
        text = (
            f"{worst['question']} {_of_tries(worst['risk'])} succeeded against rows of the original, "
            f"{_of_tries(worst['control'])} against held-out rows. So large a difference points to individual rows; chance alone "
            "produces it in about one of 300 attacks."
        )
        if others:
            text += f" Also failed: {', '.join(attack['name'] for attack in others)}."
        yield Weakness("privacy", _margin(worst), f"The attack “{worst['name']}” succeeded", text, "attacks")
    unsaid = [attack["name"] for attack in figures["attacks"] if attack["status"] == "too few rows to say"]
    if unsaid:
        text = f"Too few rows or tries for: {'; '.join(unsaid)}. These attacks neither succeeded nor were ruled out."
        count = len(unsaid)
        title = f"{count} attack{'s' if count > 1 else ''} could not be judged"
        yield Weakness("unknown", count / len(figures["attacks"]), title, text, "attacks")


def _of_audit(figures: dict[str, Any]) -> Iterator[Weakness]:
    audit = figures["audit"] or {"status": "passed"}
    if audit["status"] == "too weak to say":
        yield Weakness("unknown", 0.0, "The canary audit was too weak to say anything", audit["sentence"], "audit")
    if audit["status"] == "failed":
        yield Weakness("privacy", math.inf, "The canary audit contradicts the guarantee", audit["sentence"], "audit")


def _of_personal(figures: dict[str, Any]) -> Iterator[Weakness]:
    rows = figures["rows"]
    for kind in (figures["personal"] or {"kinds": []})["kinds"]:
        ours, theirs = Rate(kind["in_original_same_rows"], kind["synthetic"]), Rate(kind["in_holdout"], kind["synthetic"])
        if kind["synthetic"] and ours.low > theirs.high:
            text = (
                f"Of {kind['synthetic']} distinct strings of this kind in the synthetic texts, "
                f"{kind['in_original']} occur in the original ({rows['original']:,} rows) and "
                f"{kind['in_holdout']} in the holdout ({rows['holdout']:,} rows)."
            )
            title = f"Personal strings of the kind “{kind['kind']}” come from the original"
            yield Weakness("privacy", ours.low - theirs.high, title, text, "personal")


def _of_utility(figures: dict[str, Any]) -> Iterator[Weakness]:
    utility = figures["utility"]
    if utility["status"] != "done" or utility["ratio"] is None:
        reason = utility.get("reason") or utility["sentence"]
        yield Weakness("unknown", 1.0, "Usefulness for machine learning was not measured", reason, "utility")
        return
    lost = min(1.0, 1 - utility["ratio"])
    title = f"Models trained on it lose {percent(lost)} of the score"
    yield Weakness("usefulness", lost, title, utility["sentence"], "utility")


def _of_columns(figures: dict[str, Any]) -> Iterator[Weakness]:
    judged = [
        (column["distance"] - (column["ceiling"] or 0), column) for column in figures["columns"] if column["distance"] is not None
    ]
    if judged:
        beyond, worst = max(judged, key=lambda entry: entry[0])
        what = f"the lengths of the texts in {worst['column']}" if worst["kind"] == "text" else worst["column"]
        off = percent(worst["distance"])
        how = (
            f"{off} of the synthetic rows would need another value of {what} to match the original (total variation)"
            if worst["measure"] == "total variation"
            else f"The cumulative distribution of {what} differs from the original's by up to {off} (Kolmogorov-Smirnov)"
        )
        text = (
            f"{how}. The split-half baseline is {percent(worst['ceiling'] or 0)} ({_rows_of(worst['n'])}). All other "
            "columns are closer."
        )
        yield Weakness("usefulness", beyond, f"The distribution of {worst['column']} is inaccurate", text, "columns")
    lost = [column["lost"] for column in figures["columns"] if "rare_values" in column.get("lost", {})]
    rare, gone = sum(entry["rare_values"] for entry in lost), sum(entry["rare_values_lost"] for entry in lost)
    if rare:
        text = (
            f"{gone} of {rare} rare values (in fewer than 1 % of {figures['rows']['original']:,} original rows) do not "
            f"occur in the {figures['rows']['synthetic']:,} synthetic rows. Do not use the table to study small groups."
        )
        yield Weakness("usefulness", gone / rare, "Rare values are lost", text, "columns")


def _of_schema(figures: dict[str, Any]) -> Iterator[Weakness]:
    losses = figures["schema_losses"]
    if losses is None or not losses["rows"]:
        return
    rows, dropped = losses["rows"], losses["dropped"]
    text = f"The schema dropped {dropped:,} of {rows:,} original rows for values outside its bounds and lists"
    broken = [f"{entry['constraint']} ({entry['broken']:,})" for entry in losses.get("constraints", []) if entry["broken"]]
    text += f" or violated constraints: {'; '.join(broken)}." if broken else "."
    yield Weakness("usefulness", dropped / rows, f"{percent(dropped / rows)} of the rows were dropped", text, "columns")
    cut = [column for column in losses["columns"] if column["changed"] / rows >= _MIN_SEVERITY]
    if cut:
        worst = cut[0]
        named = ", ".join(f"{column['column']} ({percent(column['changed'] / rows)})" for column in cut)
        text = (
            f"Values outside the schema's bounds and lists were clamped or replaced before training: {named} of {rows:,} "
            "rows. Declare public bounds and lists, or raise privacy.schema_epsilon."
        )
        title = f"The schema changed values of {worst['column']}{' and others' if len(cut) > 1 else ''}"
        yield Weakness("usefulness", worst["changed"] / rows, title, text, "columns")


def _of_pairs(figures: dict[str, Any]) -> Iterator[Weakness]:
    pairs = figures["pairs"]
    if pairs["mean_difference"] is None:
        return
    severity = min(1.0, 3 * (pairs["mean_difference"] - (pairs["ceiling"] or 0)))
    text = (
        f"The association of two columns (0 to 1) differs from the original's by {pairs['mean_difference']:.2f} on average "
        f"over {len(pairs['pairs'])} pairs. The split-half baseline is {pairs['ceiling'] or 0:.2f} "
        f"({_rows_of(pairs['n'])}). Correlations in this table may be misleading."
    )
    yield Weakness("usefulness", severity, "Associations between columns are inaccurate", text, "pairs")


def _of_sequences(figures: dict[str, Any]) -> Iterator[Weakness]:
    sequences = figures["sequences"]
    if sequences is None or sequences["mean_distance"] is None:
        return
    severity = sequences["mean_distance"] - (sequences["ceiling"] or 0)
    text = (
        f"The joint distribution of a value and its predecessor is {percent(sequences['mean_distance'])} off the original's on "
        f"average (total variation). The holdout's is {percent(sequences['ceiling'] or 0)} off; without any order it would be "
        f"{percent(sequences['independent'] or 0)} ({_rows_of(sequences['pairs'], 'pairs')})."
    )
    yield Weakness("usefulness", severity, "Transitions between consecutive rows are inaccurate", text, "sequences")


def _of_writing(figures: dict[str, Any]) -> Iterator[Weakness]:
    for column in figures["writing"]:
        name, alike = column["column"], column["mauve"]
        if alike is not None and alike["n"] >= _MIN_TEXTS:
            text = (
                f"MAUVE, the similarity of base-model embeddings, is {alike['value']:.2f}, where 1 is equal. The split-half "
                f"baseline is {alike['ceiling']:.2f} ({alike['n']:,} texts each)."
            )
            severity = alike["ceiling"] - alike["value"]
            yield Weakness("usefulness", severity, f"Texts in {name} are unlike the original's", text, "writing")
        made, original = column["synthetic"]["repeated"], column["original"]["repeated"] or 0
        if made is not None:
            text = (
                f"{percent(made)} of the synthetic texts in {name} are exact duplicates, {percent(original)} "
                f"of the original ones ({column['n']:,} texts each)."
            )
            yield Weakness("usefulness", made - original, f"Many texts in {name} are duplicates", text, "writing")


_FINDERS = (_of_attacks, _of_audit, _of_personal, _of_schema, _of_utility, _of_columns, _of_pairs, _of_sequences, _of_writing)


def find_weaknesses(figures: dict[str, Any]) -> list[Weakness]:
    """The weaknesses that `evaluate_tables`' figures show, by the rule above."""
    found = [weakness for finder in _FINDERS for weakness in finder(figures)]
    found = [weakness for weakness in found if weakness.kind != "usefulness" or weakness.severity >= _MIN_SEVERITY]
    return sorted(found, key=lambda weakness: (_ORDER.index(weakness.kind), -weakness.severity))
