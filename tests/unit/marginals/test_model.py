"""Drawing from a model: conditions, repeatability, and the JSON that holds it all."""

import copy
import datetime as dt
import itertools
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from localsynth.errors import ConfigError, IntegrityError
from localsynth.marginals.bin_merging import MergedBins
from localsynth.marginals.conditions import allowed_ordinals
from localsynth.marginals.domain import Domain, length_attribute
from localsynth.marginals.inference import Factor
from localsynth.marginals.measure import measure_marginals
from localsynth.marginals.model import MarginalModel
from localsynth.schema.columns import Boolean, Category, Date, Integer, Number, Record, Schema, conform
from localsynth.schema.conditions import Allowed, Conditions
from localsynth.schema.ordinals import from_ordinal
from localsynth.schema.where import parse_where
from tests.helpers.seeded_random import InsecureRandom


@pytest.fixture(scope="module")
def model(small_schema: Schema, rows_of: Callable[[int], list[Record]]) -> MarginalModel:
    domain = Domain.of_schema(small_schema)
    return measure_marginals(domain, domain.encode(rows_of(3000)), 0.05, InsecureRandom(0))


@pytest.fixture(scope="module")
def by_hand() -> MarginalModel:
    """Three columns in a triangle; the values 1 to 4 of x are one group, shared 1 : 2 : 0 : 1."""
    schema = Schema(
        columns=[
            Integer(name="x", min=0, max=4, nullable=False),
            Category(name="y", values=["a", "b"], nullable=True),
            Boolean(name="z", nullable=False),
        ]
    )
    numbers = np.random.default_rng(0)
    merged_bins = {
        "x": MergedBins((0, 1, 1, 1, 1), (1.0, 0.25, 0.5, 0.0, 0.25)),
        "y": MergedBins((0, 1, 2), (1.0, 1.0, 1.0)),
        "z": MergedBins((0, 1), (1.0, 1.0)),
    }
    shapes = {("x", "y"): (2, 3), ("z", "y"): (2, 3), ("x", "z"): (2, 2)}
    potentials = [Factor(names, numbers.normal(size=shape)) for names, shape in shapes.items()]
    return MarginalModel(Domain.of_schema(schema), merged_bins, 100.0, potentials, [], 1.0, [], "none")


def exact(model: MarginalModel) -> dict[tuple[Any, ...], float]:
    """The chance of each row, by going through all of them."""
    chances = {}
    for bins in itertools.product(*[range(a.size) for a in model.domain.attributes]):
        place = dict(zip(model.domain.names, bins, strict=True))
        group = {name: model.merged_bins[name].groups[bin_] for name, bin_ in place.items()}
        weight = float(np.exp(sum(f.table[tuple(group[name] for name in f.names)] for f in model.potentials)))
        for name, bin_ in place.items():
            weight *= model.merged_bins[name].shares[bin_]
        chances[tuple(a.decode(bin_, 0.5) for a, bin_ in zip(model.domain.attributes, bins, strict=True))] = weight
    total = sum(chances.values())
    return {row: weight / total for row, weight in chances.items()}


def where(domain: Domain, text: str) -> Conditions:
    """What --where would make of a condition on these columns."""
    return parse_where(text, Schema(columns=[attribute.column for attribute in domain.attributes]))


CONDITIONS: list[tuple[str, Callable[[Any, Any, Any], bool]]] = [
    ("", lambda x, y, z: True),
    ("x >= 2", lambda x, y, z: x >= 2),
    ("x BETWEEN 1 AND 2 AND z", lambda x, y, z: 1 <= x <= 2 and z),
    ("x IN (0, 4) AND (y = 'a' OR y IS NULL)", lambda x, y, z: x in (0, 4) and y in ("a", None)),
    ("y IS NULL", lambda x, y, z: y is None),
]


@pytest.mark.parametrize(("text", "holds"), CONDITIONS)
def test_rows_follow_the_exact_conditional_distribution(
    by_hand: MarginalModel, text: str, holds: Callable[[Any, Any, Any], bool]
) -> None:
    n, given = 40_000, where(by_hand.domain, text) if text else {}
    counts = Counter(tuple(row.values()) for row in by_hand.sample(n, 11, given))
    allowed = {row: chance for row, chance in exact(by_hand).items() if holds(*row) and chance > 0}
    assert set(counts) <= set(allowed)
    scale = n / sum(allowed.values())
    chi_squared = sum((counts[row] - scale * chance) ** 2 / (scale * chance) for row, chance in allowed.items())
    assert chi_squared < len(allowed) + 5 * np.sqrt(2 * len(allowed))


def test_values_with_zero_noisy_count_can_be_requested(by_hand: MarginalModel) -> None:
    assert {row["x"] for row in by_hand.sample(50, 0, where(by_hand.domain, "x = 3"))} == {3}


def test_partly_allowed_bin_has_proportional_weight() -> None:
    attribute = length_attribute("x", [0, 4, 10], nullable=False)
    model = MarginalModel(Domain((attribute,)), {"x": MergedBins((0, 1), (1.0, 1.0))}, 1.0, [], [], 1.0, [], "none")
    drawn = [row["x"] for row in model.sample(8000, 0, where(model.domain, "x >= 3"))]
    # A quarter of the first bin, against all of the second: one in five.
    assert drawn.count(3) / 8000 == pytest.approx(0.2, abs=0.02)
    assert set(drawn) == set(range(3, 10))


