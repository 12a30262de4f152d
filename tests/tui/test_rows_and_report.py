"""More rows, histograms, the report and the audit."""

import json
import webbrowser

import pytest
from textual.widgets import Button, Input, Select, Static

from localsynth.store.synthetic import SyntheticStore
from localsynth_tui.screens.dialogs import Form
from localsynth_tui.screens.more_rows import MoreRows
from localsynth_tui.text.histograms import draw, shapes_of_report, shapes_of_rows
from localsynth_tui.text.report import report_text
from tests.helpers.tui.driving import drive, screen_text, sees, until
from tests.helpers.tui.finished_run import SCHEMA, fresh_report, report, table
from tests.helpers.tui.scripted_run import RESULT

# --- more rows ----------------------------------------------------------------------------------------------------------


def test_more_rows_form_checks_input_as_typed(finished, play):
    play([{"kind": "stage_started", "stage": "sample"}, {"kind": "result", "result": {"new_rows": 7, "rows": 207}}])

    async def scenario(app, pilot):
        await sees(pilot, "Rows 1 to 200 of 200")
        await pilot.press("m")
        await until(pilot, lambda: isinstance(app.screen, MoreRows))
        await sees(pilot, "Columns: age, sex, kind [k]")
        await sees(pilot, "--more 500")
        accept = app.screen.query_one("#accept", Button)
        app.screen.query_one("#more", Input).value = "seven"
        await sees(pilot, "enter a whole number")
        assert accept.disabled
        app.screen.query_one("#more", Input).value = "7"
        where, balance = app.screen.query_one("#where", Input), app.screen.query_one("#balance", Input)
        where.value = "agee >= 65"
        await sees(pilot, "Did you mean 'age'?")
        where.value = "age > 200"
        await sees(pilot, "leaves no value for column 'age'")
        where.value = "age >= 65 and \"kind [k]\" = 'refund'"
        await sees(pilot, "Every new row has age 65 … 99, kind [k] refund.")
        balance.value = "age"
        await sees(pilot, "is in --where and in --balance")
        balance.focus()
        await pilot.press("enter")
        assert isinstance(app.screen, MoreRows), "invalid input is not accepted"
        balance.value = "sex=F:0.7,M:0.3"
        await sees(pilot, "--balance sex=F:0.7,M:0.3")
        assert not accept.disabled
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.STEP == "run")  # type: ignore[attr-defined]
        expected = {"more": 7, "where": where.value, "balance": "sex=F:0.7,M:0.3"}
        assert app.job.request.verb == "sample" and app.job.request.options == expected
        await sees(pilot, "✓ done     generate rows")

    drive(scenario, finished, step="synthetic")


def test_more_rows_needs_a_run(rows):
    async def scenario(app, pilot):
        await pilot.press("m")
        await sees(pilot, "There is no run yet")
        assert app.screen.query_one("#accept", Button).disabled

    drive(scenario, rows, step="synthetic")


# --- histograms ---------------------------------------------------------------------------------------------------------


def test_histograms_show_the_original_with_a_report(finished):
    path = next((finished / "runs").iterdir()) / "report.json"

    async def scenario(app, pilot):
        await sees(pilot, "Rows 1 to 200")
        await pilot.press("h")
        await sees(pilot, "The synthetic rows only.")
        await sees(pilot, "0                ")
        assert "original" not in screen_text(app).replace("the original is shown", "")
        await pilot.press("h")
        await sees(pilot, "Rows 1 to 200")
        path.write_text(json.dumps(report()))
        await pilot.press("h")
        await sees(pilot, "PRIVATE")
        await sees(pilot, "original ")
        await pilot.press("end")
        await sees(pilot, "length in characters")
        await pilot.press("slash", "enter")
        await sees(pilot, "Rows 1 to 200")
        path.write_text("[1]")
        await pilot.press("escape", "h")
        await sees(pilot, "cannot be read")

    drive(scenario, finished, step="synthetic")


