"""Budgets, δ and the warnings that go with them, from the configuration alone."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localsynth.config import Config, DataConfig, PrivacyConfig, TrainConfig
from localsynth.errors import BudgetError, ConfigError
from localsynth.events import Event
from localsynth.planning import forecast
from localsynth.planning.budgets import account_of, epsilons_alone, plan_training, shares_of
from localsynth.planning.warnings import (
    FEW_TEXT_UNITS,
    FEW_UNITS,
    MIN_UNITS,
    accept_size,
    delta_warning,
    measurement_needs,
    rows_warning,
    size_warning,
    text_warning,
)
from localsynth.privacy.account import Account
from localsynth.privacy.gaussian import gaussian_of_rho, rho_for
from localsynth.privacy.mechanisms import CategoriesPlan
from localsynth.privacy.renyi import ORDERS
from localsynth.schema.columns import Category, Column, Identifier, Integer, Schema, Text

TEXT = Text(name="note")
LIST = Category(name="kind")
RANGE = Integer(name="n", min=0)
BOUNDED = Integer(name="n", min=0, max=9)
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
    assert config([TEXT], public_size=size).privacy.resolved_delta == pytest.approx(delta, rel=1e-4)


def test_default_delta_without_a_declared_size() -> None:
    assert config([TEXT]).privacy.resolved_delta == 1e-6


@pytest.mark.parametrize("size", [None, 1_000_000])
def test_declared_delta_is_kept(size: int | None) -> None:
    assert config([TEXT], public_size=size, delta=3e-4).privacy.resolved_delta == 3e-4


@given(size=st.integers(2, 10**12))
def test_default_delta_is_below_one_in_the_declared_size(size: int) -> None:
    chosen = config([TEXT], public_size=size)
    assert 0 < chosen.privacy.resolved_delta <= min(1e-5, 1 / size)
    assert delta_warning(chosen, size) is None


def test_delta_above_one_in_the_number_of_units_warns() -> None:
    at = config([TEXT], delta=1e-3)
    assert delta_warning(at, 1000) is None
    text = delta_warning(at, 1001)
    assert text is not None and "0.001" in text and "1,001" in text and "privacy.delta" in text
    assert delta_warning(config([TEXT]), 1_000_001) is not None, "the default without a declared size may be too large, too"


# --- budgets ----------------------------------------------------------------------------------------------------------


def test_declared_table_has_one_account_without_an_order() -> None:
    writes = config([TEXT], public_size=5000, epsilon=3)
    share = shares_of(writes)
    assert (share.size_epsilon, share.columns, share.marginals) == (0.0, {}, None)
    assert share.counts == [gaussian_of_rho(rho_for(0.6, 2e-6))], "a fifth, as if it ran alone"
    assert account_of(writes, 4500, 0.0) == Account(3.0, 1e-5)
    assert shares_of(config([TEXT], public_size=5000, epsilon=3, schema_epsilon=1)).counts == share.counts


def test_shares_of_a_hybrid_and_of_marginals() -> None:
    assert shares_of(config([BOUNDED], public_size=5000, epsilon=3)).counts == []
    share = shares_of(config([BOUNDED, TEXT], public_size=5000, epsilon=3))
    assert (share.marginals, share.text_counts) == pytest.approx((rho_for(0.6, 2e-6), rho_for(0.48, 1.6e-6)))
    assert share.counts == [gaussian_of_rho(share.marginals), gaussian_of_rho(share.text_counts)]


def test_unknown_size_has_a_budget_of_its_own() -> None:
    share = shares_of(config([TEXT], epsilon=3))
    assert share.size_epsilon == pytest.approx(0.06) and share.columns == {}
    assert account_of(config([TEXT], epsilon=3), 4500, 0.06) == Account(2.94, 1e-6), "the rest is planned after it"


@pytest.mark.parametrize("columns", [[LIST], [RANGE], [LIST, RANGE]])
def test_measured_columns_give_the_account_an_order(columns: list[Column]) -> None:
    chosen = config(columns, public_size=100)
    share, account = shares_of(chosen), account_of(chosen, 90, 0.0)
    alone = math.fsum(1 / (2 * m["noise_multiplier"] ** 2) for m in share.schema)
    assert alone == pytest.approx(rho_for(0.25 * 4.0, 1e-5)), "what they cost together, if alone"
    assert [m["delta"] for m in share.schema] == [pytest.approx(0.05 * 1e-5 / len(columns))] * len(columns)
    assert account.order == "all" and (account.epsilon, account.delta) == (4.0, 1e-5), "of marginals alone"
    trained = account_of(config([*columns, TEXT], public_size=100), 90, 0.0)
    assert trained.order in ORDERS and trained.failure == account.failure
    assert account.failure == pytest.approx(0.1 * 1e-5)
    assert account.fits([*share.schema, gaussian_of_rho(account.rho(share.schema))])


@pytest.mark.parametrize(("epsilon", "reach"), [(8.0, 0.85), (4.0, 1.21), (1.0, 3.06)])
def test_noise_of_training_where_only_the_size_is_measured(epsilon: float, reach: float) -> None:
    """Of a hybrid by default. The size has a budget of its own; then every parameter is fixed before the first touch."""
    chosen = config([BOUNDED, TEXT], epsilon=epsilon, delta=1e-5)
    account = account_of(chosen, 9000, shares_of(chosen).size_epsilon)
    plan = plan_training(chosen, account, 9000, [])
    assert account.order is None and 0.9 * reach < plan.noise_multiplier <= reach


def test_only_open_columns_share_the_schema_epsilon() -> None:
    columns: list[Column] = [RANGE, BOUNDED, Category(name="c", values=["x"]), *[Category(name=name) for name in "ab"]]
    columns[1] = BOUNDED.model_copy(update={"name": "m"})
    parts = shares_of(config(columns, unit="row", epsilon=3, schema_epsilon=1.5)).columns
    assert list(parts) == ["n", "a", "b"]
    assert [part.noise_multiplier for part in parts.values()] == [pytest.approx(math.sqrt(3 / (2 * rho_for(1.5, 1e-6))))] * 3
    assert [part.delta for part in parts.values()] == [pytest.approx(0.05 * 1e-6 / 3)] * 3


def test_measurements_take_all_rows_of_a_unit() -> None:
    parts = shares_of(config([Identifier(name="who"), LIST, RANGE], unit="who", max_rows_per_unit=4)).columns
    assert [part.contributions for part in parts.values()] == [4, 4]


@pytest.mark.parametrize("schema_epsilon", [3, 4])
def test_schema_epsilon_that_leaves_nothing_is_refused(schema_epsilon: float) -> None:
    with pytest.raises(ConfigError, match="leaves nothing"):
        shares_of(config([LIST], epsilon=3, schema_epsilon=schema_epsilon))


@settings(max_examples=5, deadline=None)
@given(
    columns=st.sampled_from([[TEXT], [LIST], [RANGE], [LIST, RANGE, TEXT], SETTLED]),
    size=st.none() | st.integers(1, 10**7),
    epsilon=st.floats(0.1, 30),
    delta=st.none() | st.floats(1e-12, 0.01),
    part=st.none() | st.floats(0.001, 0.5),
)
def test_a_planned_run_fills_its_account_and_no_more(
    columns: list[Column], size: int | None, epsilon: float, delta: float | None, part: float | None
) -> None:
    chosen = config(
        columns, public_size=size, epsilon=epsilon, delta=delta, schema_epsilon=None if part is None else part * epsilon
    )
    share = shares_of(chosen)
    account = account_of(chosen, 900, share.size_epsilon)
    assert account.epsilon + share.size_epsilon == pytest.approx(epsilon, rel=1e-12)
    assert account.delta == chosen.privacy.resolved_delta
    if TEXT in columns:
        plan = plan_training(chosen, account, 900, share.schema)
        mechanisms = [*share.schema, *share.counts, plan.all_steps]
    else:
        mechanisms = [*share.schema, gaussian_of_rho(account.rho(share.schema))]
    assert 0.97 * account.epsilon <= account.spent(mechanisms) <= account.epsilon * (1 + 1e-9)


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


def test_a_unit_that_counts_with_one_row_warns() -> None:
    text = rows_warning(config(VISITS, unit="who"))
    assert text is not None and "'who', one row is used" in text and "max_rows_per_unit" in text
    assert rows_warning(config(VISITS, unit="who", max_rows_per_unit=2)) is None
    assert rows_warning(config(VISITS)) is None


def test_no_value_of_five_percent_becomes_other_in_fifty_columns() -> None:
    """At epsilon 4 and 10,000 rows, of which 9,000 are trained on; less often than once in ten thousand tables."""
    parts = shares_of(config([Category(name=f"c{i}") for i in range(25)] + [Integer(name=f"n{i}") for i in range(25)], epsilon=4))
    one = parts.columns["c0"]
    plan = CategoriesPlan(one.noise_multiplier, one.delta, one.contributions)
    assert plan.threshold + 4 * plan.sigma < 0.05 * 9000


def test_what_is_open_says_how_many_units_it_needs() -> None:
    """Whatever the size is, where it is not known."""
    asked = config([RANGE, LIST, Category(name="ward"), TEXT], epsilon=4)
    lists, ranges = measurement_needs(asked)
    one = shares_of(asked).columns["kind"]
    threshold = CategoriesPlan(one.noise_multiplier, one.delta, one.contributions).threshold
    assert 0 <= lists.units - threshold / 0.05 / 0.9 < 100
    assert lists.text.startswith("The lists of 'kind', 'ward' will be measured. Each needs about")
    assert f"about {lists.units:,} units: values in fewer than about {threshold} rows become 'other'" in lists.text
    assert ranges.text.startswith("The range of 'n' will be measured. It needs about") and "Declare public ranges" in ranges.text
    assert measurement_needs(asked, lists.units - 1) == [lists, ranges] and lists.units < ranges.units
    assert measurement_needs(asked, lists.units) == [ranges] and measurement_needs(asked, ranges.units) == []
    assert measurement_needs(config([BOUNDED, TEXT])) == []
    (wide,) = measurement_needs(config([Integer(name=f"n{i}") for i in range(1500)], epsilon=50))
    assert "'n39' and 1,460 more will be measured" in wide.text and len(wide.columns) == 1500


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
    assert "2,000" in text and "with 20% of epsilon" in text and "'note'" in text and "data.columns" in text
    assert text_warning(config([TEXT]), 500) is None, "without its texts, nothing would be left"
    assert text_warning(config([BOUNDED]), 500) is None, "it is made from marginals as it is"


def test_force_keeps_warnings() -> None:
    assert accepted(500, force=True) == accepted(500) != []


def test_placeholders_fill_only_open_fields() -> None:
    schema = Schema(columns=[LIST, TEXT, Integer(name="n", min=3, max=4)])
    filled = forecast.with_placeholders(schema)
    assert not filled.unmeasured() and filled.columns[1:] == schema.columns[1:]


def test_marginals_alone_cost_less_than_the_whole_beside_a_measured_schema() -> None:
    for columns, fills in (([BOUNDED], True), ([RANGE, LIST], False)):
        wanted = config(columns, public_size=5000, epsilon=3)
        alone = epsilons_alone(wanted, account_of(wanted, 4500, 0.0), None)
        assert (alone["marginals"] == pytest.approx(3.0, rel=1e-6)) is fills and alone["marginals"] > 2.5
        assert ("schema" in alone) is not fills