def test_rows_conform_and_meet_range_conditions(model: MarginalModel, small_schema: Schema) -> None:
    assert all(conform(small_schema, row) == row for row in model.sample(2000, 5))
    drawn = model.sample(2000, 5, where(model.domain, "dose BETWEEN 12.44 AND 12.91"))
    assert {row["dose"] for row in drawn} == {12.5, 12.6, 12.7, 12.8, 12.9}
    assert {row["dose"] for row in model.sample(200, 5, where(model.domain, "dose IN (0, 33.3)"))} <= {0.0, 33.3}
    assert {row["dose"] for row in model.sample(20, 5, where(model.domain, "dose = 33.3"))} == {33.3}


def test_a_row_depends_on_seed_and_number_alone(model: MarginalModel) -> None:
    whole = model.sample(40_000, 3)
    assert model.sample(100, 3) == whole[:100]
    assert model.sample(30, 3, start=16_380) == whole[16_380:16_410]
    assert model.sample(5, 3, start=39_990) == whole[39_990:39_995]
    assert model.sample(100, 4) != whole[:100]
    assert model.sample(0, 3) == []


def test_model_read_from_json_samples_the_same(model: MarginalModel) -> None:
    tree = json.loads(json.dumps(model.to_json(), allow_nan=False))
    again = MarginalModel.from_json(tree)
    assert again.to_json() == model.to_json()
    sick = where(model.domain, "sick")
    assert again.sample(500, 9, sick) == model.sample(500, 9, sick)
    assert [spend.rho for spend in again.spends] == [spend.rho for spend in model.spends]


def test_json_has_exactly_the_documented_keys(model: MarginalModel) -> None:
    """Whatever is added here is published: it must be noisy, or public."""
    tree = model.to_json()
    assert set(tree) == {"format", "attributes", "merged_bins", "total", "potentials", "measured", "rho", "spends", "noise"}
    for part, keys in {
        "attributes": {"column", "starts"},
        "potentials": {"columns", "logarithms"},
        "measured": {"columns", "counts", "sigma", "weights"},
        "spends": {"kind", "parameter", "columns"},
    }.items():
        assert tree[part] and all(set(entry) == keys for entry in tree[part])
    assert all(set(entry) == {"groups", "shares"} for entry in tree["merged_bins"].values())


def test_a_damaged_file_is_refused(model: MarginalModel) -> None:
    for damage in (
        {"format": 2},
        {"merged_bins": {}},
        {"merged_bins": []},
        {"rows": 3000},
        {"spends": [{"kind": "foo", "parameter": 1.0, "columns": []}]},
        {"spends": [{"kind": "gaussian", "parameter": 1e-200, "columns": ["sick"]}]},
        {"total": True},
        {"total": float("nan")},
        {"potentials": [{"columns": ["sick"], "logarithms": [0.0]}]},
        {"attributes": [{"column": {"kind": "text", "name": "x"}, "starts": [0, 1]}]},
    ):
        with pytest.raises(IntegrityError):
            MarginalModel.from_json({**model.to_json(), **damage})


def _other_columns(tree: dict[str, Any]) -> None:
    next(spend for spend in tree["spends"] if not spend["columns"])["columns"] = {}


@pytest.mark.parametrize(
    "change",
    [
        _other_columns,
        lambda tree: tree["attributes"][0]["column"].update(min="0"),
        lambda tree: tree["attributes"][3]["column"].update(nullable="true"),
        lambda tree: tree["merged_bins"]["sick"]["shares"].__setitem__(0, "1"),
    ],
    ids=["no columns", "bound", "flag", "share"],
)
def test_json_of_other_types_is_refused(model: MarginalModel, change: Callable[[dict[str, Any]], None]) -> None:
    """A value of another kind that Python takes for the same one."""
    tree = copy.deepcopy(model.to_json())
    change(tree)
    assert tree != model.to_json()
    with pytest.raises(IntegrityError):
        MarginalModel.from_json(tree)


def test_conditions_without_rows_are_refused(model: MarginalModel) -> None:
    column = model.domain["age"].column
    for given in ({"nothing": Allowed(column, intervals=((0, 1),))}, {"age": Allowed(column, intervals=((1000, 2000),))}):
        with pytest.raises(ConfigError):
            model.sample(1, 0, given)


def test_ranges_of_dates_and_off_grid_numbers() -> None:
    days = Domain.of_schema(Schema(columns=[Date(name="x", min=dt.date(2000, 1, 1), max=dt.date(2020, 12, 31))]))["x"]
    allowed = allowed_ordinals(days, where(Domain((days,)), "x BETWEEN '2010-03-04' AND '2010-03-06'")["x"])
    assert values_of(days, allowed, (0.0, 0.4, 0.9999)) == {dt.date(2010, 3, 4), dt.date(2010, 3, 5), dt.date(2010, 3, 6)}
    numbers = Domain.of_schema(Schema(columns=[Number(name="x", min=-2.0, max=2.0, decimals=1, nullable=False)]))["x"]
    between = allowed_ordinals(numbers, where(Domain((numbers,)), "x BETWEEN -0.26 AND 0.04")["x"])
    assert values_of(numbers, between, (0.0,)) == {-0.2, -0.1, 0.0}


def test_ordinals_beyond_64_bits_are_exact() -> None:
    column = Number(name="x", min=0.0, max=1e15, decimals=9, nullable=False)
    wide = Domain.of_schema(Schema(columns=[column]))["x"]
    last = allowed_ordinals(wide, None).pick(np.array([wide.size - 1, wide.size - 1]), np.array([0.0, 0.999999]))
    assert last.tolist() == [int(1e24)] * 2


def values_of(attribute, allowed, uniforms):
    bins = [b for b in range(attribute.size) if allowed.fraction(b)]
    picked = allowed.pick(np.repeat(bins, len(uniforms)), np.tile(uniforms, len(bins)))
    return {from_ordinal(attribute.column, ordinal) for ordinal in picked.tolist()}
