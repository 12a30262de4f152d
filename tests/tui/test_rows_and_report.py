"""More rows under conditions, the columns' histograms, and the report: made as a job, shown without a value of the table."""

import json

import pytest
from driving import drive, screen_text, sees, until
from finished_run import SCHEMA, finish, fresh_report, report, table
from localsynth_tui.histograms import draw, shapes_of_report, shapes_of_rows
from localsynth_tui.screens.more_rows import MoreRows
from textual.widgets import Button, Input

from localsynth.store.synthetic import SyntheticStore


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
        await sees(pilot, "stands in --where and in --balance")
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


def form_of(value):
    """The keys of a document, at every depth, without its figures."""
    if isinstance(value, dict):
        return {key: form_of(inner) for key, inner in value.items()}
    return [form_of(value[0])] if isinstance(value, list) and value else type(value).__name__


@pytest.mark.slow
def test_the_kept_report_has_the_form_that_reports_have_now():
    assert form_of(json.loads(json.dumps(fresh_report()))) == form_of(report())
