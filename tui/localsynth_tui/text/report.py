"""A certificate, a report and an audit as text: plain sentences and figures, and no value of any table."""

from collections.abc import Mapping
from typing import Any

from localsynth.presentation import risk_sentences
from localsynth.results.as_json import from_json
from localsynth.results.audit import AuditFigures
from localsynth.results.plans import Risks
from localsynth_tui.text.formatting import bar, epsilon_sentence, plain

_FINDINGS = {"ok": "✓", "stated": "· stated", "failed": "✗ FAILED", "not checked": "? not checked"}
_STATUS = {
    "passed": "✓ passed",
    "failed": "✗ FAILED",
    "too few rows to say": "? too few rows to say",
    "too weak to say": "? too weak to say",
}
_WIDE, _NARROW = 24, 10
"""Widths of bars, in characters."""
_MEASURES = {"Kolmogorov-Smirnov": "KS", "total variation": "TV"}


def guarantee_text(guarantee: Mapping[str, Any]) -> str:
    """A certificate's `guarantee` in a few sentences, one a line: the factor e^ε, and what attacks can gain."""
    epsilon, delta = guarantee["guaranteed_epsilon"], guarantee["spent_delta"]
    if epsilon is None:
        return "Epsilon is unbounded: there is no guarantee."
    worst = f"Guaranteed: epsilon {epsilon:g}, delta {delta:.1e}. {epsilon_sentence(epsilon, guarantee['unit'])}"
    return "\n".join([worst, *risk_sentences(from_json(Risks, guarantee["risks"]))])


def certificate_text(found: Mapping[str, Any], guarantee: Mapping[str, Any] | None) -> str:
    """The result of `verify_file`, and the certificate's `guarantee` where the certificate is valid."""
    lines = [("✓ " if found["valid"] else "✗ ") + found["verdict"], ""]
    if found["valid"] and guarantee is not None:
        lines += [guarantee_text(guarantee), ""]
    lines += [found["summary"], ""]
    if found["not_covered"]:
        lines += ["What the guarantee does NOT cover:", *(f"  – {sentence}" for sentence in found["not_covered"]), ""]
    lines.append("Checks:")
    lines += [f"  {_FINDINGS[finding['status']]} {finding['name']}: {finding['text']}" for finding in found["findings"]]
    return "\n".join([*lines, "", f"File: {found['file']}", ""])


def report_text(document: Mapping[str, Any]) -> str:
    """The figures of a full report. Raises KeyError or TypeError where the document is not one."""
    figures, rows = document["figures"], document["figures"]["rows"]
    stated = document["certificate"]
    lines = [
        "THE REPORT reads the original table: it is NOT covered by the guarantee. Do not publish it.",
        f"{rows['original']:,} original rows in training, {rows['holdout']:,} held out for comparison, "
        f"{rows['synthetic']:,} synthetic.",
        "",
        guarantee_text(stated["guarantee"]) if stated is not None else "There is no certificate, and no guarantee.",
        "",
        "Weaknesses found, worst first"
        if document["weaknesses"]
        else "No weakness found. This does not prove that there is none.",
    ]
    for number, weakness in enumerate(document["weaknesses"], 1):
        lines.append(f"  {number}. {plain(weakness['title'])}. {plain(weakness['text'])}")
    lines += ["", "Utility for machine learning", f"  {_utility(figures['utility'])}", ""]
    lines += [*_fidelity(figures), *_sequences(figures["sequences"])]
    lines += ["", "Attacks, each with a control on holdout rows (success rate, 95 % interval, n)"]
    for attack in figures["attacks"]:
        lines += [
            f"  {_STATUS[attack['status']]}: {attack['name']}",
            f"      original     {_rate(attack['risk'])}",
            f"      holdout      {_rate(attack['control'])}",
            f"      naive guess  {_bar(attack['baseline']['value'])} {_percent(attack['baseline']['value'])}",
        ]
    lines += [f"  – not run: {attack['name']}. {plain(attack['reason'])}" for attack in figures["attacks_not_run"]]
    audit = figures["audit"]
    lines += ["", "Canary audit: " + ("not run." if audit is None else f"{_STATUS[audit['status']]}. See Audit (U).")]
    return "\n".join([*lines, *_personal(figures["personal"]), ""])


