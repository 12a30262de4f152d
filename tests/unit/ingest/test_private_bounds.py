"""Measuring the schema: one budget in equal parts, charged first, with noise for all rows of a unit."""

import datetime as dt
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from localsynth.config import Config, DataConfig, PrivacyConfig
from localsynth.errors import BudgetError, ConfigError
from localsynth.ingest import private_bounds
from localsynth.ingest.measurement import Measurement
from localsynth.ingest.private_bounds import measure_column, measure_unit_count
from localsynth.pipeline.ingest import ingest
from localsynth.pipeline.session import Options, Session
from localsynth.planning.budgets import account_of, shares_of
from localsynth.privacy.gaussian import rho_for
from localsynth.privacy.grids import integer_grid
from localsynth.privacy.mechanisms import CategoriesPlan, CountPlan, RangePlan
from localsynth.privacy.noise import SecureRandom
from localsynth.schema.columns import Category, Column, Date, DateTime, Identifier, Integer, Number, Schema, Text
from localsynth.workspace.paths import Workspace
from tests.helpers.noisy_answers import spread_thinly, tell

OPEN: list[Column] = [
    Category(name="kind"),
    Integer(name="n"),
    Number(name="price", decimals=1),
    Date(name="day"),
    DateTime(name="moment"),
]
VALUES: dict[str, list[Any]] = {
    "kind": ["a"] * 400 + ["b"] * 300 + [None] * 9 + ["rare"],
    "n": [7] * 500 + [None] * 9,
    "price": [2.5] * 500,
    "day": [dt.date(2024, 5, 6)] * 500,
    "moment": [dt.datetime(2024, 5, 6, 7, 8, 9)] * 500,
}
RANDOM = SecureRandom()
BUDGET = Measurement(2.0, 1e-6, 3)


class Store:
    """Training rows of the columns in OPEN; notes in `log` that it was read."""

    def __init__(self, log: list[str] | None = None, values: dict[str, list[Any]] = VALUES) -> None:
        self.log, self._values = [] if log is None else log, values

    def column_counts(self, index: int, split: str) -> Counter[Any]:
        self.log.append(f"read {split}")
        return Counter(value for value in self._values[OPEN[index].name] if value is not None)


def measured(column: Column, budget: Measurement = BUDGET, values: list[Any] | None = None, **declared: Any) -> Any:
    index = [known.name for known in OPEN].index(column.name)
    store: Any = Store(values=VALUES if values is None else {column.name: values})
    return measure_column(column.model_copy(update=declared), index, store, budget, lambda what, mechanism: None, RANDOM)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every mechanism that is set up, in its order."""
    made: list[Any] = []
    for plan in (CountPlan, CategoriesPlan, RangePlan):

        def make(*arguments: Any, plan: Any = plan) -> Any:
            made.append(plan(*arguments))
            return made[-1]

        monkeypatch.setattr(private_bounds, plan.__name__, make)
    return made


COLUMNS = st.sampled_from(
    [
        *(column.model_copy() for column in OPEN),
        Integer(name="n", min=3),
        Integer(name="n", min=3, max=4),
        Category(name="kind", values=["x"]),
        Text(name="t"),
    ]
)


# --- what is charged, and when ----------------------------------------------------------------------------------------


def refuse(what: str, mechanism: dict[str, Any]) -> None:
    raise BudgetError("used up")


@pytest.mark.parametrize("column", OPEN, ids=lambda column: column.kind)
def test_measurement_is_charged_once_beforehand(column: Column, plans: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    for plan in (CategoriesPlan, RangePlan):
        release = plan.release
        monkeypatch.setattr(
            plan, "release", lambda self, v, random, release=release: (log.append("release"), release(self, v, random))[1]
        )
    charged: list[Any] = []

    def charge(what: str, mechanism: dict[str, Any]) -> None:
        log.append("charge")
        charged.append((what, mechanism))

    store: Any = Store(log)
    measure_column(column, OPEN.index(column), store, BUDGET, charge, RANDOM)
    assert log.index("charge") < log.index("release") and log.count("release") == log.count("charge") == 1
    assert set(log) == {"charge", "release", "read train"}, "the holdout is not measured"
    price = {"type": "thresholded_gaussian", "noise_multiplier": 2.0, "delta": 1e-6}
    ((what, mechanism),) = charged
    assert mechanism == price == plans[0].mechanism and len(plans) == 1
    assert column.name in what


@pytest.mark.parametrize("column", OPEN, ids=lambda column: column.kind)
def test_a_refused_charge_measures_nothing(column: Column, monkeypatch: pytest.MonkeyPatch) -> None:
    for plan in (CategoriesPlan, RangePlan):
        monkeypatch.setattr(plan, "release", lambda self, values, random: pytest.fail("measured without a charge"))
    store: Any = Store()
    with pytest.raises(BudgetError):
        measure_column(column, OPEN.index(column), store, BUDGET, refuse, RANDOM)


@pytest.mark.parametrize("column", OPEN, ids=lambda column: column.kind)
def test_nothing_is_read_before_the_charge(column: Column) -> None:
    log: list[str] = []
    store: Any = Store(log)
    with pytest.raises(BudgetError):
        measure_column(column, OPEN.index(column), store, BUDGET, refuse, RANDOM)
    assert log == []


def test_a_refused_charge_counts_no_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CountPlan, "release", lambda self, units: pytest.fail("counted without a charge"))
    with pytest.raises(BudgetError):
        measure_unit_count(900, 1.0, refuse)


# --- how much noise ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contributions", [1, 3, 20])
@pytest.mark.parametrize("column", OPEN, ids=lambda column: column.kind)
def test_noise_covers_all_rows_of_a_unit(column: Column, contributions: int, plans: list[Any]) -> None:
    """The deviation of each count is the charged multiple of what one unit's rows can move it by."""
    measured(column, Measurement(1.5, 1e-6, contributions))
    (plan,) = plans
    moved = contributions * (3 if isinstance(plan, RangePlan) else 1)  # a row counts in nine histograms for a range
    assert plan.sigma == pytest.approx(1.5 * moved) and plan.mechanism["noise_multiplier"] == 1.5


