"""The assembled figures, the ranking of weaknesses, and both forms of the report."""

import copy
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from localsynth.evaluate.audit.outcome import audit_figures
from localsynth.evaluate.plots import intervals_plot
from localsynth.evaluate.report import render_report, report_document
from localsynth.evaluate.tables import describe_synthetic, evaluate_tables, json_able
from localsynth.evaluate.weaknesses import find_weaknesses
from localsynth.presentation import risk_sentences
from localsynth.privacy.signing import fingerprint
from localsynth.results.as_json import to_json
from localsynth.schema.columns import Category, Schema
from tests.helpers.tui.planned import RISKS

CERTIFICATE = {
    "summary": "The synthetic table is differentially private.",
    "guarantee": {
        "guaranteed_epsilon": 2.0,
        "spent_delta": 1e-5,
        "unit": "row",
        "groups": [{"units": 2, "epsilon": 4.1, "delta": 1e-5}, {"units": 5, "epsilon": 10.9, "delta": 1e-5}],
        "risks": to_json(RISKS),
    },
    "not_covered": ["What <others> & all know."],
    "signature": {"public_key": "ab" * 32, "value": "not for the report"},
}


@pytest.fixture(scope="module")
def figures(visits, schema):
    train, holdout, independent = visits
    return evaluate_tables(train[:300], holdout[:200], independent[:300], schema, target="ill", quasi_identifiers=["age"], seed=3)


@pytest.fixture(scope="module")
def leaky(visits, schema):
    train, holdout, _ = visits
    return evaluate_tables(train[:300], holdout[:200], train[:300], schema, target="ill", quasi_identifiers=["age"], seed=3)


