"""Budgets, δ and the warnings that go with them, from the configuration alone."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localsynth.config import Config, DataConfig, PrivacyConfig, TrainConfig
from localsynth.errors import BudgetError, ConfigError
from localsynth.events import Event
from localsynth.planning import forecast
from localsynth.planning.budgets import Budgets, EpsilonDelta, budgets
from localsynth.planning.warnings import (
    FEW_TEXT_UNITS,
    FEW_UNITS,
    MIN_UNITS,
    accept_size,
    delta_warning,
    size_warning,
    text_warning,
)
from localsynth.schema.columns import Category, Column, Identifier, Integer, Schema, Text

TEXT = Text(name="note")
LIST = Category(name="kind")
RANGE = Integer(name="n", min=0)
BOUNDED = Integer(name="n", min=0, max=9)
NOTHING = EpsilonDelta(0.0, 0.0)
SETTLED: list[Column] = [Category(name="kind", values=["a"]), Integer(name="n", min=0, max=9), TEXT]


def config(columns: list[Column], **privacy: Any) -> Config:
    return Config(data=DataConfig(source="t.csv"), schema=Schema(columns=columns), privacy=PrivacyConfig(**privacy))


# --- sequences --------------------------------------------------------------------------------------------------------

VISITS: list[Column] = [Identifier(name="who"), Identifier(name="visit"), Integer(name="n", min=0, max=9)]


def sequence(columns: list[Column], by: str, synthesizer: Any = "auto", **privacy: Any) -> Config:
    return Config(
        data=DataConfig(source="t.csv", sequence_by=by),
        schema=Schema(columns=columns),
        privacy=PrivacyConfig(**{"unit": "who", "max_rows_per_unit": 3, **privacy}),
        train=TrainConfig(synthesizer=synthesizer),
    )


@pytest.mark.parametrize("by", ["visit", "n"])
def test_sequences_use_marginals(by: str) -> None:
    assert sequence(VISITS, by).synthesizer == "marginals"


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (sequence(VISITS, "visit", unit="row"), "several rows"),
        (sequence(VISITS, "visit", max_rows_per_unit=1), "more than one row"),
        (sequence(VISITS, "day"), "'day' is not a column"),
        (sequence(VISITS, "who"), "'who' is not a column"),
        (sequence([*VISITS, Category(name="kind")], "kind"), "kind category has no order"),
        (sequence([*VISITS, Integer(name="number")], "n", unit="number"), "'number', but that column is learned"),
        (sequence([*VISITS, TEXT], "n"), "'note' is a text column"),
        (sequence(VISITS, "n", synthesizer="llm"), "is .llm."),
    ],
)
def test_invalid_sequences_are_refused(wanted: Config, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        _ = wanted.synthesizer


# --- delta ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "delta"),
    [(1, 1e-5), (1_000, 1e-5), (35_111, 1e-5), (35_112, 9.9997e-6), (100_000, 3.1623e-6), (1_000_000, 2.5119e-7)],
)
def test_default_delta_of_a_declared_size(size: int, delta: float) -> None:
    assert config([TEXT], public_size=size).delta() == pytest.approx(delta, rel=1e-4)


def test_default_delta_without_a_declared_size() -> None:
    assert config([TEXT]).delta() == 1e-6


@pytest.mark.parametrize("size", [None, 1_000_000])
def test_declared_delta_is_kept(size: int | None) -> None:
    assert config([TEXT], public_size=size, delta=3e-4).delta() == 3e-4


@given(size=st.integers(2, 10**12))
def test_default_delta_is_below_one_in_the_declared_size(size: int) -> None:
    chosen = config([TEXT], public_size=size)
    assert 0 < chosen.delta() <= min(1e-5, 1 / size)
    assert delta_warning(chosen, size) is None


def test_delta_above_one_in_the_number_of_units_warns() -> None:
    at = config([TEXT], delta=1e-3)
    assert delta_warning(at, 1000) is None
    text = delta_warning(at, 1001)
    assert text is not None and "0.001" in text and "1,001" in text and "privacy.delta" in text
    assert delta_warning(config([TEXT]), 1_000_001) is not None, "the default without a declared size may be too large, too"


# --- budgets ----------------------------------------------------------------------------------------------------------


def test_schema_without_measurements_gets_no_budget() -> None:
    writes = config([TEXT], public_size=5000, epsilon=3)
    share = budgets(writes)
    assert (share.schema, share.marginals) == (NOTHING, NOTHING)
    assert (share.train.epsilon, share.text_counts.epsilon) == pytest.approx((2.4, 0.6)), "a fifth is for counting the texts"
    assert (share.train.delta, share.text_counts.delta) == pytest.approx((8e-6, 2e-6))
    assert budgets(config([TEXT], public_size=5000, epsilon=3, schema_epsilon=1)) == budgets(writes)


def test_budget_of_marginals() -> None:
    alone = budgets(config([BOUNDED], public_size=5000, epsilon=3))
    assert alone == Budgets(NOTHING, EpsilonDelta(3.0, 1e-5), NOTHING, NOTHING)
    share = budgets(config([BOUNDED, TEXT], public_size=5000, epsilon=3))
    assert (share.marginals.epsilon, share.train.epsilon, share.text_counts.epsilon) == pytest.approx((0.6, 1.92, 0.48))
    assert (share.marginals.delta, share.train.delta, share.text_counts.delta) == pytest.approx((2e-6, 6.4e-6, 1.6e-6))
    assert (share.to_json()["epsilon"]["total"], share.to_json()["delta"]["total"]) == (3, 1e-5)


def test_unknown_size_costs_a_tenth_of_epsilon_and_no_delta() -> None:
    share = budgets(config([TEXT], epsilon=3))
    assert share.schema.epsilon == pytest.approx(0.3) and share.train.epsilon == pytest.approx(0.8 * 2.7)
    assert share.schema.delta == 0.0 and share.train.delta + share.text_counts.delta == pytest.approx(1e-6)


@pytest.mark.parametrize(("columns", "of_delta"), [([LIST], 0.1), ([RANGE], 0.0), ([LIST, RANGE], 0.1)])
def test_only_an_open_list_costs_delta(columns: list[Column], of_delta: float) -> None:
    share = budgets(config(columns, public_size=100))
    assert share.schema.epsilon == pytest.approx(0.4)
    assert share.schema.delta == pytest.approx(of_delta * 1e-5)


def test_schema_epsilon_can_be_set() -> None:
    assert budgets(config([LIST], epsilon=3, schema_epsilon=1.25)).schema.epsilon == 1.25


@pytest.mark.parametrize("schema_epsilon", [3, 4])
def test_schema_epsilon_that_leaves_nothing_is_refused(schema_epsilon: float) -> None:
    with pytest.raises(ConfigError, match="leaves nothing"):
        budgets(config([LIST], epsilon=3, schema_epsilon=schema_epsilon))


@given(
    columns=st.sampled_from([[TEXT], [LIST], [RANGE], [LIST, RANGE, TEXT], SETTLED]),
    size=st.none() | st.integers(1, 10**7),
    epsilon=st.floats(0.01, 100),
    delta=st.none() | st.floats(1e-12, 0.09),
    part=st.none() | st.floats(0.001, 0.999),
)
def test_budgets_add_up_to_the_total(
    columns: list[Column], size: int | None, epsilon: float, delta: float | None, part: float | None
) -> None:
    chosen = config(
        columns, public_size=size, epsilon=epsilon, delta=delta, schema_epsilon=None if part is None else part * epsilon
    )
    share = budgets(chosen)
    parts = (share.schema.epsilon, share.marginals.epsilon, share.train.epsilon, share.text_counts.epsilon)
    assert sum(parts) == pytest.approx(epsilon, rel=1e-12)
    parts = (share.schema.delta, share.marginals.delta, share.train.delta, share.text_counts.delta)
    assert sum(parts) == pytest.approx(chosen.delta(), rel=1e-12)
    writes, counts = TEXT in columns, columns != [TEXT]
    assert (share.train.epsilon > 0, share.train.delta > 0) == (writes, writes)
    assert (share.text_counts.epsilon > 0, share.text_counts.delta > 0) == (writes, writes)
    assert (share.marginals.epsilon > 0, share.marginals.delta > 0) == (counts, counts)
    assert share.schema.epsilon >= 0 and share.schema.delta >= 0
    assert (share.schema.epsilon > 0) == (size is None or bool(chosen.schema_.unmeasured()))


# --- the size of the table --------------------------------------------------------------------------------------------


def accepted(units: int, force: bool = False) -> list[Event]:
    events: list[Event] = []
    accept_size(units, force, events.append)
    return events


def test_limits_of_table_size() -> None:
    assert (MIN_UNITS, FEW_UNITS) == (100, 10_000), "stated in docs/guarantee.md"


def test_large_table_has_no_warning() -> None:
    assert size_warning(10_000) is None and accepted(10_000) == []


@pytest.mark.parametrize("units", [100, 9_999])
def test_small_table_warns(units: int) -> None:
    ((kind, text),) = [event.values() for event in accepted(units)]
    assert kind == "warning" and text == size_warning(units) and f"{units:,} units" in text and "10,000" in text


@pytest.mark.parametrize("units", [1, 99])
def test_tiny_table_is_refused_unless_forced(units: int) -> None:
    with pytest.raises(BudgetError, match="too few") as caught:
        accepted(units)
    assert "--force" in caught.value.hint and int(caught.value.exit_code) == 4
    (event,) = accepted(units, force=True)
    assert event == {"kind": "warning", "text": size_warning(units)}


def test_few_units_with_texts_warn() -> None:
    mixed = config(SETTLED)
    assert text_warning(mixed, FEW_TEXT_UNITS) is None
    text = text_warning(mixed, FEW_TEXT_UNITS - 1) or ""
    assert "2,000" in text and "80%" in text and "'note'" in text and "data.columns" in text
    assert text_warning(config([TEXT]), 500) is None, "without its texts, nothing would be left"
    assert text_warning(config([BOUNDED]), 500) is None, "it is made from marginals as it is"


def test_force_keeps_warnings() -> None:
    assert accepted(500, force=True) == accepted(500) != []


def test_placeholders_fill_only_open_fields() -> None:
    schema = Schema(columns=[LIST, TEXT, Integer(name="n", min=3, max=4)])
    filled = forecast.with_placeholders(schema)
    assert not filled.unmeasured() and filled.columns[1:] == schema.columns[1:]
