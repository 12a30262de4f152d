"""The measurements of the schema: they give away what they promise, and what they measure is of use."""

import datetime as dt
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from localsynth.errors import ConfigError
from localsynth.privacy import mechanisms
from localsynth.privacy.grids import Grid, date_grid, datetime_grid, integer_grid, number_grid
from localsynth.privacy.mechanisms import MAX_CATEGORIES, CategoriesPlan, CountPlan, RangePlan, release_probability


@pytest.fixture
def rng() -> np.random.Generator:
    """For the data. The noise is real, and what is claimed of it fails by chance less than once in ten million runs."""
    return np.random.default_rng(7)


def private_map(plan: Any, contributions: int) -> Any:
    """OpenDP's own word on what the plan's mechanism gives away."""
    return plan._measure.map(contributions)


@settings(max_examples=25, deadline=None)
@given(epsilon=st.floats(1e-3, 10), contributions=st.integers(1, 50), exponent=st.integers(5, 12))
def test_opendp_map_confirms_the_charge(epsilon: float, contributions: int, exponent: int) -> None:
    for plan in (CountPlan(epsilon, contributions), RangePlan(epsilon, contributions, integer_grid())):
        assert plan.mechanism == {"type": "pure_dp", "epsilon": epsilon}
        assert 0.999 * epsilon <= private_map(plan, contributions) <= epsilon
        assert private_map(plan, 2 * contributions) > epsilon
    categories = CategoriesPlan(epsilon, 10.0**-exponent, contributions)
    assert categories.mechanism == {"type": "approximate_dp", "epsilon": epsilon, "delta": 10.0**-exponent}
    spent = private_map(categories, contributions)
    assert 0.999 * epsilon <= spent[0] <= epsilon and 0 < spent[1] <= 10.0**-exponent
    assert release_probability(contributions / epsilon, categories.threshold, contributions) <= 10.0**-exponent