class Balanced(HTMLParser):
    """Fails on a tag that is closed in the wrong place; gathers the text."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.links = [], "", []

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("href", "src", "xlink:href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(html):
    page = Balanced()
    page.feed(html)
    assert not page.open
    return page


def test_figures_are_json_without_original_values(figures, visits):
    text = json.dumps(figures, allow_nan=False)
    assert not any(row["note"] in text for table in visits for row in table)


def test_same_seed_gives_same_figures(visits, schema):
    train, holdout, independent = (rows[:60] for rows in visits)
    small = Schema(columns=[column for column in schema.columns if column.name in ("age", "ill")])
    steps = []
    first, second = (
        evaluate_tables(train, holdout, independent, small, seed=5, progress=lambda *step: steps.append(step)) for _ in range(2)
    )
    assert first == second
    assert steps[-1] == ("", steps[-1][2], steps[-1][2], 0.0)
    assert [number for _, number, _, _ in steps] == 2 * [*range(steps[-1][2] + 1)]


def test_unknown_column_name_raises_before_any_work(visits, schema):
    with pytest.raises(KeyError):
        evaluate_tables(*visits, schema, quasi_identifiers=["postcode"], seed=0)


def test_attacks_not_run_are_listed_with_reason():
    schema = Schema(columns=[Category(name="c", values=["a", "b"])])
    rows = [{"c": "a"}, {"c": "b"}] * 20
    figures = evaluate_tables(rows, rows, rows, schema, seed=0)
    assert {entry["name"] for entry in figures["attacks_not_run"]} == {"linkage", "attribute inference", "shared passages"}
    assert figures["utility"]["status"] == "not run" and figures["personal"] is None
    read(render_report(figures, None, False))


def test_report_of_empty_tables(schema):
    read(render_report(evaluate_tables([], [], [], schema, seed=0), None, False))


def test_private_report_says_do_not_publish(figures):
    html = render_report(figures, CERTIFICATE, False)
    page = read(html)
    assert "Not covered by the guarantee; do not publish" in page.text
    assert "What <others> & all know." in page.text and CERTIFICATE["summary"] in page.text and "at most 7.4" in page.text
    for attack in figures["attacks"]:
        assert attack["name"] in page.text
    assert {link.removeprefix("#") for link in page.links} <= set(re.findall(r'id="(\w+)"', html))
    assert "<script" not in html and "url(" not in html and "default-src 'none'" in html


def test_first_page_states_guarantee_and_body_quotes_certificate(figures):
    for release in (False, True):
        html = render_report(figures, CERTIFICATE, release)
        front = " ".join(read(html[html.index('<section class="front">') : html.index("</section>") + 10]).text.split())
        for said in ("epsilon 2, delta 1e-05, for each single row", "a factor of at most 7.4", "1 in 100,000", "epsilon 10.9"):
            assert said in front, said
        assert all(sentence in front for sentence in risk_sentences(RISKS))
        assert "from a base rate of 1 %, 10 %, 50 %" in read(html).text
        assert fingerprint(bytes.fromhex("ab" * 32)) in front and "not for the report" not in html
        assert CERTIFICATE["summary"] not in front and read(html).text.count(CERTIFICATE["summary"]) == 1


def test_unbounded_epsilon_and_missing_signature_are_stated(figures):
    unbound = {**CERTIFICATE, "guarantee": {**CERTIFICATE["guarantee"], "guaranteed_epsilon": None}, "signature": None}
    page = read(render_report(figures, unbound, False)).text
    assert "Nothing is guaranteed: epsilon has no bound" in page and "not signed" in page and "a factor of" not in page


def test_report_without_certificate_guarantees_nothing(figures):
    assert "Nothing is guaranteed" in read(render_report(figures, None, False)).text


def test_release_report_reads_nothing_private(figures, leaky, visits, schema):
    assert figures["synthetic_only"] == json_able(describe_synthetic(visits[2][:300], schema))
    # What the original decides may differ as it likes: the public report stays the same to the letter.
    private = {**leaky, "synthetic_only": figures["synthetic_only"], "rows": {"original": 1, "holdout": 2, "synthetic": 3}}
    assert render_report(figures, CERTIFICATE, True) == render_report(private, CERTIFICATE, True)
    assert report_document(figures, CERTIFICATE, True).keys() == {"format", "release", "certificate", "synthetic_only"}
    page = read(render_report({"synthetic_only": figures["synthetic_only"]}, CERTIFICATE, True))
    assert "do not publish" not in page.text and "holdout" not in page.text


def test_names_from_the_table_are_escaped():
    schema = Schema(columns=[Category(name="<b>&", values=["<i>x", "y"]), Category(name="c", values=["1", "2"])])
    rows = [{"<b>&": "<i>x", "c": "1"}, {"<b>&": "y", "c": "2"}] * 30
    for release in (False, True):
        html = render_report(evaluate_tables(rows, rows, rows, schema, target="c", seed=0), None, release)
        read(html)
        assert "<i>" not in html and "<b>" not in html


def test_weaknesses_are_ranked_privacy_usefulness_unknown(figures, leaky):
    assert find_weaknesses(leaky)[0].kind == "privacy"
    first_page = render_report(leaky, CERTIFICATE, False).split("The most important weaknesses found")[1].split("</ol>")[0]
    assert len(find_weaknesses(leaky)) > 3 == first_page.count("<li>")
    worse = copy.deepcopy(leaky)
    worse["utility"]["ratio"] = 0.1
    worse["audit"] = {"status": "failed", "sentence": "It found epsilon 12, above 2."}
    kinds = [weakness.kind for weakness in find_weaknesses(worse)]
    assert kinds == sorted(kinds, key=("privacy", "usefulness", "unknown").index)
    assert find_weaknesses(worse)[0].section == "audit"
    assert "privacy" not in {weakness.kind for weakness in find_weaknesses(figures)}


def test_attacks_of_one_kind_are_one_weakness(leaky):
    titles = [weakness.title for weakness in find_weaknesses(leaky)]
    assert "The attack “exact copies” succeeded" in titles and not any("near copies" in title for title in titles)
    (copies,) = [weakness for weakness in find_weaknesses(leaky) if "exact copies" in weakness.title]
    assert (
        "Also failed: near copies, shared passages." in copies.text or "Also failed: shared passages, near copies." in copies.text
    )


@pytest.mark.parametrize(("n", "value", "said"), [(300, 0.73, True), (300, 0.94, False), (50, 0.73, False)])
def test_low_mauve_is_a_weakness(figures, n, value, said):
    (writing,) = figures["writing"]
    unlike = {**figures, "writing": [{**writing, "mauve": {"n": n, "value": value, "ceiling": 0.97}}]}
    found = [weakness for weakness in find_weaknesses(unlike) if "are unlike the original" in weakness.title]
    assert bool(found) == said
    if said:
        assert found[0].severity == pytest.approx(0.24) and "0.73" in found[0].text and "300 texts each" in found[0].text


def test_every_weakness_states_its_sample_size(visits, schema, leaky):
    train, holdout, _ = visits
    bad = [{**row, "age": 0, "sex": "F", "note": "the same note", "ill": "yes"} for row in train[:150]]
    worse = evaluate_tables(train[:300], holdout[:200], bad, schema, target="ill", quasi_identifiers=["age"], seed=3)
    said = [weakness for found in (leaky, worse) for weakness in find_weaknesses(found) if weakness.kind != "unknown"]
    assert {weakness.section for weakness in said} == {"attacks", "columns", "pairs", "utility", "writing"}
    for weakness in said:
        counts = r"of [\d,]+ tries|150 synthetic rows|\d+ held-out rows|150 texts each"
        assert re.search(counts, weakness.text), weakness.text


def test_every_attack_is_defined_in_the_appendix(figures):
    page = read(render_report(figures, None, False)).text
    appendix = page[page.index("Appendix: methods") :].casefold()
    for attack in figures["attacks"]:
        assert attack["name"].split(",")[0] in appendix, attack["name"]
    for method in ("canary audit", "personal strings", "membership, by the model", "mauve", "intervals", "distance between rows"):
        assert method in appendix
    assert appendix.count("arxiv:") > 15


def test_plot_row_without_marks_keeps_its_line():
    marks = [{"mark": side, "value": None, "low": None, "high": None} for side in ("risk", "control", "baseline")]
    plot = str(intervals_plot([{"name": n, "marks": marks} for n in "abc"], low=0, high=1, percent=True, title="t"))
    lines = [float(y) for y in re.findall(r'class="name" x="\S+" y="([\d.]+)"', plot)]
    assert len(lines) == 3 and min(b - a for a, b in pairwise(lines)) > 11


def test_audit_and_further_attacks_are_shown(figures):
    curve = [(1.0, 1e-6), (0.2, 0.1)]
    audit = to_json(audit_figures(200, 50, 27, 50, curve))
    asked = {**figures["attacks"][0], "name": "membership, asking the model"}
    page = read(render_report({**figures, "audit": audit, "attacks": [*figures["attacks"], asked]}, CERTIFICATE, False))
    assert audit["status"] == "passed" and audit["sentence"] in page.text and f"{audit['ceiling']:.2f}" in page.text
    assert "membership, asking the model" in page.text


def test_weak_audit_is_not_a_pass(figures):
    audit = to_json(audit_figures(200, 50, 27, 28, [(1.0, 1e-6)]))
    page = read(render_report({**figures, "audit": audit}, CERTIFICATE, False))
    assert "? too weak to say" in page.text and "○ passed. 27" not in page.text
    (said,) = [weakness for weakness in find_weaknesses({**figures, "audit": audit}) if weakness.section == "audit"]
    assert said.kind == "unknown"


def test_status_is_text_not_colour(leaky):
    html = render_report(leaky, None, False)
    assert "✕ failed" in read(html).text and "green" not in html
