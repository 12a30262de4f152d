"""More rows under conditions, the columns' histograms, and the report: made as a job, shown without a value of the table."""

import json
import webbrowser

import pytest
from textual.widgets import Button, Input, Select, Static

import localsynth.verify.file
from localsynth.store.synthetic import SyntheticStore
from localsynth_tui.screens.dialogs import Form
from localsynth_tui.screens.more_rows import MoreRows
from localsynth_tui.text.histograms import draw, shapes_of_report, shapes_of_rows
from localsynth_tui.text.report import report_text
from tests.helpers.tui.driving import drive, screen_text, sees, until
from tests.helpers.tui.finished_run import SCHEMA, finish, fresh_report, report, table
from tests.helpers.tui.scripted_run import RESULT


@pytest.fixture
def finished(workspace):
    finish(workspace)
    return workspace


# --- more rows ----------------------------------------------------------------------------------------------------------


def test_more_rows_are_asked_for_under_a_condition_that_is_checked_as_it_is_typed(finished, play):
    play([{"kind": "stage_started", "stage": "sample"}, {"kind": "result", "result": {"new_rows": 7, "rows": 207}}])

    async def scenario(app, pilot):
        await app.action_go("synthetic")
        await sees(pilot, "Rows 1 to 200 of 200")
        await pilot.press("m")
        await until(pilot, lambda: isinstance(app.screen, MoreRows))
        await sees(pilot, "Columns: age, sex, kind [k]")
        await sees(pilot, "--more 500")
        accept = app.screen.query_one("#accept", Button)
        app.screen.query_one("#more", Input).value = "seven"
        await sees(pilot, "give a whole number")
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
        assert isinstance(app.screen, MoreRows), "what does not hold is not begun"
        balance.value = "sex=F:0.7,M:0.3"
        await sees(pilot, "--balance sex=F:0.7,M:0.3")
        assert not accept.disabled
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.STEP == "run")
        expected = {"more": 7, "where": where.value, "balance": "sex=F:0.7,M:0.3"}
        assert app.job.request.verb == "sample" and app.job.request.options == expected
        await sees(pilot, "✓ done     draw rows")

    drive(scenario, finished)


def test_without_a_run_no_rows_can_be_asked_for(rows):
    async def scenario(app, pilot):
        await app.action_go("synthetic")
        await pilot.press("m")
        await sees(pilot, "There is no run yet")
        assert app.screen.query_one("#accept", Button).disabled

    drive(scenario, rows)


# --- histograms ---------------------------------------------------------------------------------------------------------


def test_columns_are_drawn_beside_the_original_where_a_report_is(finished):
    path = next((finished / "runs").iterdir()) / "report.json"

    async def scenario(app, pilot):
        await app.action_go("synthetic")
        await sees(pilot, "Rows 1 to 200")
        await pilot.press("h")
        await sees(pilot, "The synthetic rows alone.")
        await sees(pilot, "0                ")
        assert "original" not in screen_text(app).replace("the original stands", "")
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
        await sees(pilot, "is not a report that can be read")

    drive(scenario, finished)


def test_rows_are_counted_into_the_same_bars_as_the_reports(finished):
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


def test_histograms_keep_to_the_width_and_hold_no_text_of_the_table(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report()))
    drawn = draw(shapes_of_report(path), 78).plain
    assert max(len(line) for line in drawn.splitlines()) <= 78
    assert "planted" not in drawn and "refund" in drawn and "(empty)" in drawn


# --- the report ---------------------------------------------------------------------------------------------------------

CHECKED = {"file": "c.json", "valid": True, "verdict": "Valid.", "summary": "Stated.", "not_covered": [], "findings": []}


@pytest.fixture
def checked(monkeypatch):
    """Every certificate is found to hold, or not."""
    found = dict(CHECKED)
    monkeypatch.setattr(localsynth.verify.file, "verify_file", lambda _path, _key: found)
    return found


