"""The weaknesses for the report's first page: what to worry about, worst first.

The ranking rule. What endangers persons comes before what makes the table less useful, and that before what could not be judged:

1. privacy   an attack that failed, by how far its interval lies above its control's; a canary audit that failed; personal
             strings that the synthetic texts share more often with the original than with as many holdout rows
2. worth     by the share of something that is lost, 0 to 1: values and rows cut by the schema, what a model can learn, the
             likeness of the worst column beyond its ceiling, links between columns (mean difference beyond the ceiling, times
             three, since 0.33 is a link gone), rare values, repeated texts
3. unknown   attacks with too few rows to say, an audit too weak to say, and utility that could not be measured

Within a class the greater severity comes first; what is below 0.05 in class 2 is not called a weakness.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from localsynth.evaluate.stats import Rate

__all__ = ["Weakness", "find_weaknesses"]

_WORTH_SAYING = 0.05

Class = Literal["privacy", "worth", "unknown"]
_ORDER = ("privacy", "worth", "unknown")


@dataclass(frozen=True)
class Weakness:
    """One sentence or two for a reader without statistics."""

    kind: Class
    severity: float
    title: str
    text: str
    section: str
    """The anchor of the section with the figures."""


def _percent(share: float) -> str:
    # With a space that no line break separates.
    return f"{100 * share:.1f}\u00a0%" if 0 < share < 0.1 else f"{100 * share:.0f}\u00a0%"


def _of_attacks(figures: dict[str, Any]) -> list[Weakness]:
    found = []
    for attack in figures["attacks"]:
        if attack["status"] == "failed":
            text = (
                f"{attack['question']} {_percent(attack['risk']['value'])} of the tries succeeded against rows of the original, "
                f"{_percent(attack['control']['value'])} against rows that the model has never seen. The difference was learned "
                "from single rows."
            )
            severity = attack["risk"]["low"] - attack["control"]["high"]
            found.append(Weakness("privacy", severity, f"The attack “{attack['name']}” succeeded", text, "attacks"))
    unsaid = [attack["name"] for attack in figures["attacks"] if attack["status"] == "too few rows to say"]
    if unsaid:
        text = (
            f"Too few rows or tries for: {', '.join(unsaid)}. That these attacks did not succeed is no evidence that the table "
            "withstands them."
        )
        count = len(unsaid)
        title = f"{count} attack{'s' if count > 1 else ''} could not be judged"
        found.append(Weakness("unknown", count / len(figures["attacks"]), title, text, "attacks"))
    return found


def _of_audit(figures: dict[str, Any]) -> list[Weakness]:
    audit = figures.get("audit")
    if audit is None or audit["status"] == "passed":
        return []
    if audit["status"] == "too weak to say":
        return [Weakness("unknown", 0.0, "The canary audit was too weak to say anything", audit["sentence"], "audit")]
    return [Weakness("privacy", math.inf, "The canary audit contradicts the guarantee", audit["sentence"], "audit")]


def _of_personal(figures: dict[str, Any]) -> list[Weakness]:
    found = []
    for kind in (figures["personal"] or {"kinds": []})["kinds"]:
        rows = figures["rows"]
        ours, theirs = Rate(kind["in_original_same_rows"], kind["synthetic"]), Rate(kind["in_holdout"], kind["synthetic"])
        if kind["synthetic"] and ours.low > theirs.high:
            text = (
                f"Of {kind['synthetic']} different strings in the synthetic texts that look like one, "
                f"{kind['in_original']} stand in the original ({rows['original']:,} rows), "
                f"{kind['in_holdout']} in the holdout ({rows['holdout']:,} rows)."
            )
            title = f"Strings of the kind “{kind['kind']}” come from the original"
            found.append(Weakness("privacy", ours.low - theirs.high, title, text, "personal"))
    return found


def _of_utility(figures: dict[str, Any]) -> list[Weakness]:
    utility = figures["utility"]
    if utility["status"] != "done" or utility["ratio"] is None:
        reason = utility.get("reason") or utility["sentence"]
        return [Weakness("unknown", 1.0, "It is not known whether models can learn from this table", reason, "utility")]
    if 1 - utility["ratio"] < _WORTH_SAYING:
        return []
    lost = min(1.0, 1 - utility["ratio"])
    return [Weakness("worth", lost, f"{_percent(lost)} of what can be learned is lost", utility["sentence"], "utility")]


def _of_columns(figures: dict[str, Any]) -> list[Weakness]:
    found = []
    judged = [column for column in figures["columns"] if column["distance"] is not None]
    if judged:
        worst = max(judged, key=lambda column: column["distance"] - (column["ceiling"] or 0))
        beyond = worst["distance"] - (worst["ceiling"] or 0)
        if beyond >= _WORTH_SAYING:
            what = "The lengths of the texts in" if worst["kind"] == "text" else "The values of"
            text = (
                f"{what} {worst['column']} are {_percent(worst['distance'])} off the original's ({worst['measure']}); two "
                f"halves of the original differ by {_percent(worst['ceiling'] or 0)}. No other column is further off."
            )
            found.append(
                Weakness("worth", beyond, f"The column {worst['column']} does not look like the original", text, "columns")
            )
    lost = [column["lost"] for column in figures["columns"] if "rare_values" in column.get("lost", {})]
    rare, gone = sum(entry["rare_values"] for entry in lost), sum(entry["rare_values_lost"] for entry in lost)
    if rare and gone / rare >= _WORTH_SAYING:
        text = (
            f"Of {rare} values that fewer than 1 % of the original's rows have, {gone} do not occur in the synthetic table. "
            "Small groups cannot be studied with it."
        )
        found.append(Weakness("worth", gone / rare, "Rare values are lost", text, "columns"))
    return found


def _of_schema(figures: dict[str, Any]) -> list[Weakness]:
    losses = figures["schema_losses"]
    if losses is None or not losses["rows"]:
        return []
    found = []
    rows, dropped = losses["rows"], losses["dropped"]
    if dropped / rows >= _WORTH_SAYING:
        text = f"The schema left out {dropped:,} of {rows:,} original rows, for values outside its bounds and lists"
        broken = [f"{entry['constraint']} ({entry['broken']:,})" for entry in losses.get("constraints", []) if entry["broken"]]
        text += f" or broken constraints: {'; '.join(broken)}." if broken else "."
        found.append(Weakness("worth", dropped / rows, f"{_percent(dropped / rows)} of the rows were dropped", text, "columns"))
    cut = [column for column in losses["columns"] if column["changed"] / rows >= _WORTH_SAYING]
    if cut:
        worst = cut[0]
        named = ", ".join(f"{column['column']} ({_percent(column['changed'] / rows)})" for column in cut)
        text = (
            f"Values outside the schema's bounds and lists were brought inside before anything was learned: {named} of {rows:,} "
            "rows. Declare bounds and lists that are public, or give the schema more of epsilon."
        )
        title = f"The schema cut values of {worst['column']}{' and others' if len(cut) > 1 else ''}"
        found.append(Weakness("worth", worst["changed"] / rows, title, text, "columns"))
    return found


def _of_pairs(figures: dict[str, Any]) -> list[Weakness]:
    pairs = figures["pairs"]
    if pairs["mean_difference"] is None:
        return []
    severity = min(1.0, 3 * (pairs["mean_difference"] - (pairs["ceiling"] or 0)))
    if severity < _WORTH_SAYING:
        return []
    text = (
        f"Correlations differ by {pairs['mean_difference']:.2f} on average over {len(pairs['pairs'])} pairs of columns; between "
        f"two halves of the original by {pairs['ceiling'] or 0:.2f}. Conclusions about what goes with what may be wrong."
    )
    return [Weakness("worth", severity, "Links between columns are blurred", text, "pairs")]


def _of_sequences(figures: dict[str, Any]) -> list[Weakness]:
    sequences = figures["sequences"]
    if sequences is None or sequences["mean_distance"] is None:
        return []
    severity = sequences["mean_distance"] - (sequences["ceiling"] or 0)
    if severity < _WORTH_SAYING:
        return []
    text = (
        f"A value and the one in the row before are {_percent(sequences['mean_distance'])} off the original's pairs on average; "
        f"the holdout's are {_percent(sequences['ceiling'] or 0)} off, and rows without any order would be "
        f"{_percent(sequences['independent'] or 0)} off."
    )
    return [Weakness("worth", severity, "What follows what is blurred", text, "sequences")]


def _of_writing(figures: dict[str, Any]) -> list[Weakness]:
    found = []
    for column in figures["writing"]:
        made, original = column["synthetic"]["repeated"], column["original"]["repeated"]
        if made is not None and made - (original or 0) >= _WORTH_SAYING:
            text = (
                f"{_percent(made)} of the synthetic texts in {column['column']} have a twin, {_percent(original or 0)} of the "
                f"original ones ({column['n']:,} texts each)."
            )
            found.append(
                Weakness("worth", made - (original or 0), f"Texts in {column['column']} repeat themselves", text, "writing")
            )
    return found


def find_weaknesses(figures: dict[str, Any], most: int | None = 3) -> list[Weakness]:
    """The weaknesses that `evaluate_tables`' figures show, by the rule above; at most `most`, None for all."""
    finders = (
        _of_attacks,
        _of_audit,
        _of_personal,
        _of_schema,
        _of_utility,
        _of_columns,
        _of_pairs,
        _of_sequences,
        _of_writing,
    )
    found = [weakness for finder in finders for weakness in finder(figures)]
    found.sort(key=lambda weakness: (_ORDER.index(weakness.kind), -weakness.severity))
    return found[:most]
