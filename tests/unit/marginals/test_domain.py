import datetime as dt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localsynth.errors import ConfigError, DataError
from localsynth.marginals.conditions import allowed_ordinals
from localsynth.marginals.domain import EQUAL_WIDTH_BINS, MAX_SINGLE_BINS, Attribute, Domain, length_attribute
from localsynth.marginals.measure import MarginalSettings, measure_marginals
from localsynth.privacy.gaussian import rho_for
from localsynth.privacy.noise import SecureRandom
from localsynth.schema.columns import Boolean, Category, Date, DateTime, Integer, Number, Record, Schema, Text, Time, conform
from localsynth.schema.conditions import Allowed

STEPS: list[Any] = [
    Integer(name="n", min=1, max=24, step=5, nullable=False),
    Number(name="price", min=0, max=0.19, step=0.05, nullable=False),
    DateTime(name="moment", min=dt.datetime(2024, 1, 1), max=dt.datetime(2024, 1, 1, 23, 30), step=3600, nullable=False),
    Time(name="time", format="%H:%M", nullable=False),
]
WIDE: list[tuple[Any, list[Any]]] = [
    (Integer(name="x", min=-1000, max=1_000_000), [-1000, 0, 1_000_000]),
    (Integer(name="x", min=-(2**62), max=2**62, common=[-999, 10**13 + 1]), [-999, 0, 10**13 + 1]),
    (Number(name="x", min=0, max=5000, common=[4.99, 49.0], measured=["min", "max", "common"]), [0.0, 4.99, 49.0]),
    (Date(name="x", min=dt.date(1900, 1, 1), max=dt.date(9999, 12, 31)), [dt.date(9999, 12, 31)]),
]


@st.composite
def columns(draw: st.DrawFn) -> Any:
    nullable = draw(st.booleans())
    kind = draw(st.sampled_from(["category", "boolean", "integer", "number", "date", "datetime"]))
    if kind == "category":
        values = draw(st.lists(st.text(max_size=3), min_size=1, max_size=6, unique=True))
        return Category(name="x", values=values, other=draw(st.sampled_from([None, "other"])), nullable=nullable)
    if kind == "boolean":
        return Boolean(name="x", nullable=nullable)
    if kind == "integer":
        low = draw(st.integers(-(2**62), 2**62))
        return Integer(name="x", min=low, max=draw(st.integers(low, 2**62)), nullable=nullable)
    if kind == "number":
        decimals = draw(st.integers(0, 9))
        scale = 10**decimals
        low = draw(st.integers(-(10**6), 10**6))
        high = draw(st.integers(low, 10**7))
        return Number(name="x", min=low / scale, max=high / scale, decimals=decimals, nullable=nullable)
    if kind == "date":
        low_day = draw(st.dates())
        return Date(name="x", min=low_day, max=draw(st.dates(min_value=low_day)), nullable=nullable)
    low_moment = draw(st.datetimes()).replace(microsecond=0)
    high_moment = draw(st.datetimes(min_value=low_moment)).replace(microsecond=0)
    return DateTime(name="x", min=low_moment, max=max(low_moment, high_moment), nullable=nullable)


@settings(max_examples=300, deadline=None)
@given(columns(), st.data())
def test_decoded_values_conform_and_encode_to_their_bin(column: Any, data: st.DataObject) -> None:
    schema = Schema(columns=[column])
    attribute = Domain.of_schema(schema)["x"]
    assert Attribute.from_json(attribute.to_json()) == attribute
    for bin_ in range(attribute.size):
        value = attribute.decode(bin_, data.draw(st.floats(0, 1, exclude_max=True)))
        assert attribute.encode(value) == bin_
        assert conform(schema, {"x": value}) == {"x": value}


@settings(max_examples=200, deadline=None)
@given(columns(), st.data())
def test_decoded_bin_contains_the_encoded_value(column: Any, data: st.DataObject) -> None:
    attribute = Domain.of_schema(Schema(columns=[column]))["x"]
    if isinstance(column, Integer):
        value = data.draw(st.integers(column.min, column.max))
        bin_ = attribute.encode(value)
        assert attribute.decode(bin_, 0.0) <= value <= attribute.decode(bin_, 1 - 2**-53)
    elif isinstance(column, Category):
        value = data.draw(st.sampled_from(column.allowed()))
        assert attribute.decode(attribute.encode(value), 0.5) == value


@pytest.mark.parametrize(("column", "shared"), WIDE)
def test_bins_are_few_and_shared_values_have_their_own(column: Any, shared: list[Any]) -> None:
    attribute = Domain.of_schema(Schema(columns=[column]))["x"]
    assert attribute.size <= EQUAL_WIDTH_BINS + 300, "of equal width, and by round numbers"
    for alone in shared:
        assert {attribute.decode(attribute.encode(alone), u) for u in (0.0, 0.5, 0.999)} == {alone}


def test_few_values_have_a_bin_each() -> None:
    few = Domain.of_schema(Schema(columns=[Integer(name="x", min=1, max=MAX_SINGLE_BINS, nullable=False)]))["x"]
    assert few.size == MAX_SINGLE_BINS
    assert [few.encode(value) for value in (1, 2, MAX_SINGLE_BINS)] == [0, 1, MAX_SINGLE_BINS - 1]


