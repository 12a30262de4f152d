"""The weaknesses for the report's first page: what to worry about, worst first.

The ranking rule. What endangers persons comes before what makes the table less useful, and that before what could not be judged:

1. privacy   an attack that failed, by how far its interval lies above its control's (of several of a kind, such as exact and near
             copies, the one furthest above, which names the others); a canary audit that failed; personal
             strings that the synthetic texts share more often with the original than with as many holdout rows
2. worth     by the share of something that is lost, 0 to 1: values and rows cut by the schema, what a model can learn, the
             likeness of the worst column beyond its ceiling, links between columns (mean difference beyond the ceiling, times
             three, since 0.33 is a link gone), rare values, repeated texts, texts unlike the original's beyond their ceiling
3. unknown   attacks with too few rows to say, an audit too weak to say, and utility that could not be measured

Within a class the greater severity comes first; what is below 0.05 in class 2 is not called a weakness.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from localsynth.evaluate.stats import Rate

__all__ = ["Weakness", "find_weaknesses"]

_WORTH_SAYING = 0.05
_ENOUGH_TEXTS = 100
"""With 300 texts, chance alone moves their likeness (MAUVE) by 0.035 between the best and the worst of twelve draws."""

Class = Literal["privacy", "worth", "unknown"]
_COPIES = ("exact copies", "near copies", "shared passages")
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


def _rows_of(n: dict[str, int], what: str = "rows") -> str:
    return f"{n['original']:,} original and {n['synthetic']:,} synthetic {what}"


def _of_tries(rate: dict[str, Any]) -> str:
    return f"{_percent(rate['value'])} of {rate['n']:,} tries"


def _kind_of(attack: dict[str, Any]) -> str:
    """What an attack shares with others: "membership, surest cases" is of the kind "membership"."""
    name = str(attack["name"])
    return "copies" if name in _COPIES else name.split(",")[0]


def _margin(attack: dict[str, Any]) -> float:
    return float(attack["risk"]["low"] - attack["control"]["high"])


def _of_attacks(figures: dict[str, Any]) -> list[Weakness]:
    found = []
    failed = [attack for attack in figures["attacks"] if attack["status"] == "failed"]
    for kind in dict.fromkeys(map(_kind_of, failed)):
        # Three ways to notice one copied row are one weakness.
        alike = sorted((attack for attack in failed if _kind_of(attack) == kind), key=_margin, reverse=True)
        worst, *others = alike
        # One of 300: two 95 % intervals of equal width that just touch are 2 x 1.96 / sqrt(2) = 2.8 standard errors of the
        # difference apart; where there is none, one lies so far above the other with a chance of 0.003.
        text = (
            f"{worst['question']} {_of_tries(worst['risk'])} succeeded against rows of the original, "
            f"{_of_tries(worst['control'])} against rows that were kept aside and never learned from. So large a difference was "
            "learned from single rows, unless it is chance, which does that in about one of 300 attacks."
        )
        if others:
            text += f" So did: {', '.join(attack['name'] for attack in others)}."
        found.append(Weakness("privacy", _margin(worst), f"The attack “{worst['name']}” succeeded", text, "attacks"))
    unsaid = [attack["name"] for attack in figures["attacks"] if attack["status"] == "too few rows to say"]
    if unsaid:
        text = (
            f"Too few rows or tries for: {'; '.join(unsaid)}. That these attacks did not succeed is no evidence that the table "
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
            what = f"the lengths of the texts in {worst['column']}" if worst["kind"] == "text" else worst["column"]
            off = _percent(worst["distance"])
            how = (
                f"{off} of the synthetic rows would need another value of {what} to match the original"
                if worst["measure"] == "total variation"
                else f"The share of rows below some value of {what} differs from the original's by up to {off} of all rows"
            )
            text = (
                f"{how}; between two halves of the original it is {_percent(worst['ceiling'] or 0)} ({_rows_of(worst['n'])}). No "
                "other column is further off."
            )
            found.append(
                Weakness("worth", beyond, f"The column {worst['column']} does not look like the original", text, "columns")
            )
    lost = [column["lost"] for column in figures["columns"] if "rare_values" in column.get("lost", {})]
    rare, gone = sum(entry["rare_values"] for entry in lost), sum(entry["rare_values_lost"] for entry in lost)
    if rare and gone / rare >= _WORTH_SAYING:
        text = (
            f"Of {rare} values that fewer than 1 % of the original's {figures['rows']['original']:,} rows have, {gone} do not "
            f"occur in the {figures['rows']['synthetic']:,} synthetic rows. Small groups cannot be studied with them."
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
        f"How strongly two columns go together, from 0 (not at all) to 1, is off by {pairs['mean_difference']:.2f} on average "
        f"over {len(pairs['pairs'])} pairs of columns; between two halves of the original by {pairs['ceiling'] or 0:.2f} "
        f"({_rows_of(pairs['n'])}). Conclusions about what goes with what may be wrong."
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
        f"{_percent(sequences['independent'] or 0)} off ({_rows_of(sequences['pairs'], 'pairs')})."
    )
    return [Weakness("worth", severity, "What follows what is blurred", text, "sequences")]


def _of_writing(figures: dict[str, Any]) -> list[Weakness]:
    found = []
    for column in figures["writing"]:
        alike = column["mauve"] or {"n": 0}
        if alike["n"] >= _ENOUGH_TEXTS and alike["ceiling"] - alike["value"] >= _WORTH_SAYING:
            text = (
                f"As the base model reads them, they are {alike['value']:.2f} like the original's, where 1 is equal; two halves "
                f"of the original are {alike['ceiling']:.2f} like each other ({alike['n']:,} texts each)."
            )
            title = f"Texts in {column['column']} do not read like the original's"
            found.append(Weakness("worth", alike["ceiling"] - alike["value"], title, text, "writing"))
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
