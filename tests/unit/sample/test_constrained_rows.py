"""Every row satisfies the constraints, and rejected rows follow the model given the constraints."""

import datetime as dt
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from localsynth.marginals.bin_merging import MergedBins
from localsynth.marginals.domain import Domain
from localsynth.marginals.inference import Factor
from localsynth.marginals.model import MarginalModel
from localsynth.sample import structured_rows
from localsynth.sample.candidates import Request
from localsynth.schema.columns import Boolean, Category, Column, Date, Integer, Number, Record, Schema, Text, conform
from localsynth.schema.conditions import Conditions
from localsynth.schema.feasible import FeasibleSet
from localsynth.schema.where import parse_where
from tests.helpers.sampling import open_sampler

COLUMNS: list[Column] = [
    Category(name="sex", values=["F", "M"], nullable=False),
    Boolean(name="pregnant"),
    Integer(name="low", min=0, max=40, nullable=False),
    Number(name="high", min=0, max=30, decimals=1),
    Date(name="admission", min=dt.date(2020, 1, 1), max=dt.date(2020, 12, 31), nullable=False),
    Date(name="discharge", min=dt.date(2020, 1, 1), max=dt.date(2021, 1, 31)),
]
CONSTRAINTS = [
    "discharge >= admission",
    "pregnant => sex = 'F'",
    "low <= high",
    "pregnant => low BETWEEN 12 AND 50",
    "sex = 'M' OR discharge IS NOT NULL",
    "low < 5 => pregnant IS NULL",
    "admission <> discharge",
    "high = low",
    "NOT (pregnant AND discharge > '2020-06-30')",
]
CONDITIONS = [
    None,
    "pregnant",
    "discharge < '2020-02-10'",
    "low = 30 AND sex = 'M'",
    "discharge = '2020-07-01' AND high IS NULL",
    "admission BETWEEN '2020-12-30' AND '2020-12-31'",
]


def schema_of(constraints: list[str]) -> Schema:
    return Schema(columns=COLUMNS, constraints=constraints)