def test_histograms_have_the_bins_of_the_report(finished):
    from localsynth.evaluate.columns import histogram

    by_sql = shapes_of_rows(SyntheticStore(finished / "synthetic.duckdb"), SCHEMA)
    rows = table(200, seed=3)
    for column, shape in zip(SCHEMA.columns, by_sql, strict=True):
        assert shape.column == column.name
        if column.kind == "text":
            assert shape.histogram is None and "characters on average" in shape.note
            continue
        expected = histogram(column, {"synthetic": rows})
        assert shape.histogram["synthetic"] == pytest.approx(expected["synthetic"], abs=1e-6), column.name
        assert shape.histogram.get("ends") == expected.get("ends")
        if "ends" not in expected:
            assert shape.histogram["bars"] == expected["bars"]


def test_histograms_fit_the_width_and_hold_no_texts(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report()))
    drawn = draw(shapes_of_report(path), 78).plain
    assert max(len(line) for line in drawn.splitlines()) <= 78
    assert "planted" not in drawn and "refund" in drawn and "(empty)" in drawn


# --- the report ---------------------------------------------------------------------------------------------------------

AUDIT = {
    "status": "passed",
    "sentence": "52 of 100 guesses were right.",
    "canaries": 800,
    "guesses": 100,
    "right": 50,
    "control": {"right": 100, "epsilon": 4.0, "p_value": 0.001},
    "claimed": {"epsilon": 8.0, "delta": 1e-6, "curve": [[8.0, 1e-6]]},
    "confidence": 0.95,
    "p_value_if_all_right": 0.001,
    "epsilon": 0.5,
    "ceiling": 4.0,
    "p_value": 0.31,
    "search": {"found": 0, "inserted": 40, "withheld": 40, "rows": 100, "exposure": 1, "highest": 5.4, "share_at_most": 0.03},
}
"""The figures of an audit.json."""


def shown(app, name):
    return str(app.screen.query_one(name, Static).render())


def test_report_job_has_the_options_of_the_form(finished, play, checked):
    made = {"stage": "evaluate", "report": "tickets/report.html"}
    play([{"kind": "stage_started", "stage": "evaluate", "seal": "seccomp"}, {"kind": "result", "result": made}])

    async def scenario(app, pilot):
        await sees(pilot, "✓ Valid.")
        await sees(pilot, "Guaranteed: epsilon 2, delta 1.0e-05. At worst, any result is 7.4 times")
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, Form))
        known = app.screen.query_one("#known", Input)
        known.value = "age, name"
        await sees(pilot, "There is no learned column 'name'.")
        known.focus()
        await pilot.press("enter")
        assert isinstance(app.screen, Form), "invalid input is not accepted"
        known.value = "age, kind [k]"
        app.screen.query_one("#target", Select).value = "ok"
        await sees(pilot, "--target ok")
        app.screen.query_one("#release", Select).value = "yes"
        await sees(pilot, "--release")
        app.screen.query_one("#release", Select).value = "no"
        await sees(pilot, "--target ok")
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.STEP == "run")  # type: ignore[attr-defined]
        assert app.job.request.verb == "evaluate"
        assert app.job.request.options == {"target": "ok", "quasi_identifiers": ["age", "kind [k]"]}
        assert app.screen.commands()[0][1].endswith("--target ok --quasi-identifiers 'age,kind [k]'")  # type: ignore[attr-defined]
        await sees(pilot, "✓ done     compare and attack")
        await pilot.press("v")
        await sees(pilot, "Next: read it (6).")

    drive(scenario, finished, (100, 40), step="report")


