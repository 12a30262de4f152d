"""A model of sequences: what it learns of how rows follow each other, and how it draws."""

import datetime as dt
import json
import random
from collections import Counter
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localsynth.errors import IntegrityError
from localsynth.marginals.accounting import total_rho
from localsynth.marginals.measure import MarginalSettings
from localsynth.marginals.measure_transitions import measure_sequences, transitions_workload
from localsynth.marginals.sample_sequences import _SequenceSampler, sample_rows, sample_units
from localsynth.marginals.sequence_model import SequenceModel
from localsynth.marginals.transitions import EARLIER, LAST, Layout, before, since
from localsynth.schema.columns import Category, Date, Integer, Record, Schema, conform
from localsynth.schema.feasible import FeasibleSet
from tests.helpers.seeded_random import InsecureRandom

MOST = 5
START = dt.date(2024, 1, 1)
SCHEMA = Schema(
    columns=[
        Category(name="what", values=["salary", "rent", "card"], nullable=False),
        Integer(name="born", min=1920, max=2009, nullable=False),
        Date(name="day", min=START, max=dt.date(2024, 12, 31)),
    ]
)
NEXT = {"salary": "rent", "rent": "card", "card": "salary"}


def units(n: int, seed: int = 0) -> list[list[Record]]:
    """Payments that follow each other in a circle, seven days apart but for a tenth of them; half of the units have one row."""
    draw = random.Random(seed)
    found = []
    for _ in range(n):
        rows = []
        what, born = draw.choice(list(NEXT)), draw.randint(1920, 2009)
        day = draw.randint(0, 300)
        for _ in range(1 if draw.random() < 0.5 else draw.randint(2, MOST)):
            rows.append({"what": what, "born": born, "day": START + dt.timedelta(days=day)})
            what, day = NEXT[what], day + (7 if draw.random() < 0.9 else draw.randint(0, 14))
        found.append(rows)
    return found


@pytest.fixture(scope="module")
def model() -> SequenceModel:
    layout = Layout.of_schema(SCHEMA, "day", MOST)
    settings = MarginalSettings(rows_per_unit=MOST)
    return measure_sequences(layout, layout.encode(units(6000)), 0.5, InsecureRandom(1), settings)


@pytest.fixture(scope="module")
def drawn(model: SequenceModel) -> list[list[Record]]:
    return list(islice(sample_units(model, 3), 6000))


def test_lengths_and_transitions_are_learned(drawn: list[list[Record]]) -> None:
    original = Counter(map(len, units(6000, seed=9)))
    lengths = Counter(map(len, drawn))
    assert set(lengths) == set(range(1, MOST + 1))
    assert all(abs(lengths[n] - original[n]) < 0.03 * 6000 for n in lengths)
    followed = [NEXT[str(one["what"])] == two["what"] for unit in drawn for one, two in pairwise(unit)]
    assert np.mean(followed) > 0.97


def test_repeated_values_stay_within_a_merged_group(model: SequenceModel, drawn: list[list[Record]]) -> None:
    assert model.transitions.sizes["born"] < 90
    assert np.mean([one["born"] == two["born"] for unit in drawn for one, two in pairwise(unit)]) > 0.9


def test_rows_are_ordered_and_within_bounds_with_learned_gaps(drawn: list[list[Record]]) -> None:
    assert all(conform(SCHEMA, row) == row for unit in drawn for row in unit)
    gaps = [(two["day"] - one["day"]).days for unit in drawn for one, two in pairwise(unit)]  # type: ignore[operator]
    assert min(gaps) >= 0 and abs(float(np.mean([gap == 7 for gap in gaps])) - 0.9) < 0.05


def test_sequence_stays_within_the_range_at_its_end(model: SequenceModel) -> None:
    """All begin among the last days, and a week is nearly the only gap: sooner or later none is left that fits."""
    tree = model.to_json()
    day = model.transitions.merged_bins["day"]
    tree["potentials"].append({"columns": ["day"], "logarithms": [-80.0] * (day.size - 1) + [80.0]})
    gap = model.transitions.merged_bins[since("day")]
    week = [0.0 if group == gap.groups[7] else -80.0 for group in range(gap.size)]
    tree["potentials"].append({"columns": [since("day")], "logarithms": [*week[:-1], 0.0]})
    found = [unit for unit in islice(sample_units(SequenceModel.from_json(tree), 0), 2000) if len(unit) > 1]
    assert found and all(conform(SCHEMA, row) == row for unit in found for row in unit)
    assert all(one["day"] <= two["day"] for unit in found for one, two in pairwise(unit))  # type: ignore[operator]


def test_gaps_beyond_the_range_are_excluded_not_clamped(model: SequenceModel) -> None:
    """With four days left, the next row is on each of them about as often; cut, nearly all would be on the last."""
    ends, rows = model.layout.columns["day"].starts[-1], 4000
    evenly = np.ones((rows, model.transitions.sizes[since("day")]))
    later, _ = _SequenceSampler(model, FeasibleSet(SCHEMA))._later(
        [ends - 4] * rows, evenly, np.random.default_rng(0).random((rows, 4))
    )
    assert set(later) <= set(range(ends - 4, ends)) and later.count(ends - 1) < 0.6 * rows


