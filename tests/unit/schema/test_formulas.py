"""Formulas of derived columns: exact decimals, missing values, dates, and what is refused."""

import datetime as dt

import pytest

from localsynth.errors import ConfigError
from localsynth.schema.columns import Derived, Integer, Schema
from localsynth.schema.formulas import read_formula

_KINDS = (("net", "number"), ("tax", "number"), ("n", "integer"), ("born", "date"), ("seen", "datetime"), ("word", "category"))
_ROW = {"net": 0.1, "tax": 0.2, "n": 3, "born": dt.date(1980, 12, 31), "seen": dt.datetime(2024, 1, 1, 23, 59), "word": "x"}


@pytest.mark.parametrize(
    ("formula", "decimals", "value"),
    [
        ("net + tax", 1, 0.3),
        ("n * 19.99", 2, 59.97),
        ("n / 8", 2, 0.38),
        ("-n / 8", 2, -0.38),
        ("n / 24", 2, 0.13),
        ("n / 2", 0, 2),
        ("(n + 1) * 2 - abs(-n)", 0, 5),
        ("year(seen) - year(born)", 0, 44),
        ("month(seen) + day(born)", 0, 32),
        ("seen - born", 0, 15706),
        ("1 / (n - 3)", 2, None),
        ("n * 1e30", 0, None),
    ],
)
def test_a_formula_is_calculated_exactly(formula, decimals, value):
    found = read_formula(formula, _KINDS).value(_ROW, decimals)
    assert found == value and isinstance(found, type(value))


def test_a_missing_value_makes_the_result_missing():
    formula = read_formula("net + tax", _KINDS)
    assert formula.names == {"net", "tax"}
    assert formula.value({**_ROW, "tax": None}, 2) is None


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("net +", "cannot be read"),
        ("net + word", "'word' is of kind category"),
        ("net + gross", "no column 'gross'"),
        ("born", "gives a date"),
        ("born + 1", "calculates with a date"),
        ("1 + 1", "names no column"),
        ("read_csv('/etc/passwd')", "cannot use"),
        ("(select 1)", "cannot use"),
        ("'a' || net", "cannot use"),
        ("year(net)", "cannot use"),
    ],
)
def test_what_is_no_formula_is_refused(formula, message):
    with pytest.raises(ConfigError) as error:
        read_formula(formula, _KINDS)
    assert message in error.value.message and error.value.hint


def test_a_schema_refuses_a_formula_about_a_column_that_is_not_learned():
    columns = [Integer(name="a"), Derived(name="b", formula="a + 1"), Derived(name="c", formula="b + 1")]
    with pytest.raises(ValueError, match=r"derived column 'c'.*no column 'b'"):
        Schema(columns=columns)