def audit_figures(document: Mapping[str, Any]) -> str:
    """The figures of audit.json. Raises ValueError where the document is not an audit."""
    audit = from_json(AuditFigures, document)
    right, control, guesses = audit.right, audit.control.right, audit.guesses
    claimed, bound, ceiling = audit.claimed.epsilon, audit.epsilon, audit.ceiling
    highest = max(claimed, ceiling, bound) or 1.0
    lines = [
        f"{_STATUS[audit.status]}: {audit.sentence}",
        "",
        f"Correct guesses of which of {audit.canaries:,} random rows were trained on",
        f"  with noise          {bar(right / guesses, _WIDE)} {right:,} of {guesses:,}",
        f"  without noise       {bar(control / guesses, _WIDE)} {control:,} of {guesses:,}",
        "",
        "Epsilon",
        f"  claimed             {bar(claimed / highest, _WIDE)} {claimed:.3g}",
        f"  lower bound         {bar(bound / highest, _WIDE)} {bound:.2f}, shown by these guesses alone",
        f"  max lower bound     {bar(ceiling / highest, _WIDE)} {ceiling:.2f}, if all guesses were correct",
        "",
        f"P-value of the claim: {audit.p_value:.2g} at most; the audit fails below 0.05.",
    ]
    search = audit.search
    if search is not None:
        lines.append(f"Random endings of them: {search.found} of {search.inserted} appear in {search.rows:,} generated rows.")
    return "\n".join([*lines, "It read no original row and spent nothing: every canary is random, from the schema."])


_ARMS = {
    "real": "real rows",
    "real_same_size": "real, same number",
    "synthetic": "synthetic rows",
    "marginals_only": "columns shuffled",
}
"""Training data of a model that is tested on real rows."""


def _utility(utility: Mapping[str, Any]) -> str:
    if utility["status"] != "done":
        return f"Not measured. {plain(utility['reason'])}"
    guessed = " The target was chosen automatically; E sets another." if utility["target_chosen"] == "guessed" else ""
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
        "Distance of each column, from 0 (equal) to 1 (disjoint). Split-half: the distance between two halves of the",
        "original, a baseline that a private table cannot be expected to beat.",
        f"  {'column':<{width}}   distance               split-half   measure",
    ]
    for entry in columns:
        name = plain(entry["column"])
        what = _MEASURES.get(entry["measure"], entry["measure"]) + (" of lengths" if entry["kind"] == "text" else "")
        short = name if len(name) <= width else name[: width - 1] + "…"
        drawn = f"{_figure(entry['distance']):>8} {_bar(entry['distance'])}"
        lines.append(f"  {short:<{width}}   {drawn}   {_figure(entry['ceiling']):>10}   {what}")
    if pairs["mean_difference"] is not None:
        difference = f"{_figure(pairs['mean_difference'])} on average (split-half {_figure(pairs['ceiling'])})"
        lines.append(f"  Pairwise associations differ by {difference}.")
    return [*lines, "  KS: Kolmogorov-Smirnov distance; TV: total variation."]


def _sequences(sequences: Mapping[str, Any] | None) -> list[str]:
    if sequences is None:
        return []
    lengths = sequences["rows_per_unit"]
    lines = [
        "",
        "Sequences: transitions between consecutive rows, and rows per unit",
        f"  rows per unit: distance {_figure(lengths['distance'])}, holdout {_figure(lengths['ceiling'])}",
    ]
    for entry in sequences["columns"]:
        found = f"{_bar(entry['distance'])} {_figure(entry['distance'])}, holdout {_figure(entry['ceiling'])}"
        lines.append(f"  {plain(entry['column'])}: {found}, in random order {_figure(entry['independent'])}")
    return lines


def _personal(personal: Mapping[str, Any] | None) -> list[str]:
    found = [kind for kind in personal["kinds"] if kind["synthetic"]] if personal is not None else []
    lines = [
        f"  {kind['kind']}: {kind['synthetic']:,}; in the original {kind['in_original']:,}, in the holdout {kind['in_holdout']:,}"
        for kind in found
    ]
    return ["", "Strings that look personal in the synthetic texts", *lines] if lines else []


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _bar(fraction: float | None) -> str:
    return bar(fraction or 0.0, _NARROW)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.{0 if value == 0 or abs(value) >= 0.1 else 1}f} %"


def _rate(rate: Mapping[str, Any]) -> str:
    if rate["value"] is None:
        return f"– (n {rate['n']:,})"
    interval = f"({_percent(rate['low'])} to {_percent(rate['high'])}; n {rate['n']:,})"
    return f"{_bar(rate['value'])} {_percent(rate['value'])} {interval}"