def test_unit_counts_once_in_the_number_of_units(plans: list[Any]) -> None:
    charged: list[Any] = []
    released = [measure_unit_count(1000, 1.0, lambda what, mechanism: charged.append(mechanism)) for _ in range(40)]
    assert 0.999 <= plans[0]._measure.map(1) <= 1.0
    assert charged == [{"type": "pure_dp", "epsilon": 1.0}] * 40
    assert len(set(released)) > 2 and abs(float(np.mean(released)) - 1000) < 5


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_measured_list_has_frequent_values_and_other() -> None:
    column = measured(OPEN[0])
    assert column.values == ["a", "b", "other"] and column.other == "other" and column.measured == ["values"]


def test_name_of_other_is_declared_or_unused() -> None:
    assert measured(OPEN[0], other="else").values == ["a", "b", "else"]
    assert measured(OPEN[0], other="a").values == ["b", "a"], "the user's own name, though it is a frequent value too"
    busy = measured(OPEN[0], values=["other"] * 500 + ["other_"] * 400)
    assert busy.values == ["other", "other_", "other__"] and busy.other == "other__"


def test_a_table_without_values_still_gets_a_list_and_a_range() -> None:
    assert measured(OPEN[0], values=[]).values == ["other"]
    column = measured(OPEN[1], values=[None, None])
    assert column.min <= column.max and not column.unmeasured()


@pytest.mark.parametrize("column", OPEN[1:], ids=lambda column: column.kind)
def test_measured_range_holds_the_values(column: Column) -> None:
    settled = measured(column)
    value = next(value for value in VALUES[column.name] if value is not None)
    assert settled.min <= value <= settled.max and settled.measured[:2] == ["min", "max"] and settled.common == [value]
    assert type(settled.min) is type(settled.max) is type(value)
    assert type(settled).model_validate(settled.model_dump()) == settled


def test_declared_bounds_are_kept_as_declared() -> None:
    low = measured(OPEN[1], min=-1_000_003)
    assert low.min == -1_000_003 and low.max >= 7 and low.measured[0] == "max"
    high = measured(OPEN[3], max=dt.date(2031, 2, 3))
    assert high.max == dt.date(2031, 2, 3) and high.min <= dt.date(2024, 5, 6) and high.measured[0] == "min"


def test_a_declared_bound_wins_over_data_beyond_it() -> None:
    assert [(c.min, c.max) for c in [measured(OPEN[1], min=10**9)]] == [(10**9, 10**9)]
    assert [(c.min, c.max) for c in [measured(OPEN[1], max=-(10**9))]] == [(-(10**9), -(10**9))]


def test_a_range_that_the_noise_hides_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """On noisy answers alone, whatever the column holds. It names the column and says what to do."""
    tell(monkeypatch, *spread_thinly(RangePlan(50.0, 1e-6, 3, integer_grid()), 5.5))
    for values in ([None] * 9, [7], [7] * 500):
        with pytest.raises(ConfigError, match="range of column 'n'") as caught:
            measured(OPEN[1], Measurement(50.0, 1e-6, 3), values)
        assert "min and max" in caught.value.hint
    tell(monkeypatch, [])
    for values in ([None] * 9, [7], [7] * 500):
        assert not measured(OPEN[1], Measurement(50.0, 1e-6, 3), values).unmeasured()