def test_run_screen_shows_progress_of_the_report(finished, play, checked, tmp_path):
    at_work = {"kind": "progress", "stage": "evaluate", "step": 3, "steps": 13, "unit": "texts: 40%"}
    seen = tmp_path / "seen"
    play([{"kind": "stage_started", "stage": "evaluate", "seal": "seccomp"}, at_work, {"wait_for": str(seen)}, RESULT])

    async def scenario(app, pilot):
        await sees(pilot, "✓ Valid.")
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, Form))
        app.screen.query_one("#known", Input).focus()
        await pilot.press("enter")
        await sees(pilot, "texts: 40%")
        seen.touch()
        await sees(pilot, "✓ done     compare and attack")

    drive(scenario, finished, (100, 40), step="report")


def test_report_screen_runs_and_shows_audit(finished, play, checked):
    run = next((finished / "runs").iterdir())
    play([{"kind": "stage_started", "stage": "audit", "seal": "seccomp"}, {"kind": "result", "result": {"path": "audit.json"}}])

    async def scenario(app, pilot):
        await sees(pilot, "✓ Valid.")
        await pilot.press("u")
        await sees(pilot, "NO AUDIT of this run yet. A runs one")
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, Form))
        await sees(pilot, "localsynth audit")
        canaries = app.screen.query_one("#canaries", Input)
        canaries.value = "5"
        await sees(pilot, "Enter a whole number, 20 or more")
        app.screen.query_one("#search").focus()
        await pilot.press("enter")
        assert isinstance(app.screen, Form), "invalid input is not accepted"
        canaries.value = "1,600"
        app.screen.query_one("#search", Input).value = "0"
        await until(pilot, lambda: "--search 0 --canaries 1600" in " ".join(screen_text(app).replace("│", "").split()))
        await pilot.press("enter")
        await until(pilot, lambda: getattr(app.screen, "STEP", "") == "run")
        assert app.job.request.verb == "audit" and app.job.request.options == {"canaries": 1600, "search": 0}
        await sees(pilot, "✓ done     train on canaries, attack")
        await sees(pilot, "audit: spends nothing")
        (run / "audit.json").write_text(json.dumps(AUDIT))
        await app.action_go("report")
        await pilot.press("u")
        await sees(pilot, "✓ passed: 52 of 100 guesses were right.")
        await sees(pilot, "with noise          ████████████░░░░░░░░░░░░ 50 of 100")
        await sees(pilot, "without noise       ████████████████████████ 100 of 100")
        await sees(pilot, "claimed             ████████████████████████ 8")
        await sees(pilot, "max lower bound     ████████████░░░░░░░░░░░░ 4.00")
        (run / "audit.json").write_text("[]")
        await pilot.press("v")
        await until(pilot, lambda: "cannot be read. Run the audit again: A." in shown(app, "#audit-text"))

    drive(scenario, finished, step="report")


def test_no_audit_of_a_run_with_marginals_only(finished, play, checked):
    run = next((finished / "runs").iterdir()) / "run.json"
    run.write_text(json.dumps({**json.loads(run.read_text()), "synthesizer": "marginals"}))

    async def scenario(app, pilot):
        await sees(pilot, "✓ Valid.")
        await pilot.press("u")
        await sees(pilot, "used DP marginals only")
        await pilot.press("a")
        await pilot.pause()
        assert not isinstance(app.screen, Form) and app.job is None

    drive(scenario, finished, step="report")


def test_report_screen_shows_figures_and_opens_page(finished, checked, monkeypatch):
    run = next((finished / "runs").iterdir())
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    async def scenario(app, pilot):
        await pilot.press("r")
        await sees(pilot, "NO REPORT of run")
        await pilot.press("o")
        await sees(pilot, "There is no report yet")
        (run / "report.json").write_text(json.dumps(report()))
        (run / "report.html").write_text("<html>")
        await pilot.press("v")
        await until(pilot, lambda: "THE REPORT reads the original table" in shown(app, "#report-text"))
        assert str(run / "report.html") in shown(app, "#report-text")
        await pilot.press("o")
        await until(pilot, lambda: app.clipboard == str(run / "report.html"))
        assert not opened, "there is no display"
        monkeypatch.setenv("DISPLAY", ":0")
        await pilot.press("o")
        await until(pilot, lambda: opened == [(run / "report.html").as_uri()])
        (run / "report.json").write_text("{}")
        await pilot.press("v")
        await until(pilot, lambda: "cannot be read. Make it again" in shown(app, "#report-text"))

    drive(scenario, finished, step="report")


