"""Value descriptions and formulas in the form and in localsynth.toml."""

import datetime as dt
from typing import Any

import pytest

from localsynth.errors import ConfigError
from localsynth.schema.columns import Category
from localsynth_tui.workspace.column_form import changes_of, range_text, values_of
from localsynth_tui.workspace.config_file import with_column

TEXT = """\
[data]
source = "t.csv"
[[schema.columns]]  # as in the code book
name = "diagnosis"
kind = "category"
values = ["J45", "I10, I11"]
"""


def test_descriptions_round_trip() -> None:
    typed = {"values": 'J45, "I10, I11"', "descriptions": 'J45 = asthma, "I10, I11 = high pressure, with or without the heart"'}
    text, config = with_column(TEXT, "diagnosis", changes_of("category", typed), "here")
    (column,) = config.schema_.columns
    assert isinstance(column, Category)
    assert column.descriptions == {"J45": "asthma", "I10, I11": "high pressure, with or without the heart"}
    assert "# as in the code book" in text and 'descriptions = {J45 = "asthma"' in text
    assert changes_of("category", values_of(column)) == changes_of("category", typed)
    without, config = with_column(text, "diagnosis", changes_of("category", {**typed, "descriptions": ""}), "here")
    assert "descriptions" not in without and config.schema_.columns[0].model_dump().get("descriptions", {}) == {}


def test_missing_strings_round_trip() -> None:
    changes = changes_of("category", {"values": "J45", "missing": '?, "n/a, none"'})
    text, config = with_column(TEXT, "diagnosis", changes, "here")
    assert config.schema_.columns[0].missing == ["?", "n/a, none"] and 'missing = ["?", "n/a, none"]' in text
    assert changes_of("category", values_of(config.schema_.columns[0])) == changes


@pytest.mark.parametrize(
    ("kind", "typed", "common", "step"),
    [
        ("integer", {"step": "5", "common": "0, -999"}, [0, -999], 5),
        ("number", {"step": "0.5", "decimals": "1", "common": "0, -9.5"}, [0.0, -9.5], 0.5),
        ("date", {"common": "9999-12-31"}, [dt.date(9999, 12, 31)], None),
        ("datetime", {"step": "3600", "common": "2024-01-01T00:00:00"}, [dt.datetime(2024, 1, 1)], 3600),
    ],
)
def test_step_and_frequent_values_round_trip(kind: str, typed: dict[str, str], common: list[Any], step: Any) -> None:
    text = TEXT + '[[schema.columns]]\nname = "x"\nkind = "category"\n'
    changes = changes_of(kind, typed)
    _, config = with_column(text, "x", {"kind": kind, **changes}, "here")
    column: Any = config.schema_.columns[1]
    assert (column.common, getattr(column, "step", None)) == (common, step)
    assert changes_of(kind, values_of(column)) == changes
    with pytest.raises(ConfigError, match="Frequent values: enter values with commas between, each a"):
        changes_of(kind, {"common": "often, never"})


def test_description_without_its_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="Value descriptions: enter values and their descriptions"):
        changes_of("category", {"values": "J45", "descriptions": "asthma"})
    with pytest.raises(ConfigError, match="not in the list"):
        with_column(TEXT, "diagnosis", changes_of("category", {"values": "J45", "descriptions": "J54 = asthma"}), "here")


def test_a_derived_column_round_trips_through_the_form() -> None:
    text = TEXT + '[[schema.columns]]\nname = "n"\nkind = "integer"\n[[schema.columns]]\nname = "twice"\nkind = "integer"\n'
    changes = {"kind": "derived", **changes_of("derived", {"formula": "2 * n", "decimals": ""})}
    _, config = with_column(text, "twice", changes, "here")
    column = config.schema_.columns[2]
    assert column.kind == "derived" and column.formula == "2 * n" and range_text(column) == "not learned: 2 * n"
    with pytest.raises(ConfigError, match="no column 'm'"):
        with_column(text, "twice", {**changes, "formula": "2 * m"}, "here")


@pytest.mark.parametrize(
    ("kind", "form", "shown"),
    [
        ("number", "1.234,5 €", "range to be measured, as 1.234,5 €"),
        ("boolean", "Y/N", "yes or no, as Y/N"),
        ("date", "%d.%m.%Y", "range to be measured, as %d.%m.%Y"),
        ("time", "%H:%M", "00:00:00 … 23:59:59, as %H:%M"),
        ("identifier", "INV-#####", "not learned: new numbers, as INV-#####"),
    ],
)
def test_a_format_round_trips_through_the_form(kind: str, form: str, shown: str) -> None:
    text = TEXT + '[[schema.columns]]\nname = "x"\nkind = "category"\n'
    _, config = with_column(text, "x", {"kind": kind, **changes_of(kind, {"format": form})}, "here")
    column = config.schema_.columns[1]
    assert range_text(column) == shown and values_of(column)["format"] == form
    with pytest.raises(ConfigError, match="a format"):
        with_column(text, "x", {"kind": kind, **changes_of(kind, {"format": "?!" if kind != "identifier" else "INV"})}, "here")