def test_plan_that_costs_too_much_is_refused() -> None:
    with pytest.raises(AssertionError, match="costs more"):
        mechanisms._within_epsilon(lambda scale: scale, lambda _: 2.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CountPlan(0.0, 1),
        lambda: CountPlan(math.nan, 1),
        lambda: CountPlan(1.0, 0),
        lambda: CategoriesPlan(1.0, 0.0, 1),
        lambda: RangePlan(-1.0, 1, integer_grid()),
    ],
)
def test_invalid_plans_are_refused(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


def test_count_is_close_and_at_least_one() -> None:
    plan = CountPlan(0.5, 1)
    sample = [plan.release(5000) for _ in range(1000)]
    assert abs(np.mean(sample) - 5000) < 1
    assert np.std(sample) == pytest.approx(2 * math.sqrt(2), rel=0.4)
    assert len(set(sample)) > 5  # new noise each time
    assert all(plan.release(0) >= 1 for _ in range(50))


def test_noise_grows_with_rows_per_unit() -> None:
    one, ten = CountPlan(0.5, 1), CountPlan(0.5, 10)
    assert np.std([ten.release(5000) for _ in range(1000)]) > 5 * np.std([one.release(5000) for _ in range(1000)])
    assert CategoriesPlan(0.5, 1e-7, 10).threshold > 9 * CategoriesPlan(0.5, 1e-7, 1).threshold


@pytest.mark.parametrize(("epsilon", "delta", "contributions"), [(1.0, 0.02, 1), (2.0, 0.02, 2), (3.0, 0.3, 3), (0.5, 0.02, 2)])
def test_values_of_one_unit_are_released_as_often_as_charged(epsilon: float, delta: float, contributions: int) -> None:
    """At both splits of a unit's rows, over 4,000 releases. OpenDP's own δ lets through up to exp(epsilon / rows) times more."""
    plan = CategoriesPlan(epsilon, delta, contributions)
    trials = 4000
    for split in (["a"] * contributions, list("abc")[:contributions]):
        released = sum(bool(plan.release(split)) for _ in range(trials))
        assert released <= delta * trials + 4 * math.sqrt(delta * trials)


@pytest.mark.parametrize("scale", [0.7, 2.0, 15.0])
@pytest.mark.parametrize("contributions", [1, 2, 5])
def test_release_probability_against_brute_force(scale: float, contributions: int) -> None:
    """Over all splits, each value's probability summed from the exact distribution."""
    noise = np.arange(-2000, 2001)
    probability = np.exp(-np.abs(noise) / scale)
    probability /= probability.sum()

    def splits(left: int, largest: int) -> Any:
        yield []
        for rows in range(min(left, largest), 0, -1):
            for rest in splits(left - rows, rows):
                yield [rows, *rest]

    for threshold in (1, contributions, contributions + 3, contributions + 40):
        released = [
            1 - math.prod(1 - probability[rows + noise >= threshold].sum() for rows in split)
            for split in splits(contributions, contributions)
        ]
        assert release_probability(scale, threshold, contributions) == pytest.approx(max(released), rel=1e-6, abs=1e-13)


def test_frequent_categories_are_found_in_order() -> None:
    values = ["a"] * 3000 + ["é ü"] * 1500 + [""] * 400 + [f"rare {i}" for i in range(100)]
    plan = CategoriesPlan(0.5, 1e-12, 1)  # each rare value passes with chance δ, each time
    for _ in range(20):
        assert plan.release(values) == ["a", "é ü", ""]


def test_values_of_one_unit_are_not_released() -> None:
    plan = CategoriesPlan(0.5, 1e-12, 10)
    values = ["common"] * 5000 + ["one unit's own"] * 10
    assert all(plan.release(values) == ["common"] for _ in range(50))


def test_categories_are_limited_to_the_most_frequent() -> None:
    values = [f"v{i}" for i in range(MAX_CATEGORIES + 30) for _ in range(200 if i < MAX_CATEGORIES else 60)]
    released = CategoriesPlan(1.0, 1e-6, 1).release(values)
    assert set(released) == {f"v{i}" for i in range(MAX_CATEGORIES)}


def test_strings_opendp_cannot_hold_are_ignored() -> None:
    assert CategoriesPlan(1.0, 1e-6, 1).release(["a"] * 500 + ["b\0c"] * 500 + ["\ud800"] * 500) == ["a"]
    assert CategoriesPlan(1.0, 1e-6, 1).release([]) == []


# --- what is released is the noisy answer -----------------------------------------------------------------------------


class Spy:
    """In the place of a plan's OpenDP measurement: notes what it is asked, and gives the real answer or `answer`."""

    def __init__(self, plan: Any, answer: Any = None) -> None:
        self._real, self._answer = plan._measure, answer
        self.asked: list[Any] = []
        plan._measure = self

    def __call__(self, exact: Any) -> Any:
        self.asked.append(exact)
        return self._real(exact) if self._answer is None else self._answer


def test_borderline_value_is_released_sometimes() -> None:
    """As many rows as the threshold asks for: with noise about every other time, without it always or never."""
    plan = CategoriesPlan(0.5, 1e-6, 2)
    values = ["frequent"] * 5 * plan.threshold + ["borderline"] * plan.threshold
    spy = Spy(plan)
    found = [plan.release(values) for _ in range(120)]
    assert all("frequent" in released for released in found)
    assert 30 < sum("borderline" in released for released in found) < 100
    assert spy.asked == [values] * 120


@pytest.mark.parametrize("grid", [integer_grid(), number_grid(2), date_grid(), datetime_grid()])
def test_ends_of_a_range_are_random(grid: Grid) -> None:
    """Where the buckets at the ends hold about as much as the penalty of two noise scales."""
    plan = RangePlan(0.5, 2, grid)
    middle = len(grid.starts) // 2
    counts = {middle - 1: 8, middle: 500, middle + 1: 8}
    values = np.repeat([float(grid.value(int(grid.starts[bucket]))) for bucket in counts], list(counts.values()))
    spy = Spy(plan)
    found = {plan.release(values) for _ in range(60)}
    assert len({low for low, _ in found}) > 1 and len({high for _, high in found}) > 1
    assert len(spy.asked) == 60 and all(sum(asked) == 516 for asked in spy.asked)


def test_only_the_noisy_answer_is_released() -> None:
    """Another answer than the true one gives another release, whatever the values are."""
    categories = CategoriesPlan(1.0, 1e-6, 1)
    Spy(categories, {"listed": 3, "and this": 9})
    assert categories.release(["true"] * 10_000) == ["and this", "listed"]
    ranges = RangePlan(1.0, 1, grid := integer_grid())
    bucket = len(grid.starts) // 2 + 3
    Spy(ranges, [10_000 if place == bucket else 0 for place in range(len(grid.starts) - 1)])
    first, following = (int(grid.value(int(grid.starts[place]))) for place in (bucket, bucket + 1))
    assert ranges.release(np.full(5000, -7)) == (first, following - 1)
    count = CountPlan(1.0, 1)
    Spy(count, 4321)
    assert count.release(17) == 4321


@pytest.mark.parametrize(("scales", "joins"), [(1.9, False), (2.1, True)])
def test_bucket_needs_two_noise_scales_to_join_a_range(scales: float, joins: bool) -> None:
    plan = RangePlan(0.25, 3, grid := integer_grid())
    first, answer = len(grid.starts) // 2 + 3, [0.0] * (len(grid.starts) - 1)
    answer[first], answer[first + 1] = 1000, scales * 3 / 0.25
    Spy(plan, answer)
    _, high = plan.release(np.array([0]))
    assert high == int(grid.starts[first + 1 + joins]) - 1


# --- of what use it is ------------------------------------------------------------------------------------------------


def released(epsilon: float, grid: Grid, values: Any, releases: int = 200) -> NDArray[Any]:
    """Shape (releases, 2): low and high, with new noise each time. One release may follow stray noise far beyond the data."""
    plan = RangePlan(epsilon, 1, grid)
    return np.array([plan.release(values) for _ in range(releases)])


def test_small_noise_gives_exact_range(rng: np.random.Generator) -> None:
    low, high = released(0.5, integer_grid(), rng.integers(1, 6, 5000)).T
    assert (low == 1).mean() > 0.8 and (high == 5).mean() > 0.8


@pytest.mark.parametrize("epsilon", [0.04, 0.4])
def test_range_is_tight(epsilon: float, rng: np.random.Generator) -> None:
    """About 4 of 1000 ranges go beyond ±500; with a penalty of one noise scale instead of two, about 70 would."""
    ages = np.clip(rng.normal(50, 18, 5000), 0, 104).astype(np.int64)
    found = released(epsilon, integer_grid(), ages, 600)
    assert found.dtype == np.int64
    held = np.array([((ages >= low) & (ages <= high)).mean() for low, high in found])
    assert (held > 0.9).mean() > 0.99
    assert ((found[:, 0] < -500) | (found[:, 1] > 500)).mean() < 0.04


def test_range_of_decimals(rng: np.random.Generator) -> None:
    amounts = np.round(np.exp(rng.normal(4, 1.2, 5000)), 2)
    found = released(0.5, number_grid(2), amounts)
    assert found.dtype == np.float64
    assert (found == found.round(2)).all()
    held = np.array([((amounts >= low) & (amounts <= high)).mean() for low, high in found])
    assert (held > 0.95).mean() > 0.95 and (found[:, 1] <= 20_000).mean() > 0.9


def test_range_spans_zero(rng: np.random.Generator) -> None:
    low, high = released(0.5, number_grid(2), rng.normal(0, 300, 5000)).T
    assert ((low >= -5000) & (low <= -500)).mean() > 0.9 and ((high >= 500) & (high <= 5000)).mean() > 0.9


def test_range_excludes_an_outlier(rng: np.random.Generator) -> None:
    values = np.append(rng.integers(0, 50, 5000), 987_654_321)
    assert (released(0.2, integer_grid(), values)[:, 1] < 1000).mean() > 0.9


def test_ranges_of_dates_and_datetimes(rng: np.random.Generator) -> None:
    first, last = dt.date(2015, 3, 1), dt.date(2022, 11, 5)
    days = rng.integers(first.toordinal(), last.toordinal() + 1, 5000)
    early, late = (dt.date(2013, 7, 1), dt.date(2015, 7, 1)), (dt.date(2022, 6, 30), dt.date(2024, 6, 30))
    low, high = np.vectorize(lambda day: dt.date.fromordinal(int(day)))(released(0.5, date_grid(), days)).T
    assert ((low >= early[0]) & (low <= early[1])).mean() > 0.9 and ((high >= late[0]) & (high <= late[1])).mean() > 0.9
    seconds = (days - dt.date(1970, 1, 1).toordinal()) * 86400 + 3600
    moments = np.vectorize(lambda second: dt.datetime(1970, 1, 1) + dt.timedelta(seconds=int(second)))
    low, high = moments(released(0.5, datetime_grid(), seconds)).T
    assert {moment.time() for moment in low} == {dt.time()} and {moment.time() for moment in high} == {dt.time(23, 59, 59)}
    inside = [early[0] <= a.date() <= early[1] and late[0] <= b.date() <= late[1] for a, b in zip(low, high, strict=True)]
    assert np.mean(inside) > 0.85


@pytest.mark.parametrize("grid", [integer_grid(), number_grid(0), number_grid(9), date_grid(), datetime_grid()])
def test_range_of_no_rows_and_of_extreme_rows(grid: Grid) -> None:
    for values in (np.array([], dtype=np.int64), np.array([]), np.array([-np.inf, np.inf, 1e300]), np.array([2**62, -(2**62)])):
        low, high = RangePlan(0.1, 3, grid).release(values)
        assert low <= high


@pytest.mark.parametrize("grid", [integer_grid(), number_grid(2), date_grid(), datetime_grid()])
def test_grids_ascend(grid: Grid) -> None:
    assert (np.diff(grid.starts) > 0).all()


@settings(max_examples=200, deadline=None)
@given(value=st.integers(-(10**12), 10**12), decimals=st.integers(0, 9))
def test_every_number_is_inside_its_bucket(value: int, decimals: int) -> None:
    grid = number_grid(decimals)
    number = value / 10**decimals
    step = int(grid.steps(np.array([number]))[0])
    assert grid.value(step) == pytest.approx(number, abs=10.0**-decimals / 2)
    bucket = int(np.searchsorted(grid.starts, step, side="right")) - 1
    assert grid.starts[bucket] <= step < grid.starts[bucket + 1]


def test_heaviest_run_against_brute_force(rng: np.random.Generator) -> None:
    for _ in range(200):
        weights = rng.normal(0, 1, 12)
        first, last = mechanisms._heaviest_run(weights)
        best = max(weights[a : b + 1].sum() for a in range(12) for b in range(a, 12))
        assert weights[first : last + 1].sum() == pytest.approx(best)
