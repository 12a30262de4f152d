"""What a certificate and a report.json say, for a person: plain sentences and figures, and no value of any table."""

from collections.abc import Mapping
from typing import Any

from localsynth_tui.words import epsilon_in_words, plain

__all__ = ["certificate_text", "guarantee_text", "report_text"]

_FOUND = {"ok": "✓", "stated": "· stated", "failed": "✗ FAILED", "not checked": "? not checked"}
_STATUS = {
    "passed": "✓ passed",
    "failed": "✗ FAILED",
    "too few rows to say": "? too few rows to say",
    "too weak to say": "? too weak to say",
}
_MEASURES = {"Kolmogorov-Smirnov": "KS", "total variation": "TV"}


def guarantee_text(guarantee: Mapping[str, Any]) -> str:
    """What a certificate's `guarantee` promises, in one or two sentences."""
    epsilon, delta = guarantee["guaranteed_epsilon"], guarantee["spent_delta"]
    if epsilon is None:
        return "Epsilon has no bound: nothing is guaranteed."
    return f"Guaranteed: epsilon {epsilon:g}, delta {delta:.1e}. {epsilon_in_words(epsilon, guarantee['unit'])}"


def certificate_text(found: Mapping[str, Any], guarantee: Mapping[str, Any] | None) -> str:
    """What `verify_file` found; `guarantee` of the certificate, to be said only where the certificate holds."""
    lines = [("✓ " if found["valid"] else "✗ ") + found["verdict"], ""]
    if found["valid"] and guarantee is not None:
        lines += [guarantee_text(guarantee), ""]
    lines += [found["summary"], ""]
    if found["not_covered"]:
        lines += ["What the guarantee does NOT cover:", *(f"  – {sentence}" for sentence in found["not_covered"]), ""]
    lines.append("What was checked:")
    lines += [f"  {_FOUND[finding['status']]} {finding['name']}: {finding['text']}" for finding in found["findings"]]
    return "\n".join([*lines, "", f"File: {found['file']}", ""])


def report_text(document: Mapping[str, Any]) -> str:
    """A full report's figures. Raises KeyError or TypeError where it is none."""
    figures, rows = document["figures"], document["figures"]["rows"]
    stated = document["certificate"]
    lines = [
        "THE REPORT reads the original table: it is NOT covered by the guarantee. Do not publish it.",
        f"{rows['original']:,} original rows that were learned from, {rows['holdout']:,} kept aside to compare with (holdout), "
        f"{rows['synthetic']:,} synthetic.",
        "",
        guarantee_text(stated["guarantee"]) if stated is not None else "There is no certificate: nothing is guaranteed.",
        "",
        "Weaknesses found, worst first" if document["weaknesses"] else "These measures found no weakness: no proof of none.",
    ]
    for number, weakness in enumerate(document["weaknesses"], 1):
        lines.append(f"  {number}. {plain(weakness['title'])}. {plain(weakness['text'])}")
    lines += ["", "Usefulness for learning", f"  {_utility(figures['utility'])}", "", *_fidelity(figures)]
    lines += ["", "Attacks, each with a control on holdout rows (share of tries that succeeded, 95 % interval, n)"]
    for attack in figures["attacks"]:
        lines += [
            f"  {_STATUS[attack['status']]}: {attack['name']}",
            f"      original {_rate(attack['risk'])} · holdout {_rate(attack['control'])} · "
            f"naive guess {_percent(attack['baseline']['value'])}",
        ]
    lines += [f"  – not run: {attack['name']}. {plain(attack['reason'])}" for attack in figures["attacks_not_run"]]
    audit = figures["audit"]
    lines += ["", "Canary audit: " + ("none was run." if audit is None else f"{_STATUS[audit['status']]}. {audit['sentence']}")]
    if audit is not None:
        lines.append(
            f"  By these guesses alone epsilon is at least {audit['epsilon']:.2f}; the most they could have shown is "
            f"{audit['ceiling']:.2f} (claimed {audit['claimed']['epsilon']:.3g}, {audit['canaries']:,} canaries)."
        )
    return "\n".join([*lines, *_personal(figures["personal"]), ""])


def _utility(utility: Mapping[str, Any]) -> str:
    if utility["status"] != "done":
        return f"Not measured. {plain(utility['reason'])}"
    guessed = " (the target was guessed; E names another)" if utility["target_chosen"] == "guessed" else ""
    return plain(utility["sentence"]) + guessed


def _fidelity(figures: Mapping[str, Any]) -> list[str]:
    columns, pairs = figures["columns"], figures["pairs"]
    width = max(6, min(28, max(len(plain(entry["column"])) for entry in columns)))
    lines = [
        "Likeness, column by column: 0 is equal, 1 nothing in common; nearer than two halves of the original are to each other",
        "no honest table comes",
        f"  {'column':<{width}}   distance   halves   measure",
    ]
    for entry in columns:
        name = plain(entry["column"])
        what = _MEASURES.get(entry["measure"], entry["measure"]) + (" of lengths" if entry["kind"] == "text" else "")
        short = name if len(name) <= width else name[: width - 1] + "…"
        lines.append(f"  {short:<{width}}   {_figure(entry['distance']):>8}   {_figure(entry['ceiling']):>6}   {what}")
    if pairs["mean_difference"] is not None:
        links = f"{_figure(pairs['mean_difference'])} on average, between halves of the original {_figure(pairs['ceiling'])}"
        lines.append(f"  Links between columns differ by {links}.")
    return [*lines, "  KS: Kolmogorov and Smirnov's distance; TV: total variation."]


def _personal(personal: Mapping[str, Any] | None) -> list[str]:
    found = [kind for kind in personal["kinds"] if kind["synthetic"]] if personal is not None else []
    lines = [
        f"  {kind['kind']}: {kind['synthetic']:,}; of these in the original {kind['in_original']:,}, "
        f"in the holdout {kind['in_holdout']:,}"
        for kind in found
    ]
    return ["", "Strings in the synthetic texts that look personal, by count", *lines] if lines else []


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.{0 if value == 0 or abs(value) >= 0.1 else 1}f} %"


def _rate(rate: Mapping[str, Any]) -> str:
    if rate["value"] is None:
        return f"– (n {rate['n']:,})"
    return f"{_percent(rate['value'])} ({_percent(rate['low'])} to {_percent(rate['high'])}; n {rate['n']:,})"