def test_invalid_certificate_shows_no_guarantee(finished, checked):
    checked |= {"valid": False, "verdict": "NOT VALID: 1 check failed."}

    async def scenario(app, pilot):
        await until(pilot, lambda: "NOT VALID" in shown(app, "#certificate-text"))
        assert "Guaranteed" not in shown(app, "#certificate-text")

    drive(scenario, finished, step="report")


def test_report_text():
    document = report()
    text = report_text(document)
    assert "150 original rows in training, 100 held out for comparison, 120 synthetic" in text
    assert "Guaranteed: epsilon 2" in text and "7.4 times" in text and "recognizes at most 5.1 % of the members" in text
    assert document["figures"]["utility"]["sentence"] in text
    for entry in document["figures"]["columns"]:
        assert f"{entry['distance']:.3f}" in text
    for weakness in document["weaknesses"]:
        assert weakness["title"] in text
    for attack in document["figures"]["attacks"]:
        assert f": {attack['name']}\n" in text
    assert (
        "✓ passed: exact copies\n      original     ░░░░░░░░░░ 0 % (0 % to 2.5 %; n 150)\n      holdout      ░░░░░░░░░░ 0 % (0 %"
        in text
    )
    assert "real rows         ██████████ AUC 1.000 (1.000 to 1.000; n 150)" in text
    assert "columns shuffled  ██████░░░░ AUC 0.559 (0.465 to 0.654; n 120)" in text
    assert "age           0.058 █░░░░░░░░░        0.107   KS" in text
    assert "? too few rows to say: attribute inference" in text
    assert "planted" not in text and "Canary audit: not run." in text
    document["weaknesses"] = [{"title": "Cut", "text": "amount (5.8\N{NO-BREAK SPACE}%)"}]
    assert "1. Cut. amount (5.8 %)" in report_text(document)


def test_report_text_of_missing_parts_and_failures():
    document = report()
    figures = document["figures"]
    document["certificate"] = None
    figures["utility"] = {"status": "not run", "reason": "Too few."}
    figures["attacks"][0] |= {"status": "failed"}
    figures["attacks"][1]["risk"] |= {"value": None, "n": 0}
    figures["attacks_not_run"] = [{"name": "linkage", "reason": "No column."}]
    figures["audit"] = AUDIT | {"status": "failed"}
    figures["sequences"] = {
        "rows_per_unit": {"distance": 0.04, "ceiling": 0.03},
        "columns": [{"column": "dose [d]", "distance": 0.25, "ceiling": 0.2, "independent": 0.9}],
    }
    figures["personal"]["kinds"][0] |= {"synthetic": 3, "in_original": 2, "in_holdout": 1}
    figures["columns"][0]["distance"] = None
    text = report_text(document)
    for expected in (
        "There is no certificate, and no guarantee.",
        "Not measured. Too few.",
        "✗ FAILED: exact copies",
        "– (n 0)",
        "not run: linkage. No column.",
        "Canary audit: ✗ FAILED. See Audit (U).",
        "rows per unit: distance 0.040, holdout 0.030",
        "dose [d]: ██░░░░░░░░ 0.250, holdout 0.200, in random order 0.900",
        "e-mail address: 3; in the original 2, in the holdout 1",
    ):
        assert expected in text


def shape_of(value):
    """The keys and types of a document at every depth."""
    if isinstance(value, dict):
        return {key: shape_of(inner) for key, inner in value.items()}
    return [shape_of(value[0])] if isinstance(value, list) and value else type(value).__name__


@pytest.mark.slow
def test_stored_report_has_the_present_format():
    assert shape_of(json.loads(json.dumps(fresh_report()))) == shape_of(report())
