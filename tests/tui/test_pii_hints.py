"""What looks personal is flagged with what will happen to it; columns can be left out; sequences are asked for in words."""

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
from localsynth_tui.text.pii_hints import Look, fate, flag, look_at_columns
from localsynth_tui.workspace.config_file import with_column_back, without_column
from tests.helpers.tui.driving import drive, screen_text, sees, until

PLANTED = "planted.person@example.org"


def look(column, *values):
    found = look_at_columns([column], [[value] for value in values])
    return found.get(column.name)


@pytest.mark.parametrize(
    ("column", "values", "sort", "what"),
    [
        (Surrogate(name="contact", of="email"), [PLANTED], "direct", "an e-mail address"),
        (Identifier(name="row"), ["1", "2"], "direct", "a key"),
        (Text(name="IBAN"), ["x"], "direct", "a bank account"),
        (Category(name="passportNumber"), ["x"], "direct", "a passport number"),
        (Category(name="paid with"), ["4111 1111 1111 1111", "5500 0000 0000 0004"], "direct", "a card number"),
        (Date(name="Birth Date"), ["1980-01-01"], "tells", "a birth date"),
        (Text(name="postcode"), ["01234"], "tells", "a postal code"),
        (Integer(name="customer_no"), [str(i // 2) for i in range(40)] + [str(i) for i in range(60)], "whose", "whose row it is"),
        (Text(name="note"), [f"write to {PLANTED}", "or a@b.org", "no"], "inside", "e-mail addresses"),
        (Text(name="note"), ["Mrs. Ann Miller came", "seen by Dr. Jones"], "inside", "names of persons"),
        (Text(name="note"), [f"write to {PLANTED}", "no"], None, None),
        (Integer(name="amount"), ["1", "2", "3"], None, None),
        (Integer(name="number_of_visits"), ["1", "2", "3"], None, None),
        (Boolean(name="has insurance"), ["yes"], None, None),
    ],
)
def test_what_a_column_looks_like(column, values, sort, what):
    found = look(column, *values)
    assert (found and (found.sort, found.what)) == (sort and (sort, what))
    assert found is None or PLANTED not in found.what


def test_what_will_happen_is_said_for_every_kind():
    direct, tells = Look("direct", "an e-mail address"), Look("tells", "a birth date")
    assert flag(Text(name="a"), direct) == "! looks like an e-mail address"
    assert "would be LEARNED" in fate(Text(name="a"), direct, "row", "llm")
    kept = Surrogate(name="a", of="email")
    assert flag(kept, direct) == "" and fate(kept, direct, "row", "llm").startswith("Not learned: an e-mail address is invented")
    assert "leave it out (L)" in fate(Date(name="b"), tells, "row", "marginals")
    whose = Look("whose", "whose row it is")
    assert "choose it under Who is protected" in fate(Integer(name="c"), whose, "row", "marginals")
    assert "choose it" not in fate(Integer(name="c"), whose, "c", "marginals")
    assert "unit gets a new one" in fate(Identifier(name="c"), whose, "c", "marginals")
    assert "third persons" in fate(Text(name="t"), Look("inside", "names"), "row", "hybrid")
    assert "to go with the other columns" in fate(Text(name="t"), None, "row", "hybrid")
    assert "by noisy counts; its range is measured" in fate(Number(name="n"), None, "row", "marginals")
    assert "become its bounds" in fate(Integer(name="n", min=0, max=9), None, "row", "llm")
    assert "rare ones become 'other'" in fate(Category(name="k"), None, "row", "llm")
    assert "Guessed: by its zeros." in fate(Text(name="t"), None, "row", "llm", "by its zeros.")
    assert "Guessed" not in fate(Text(name="t"), tells, "row", "llm", "by its zeros.")
    assert flag(Date(name="b"), tells) == "! a birth date" and flag(Integer(name="c"), whose) == "! whose row it is?"
    assert "rows with a value beyond are left out" in fate(Category(name="k", values=["a"], outside="drop"), None, "row", "llm")


def test_a_column_is_left_out_and_taken_in_again_in_its_place(workspace):
    path = workspace / "localsynth.toml"
    before = path.read_text().replace("confirmed = false", "confirmed = true")
    names = [column["name"] for column in tomllib.loads(before)["schema"]["columns"]]
    once, config = without_column(before, "price", "file")
    assert config.data.columns == [name for name in names if name != "price"] and config.schema_.confirmed
    twice, _ = without_column(once, "day", "file")
    back, config = with_column_back(twice, {"name": "price", "kind": "number", "decimals": 2}, names, "file")
    assert [column.name for column in config.schema_.columns] == config.data.columns == [name for name in names if name != "day"]
    assert not config.schema_.confirmed, "it is a guess again"
    _, config = with_column_back(back, {"name": "day", "kind": "date"}, names, "file")
    assert config.data.columns is None
    unit = before.replace('unit = "row"', 'unit = "id"')
    with pytest.raises(ConfigError, match="says who is protected"):
        without_column(unit, "id", "file")


@pytest.fixture
def table(workspace, home, monkeypatch):
    """The workspace's source, with a person's address in the texts."""
    monkeypatch.setattr(data, "ask", client.ask)
    lines = ["id,full name,kind,amount,price,day,ok,note [b]"]
    lines += [f"{i},P Planted,a{i % 3},{i % 7},1.50,2024-01-{i % 28 + 1:02d},yes,word{i} to {PLANTED}" for i in range(60)]
    (home / "tickets.csv").write_text("\n".join(lines) + "\n")
    return workspace


def saved(workspace):
    return tomllib.loads((workspace / "localsynth.toml").read_text())


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_left_out_by_a_key_and_still_in_the_list(table, size):
    async def scenario(app, pilot):
        await until(pilot, lambda: app.screen.query_one("#preview", DataTable).row_count == 50)
        grid = app.screen.query_one("#table", DataTable)
        grid.move_cursor(row=7)
        await sees(pilot, "! Its first texts hold e-mail addresses.")
        await pilot.press("l")
        await until(pilot, lambda: "note [b]" not in (saved(table)["data"].get("columns") or ["note [b]"]))
        await sees(pilot, "left out")
        grid.move_cursor(row=7)
        await sees(pilot, "Left out: not read in")
        assert app.screen.query_one("#form").disabled
        await pilot.press("l")
        await until(pilot, lambda: "columns" not in saved(table)["data"])
        assert saved(table)["schema"]["columns"][7] == {"name": "note [b]", "kind": "text"}
        assert "! A run would refuse" not in screen_text(app)

    drive(scenario, table, size)
    for file in table.rglob("*"):
        assert not file.is_file() or PLANTED.encode() not in file.read_bytes()


def test_sequences_are_asked_for_in_words_and_what_a_run_would_refuse_is_said(table):
    async def scenario(app, pilot):
        await until(pilot, lambda: app.screen.query_one("#preview", DataTable).row_count == 50)
        await pilot.press("w")
        assert not app.screen.query_one("#ordered").display, "a row has no rows"
        unit = app.screen.query_one("#unit", Select)
        unit.value = "amount"
        await until(pilot, lambda: saved(table)["privacy"]["unit"] == "amount")
        await sees(pilot, "no longer learned")
        assert saved(table)["schema"]["columns"][3] == {"name": "amount", "kind": "identifier"}
        await sees(pilot, "Do the rows of one follow each other")
        app.screen.query_one("#max_rows", Input).value = "4"
        await until(pilot, lambda: saved(table)["privacy"]["max_rows_per_unit"] == 4)
        order = app.screen.query_one("#order", Select)
        assert "kind" not in str(order._options), "a category has no order"
        order.value = "day"
        await until(pilot, lambda: saved(table)["data"].get("sequence_by") == "day")
        await sees(pilot, "! A run would refuse this. Sequences are made from marginals")
        await pilot.press("c")
        app.screen.query_one("#table", DataTable).move_cursor(row=7)
        await pilot.press("l")
        await until(pilot, lambda: "A run would refuse" not in screen_text(app))
        app.screen.query_one("#table", DataTable).move_cursor(row=5)
        await pilot.press("l")
        await sees(pilot, "says in which order rows come")
        unit.value = ":row"
        await until(pilot, lambda: "sequence_by" not in saved(table)["data"])

    drive(scenario, table)


def test_the_process_that_looks_tells_names_and_kinds_and_not_what_it_saw(table):
    command = [sys.executable, "-m", "localsynth_tui.jobs.preview_server"]
    request = json.dumps({"workspace": str(table)})
    done = subprocess.run(command, input=request, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)["result"]
    assert found["looks"]["note [b]"] == ["inside", "e-mail addresses"] and found["looks"]["full name"][0] == "direct"
    assert PLANTED not in json.dumps({name: found[name] for name in ("looks", "notes", "schema", "columns")})
    assert Path(table / "localsynth.toml").exists()