@pytest.mark.parametrize("column", OPEN, ids=lambda column: column.kind)
def test_a_measured_column_follows_from_noisy_answers_alone(column: Column, monkeypatch: pytest.MonkeyPatch) -> None:
    values = sorted({value for value in VALUES[column.name] if value is not None})
    tell(monkeypatch, *[[9000]] * (1 if column.kind == "category" else 3))
    found = [measured(column, values=values * times + [None] * times) for times in (1, 700)]
    assert found[0] == found[1] and not found[0].unmeasured()


def test_frequent_values_and_the_step_belong_to_the_column() -> None:
    amounts = measured(OPEN[2], values=[0.5] * 3000 + [9.5] * 3000 + [-99.0] * 3000)
    assert amounts.common == [-99.0, 0.5, 9.5] and amounts.step == 0.5 and amounts.min <= -99 and amounts.max >= 9.5
    assert (amounts.min * 10) % 5 == 0 and set(amounts.measured) >= {"min", "max", "common", "step"}
    declared = measured(OPEN[2], values=[0.5] * 3000 + [9.5] * 3000, common=[1.0], step=0.1)
    assert (declared.common, declared.step) == ([1.0], 0.1) and not {"common", "step"} & set(declared.measured)
    beyond = measured(OPEN[1], values=[7] * 900 + [-999] * 900, min=0)
    assert beyond.common == [7], "a declared bound wins"


# --- the stage --------------------------------------------------------------------------------------------------------


def ingested(workspace: Workspace, tmp_path: Path, **privacy: Any) -> tuple[Config, dict[str, Any], list[dict[str, Any]]]:
    source = tmp_path / "t.csv"
    rows = "".join(f"p{i % 300},{'ab'[i % 2]},{i % 40},{i % 3}\n" for i in range(900))
    source.write_text("who,kind,n,m\n" + rows)
    schema = Schema(columns=[Identifier(name="who"), Category(name="kind"), Integer(name="n"), Integer(name="m", min=0)])
    config = Config(
        data=DataConfig(source=str(source)), schema=schema, privacy=PrivacyConfig(epsilon=8, schema_epsilon=4, **privacy)
    )
    ingest(Session(workspace, config, lambda event: None, lambda: False, Options()))
    events = json.loads(workspace.ledger_path.read_text())["events"]
    return config, json.loads(workspace.schema_path.read_text()), events


@pytest.mark.parametrize("rows", [3, 11])
def test_stage_measures_with_max_rows_and_charges_once(workspace: Workspace, tmp_path: Path, plans: list[Any], rows: int) -> None:
    config, document, events = ingested(workspace, tmp_path, unit="who", max_rows_per_unit=rows)
    assert [type(plan).__name__ for plan in plans] == ["CountPlan", "CategoriesPlan", "RangePlan", "RangePlan"]
    share = shares_of(config)
    assert plans[0]._measure.map(1) <= 0.02 * 8 < plans[0]._measure.map(1) * 1.001
    noise = math.sqrt(3 / (2 * rho_for(4.0, config.privacy.resolved_delta)))
    assert [plan.sigma for plan in plans[1:]] == pytest.approx([noise * rows, *2 * [noise * rows * 3]])
    spends = [event for event in events if event["kind"] == "spend"]
    assert [event["mechanism"] for event in spends] == [plan.mechanism for plan in plans]
    opened = [event for event in events if event["kind"] == "budget"]
    assert [(event["budget"], event["epsilon"], event["delta"]) for event in opened] == [
        ("ingest-size", share.size_epsilon, 0.0),
        ("ingest", 8 - share.size_epsilon, config.privacy.resolved_delta),
    ]
    units = document["size"]["units"]
    assert opened[1]["order"] == account_of(config, round(units * (1 - config.privacy.holdout)), share.size_epsilon).order
    assert opened[1]["basis"] == {"unit": "who", "max_rows_per_unit": rows, "size_declared": False}
    assert set(document["measured_by"].values()) == {event["index"] for event in spends} and len(spends) == 4


def test_a_declared_size_is_not_measured(workspace: Workspace, tmp_path: Path, plans: list[Any]) -> None:
    _, document, _ = ingested(workspace, tmp_path, public_size=900)
    assert [type(plan).__name__ for plan in plans] == ["CategoriesPlan", "RangePlan", "RangePlan"]
    assert document["size"] == {"units": 900, "origin": "declared"}


def test_usable_descriptions_of_a_measured_list_stay() -> None:
    """What the noise hides has no description left to state, and no value may read like another one with its description."""
    descriptions = {"a": "b", "never found": "x", "c": "d", "other": "all the rest"}
    column = measured(OPEN[0], values=["a", "a (b)", "c"] * 4000, descriptions=descriptions)
    assert column.descriptions == {"c": "d", "other": "all the rest"}
    assert Category.model_validate(column.model_dump()) == column, "schema.json can be read again"
