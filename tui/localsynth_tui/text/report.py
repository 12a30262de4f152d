"""What a certificate and a report.json say, for a person: plain sentences and figures, and no value of any table."""

from collections.abc import Mapping
from typing import Any

from localsynth_tui.text.formatting import bar, epsilon_in_words, plain

__all__ = ["audit_figures", "certificate_text", "guarantee_text", "report_text"]

_FOUND = {"ok": "✓", "stated": "· stated", "failed": "✗ FAILED", "not checked": "? not checked"}
_STATUS = {
    "passed": "✓ passed",
    "failed": "✗ FAILED",
    "too few rows to say": "? too few rows to say",
    "too weak to say": "? too weak to say",
}
_WIDE, _NARROW = 24, 10
"""Of bars, in characters."""
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
    lines += [
        "",
        "Usefulness for learning",
        f"  {_utility(figures['utility'])}",
        "",
        *_fidelity(figures),
        *_sequences(figures["sequences"]),
    ]
    lines += ["", "Attacks, each with a control on holdout rows (share of tries that succeeded, 95 % interval, n)"]
    for attack in figures["attacks"]:
        lines += [
            f"  {_STATUS[attack['status']]}: {attack['name']}",
            f"      original     {_rate(attack['risk'])}",
            f"      holdout      {_rate(attack['control'])}",
            f"      naive guess  {_drawn(attack['baseline']['value'])} {_percent(attack['baseline']['value'])}",
        ]
    lines += [f"  – not run: {attack['name']}. {plain(attack['reason'])}" for attack in figures["attacks_not_run"]]
    audit = figures["audit"]
    lines += ["", "Canary audit: " + ("none was run." if audit is None else f"{_STATUS[audit['status']]}. See Audit (U).")]
    return "\n".join([*lines, *_personal(figures["personal"]), ""])


def audit_figures(audit: Mapping[str, Any]) -> str:
    """What audit.json says, in words and bars. Raises KeyError or TypeError where it is none."""
    right, control, guesses = audit["right"], audit["control"]["right"], audit["guesses"]
    claimed, shown, ceiling = audit["claimed"]["epsilon"], audit["epsilon"], audit["ceiling"]
    most = max(claimed, ceiling, shown) or 1.0
    lines = [
        f"{_STATUS[audit['status']]}: {audit['sentence']}",
        "",
        f"Guesses about which of {audit['canaries']:,} made-up rows were trained on that were right",
        f"  with the noise      {bar(right / guesses, _WIDE)} {right:,} of {guesses:,}",
        f"  had there been none {bar(control / guesses, _WIDE)} {control:,} of {guesses:,}",
        "",
        "Epsilon",
        f"  claimed             {bar(claimed / most, _WIDE)} {claimed:.3g}",
        f"  refuted by guesses  {bar(shown / most, _WIDE)} {shown:.2f}: by these guesses alone it is at least that",
        f"  the most they could {bar(ceiling / most, _WIDE)} {ceiling:.2f}, had all been right",
        "",
        f"Chance of so many right guesses, if what is claimed holds: {audit['p_value']:.2g} at most; it fails below 0.05.",
    ]
    search = audit["search"]
    if search is not None:
        lines.append(
            f"Random endings of such rows: {search['found']} of {search['inserted']} were written out in {search['rows']:,} rows."
        )
    return "\n".join([*lines, "It read no original row and spent nothing: every canary is made up from the schema."])


_ARMS = {
    "real": "real rows",
    "real_same_size": "as many real ones",
    "synthetic": "synthetic rows",
    "marginals_only": "columns shuffled",
}
"""What a model is trained on, that then predicts real rows."""


def _utility(utility: Mapping[str, Any]) -> str:
    if utility["status"] != "done":
        return f"Not measured. {plain(utility['reason'])}"
    guessed = " (the target was guessed; E names another)" if utility["target_chosen"] == "guessed" else ""
    lines = [plain(utility["sentence"]) + guessed]
    for arm, name in _ARMS.items():
        if (found := utility["arms"].get(arm)) is not None and found["value"] is not None:
            interval = f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f}; n {found['n']:,})"
            lines.append(f"{name:<17} {bar(found['value'], _NARROW)} {utility['metric']} {interval}")
    return "\n  ".join(lines)


def _fidelity(figures: Mapping[str, Any]) -> list[str]:
    columns, pairs = figures["columns"], figures["pairs"]
    width = max(6, min(28, max(len(plain(entry["column"])) for entry in columns)))
    lines = [
        "Likeness, column by column: 0 is equal, 1 nothing in common. Halves: how far two halves of the original are apart;",
        "no honest table comes nearer.",
        f"  {'column':<{width}}   distance               halves   measure",
    ]
    for entry in columns:
        name = plain(entry["column"])
        what = _MEASURES.get(entry["measure"], entry["measure"]) + (" of lengths" if entry["kind"] == "text" else "")
        short = name if len(name) <= width else name[: width - 1] + "…"
        drawn = f"{_figure(entry['distance']):>8} {_drawn(entry['distance'])}"
        lines.append(f"  {short:<{width}}   {drawn}   {_figure(entry['ceiling']):>6}   {what}")
    if pairs["mean_difference"] is not None:
        links = f"{_figure(pairs['mean_difference'])} on average, between halves of the original {_figure(pairs['ceiling'])}"
        lines.append(f"  Links between columns differ by {links}.")
    return [*lines, "  KS: Kolmogorov and Smirnov's distance; TV: total variation."]


def _sequences(sequences: Mapping[str, Any] | None) -> list[str]:
    if sequences is None:
        return []
    lengths = sequences["rows_per_unit"]
    lines = [
        "",
        "Rows that follow each other: what comes after what, and how many rows one has",
        f"  rows of one: distance {_figure(lengths['distance'])}, of the holdout {_figure(lengths['ceiling'])}",
    ]
    for entry in sequences["columns"]:
        found = f"{_drawn(entry['distance'])} {_figure(entry['distance'])}, of the holdout {_figure(entry['ceiling'])}"
        lines.append(f"  {plain(entry['column'])}: {found}, without any order {_figure(entry['independent'])}")
    return lines


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


def _drawn(share: float | None) -> str:
    return bar(share or 0.0, _NARROW)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.{0 if value == 0 or abs(value) >= 0.1 else 1}f} %"


def _rate(rate: Mapping[str, Any]) -> str:
    if rate["value"] is None:
        return f"– (n {rate['n']:,})"
    interval = f"({_percent(rate['low'])} to {_percent(rate['high'])}; n {rate['n']:,})"
    return f"{_drawn(rate['value'])} {_percent(rate['value'])} {interval}"
