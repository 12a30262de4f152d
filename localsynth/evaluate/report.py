"""The report: `report.json` and, from the same document, one HTML file that opens without a network.

There are two of them. The private one reads the original table, is not covered by the guarantee, and says so on its first page.
The one for release holds only the certificate and figures of the synthetic rows alone.
"""

import math
from importlib.resources import files
from typing import Any

from localsynth.evaluate.plots import bars_plot, intervals_plot, scatter_plot
from localsynth.evaluate.weaknesses import find_weaknesses, percent
from localsynth.presentation import risk_figures, risk_sentences
from localsynth.privacy.signing import fingerprint
from localsynth.results.as_json import from_json
from localsynth.results.plans import Risks

_FIRST_PAGE = 3
_MAX_PAIRS_SHOWN = 12

_ARMS = (
    ("synthetic", "trained on synthetic", "risk"),
    ("real", "trained on original", "control"),
    ("real_same_size", "trained on as many original rows", "control"),
    ("texts_shuffled", "synthetic with texts shuffled", "baseline"),
    ("marginals_only", "synthetic with columns shuffled", "baseline"),
)


def report_document(figures: dict[str, Any], certificate: dict[str, Any] | None, release: bool) -> dict[str, Any]:
    """What report.json holds: the guarantee, the weaknesses and the figures, in a dictionary.

    With `release`, of the figures only `synthetic_only`, and no weaknesses: those were found by reading the original.
    """
    stated = None
    if certificate is not None:
        stated = {key: certificate[key] for key in ("summary", "guarantee", "not_covered")}
        signature = certificate["signature"]
        stated["signed_by"] = None if signature is None else fingerprint(bytes.fromhex(signature["public_key"]))
    document: dict[str, Any] = {"format": 1, "release": release, "certificate": stated}
    if release:
        return {**document, "synthetic_only": figures["synthetic_only"]}
    weaknesses = [
        {"kind": found.kind, "title": found.title, "text": found.text, "section": found.section}
        for found in find_weaknesses(figures)
    ]
    return {**document, "weaknesses": weaknesses, "figures": figures}


def _percent(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _interval(value: dict[str, Any], percent: bool = True) -> str:
    if value["value"] is None:
        return "–"
    form = _percent if percent else _figure
    if value["low"] is None:
        return form(value["value"])
    return f"{form(value['value'])} ({form(value['low'])} to {form(value['high'])})"


def _factor(epsilon: float) -> str:
    """The factor e^ε, for a sentence."""
    if epsilon > 20:
        return "possibly more than a hundred million"
    factor = math.exp(epsilon)
    return f"at most {factor:,.0f}" if factor >= 10 else f"at most {factor:.1f}"


def _histograms(columns: list[dict[str, Any]], key: str, what: str) -> dict[str, str]:
    """The plots of the columns that have a histogram under `key`."""
    return {
        column["column"]: bars_plot(column[key], title=f"{column['column']}: {what}")
        for column in columns
        if column.get(key) is not None
    }


def _plots(figures: dict[str, Any]) -> dict[str, Any]:
    """The plots of the full report."""
    attacks = [
        {"name": attack["name"], "marks": [{"mark": side, **attack[side]} for side in ("risk", "control", "baseline")]}
        for attack in figures["attacks"]
    ]
    plots: dict[str, Any] = {
        "attacks": intervals_plot(attacks, low=0, high=1, percent=True, title="Success of each attack") if attacks else "",
        "columns": _histograms(figures["columns"], "histogram", "original and synthetic shares"),
        "lengths": _histograms(figures["writing"], "lengths", "length in characters"),
        "utility": "",
        "rows_per_unit": "",
    }
    if figures["sequences"] is not None:
        bars = figures["sequences"]["rows_per_unit"]["histogram"]
        plots["rows_per_unit"] = bars_plot(bars, title="Rows per unit: original and synthetic shares")
    known = [pair for pair in figures["pairs"]["pairs"] if pair["original"] is not None and pair["synthetic"] is not None]
    points = [(pair["original"], pair["synthetic"], " and ".join(pair["columns"])) for pair in known]
    plots["pairs"] = scatter_plot(points, title="Association of each pair of columns") if points else ""
    utility = figures["utility"]
    if utility["status"] == "done":
        arms = utility["arms"]
        rows = [{"name": name, "marks": [{"mark": mark, **arms[arm]}]} for arm, name, mark in _ARMS if arm in arms]
        lowest = min(arm[end] for arm in arms.values() for end in ("low", "value") if arm[end] is not None)
        # Ends whose five parts are round numbers.
        low = 0.5 if utility["metric"] == "AUC" and lowest >= 0.5 else 0.0 if lowest >= 0 else -1.0
        plots["utility"] = intervals_plot(rows, low=low, high=1, percent=False, title=f"{utility['metric']} on real rows")
    return plots


def render_report(figures: dict[str, Any], certificate: dict[str, Any] | None, release: bool) -> str:
    """The report as one HTML file: inline style, inline SVG, no script, nothing loaded from anywhere; prints on A4.

    `figures` as from `evaluate_tables`, with "audit", "schema_losses" and further attacks filled in by whoever has them;
    `certificate` as from `localsynth.privacy.certificate.build`. With `release` nothing but `figures["synthetic_only"]` and the
    certificate is read.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "percent": _percent,
        "figure": _figure,
        "count": _count,
        "interval": _interval,
        "factor": _factor,
        "risk_figures": lambda risks: risk_figures(from_json(Risks, risks)),
        "risk_sentences": lambda risks: risk_sentences(from_json(Risks, risks)),
        "one_in": lambda share: f"1 in {1 / share:,.0f}",
    }
    folder = files("localsynth.evaluate")
    template = environment.from_string((folder / "report.html.j2").read_text(encoding="utf-8"))
    document = report_document(figures, certificate, release)
    shared = {"style": (folder / "report.css").read_text(encoding="utf-8"), **document}
    if release:
        plots = _histograms(figures["synthetic_only"]["columns"], "histogram", "shares in the synthetic table")
        return template.render(**shared, plots=plots)
    pairs = [pair for pair in figures["pairs"]["pairs"] if pair["difference"] is not None]
    return template.render(
        **shared,
        plots=_plots(figures),
        first_weaknesses=document["weaknesses"][:_FIRST_PAGE],
        worst_pairs=sorted(pairs, key=lambda pair: -pair["difference"])[:_MAX_PAIRS_SHOWN],
        arms=_ARMS,
    )
