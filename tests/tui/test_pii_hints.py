"""PII hints, the treatment of columns, excluded columns, and sequences."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from textual.widgets import DataTable, Input, Select

from localsynth.errors import ConfigError
from localsynth.schema.columns import Boolean, Category, Date, Identifier, Integer, Number, Surrogate, Text
from localsynth_tui.jobs import client
from localsynth_tui.screens import data
from localsynth_tui.text.pii_hints import PiiHint, find_pii_hints, flag, treatment
from localsynth_tui.workspace.config_file import with_column_back, without_column
from tests.helpers.tui.driving import drive, screen_text, sees, until

PLANTED = "planted.person@example.org"


def hint_of(column, *values):
    return find_pii_hints([column], [[value] for value in values]).get(column.name)


@pytest.mark.parametrize(
    ("column", "values", "kind", "description"),
    [
        (Surrogate(name="contact", of="email"), [PLANTED], "direct", "an e-mail address"),
        (Identifier(name="row"), ["1", "2"], "direct", "a key"),
        (Text(name="IBAN"), ["x"], "direct", "a bank account"),
        (Category(name="passportNumber"), ["x"], "direct", "a passport number"),
        (Category(name="paid with"), ["4111 1111 1111 1111", "5500 0000 0000 0004"], "direct", "a card number"),
        (Date(name="Birth Date"), ["1980-01-01"], "indirect", "a birth date"),
        (Text(name="postcode"), ["01234"], "indirect", "a postal code"),
        (Integer(name="customer_no"), [str(i // 2) for i in range(40)] + [str(i) for i in range(60)], "unit", "privacy unit"),
        (Text(name="note"), [f"write to {PLANTED}", "or a@b.org", "no"], "contains", "e-mail addresses"),
        (Text(name="note"), ["Mrs. Ann Miller came", "seen by Dr. Jones"], "contains", "names of persons"),
        (Text(name="note"), [f"write to {PLANTED}", "no"], None, None),
        (Integer(name="amount"), ["1", "2", "3"], None, None),
        (Integer(name="number_of_visits"), ["1", "2", "3"], None, None),
        (Boolean(name="has insurance"), ["yes"], None, None),
    ],
)
def test_pii_hint_of_a_column(column, values, kind, description):
    hint = hint_of(column, *values)
    assert (hint and (hint.kind, hint.description)) == (kind and (kind, description))
    assert hint is None or PLANTED not in hint.description


DIRECT = PiiHint("direct", "an e-mail address")
INDIRECT = PiiHint("indirect", "a birth date")
UNIT = PiiHint("unit", "privacy unit")
CONTAINS = PiiHint("contains", "names of persons")


@pytest.mark.parametrize(
    ("column", "hint", "expected"),
    [
        (Text(name="a"), DIRECT, "! looks like an e-mail address"),
        (Surrogate(name="a", of="email"), DIRECT, ""),
        (Date(name="a"), INDIRECT, "! a birth date"),
        (Integer(name="a"), UNIT, "! privacy unit?"),
        (Identifier(name="a"), UNIT, "! privacy unit?"),
        (Identifier(name="unit"), UNIT, ""),
        (Text(name="a"), CONTAINS, "! contains names of persons"),
        (Text(name="a"), None, ""),
    ],
)
def test_flag_of_a_column(column, hint, expected):
    assert flag(column, hint, "unit") == expected


@pytest.mark.parametrize(
    ("column", "hint", "unit", "synthesizer", "expected"),
    [
        (Text(name="a"), DIRECT, "row", "llm", "would be LEARNED"),
        (Surrogate(name="a", of="email"), DIRECT, "row", "llm", "Not learned: each synthetic row gets a fake e-mail address"),
        (Date(name="a"), INDIRECT, "row", "marginals", "! A birth date can help to identify a person. If not needed, exclude it"),
        (Integer(name="a"), UNIT, "row", "marginals", "May say whose rows these are"),
        (Identifier(name="a"), UNIT, "a", "marginals", "each synthetic unit gets a new number"),
        (Identifier(name="a"), None, "row", "marginals", "each synthetic row gets a new number"),
        (Text(name="a"), CONTAINS, "row", "hybrid", "other people whom several rows mention"),
        (Text(name="a"), None, "row", "hybrid", "new texts, conditioned on the other columns."),
        (Text(name="a"), None, "row", "llm", "generates new texts."),
        (Number(name="a"), None, "row", "marginals", "as DP marginals; its range is measured."),
        (Integer(name="a", min=0, max=9), None, "row", "llm", "by the language model; values outside the range become the"),
        (Category(name="a"), None, "row", "llm", "rare ones become 'other'"),
        (Category(name="a", values=["b"], outside="drop"), None, "row", "llm", "rows with a value outside are dropped"),
        (Boolean(name="a"), None, "row", "hybrid", "Learned with noise, as DP marginals."),
    ],
)
def test_treatment_of_every_kind(column, hint, unit, synthesizer, expected):
    assert expected in treatment(column, hint, unit, synthesizer)


def test_treatment_has_no_warning_of_the_chosen_unit():
    assert "May say" not in treatment(Integer(name="a"), UNIT, "a", "marginals")


def test_treatment_says_how_well_an_open_column_is_measured():
    assert "! It needs [b]." in treatment(Integer(name="a"), INDIRECT, "row", "llm", measured="needs [b].")
    assert "needs" not in treatment(Integer(name="a", min=0, max=9), None, "row", "llm", measured="needs.")


def test_treatment_shows_the_inference_only_without_a_warning():
    assert "Inferred: by its zeros." in treatment(Text(name="a"), None, "row", "llm", "by its zeros.")
    assert "Inferred" not in treatment(Text(name="a"), INDIRECT, "row", "llm", "by its zeros.")


def test_excluded_column_returns_to_its_place(workspace):
    before = (workspace / "localsynth.toml").read_text().replace("confirmed = false", "confirmed = true")
    names = [column["name"] for column in tomllib.loads(before)["schema"]["columns"]]
    once, config = without_column(before, "price", "file")
    assert config.data.columns == [name for name in names if name != "price"] and config.schema_.confirmed
    twice, _ = without_column(once, "day", "file")
    back, config = with_column_back(twice, {"name": "price", "kind": "number", "decimals": 2}, names, "file")
    assert [column.name for column in config.schema_.columns] == config.data.columns == [name for name in names if name != "day"]
    assert not config.schema_.confirmed, "an included column is to be checked"
    _, config = with_column_back(back, {"name": "day", "kind": "date"}, names, "file")
    assert config.data.columns is None
    unit = before.replace('unit = "row"', 'unit = "id"')
    with pytest.raises(ConfigError, match="is the privacy unit"):
        without_column(unit, "id", "file")


@pytest.fixture
def table(workspace, home, monkeypatch):
    """The workspace's source, with an e-mail address in the texts."""
    monkeypatch.setattr(data, "ask", client.ask)
    lines = ["id,full name,kind,amount,price,day,ok,note [b]"]
    lines += [f"{i},P Planted,a{i % 3},{i % 7},1.50,2024-01-{i % 28 + 1:02d},yes,word{i} to {PLANTED}" for i in range(60)]
    (home / "tickets.csv").write_text("\n".join(lines) + "\n")
    return workspace