AUDIT = {
    "status": "passed",
    "sentence": "52 of 100 guesses were right.",
    "canaries": 800,
    "guesses": 100,
    "right": 50,
    "control": {"right": 100},
    "claimed": {"epsilon": 8.0},
    "epsilon": 0.5,
    "ceiling": 4.0,
    "p_value": 0.31,
    "search": {"found": 0, "inserted": 40, "rows": 100},
}
"""Of an audit.json, what is shown."""


def shown(app, name):
    return str(app.screen.query_one(name, Static).render())


def test_the_report_is_made_as_a_job_with_what_was_asked(finished, play, checked):
    made = {"stage": "evaluate", "report": "tickets/report.html"}
    play([{"kind": "stage_started", "stage": "evaluate", "seal": "seccomp"}, {"kind": "result", "result": made}])

    async def scenario(app, pilot):
        await app.action_go("report")
        await sees(pilot, "✓ Valid.")
        await sees(pilot, "Guaranteed: epsilon 2, delta 1.0e-05. With or without any one row")
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, Form))
        known = app.screen.query_one("#known", Input)
        known.value = "age, name"
        await sees(pilot, "There is no learned column 'name'.")
        known.focus()
        await pilot.press("enter")
        assert isinstance(app.screen, Form), "what does not hold is not begun"
        known.value = "age, kind [k]"
        app.screen.query_one("#target", Select).value = "ok"
        await sees(pilot, "--target ok")
        app.screen.query_one("#release", Select).value = "yes"
        await sees(pilot, "--release")
        app.screen.query_one("#release", Select).value = "no"
        await sees(pilot, "--target ok")
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.STEP == "run")
        assert app.job.request.verb == "evaluate"
        assert app.job.request.options == {"target": "ok", "quasi_identifiers": ["age", "kind [k]"]}
        assert app.screen.command().endswith("--target ok --quasi-identifiers 'age,kind [k]'")
        await sees(pilot, "✓ done     compare and attack")
        await pilot.press("v")
        await sees(pilot, "Next: read it (6).")

    drive(scenario, finished, (100, 40))


def test_what_the_report_is_at_is_shown(finished, play, checked, tmp_path):
    at_work = {"kind": "progress", "stage": "evaluate", "step": 3, "steps": 13, "unit": "texts: 40%"}
    seen = tmp_path / "seen"
    play([{"kind": "stage_started", "stage": "evaluate", "seal": "seccomp"}, at_work, {"wait_for": str(seen)}, RESULT])

    async def scenario(app, pilot):
        await app.action_go("report")
        await sees(pilot, "✓ Valid.")
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, Form))
        app.screen.query_one("#known", Input).focus()
        await pilot.press("enter")
        await sees(pilot, "texts: 40%")
        seen.touch()
        await sees(pilot, "✓ done     compare and attack")

    drive(scenario, finished, (100, 40))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_the_audit_is_run_from_the_report_screen_and_its_figures_are_shown(finished, play, checked, size):
    run = next((finished / "runs").iterdir())
    play([{"kind": "stage_started", "stage": "audit", "seal": "seccomp"}, {"kind": "result", "result": {"path": "audit.json"}}])

    async def scenario(app, pilot):
        await app.action_go("report")
        await sees(pilot, "✓ Valid.")
        await pilot.press("u")
        await sees(pilot, "NO AUDIT of this run yet. A runs one")
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, Form))
        await sees(pilot, "localsynth audit")
        canaries = app.screen.query_one("#canaries", Input)
        canaries.value = "5"
        await sees(pilot, "Give a whole number, 20 or more")
        app.screen.query_one("#search").focus()
        await pilot.press("enter")
        assert isinstance(app.screen, Form), "what does not hold is not begun"
        canaries.value = "1,600"
        app.screen.query_one("#search", Input).value = "0"
        await until(pilot, lambda: "--search 0 --canaries 1600" in " ".join(screen_text(app).replace("│", "").split()))
        await pilot.press("enter")
        await until(pilot, lambda: getattr(app.screen, "STEP", "") == "run")
        assert app.job.request.verb == "audit" and app.job.request.options == {"canaries": 1600, "search": 0}
        await sees(pilot, "✓ done     train on canaries, guess")
        await sees(pilot, "an audit: nothing is spent")
        (run / "audit.json").write_text(json.dumps(AUDIT))
        await app.action_go("report")
        await pilot.press("u")
        await sees(pilot, "✓ passed: 52 of 100 guesses were right.")
        await sees(pilot, "with the noise      ████████████░░░░░░░░░░░░ 50 of 100")
        await sees(pilot, "had there been none ████████████████████████ 100 of 100")
        await sees(pilot, "claimed             ████████████████████████ 8")
        await sees(pilot, "the most they could ████████████░░░░░░░░░░░░ 4.00")
        (run / "audit.json").write_text("[]")
        await pilot.press("v")
        await until(pilot, lambda: "cannot be read. Run the audit again: A." in shown(app, "#audit-text"))

    drive(scenario, finished, size)