def random_model(schema: Schema, seed: int) -> MarginalModel:
    """Of pairs of neighbouring columns, with few groups of many bins, as noise makes them."""
    numbers = np.random.default_rng(seed)
    domain = Domain.of_schema(schema)
    merged_bins = {}
    for attribute in domain.attributes:
        values = attribute.size - (attribute.missing is not None)
        groups = [i * min(4, values) // values for i in range(values)]
        groups += [max(groups) + 1] if attribute.missing is not None else []
        widths = Counter(groups)
        merged_bins[attribute.name] = MergedBins(tuple(groups), tuple(1 / widths[group] for group in groups))
    pairs = itertools.pairwise(domain.names)
    tables = [Factor(pair, numbers.normal(size=tuple(merged_bins[name].size for name in pair)) * 2) for pair in pairs]
    return MarginalModel(domain, merged_bins, 100.0, tables, [], 1.0, [], "none")


def asked(condition: str | None, schema: Schema) -> Conditions:
    return parse_where(condition, schema) if condition else {}


def drawn(model: MarginalModel, schema: Schema, conditions: Conditions, places: list[int], seed: int = 3) -> list[Record]:
    rows = structured_rows.StructuredRows(model, schema, seed).rows(places, lambda number: conditions)
    return [rows[number] for number in places]


def check(rows: list[Record], schema: Schema, conditions: Conditions) -> None:
    for row in rows:
        assert conform(schema, row) == row
        assert not any(constraint.violated(row) for constraint in schema.read_constraints())
        assert all(row[name] in allowed for name, allowed in conditions.items())


constraints = st.lists(st.sampled_from(CONSTRAINTS), min_size=1, max_size=5, unique=True)


@settings(max_examples=20, deadline=None)
@given(constraints, st.sampled_from(CONDITIONS), st.integers(0, 99), st.sampled_from([1, 2, 20]))
def test_rows_from_marginals_keep_the_constraints(texts, condition, seed, tries):
    """Drawn again, and with fewer tries mended."""
    schema = schema_of(texts)
    conditions = asked(condition, schema)
    assume(FeasibleSet(schema).witness(conditions) is not None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structured_rows, "MAX_ATTEMPTS", tries)
        model = random_model(schema, seed)
        places = list(range(7, 47))
        rows = drawn(model, schema, conditions, places)
        check(rows, schema, conditions)
        assert drawn(model, schema, conditions, places[3:9]) == rows[3:9], "a row is the same whichever others are drawn"


@settings(max_examples=12, deadline=None)
@given(constraints, st.sampled_from(CONDITIONS), st.integers(0, 99))
def test_rows_of_the_language_model_keep_the_constraints(tiny_model, texts, condition, seed):
    schema = schema_of(texts)
    conditions = asked(condition, schema)
    assume(FeasibleSet(schema).witness(conditions) is not None)
    with open_sampler(tiny_model(), schema, batch_size=8, seed=seed, candidates=3) as sampler:
        rows = [row for _, row in sampler.rows(Request(number, conditions) for number in range(10))]
        check(rows, schema, conditions)
        assert sampler.statistics.rejected <= 5, "values that would break a constraint are hardly ever written"


def test_rejection_follows_the_model_given_the_constraints():
    schema = Schema(
        columns=[Integer(name="a", min=0, max=4, nullable=False), Integer(name="b", min=0, max=4, nullable=False)],
        constraints=["a <= b", "a = 0 => b > 1"],
    )
    table = np.random.default_rng(5).normal(size=(5, 5))
    single = MergedBins(tuple(range(5)), (1.0,) * 5)
    model = MarginalModel(
        Domain.of_schema(schema), {"a": single, "b": single}, 100.0, [Factor(("a", "b"), table)], [], 1.0, [], "none"
    )
    chances = {(a, b): float(np.exp(table[a, b])) for a in range(5) for b in range(a, 5) if a > 0 or b > 1}
    count = 20_000
    found = Counter((row["a"], row["b"]) for row in drawn(model, schema, {}, list(range(count))))
    expected = {pair: count * chance / sum(chances.values()) for pair, chance in chances.items()}
    assert set(found) <= set(expected)
    chi_square = sum((found[pair] - times) ** 2 / times for pair, times in expected.items())
    assert chi_square < 38  # 12 degrees of freedom: exceeded about once in 6,000 times, and the seed is fixed


def test_a_repaired_row_keeps_feasible_values(monkeypatch: pytest.MonkeyPatch):
    """With one try every broken row is mended: its first column stays, and its last follows the model given the first."""
    monkeypatch.setattr(structured_rows, "MAX_ATTEMPTS", 1)
    columns: list[Column] = [Integer(name="a", min=0, max=3, nullable=False), Integer(name="b", min=0, max=3, nullable=False)]
    schema, free = Schema(columns=columns, constraints=["a <= b"]), Schema(columns=columns)
    table = np.random.default_rng(8).normal(size=(4, 4))
    single = MergedBins(tuple(range(4)), (1.0,) * 4)
    model = MarginalModel(
        Domain.of_schema(schema), {"a": single, "b": single}, 100.0, [Factor(("a", "b"), table)], [], 1.0, [], "none"
    )
    places = list(range(6_000))
    before, after = drawn(model, free, {}, places), drawn(model, schema, {}, places)
    assert [row["a"] for row in before] == [row["a"] for row in after]
    assert all(new == old for new, old in zip(after, before, strict=True) if old["a"] <= old["b"])
    mended = [new for new, old in zip(after, before, strict=True) if old["a"] > old["b"]]
    for a in (1, 2):
        shares = np.exp(table[a, a:]) / np.exp(table[a, a:]).sum()
        rows = [row["b"] for row in mended if row["a"] == a]
        for b, share in zip(range(a, 4), shares, strict=True):
            assert abs(rows.count(b) / len(rows) - share) < 5 * (share * (1 - share) / len(rows)) ** 0.5


def test_an_irreparable_row_gets_the_values_of_a_witness(monkeypatch: pytest.MonkeyPatch):
    """a = b = c with c fixed beyond what a look ahead from a sees."""
    monkeypatch.setattr(structured_rows, "MAX_ATTEMPTS", 1)
    columns: list[Column] = [Integer(name=name, min=0, max=99, nullable=False) for name in "abc"]
    schema = Schema(columns=columns, constraints=["a = b", "b = c", "c IN (17, 80)"])
    rows = drawn(random_model(schema, 1), schema, {}, list(range(200)))
    assert {(row["a"], row["b"], row["c"]) for row in rows} == {(17, 17, 17)} | {
        (row["a"],) * 3 for row in rows if row["a"] in (17, 80)
    }


def test_texts_are_not_among_the_constrained_columns():
    """In a hybrid the marginals draw what the constraints are about; alone the model does."""
    schema = Schema(columns=[*COLUMNS, Text(name="note", max_tokens=8)], constraints=CONSTRAINTS[:3])
    assert FeasibleSet(schema).names == ["sex", "pregnant", "low", "high", "admission", "discharge"]