def saved(workspace):
    return tomllib.loads((workspace / "localsynth.toml").read_text())


def test_excluded_column_stays_in_the_list(table):
    async def scenario(app, pilot):
        await until(pilot, lambda: app.screen.query_one("#preview", DataTable).row_count == 50)
        grid = app.screen.query_one("#table", DataTable)
        grid.move_cursor(row=7)
        await sees(pilot, "! The first texts contain e-mail addresses.")
        await pilot.press("l")
        await until(pilot, lambda: "note [b]" not in (saved(table)["data"].get("columns") or ["note [b]"]))
        await sees(pilot, "excluded")
        grid.move_cursor(row=7)
        await sees(pilot, "Excluded: not ingested")
        assert app.screen.query_one("#form").disabled
        await pilot.press("l")
        await until(pilot, lambda: "columns" not in saved(table)["data"])
        assert saved(table)["schema"]["columns"][7] == {"name": "note [b]", "kind": "text"}
        assert "! A run would refuse" not in screen_text(app)

    drive(scenario, table)
    for file in table.rglob("*"):
        assert not file.is_file() or PLANTED.encode() not in file.read_bytes()


def test_unit_form_sets_sequences_and_warns_of_refusals(table):
    async def scenario(app, pilot):
        await until(pilot, lambda: app.screen.query_one("#preview", DataTable).row_count == 50)
        await pilot.press("w")
        assert not app.screen.query_one("#order-line").display, "a row has no order of rows"
        unit = app.screen.query_one("#unit", Select)
        unit.value = "amount"
        await until(pilot, lambda: saved(table)["privacy"]["unit"] == "amount")
        await sees(pilot, "no longer learned")
        assert saved(table)["schema"]["columns"][3] == {"name": "amount", "kind": "identifier"}
        await sees(pilot, "Are a unit's rows ordered in time")
        app.screen.query_one("#max_rows", Input).value = "4"
        await until(pilot, lambda: saved(table)["privacy"].get("max_rows_per_unit") == 4)
        order = app.screen.query_one("#order", Select)
        assert "kind" not in str(order._options), "a category has no order"
        order.value = "day"
        await until(pilot, lambda: saved(table)["data"].get("sequence_by") == "day")
        await sees(pilot, "! A run would refuse this. Sequences are generated from marginals")
        await pilot.press("c")
        app.screen.query_one("#table", DataTable).move_cursor(row=7)
        await pilot.press("l")
        await until(pilot, lambda: "A run would refuse" not in screen_text(app))
        app.screen.query_one("#table", DataTable).move_cursor(row=5)
        await pilot.press("l")
        await sees(pilot, "gives the order of rows")
        unit.value = ":row"
        await until(pilot, lambda: "sequence_by" not in saved(table)["data"])

    drive(scenario, table)


def test_preview_process_reports_hints_without_values(table):
    command = [sys.executable, "-m", "localsynth_tui.jobs.preview_server"]
    request = json.dumps({"workspace": str(table)})
    done = subprocess.run(command, input=request, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)["result"]
    assert found["hints"]["note [b]"] == ["contains", "e-mail addresses"] and found["hints"]["full name"][0] == "direct"
    assert PLANTED not in json.dumps({name: found[name] for name in ("hints", "notes", "schema", "columns")})
    assert Path(table / "localsynth.toml").exists()