def test_values_beyond_a_measured_bound_share_the_outer_bin() -> None:
    """They are clamped to the bound: a bin of its own would make it one odd number in many rows."""
    column = Integer(name="x", min=1, max=20_000, nullable=False, measured=["min", "max"])
    attribute = Domain.of_schema(Schema(columns=[column]))["x"]
    values = {attribute.decode(attribute.encode(20_000), uniform) for uniform in np.linspace(0, 0.999, 50)}
    assert len(values) > 20 and max(values) == 20_000


def test_a_step_leaves_its_multiples_from_the_lower_bound_on() -> None:
    domain = Domain.of_schema(Schema(columns=STEPS))
    held = {a.name: [a.decode(bin_, 0.7) for bin_ in range(a.size)] for a in domain.attributes}
    assert held["n"] == [1, 6, 11, 16, 21]
    assert held["price"] == [0.0, 0.05, 0.1, 0.15]
    assert held["moment"][:2] == [dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, 1)] and len(held["moment"]) == 24
    assert domain["time"].starts[-1] == 1440, "the format has no seconds"
    n = domain["n"]
    assert [n.encode(value) for value in (1, 3, 4, 21, 24)] == [0, 0, 1, 4, 4], "the nearest value inside the bounds"
    requested = allowed_ordinals(n, Allowed(n.column, intervals=((2, 11),)))
    assert [requested.fraction(bin_) for bin_ in range(n.size)] == [0, 1, 1, 0, 0]


def test_a_step_finer_than_the_decimals_is_refused() -> None:
    assert Number(name="x", decimals=2, step=0.05).step == 0.05
    with pytest.raises(ValueError, match="more than 2 digits"):
        Number(name="x", decimals=2, step=0.001)


def test_a_missing_value_has_the_last_bin() -> None:
    attribute = Domain.of_schema(Schema(columns=[Category(name="x", values=["a"], other="other")]))["x"]
    assert [attribute.encode(value) for value in ("a", "other", None)] == [0, 1, 2]
    assert attribute.decode(2, 0.3) is None


def test_text_is_excluded_but_its_length_can_be_included() -> None:
    schema = Schema(columns=[Boolean(name="sick", nullable=False), Text(name="note")])
    domain = Domain.of_schema(schema, [length_attribute("note.tokens", [0, 1, 8, 32, 129], nullable=True)])
    assert domain.names == ["sick", "note.tokens"]
    codes = domain.encode([{"sick": True, "note.tokens": 31}, {"sick": False, "note.tokens": None}])
    assert codes["note.tokens"].tolist() == [2, 4]
    assert domain["note.tokens"].decode(2, 0.0) == 8 and domain["note.tokens"].decode(2, 0.9999) == 31


def test_invalid_domains_are_refused() -> None:
    with pytest.raises(ConfigError, match="ascend"):
        length_attribute("x", [0, 4, 4], nullable=False)
    schema = Schema(columns=[Boolean(name="x")])
    with pytest.raises(ConfigError, match="two columns"):
        Domain.of_schema(schema, [length_attribute("x", [0, 4], nullable=False)])
    with pytest.raises(ConfigError, match="No column"):
        Domain.of_schema(Schema(columns=[Text(name="note")]))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (Integer(name="x", min=0, max=5), 6),
        (Integer(name="x", min=0, max=5), -1),
        (Category(name="x", values=["a"]), "secret"),
        (Boolean(name="x", nullable=False), None),
        (Date(name="x", min=dt.date(2020, 1, 1), max=dt.date(2021, 1, 1)), "secret"),
    ],
)
def test_value_outside_the_schema_is_located_not_quoted(column: Any, value: Any) -> None:
    domain = Domain.of_schema(Schema(columns=[column]))
    fine = domain["x"].decode(0, 0.0)
    with pytest.raises(DataError) as caught:
        domain.encode([{"x": fine}, {"x": value}])
    assert "Row 2" in caught.value.message and "'x'" in caught.value.message
    assert "secret" not in caught.value.message + caught.value.hint
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_small_amounts_have_bins_at_every_magnitude() -> None:
    schema = Schema(columns=[Number(name="amount", min=-50, max=100_000, decimals=2, nullable=False)])
    attribute = Domain.of_schema(schema)["amount"]
    held = {attribute.decode(attribute.encode(value), 0.0) for value in (0.0, 0.01, 0.1, 0.5, 5.0, 10.0, 50.0, 200.0)}
    assert len(held) == 8, "each has another bin"
    assert len(attribute.starts) < 130


def test_skewed_amounts_keep_their_distribution() -> None:
    rng = np.random.default_rng(0)
    amounts = np.round(np.exp(rng.normal(4.0, 1.3, 10_000)), 2).clip(0, 100_000)
    schema = Schema(columns=[Number(name="amount", min=0, max=100_000, decimals=2, nullable=False)])
    domain = Domain.of_schema(schema)
    rows: list[Record] = [{"amount": float(amount)} for amount in amounts]
    model = measure_marginals(
        domain, domain.encode(rows), rho_for(1.0, 1e-5), SecureRandom(), MarginalSettings(), lambda *_: None
    )
    drawn = np.array([float(str(row["amount"])) for row in model.sample(10_000, 0)])
    places = np.quantile(amounts, np.linspace(0.05, 0.95, 19))
    apart = np.abs((drawn[:, None] <= places).mean(axis=0) - np.linspace(0.05, 0.95, 19)).max()
    assert apart < 0.06  # 0.67 with bins of equal width