def test_a_row_depends_on_seed_and_number_alone(model: SequenceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(islice(sample_rows(model, 7), 900))
    assert list(islice(sample_rows(model, 7, start=650), 250)) == whole[650:]
    assert list(islice(sample_rows(model, 8), 900)) != whole
    numbers = [number for number, _ in whole]
    assert numbers == sorted(numbers) and numbers[0] == 0 and set(numbers) == set(range(numbers[-1] + 1))
    later = list(islice(sample_rows(model, 7, first_unit=100), 50))
    assert later == [entry for entry in whole if entry[0] >= 100][:50]
    # However many units are drawn side by side.
    monkeypatch.setattr("localsynth.marginals.sample_sequences._MAX_UNITS", 7)
    assert list(islice(sample_rows(model, 7), 900)) == whole


def test_model_read_from_json_samples_the_same(model: SequenceModel) -> None:
    read = SequenceModel.from_json(json.loads(json.dumps(model.to_json(), allow_nan=False)))
    assert list(islice(sample_rows(read, 1), 200)) == list(islice(sample_rows(model, 1), 200))
    for change in ({"max_rows": 4}, {"order": None}, {"columns": ["what"]}, {"repeats": {"born": 2.0}}, {"repeats": None}):
        tree = model.to_json()
        with pytest.raises(IntegrityError, match="damaged"):
            SequenceModel.from_json({**tree, "sequence": {**tree["sequence"], **change}})


def test_whole_budget_is_spent_and_no_more(model: SequenceModel) -> None:
    assert 0.999 * 0.5 < total_rho(model.spends) <= 0.5 == model.rho


def test_pairs_within_the_row_before_are_not_measured() -> None:
    workload = transitions_workload(Layout.of_schema(SCHEMA, "day", MOST))
    earlier = {before("what"), before("born")}
    assert not any(set(pair) <= earlier | {EARLIER} for pair in workload)
    assert workload["what", before("what")] > workload["what", "born"] > workload["what", before("born")]
    assert {("day", LAST), (since("day"), LAST), ("what", EARLIER)} <= set(workload)


def test_index_and_row_before_are_not_independent_evidence() -> None:
    """Every unit begins with its salary, so the place says what the row before was; from the second on a coin decides."""
    draw = random.Random(0)
    found = []
    for _ in range(6000):
        whats = ["salary", "rent"]
        while len(whats) < MOST:
            whats.append({"rent": "card", "card": draw.choice(["card", "salary"]), "salary": "rent"}[whats[-1]])
        found.append([{"what": what, "born": 1950, "day": START} for what in whats[: draw.randint(1, MOST)]])
    layout = Layout.of_schema(SCHEMA, "day", MOST)
    model = measure_sequences(layout, layout.encode(found), 5.0, InsecureRandom(0), MarginalSettings(rows_per_unit=MOST))
    after = [two["what"] for unit in islice(sample_units(model, 0), 6000) for one, two in pairwise(unit) if one["what"] == "card"]
    assert abs(after.count("card") / len(after) - 0.5) < 0.03


def test_noise_scales_with_rows_per_unit() -> None:
    layout = Layout.of_schema(SCHEMA, "day", MOST)
    codes = layout.encode(units(300))
    one, five = (measure_sequences(layout, codes, 0.5, InsecureRandom(1), MarginalSettings(rows_per_unit=m)) for m in (1, MOST))
    assert one.transitions.measured[0].sigma * MOST == pytest.approx(five.transitions.measured[0].sigma)


CONSTRAINTS = [
    "what = 'salary' => born < 1990",
    "day >= '2024-03-01'",
    "what = 'rent' => day <= '2024-09-30'",
    "NOT (what = 'card' AND born BETWEEN 1950 AND 1980)",
    "what <> 'rent' OR day > '2024-06-15'",
    "born IN (1944, 1945, 1999) OR what = 'card'",
]


@pytest.mark.parametrize("tries", [1, 2, 20])
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(constraints=st.lists(st.sampled_from(CONSTRAINTS), min_size=1, max_size=4, unique=True), seed=st.integers(0, 99))
def test_sequences_satisfy_constraints_and_stay_ordered(
    model: SequenceModel, tries: int, constraints: list[str], seed: int
) -> None:
    schema = SCHEMA.model_copy(update={"constraints": constraints})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("localsynth.marginals.sample_sequences.MAX_ATTEMPTS", tries)
        patch.setattr("localsynth.marginals.sample_sequences._MAX_UNITS", 64)
        found = list(islice(sample_units(model, seed, 5, constraints), 60))
        assert all(conform(schema, row) == row for unit in found for row in unit)
        assert not any(rule.violated(row) for unit in found for row in unit for rule in schema.read_constraints())
        assert all(one["day"] <= two["day"] for unit in found for one, two in pairwise(unit))  # type: ignore[operator]
        assert {len(unit) for unit in found} <= set(range(1, MOST + 1)) and len({len(unit) for unit in found}) > 1
        patch.setattr("localsynth.marginals.sample_sequences._MAX_UNITS", 7)
        assert list(islice(sample_units(model, seed, 15, constraints), 20)) == found[10:30]


def test_row_repeats_the_one_before_where_none_is_feasible(model: SequenceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of payment has days of its own, and after the last of them there is no way on."""
    monkeypatch.setattr("localsynth.marginals.sample_sequences.MAX_ATTEMPTS", 1)
    monkeypatch.setattr("localsynth.marginals.sample_sequences._MAX_UNITS", 64)
    constraints = ["what = 'card'", "day IN ('2024-02-10', '2024-02-20')"]
    found = list(islice(sample_units(model, 0, 0, constraints), 128))
    assert {row["day"] for unit in found for row in unit} <= {dt.date(2024, 2, 10), dt.date(2024, 2, 20)}
    assert any(len(unit) == MOST for unit in found)


def test_constraints_always_satisfied_change_nothing(model: SequenceModel) -> None:
    assert list(islice(sample_units(model, 3, 0, ["born > 1900"]), 500)) == list(islice(sample_units(model, 3), 500))