def test_a_run_without_a_model_has_no_audit_and_that_is_said(finished, play, checked):
    run = next((finished / "runs").iterdir()) / "run.json"
    run.write_text(json.dumps({**json.loads(run.read_text()), "synthesizer": "marginals"}))

    async def scenario(app, pilot):
        await app.action_go("report")
        await sees(pilot, "✓ Valid.")
        await pilot.press("u")
        await sees(pilot, "come of noisy counts alone")
        await pilot.press("a")
        await pilot.pause()
        assert not isinstance(app.screen, Form) and app.job is None

    drive(scenario, finished)


def test_the_reports_figures_are_shown_and_the_page_is_opened(finished, checked, monkeypatch):
    run = next((finished / "runs").iterdir())
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    async def scenario(app, pilot):
        await app.action_go("report")
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

    drive(scenario, finished)


def test_a_certificate_that_does_not_hold_promises_nothing(finished, checked):
    checked |= {"valid": False, "verdict": "NOT VALID: 1 check failed."}

    async def scenario(app, pilot):
        await app.action_go("report")
        await until(pilot, lambda: "NOT VALID" in shown(app, "#certificate-text"))
        assert "Guaranteed" not in shown(app, "#certificate-text")

    drive(scenario, finished)


def test_the_figures_in_words():
    document = report()
    text = report_text(document)
    assert "150 original rows that were learned from, 100 kept aside to compare with (holdout), 120 synthetic" in text
    assert "Guaranteed: epsilon 2" in text and "7.4 times" in text
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
    assert "age           0.058 █░░░░░░░░░    0.107   KS" in text
    assert "? too few rows to say: attribute inference" in text
    assert "planted" not in text and "Canary audit: none was run." in text
    document["weaknesses"] = [{"title": "Cut", "text": "amount (5.8\N{NO-BREAK SPACE}%)"}]
    assert "1. Cut. amount (5.8 %)" in report_text(document)


def test_what_is_missing_from_a_report_is_said_and_leaks_are_loud():
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
        "There is no certificate: nothing is guaranteed.",
        "Not measured. Too few.",
        "✗ FAILED: exact copies",
        "– (n 0)",
        "not run: linkage. No column.",
        "Canary audit: ✗ FAILED. See Audit (U).",
        "rows of one: distance 0.040, of the holdout 0.030",
        "dose [d]: ██░░░░░░░░ 0.250, of the holdout 0.200, without any order 0.900",
        "e-mail address: 3; of these in the original 2, in the holdout 1",
    ):
        assert expected in text


def form_of(value):
    """The keys of a document, at every depth, without its figures."""
    if isinstance(value, dict):
        return {key: form_of(inner) for key, inner in value.items()}
    return [form_of(value[0])] if isinstance(value, list) and value else type(value).__name__


@pytest.mark.slow
def test_the_kept_report_has_the_form_that_reports_have_now():
    assert form_of(json.loads(json.dumps(fresh_report()))) == form_of(report())
