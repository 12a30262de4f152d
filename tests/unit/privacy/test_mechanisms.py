"""The measurements of the schema: they give away what they promise, and what they measure is of use."""

import datetime as dt
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from localsynth.errors import ConfigError
from localsynth.privacy import mechanisms
from localsynth.privacy.grids import Grid, date_grid, datetime_grid, integer_grid, number_grid
from localsynth.privacy.mechanisms import MAX_CATEGORIES, CategoriesPlan, CountPlan, RangePlan, release_probability
from localsynth.privacy.noise import SecureRandom
from tests.helpers.noisy_answers import runs_of, spread_thinly, tell


@pytest.fixture
def rng() -> np.random.Generator:
    """For the data. The noise is real, and what is claimed of it fails by chance less than once in ten million runs."""
    return np.random.default_rng(7)


RANDOM = SecureRandom()


@settings(max_examples=25, deadline=None)
@given(noise=st.floats(0.1, 1e3), contributions=st.integers(1, 50), exponent=st.integers(5, 12))
def test_charge_is_the_noise_over_the_rows_of_a_unit(noise: float, contributions: int, exponent: int) -> None:
    ranges = RangePlan(noise, delta := 10.0**-exponent, contributions, integer_grid())
    assert ranges.mechanism == {"type": "thresholded_gaussian", "noise_multiplier": noise, "delta": delta}
    lists = CategoriesPlan(noise, delta, contributions)
    assert lists.mechanism == {"type": "thresholded_gaussian", "noise_multiplier": noise, "delta": delta}
    assert lists.sigma == noise * contributions
    # Each row counts in nine histograms.
    assert ranges.sigma == pytest.approx(noise * contributions * 3)
    for plan in (lists, ranges):
        found = [release_probability(plan.sigma, plan.threshold - less, contributions) for less in (0, 1)]
        assert found[0] <= delta < found[1], "the least threshold that the charge allows"


@pytest.mark.parametrize("epsilon", [1e-3, 0.3, 10.0])
def test_opendp_map_confirms_the_charge_of_a_count(epsilon: float) -> None:
    plan = CountPlan(epsilon)
    assert plan.mechanism == {"type": "pure_dp", "epsilon": epsilon}
    assert 0.999 * epsilon <= plan._measure.map(1) <= epsilon < plan._measure.map(2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CountPlan(0.0),
        lambda: CountPlan(math.nan),
        lambda: CategoriesPlan(1.0, 1e-6, 0),
        lambda: CategoriesPlan(1.0, 0.0, 1),
        lambda: RangePlan(-1.0, 1e-6, 1, integer_grid()),
        lambda: RangePlan(math.nan, 1e-6, 1, integer_grid()),
        lambda: RangePlan(1.0, 0.0, 1, integer_grid()),
        lambda: RangePlan(1e6, 1e-6, 1, integer_grid()),
    ],
)
def test_invalid_plans_are_refused(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


def test_count_is_close_and_at_least_one() -> None:
    plan = CountPlan(0.5)
    sample = [plan.release(5000) for _ in range(1000)]
    assert abs(np.mean(sample) - 5000) < 1
    assert np.std(sample) == pytest.approx(2 * math.sqrt(2), rel=0.4)
    assert len(set(sample)) > 5  # new noise each time
    assert all(plan.release(0) >= 1 for _ in range(50))


@pytest.mark.parametrize(("noise", "delta", "contributions"), [(1.0, 0.02, 1), (0.5, 0.02, 2), (0.3, 0.3, 3), (2.0, 0.02, 2)])
def test_values_of_one_unit_are_released_as_often_as_charged(noise: float, delta: float, contributions: int) -> None:
    """At two splits of a unit's rows, over 4,000 releases; at the worst one nearly as often as charged."""
    plan, trials = CategoriesPlan(noise, delta, contributions), 4000
    released = [
        sum(bool(plan.release(Counter(split), RANDOM)) for _ in range(trials))
        for split in (["a"] * contributions, list("abc")[:contributions])
    ]
    assert max(released) <= delta * trials + 4 * math.sqrt(delta * trials)
    exact = release_probability(plan.sigma, plan.threshold, contributions)
    assert max(released) >= exact * trials - 4 * math.sqrt(exact * trials)


@pytest.mark.parametrize("sigma", [0.7, 2.0, 15.0])
@pytest.mark.parametrize("contributions", [1, 2, 5])
def test_release_probability_against_brute_force(sigma: float, contributions: int) -> None:
    """Over all splits, each value's probability from the tail of rounded noise."""

    def splits(left: int, largest: int) -> Any:
        yield []
        for rows in range(min(left, largest), 0, -1):
            for rest in splits(left - rows, rows):
                yield [rows, *rest]

    def reaches(rows: int, threshold: int) -> float:
        return 0.5 * math.erfc((threshold - rows - 0.5) / (sigma * math.sqrt(2)))

    for threshold in (1, contributions, contributions + 3, contributions + 40):
        released = [
            1 - math.prod(1 - reaches(rows, threshold) for rows in split) for split in splits(contributions, contributions)
        ]
        assert release_probability(sigma, threshold, contributions) == pytest.approx(max(released), rel=1e-6, abs=1e-13)


def test_frequent_categories_are_found_in_order() -> None:
    values = ["a"] * 3000 + ["é ü"] * 1500 + [""] * 400 + [f"rare {i}" for i in range(100)] + ["b\0c", "\ud800"]
    plan = CategoriesPlan(2.0, 1e-12, 1)  # each rare value passes with chance δ, each time
    for _ in range(20):
        assert plan.release(Counter(values), RANDOM) == ["a", "é ü", ""]
    assert plan.release({}, RANDOM) == []
    assert plan.release({"b\0c": 500, "\ud800": 900}, RANDOM) == ["\ud800", "b\0c"]


def test_values_of_one_unit_are_not_released() -> None:
    plan = CategoriesPlan(2.0, 1e-12, 10)
    values = ["common"] * 5000 + ["one unit's own"] * 10
    assert all(plan.release(Counter(values), RANDOM) == ["common"] for _ in range(50))


def test_categories_are_limited_to_the_most_frequent() -> None:
    values = [f"v{i}" for i in range(MAX_CATEGORIES + 30) for _ in range(200 if i < MAX_CATEGORIES else 60)]
    released = CategoriesPlan(1.0, 1e-6, 1).release(Counter(values), RANDOM)
    assert set(released) == {f"v{i}" for i in range(MAX_CATEGORIES)}


# --- what is released is the noisy answer -----------------------------------------------------------------------------


class Fixed(SecureRandom):
    """Gaussian noise as given, over its standard deviation; notes how much is asked for."""

    def __init__(self, noise: Any) -> None:
        super().__init__()
        self.noise, self.asked = noise, []

    def gaussian(self, n: int) -> NDArray[np.float64]:
        self.asked.append(n)
        return np.broadcast_to(np.asarray(self.noise, dtype=np.float64), n).copy()


def test_borderline_value_is_released_sometimes() -> None:
    """As many rows as the threshold asks for: with noise about every other time, without it always or never."""
    plan = CategoriesPlan(2.0, 1e-6, 2)
    values = ["frequent"] * 5 * plan.threshold + ["borderline"] * plan.threshold
    found = [plan.release(Counter(values), RANDOM) for _ in range(120)]
    assert all("frequent" in released for released in found)
    assert 30 < sum("borderline" in released for released in found) < 100


@pytest.mark.parametrize("grid", [integer_grid(), number_grid(2), date_grid(), datetime_grid()])
def test_ends_of_a_range_are_random(grid: Grid) -> None:
    """Where the buckets at the ends hold about as much as is needed beside the span."""
    plan = RangePlan(2.0, 1e-6, 2, grid)
    middle = len(grid.starts) // 2
    counts = {middle - 1: 14, middle: 500, middle + 1: 14}
    values = np.repeat([float(grid.value(int(grid.starts[bucket]))) for bucket in counts], list(counts.values()))
    found = {ends(plan, grid, values) for _ in range(60)}
    assert len({low for low, _ in found}) > 1 and len({high for _, high in found}) > 1


def test_noise_of_every_count_has_the_charged_deviation() -> None:
    """One standard deviation moves a count by the noise multiplier times a unit's rows, exactly, and every cell has its own."""
    plan = CategoriesPlan(3.0, 1e-6, 4)
    edge = ["a"] * (plan.threshold - 12), ["a"] * (plan.threshold - 13)
    assert [plan.release(Counter(values), Fixed(1.0)) for values in edge] == [["a"], []]
    ranges, random = RangePlan(3.0, 1e-6, 4, grid := integer_grid()), Fixed(0.0)
    ranges.release(np.array([5, 9]), random)
    lists = Fixed(0.0)
    plan.release({"a": 2, "b": 1}, lists)
    buckets = len(grid.starts) - 1
    steps = 1 + len(grid.multiples)
    assert random.asked == [sum(-(-buckets // 2**level) for level in range(7)), 2, steps + 1] and lists.asked == [2]
    # Without rows and with one standard deviation of noise on one count, the estimate of its bucket moves by it alone.
    one = np.zeros(random.asked[0])
    one[70] = 1.0
    tree = mechanisms._tree(buckets)
    assert tree.estimate @ (ranges.sigma * one) == pytest.approx(ranges.sigma * tree.estimate[:, 70])


def clear_range(plan: RangePlan) -> list[Any]:
    """The answers of a range: many rows in two neighbouring buckets, two frequent values, nearly all a multiple of 5."""
    rows = np.zeros(len(plan._grid.starts) - 1)
    rows[90:92] = 4000, 2000
    return [runs_of(rows), [plan.threshold + 9, plan.threshold], [9, 5000, 900]]


TABLES: list[list[int]] = [[5, 9], [5] * 4000 + [9, 9, 10], [5] + [9] * 300 + [777_777] * 4000]
"""Of which the smallest two values are the same."""


@pytest.mark.parametrize(
    ("answers", "tables", "hidden", "step"),
    [
        (clear_range, TABLES, False, 5),
        (lambda plan: spread_thinly(plan, 5.5), [[], *TABLES], True, 1),
        (lambda plan: [[], [], []], [[], *TABLES], False, 1),
    ],
    ids=["clear", "hidden", "empty"],
)
def test_a_range_follows_from_its_noisy_answers_alone(
    answers: Any, tables: list[list[int]], hidden: bool, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the three has the charged noise. Tables with the same noisy answers have the same range, in every field."""
    plan = RangePlan(50.0 if hidden else 3.0, 1e-6, 4, integer_grid())
    asked = tell(monkeypatch, *answers(plan))
    first, *others = (plan.release(np.array(table, dtype=np.int64), RANDOM) for table in tables)
    assert asked == [plan.sigma] * 3 * len(tables)
    assert (first.hidden, first.step, len(first.common)) == (hidden, step, 2 if step > 1 else 0)
    for other in others:
        assert (other.hidden, other.starts, other.common, other.step) == (first.hidden, first.starts, first.common, first.step)
        assert other.rows.tolist() == first.rows.tolist()


@pytest.mark.parametrize(("deviations", "hidden"), [(4.9, False), (5.1, True)])
def test_a_hidden_range_is_no_chance_of_an_empty_column(deviations: float, hidden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """That many standard deviations are noise alone less than once in a million columns."""
    plan = RangePlan(50.0, 1e-6, 4, integer_grid())
    tell(monkeypatch, *spread_thinly(plan, deviations))
    assert plan.release(np.array([], dtype=np.int64), RANDOM).hidden is hidden
    assert scipy.stats.norm.sf(5.0) < 1e-6


def exact_counts(monkeypatch: pytest.MonkeyPatch, grid: Grid, steps: list[int]) -> Counter[Any]:
    """All counts that get noise, by the histogram and the cell."""
    seen: Counter[Any] = Counter()
    frequent, noisy = mechanisms._frequent, mechanisms._noisy

    def note(counts: NDArray[np.int64], sigma: float, random: Any) -> NDArray[np.int64]:
        seen.update({(len(counts), cell): int(count) for cell, count in enumerate(counts)})
        return noisy(counts, sigma, random)

    def note_values(counted: Any, sigma: float, threshold: int, random: Any) -> Any:
        seen.update({("value", value): count for value, count in counted.items()})
        with monkeypatch.context() as unseen:
            unseen.setattr(mechanisms, "_noisy", noisy)
            return frequent(counted, sigma, threshold, random)

    with monkeypatch.context() as patch:
        patch.setattr(mechanisms, "_noisy", note)
        patch.setattr(mechanisms, "_frequent", note_values)
        RangePlan(2.0, 1e-6, 5, grid).release(np.maximum(steps, grid.starts[0]), RANDOM)
    return seen


@pytest.mark.parametrize("grid", [integer_grid(), number_grid(2), date_grid(), datetime_grid()])
def test_a_unit_moves_the_counts_of_a_range_by_three_times_its_rows(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    """In L2, whatever its values are, added or removed: the noise is a multiple of that, and the charge is the noise over it."""
    last = int(grid.starts[-1]) - 1
    others = [0, 7, 7, last, int(grid.starts[0])]
    without = exact_counts(monkeypatch, grid, others)
    for rows, most in (([7] * 5, 15.0), ([last] * 5, 15.0), ([8] * 5, 15.0), ([0, 8, 600, 3600, 86_400], 15.0), ([8], 3.0)):
        added = exact_counts(monkeypatch, grid, others + rows)
        moved = math.sqrt(sum((added[cell] - without[cell]) ** 2 for cell in added | without))
        assert moved <= most and (len(set(rows)) > 1 or moved == pytest.approx(most))
    assert RangePlan(2.0, 1e-6, 5, grid).sigma == pytest.approx(2.0 * 15)


def test_frequent_values_of_a_range_are_no_units_own() -> None:
    """Whatever a unit has alone passes with probability δ; what many have is found, with other noise each time."""
    plan = RangePlan(2.0, 1e-12, 10, integer_grid())
    values = np.array([7] * 5000 + [-999] * plan.threshold + [123_456] * 10)
    found = [plan.release(values, RANDOM).common for _ in range(60)]
    assert all(7 in common and 123_456 not in common for common in found)
    assert 10 < sum(-999 in common for common in found) < 50
    assert len({common[7] for common in found}) > 20


@pytest.mark.parametrize(
    ("values", "step"),
    [
        (5 * np.arange(-1000, 1000), 5),
        (100 * np.arange(3000), 100),
        (np.arange(3000), 1),
        (np.append(5 * np.arange(2000), np.arange(300)), 1),
        (np.append(np.zeros(9000), 10 * np.arange(2000) + 5), 5),
        (np.arange(30), 1),
        (np.zeros(3000), 1),
    ],
)
def test_step_is_the_largest_of_nearly_all_values(values: Any, step: int) -> None:
    plan = RangePlan(1.0, 1e-6, 1, integer_grid())
    assert {plan.release(values.astype(np.int64), RANDOM).step for _ in range(5)} == {step}


def test_estimates_of_a_range_are_unbiased_and_as_precise_as_claimed(rng: np.random.Generator) -> None:
    tree = mechanisms._tree(101)
    exact = rng.integers(0, 500, 101)
    noise = rng.normal(0, 3, (4000, tree.counted.shape[0]))
    estimates = (tree.counted @ exact + noise) @ tree.estimate.T
    for start, length in ((0, 1), (17, 5), (3, 64), (0, 101)):
        run = estimates[:, start : start + length].sum(axis=1) - exact[start : start + length].sum()
        deviation = 3 * tree.deviation(np.array([start]), length)[0]
        assert abs(run.mean()) < 6 * deviation / math.sqrt(4000)
        assert run.std() == pytest.approx(deviation, rel=0.1)
        assert deviation < 3 * math.sqrt(length), "better than the sum of its buckets"


def independent(sigma: float) -> Any:
    return lambda starts, lengths: sigma * np.sqrt(np.broadcast_to(lengths, starts.shape))


@pytest.mark.parametrize(("place", "deviations", "joins"), [(1, 2.4, False), (1, 2.6, True), (9, 4.4, False), (9, 4.6, True)])
def test_bucket_must_hold_more_than_noise_to_join_a_range(place: int, deviations: float, joins: bool) -> None:
    """Fewer deviations are enough next to the span that was found than far from it."""
    counts = np.zeros(200)
    counts[100] = 1000
    assert mechanisms._span(counts, independent(7.0)) == (100, 100, True)
    # Two buckets of a run of two, which needs the root of two times as many.
    counts[100 + place : 102 + place] = 7 * deviations / math.sqrt(2)
    assert mechanisms._span(counts, independent(7.0)) == (100, 101 + place if joins else 100, True)


@pytest.mark.parametrize(
    ("rows", "deviations", "joins"), [(5, 0.6, False), (5, 0.8, True), (15, 1.4, False), (15, 1.6, True), (900, 2.4, False)]
)
def test_a_long_span_is_extended_by_less_where_noise_may_hide_it(rows: int, deviations: float, joins: bool) -> None:
    """`rows` in deviations of the noise. By a run of half its length: so little noise cannot carry it far."""
    counts = np.zeros(200)
    counts[100:104] = 7 * rows
    counts[104:106] = 7 * deviations / math.sqrt(2)
    first, last, found = mechanisms._span(counts, independent(7.0))
    assert found and first == 100 and (last > 103) == joins


@pytest.mark.parametrize("side", [1, -1])
def test_a_long_run_joins_a_range_by_its_near_part_alone_where_the_rest_is_noise(side: int) -> None:
    counts = np.zeros(200)
    counts[100] = 1000
    for place in (1, 2):  # each too little, and enough together
        counts[100 + side * place] = 2.2
    assert sorted(mechanisms._span(counts, independent(1.0))[:2]) == sorted((100, 100 + 2 * side))
    counts[[100 + side * place for place in range(1, 33)]] = 1.0  # spread over all of the run
    low, high, _ = mechanisms._span(counts, independent(1.0))
    assert (high if side > 0 else -low) >= 100 * side + 15


@pytest.mark.parametrize("side", [1, -1])
def test_the_far_part_of_a_run_beside_full_buckets_is_noise(side: int) -> None:
    """Though its sum is above zero, as that of every other run of noise is."""
    counts = np.zeros(200)
    counts[100:104] = 1000
    counts[[103 + place if side > 0 else 100 - place for place in (1, 2, 3, 4)]] = 2.2, 2.2, 1.0, 1.0
    first, last, _ = mechanisms._span(counts, independent(1.0))
    assert (first, last) == ((100, 104) if side > 0 else (99, 103))


@pytest.mark.parametrize(("share", "noise", "more"), [(0.04, 1.0, 0), (0.06, 1.0, 1), (0.09, 1.0, 3), (0.09, 20.0, 0)])
def test_a_range_is_widened_until_five_percent_are_outside(share: float, noise: float, more: int) -> None:
    """As far as the noise lets them be seen: of twenty buckets outside, 3 standard deviations are not."""
    counts = np.zeros(21)
    counts[10] = 1000 * (1 - share)
    counts[11:16] = 1000 * share / 5
    assert mechanisms._widened(counts, 10, 10, independent(noise)) == (10, 10 + more)
    assert mechanisms._widened(counts[::-1], 10, 10, independent(noise)) == (10 - more, 10)


@pytest.mark.parametrize("found", [True, False])
def test_five_percent_outside_are_noticed_in_each_range(found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the runs of buckets would not show them; without any range that shows, there is nothing to widen."""
    plan = RangePlan(1.0, 1e-6, 1, integer_grid())
    values = np.arange(-5000, 5000)
    monkeypatch.setattr(mechanisms, "_span", lambda counts, deviation: (100, 100, found))
    measured = plan.release(values, RANDOM)
    cut = ((values < measured.starts[0]) | (values >= measured.starts[-1])).mean()
    assert cut < 0.06 if found else cut > 0.5


# --- of what use it is ------------------------------------------------------------------------------------------------


def ends(plan: RangePlan, grid: Grid, values: Any) -> tuple[float, float]:
    """The ends of a range, with new noise."""
    starts = plan.release(grid.steps(np.asarray(values)), RANDOM).starts
    return grid.value(starts[0]), grid.value(starts[-1] - 1)


def released(noise: float, grid: Grid, values: Any, releases: int = 200) -> NDArray[Any]:
    """Shape (releases, 2): low and high, with new noise each time. One release may follow stray noise far beyond the data."""
    plan = RangePlan(noise, 1e-6, 1, grid)
    return np.array([ends(plan, grid, values) for _ in range(releases)])


def test_small_noise_gives_exact_range(rng: np.random.Generator) -> None:
    low, high = released(2.0, integer_grid(), rng.integers(1, 6, 5000)).T
    assert (low == 1).mean() > 0.8 and (high == 5).mean() > 0.8


@pytest.mark.parametrize("noise", [25.0, 2.5])
def test_range_is_tight(noise: float, rng: np.random.Generator) -> None:
    """About 2 of 100 ranges go beyond ±500, and hardly any by orders of magnitude: runs of noise alone."""
    ages = np.clip(rng.normal(50, 18, 5000), 0, 104).astype(np.int64)
    found = released(noise, integer_grid(), ages, 600)
    assert found.dtype == np.int64
    held = np.array([((ages >= low) & (ages <= high)).mean() for low, high in found])
    assert (held > 0.9).mean() > 0.99
    assert ((found[:, 0] < -500) | (found[:, 1] > 500)).mean() < 0.08
    assert ((found[:, 0] < -(10**6)) | (found[:, 1] > 10**6)).mean() < 0.02


def test_range_of_decimals(rng: np.random.Generator) -> None:
    amounts = np.round(np.exp(rng.normal(4, 1.2, 5000)), 2)
    found = released(2.0, number_grid(2), amounts)
    assert found.dtype == np.float64
    assert (found == found.round(2)).all()
    held = np.array([((amounts >= low) & (amounts <= high)).mean() for low, high in found])
    assert (held > 0.95).mean() > 0.95 and (found[:, 1] <= 20_000).mean() > 0.9


def test_range_spans_zero(rng: np.random.Generator) -> None:
    low, high = released(2.0, number_grid(2), rng.normal(0, 300, 5000)).T
    assert ((low >= -20_000) & (low <= -500)).mean() > 0.7 and ((high >= 500) & (high <= 20_000)).mean() > 0.7


def test_range_excludes_an_outlier(rng: np.random.Generator) -> None:
    values = np.append(rng.integers(0, 50, 5000), 987_654_321)
    assert (released(5.0, integer_grid(), values)[:, 1] < 1000).mean() > 0.9


def test_ranges_of_dates_and_datetimes(rng: np.random.Generator) -> None:
    first, last = dt.date(2015, 3, 1), dt.date(2022, 11, 5)
    days = rng.integers(first.toordinal(), last.toordinal() + 1, 5000)
    early, late = (dt.date(2011, 1, 1), dt.date(2015, 7, 1)), (dt.date(2022, 6, 30), dt.date(2026, 12, 31))
    low, high = np.vectorize(lambda day: dt.date.fromordinal(int(day)))(released(2.0, date_grid(), days)).T
    assert ((low >= early[0]) & (low <= early[1])).mean() > 0.7 and ((high >= late[0]) & (high <= late[1])).mean() > 0.7
    seconds = (days - dt.date(1970, 1, 1).toordinal()) * 86400 + 3600
    moments = np.vectorize(lambda second: dt.datetime(1970, 1, 1) + dt.timedelta(seconds=int(second)))
    low, high = moments(released(2.0, datetime_grid(), seconds)).T
    assert {moment.time() for moment in low} == {dt.time()} and {moment.time() for moment in high} == {dt.time(23, 59, 59)}
    inside = [early[0] <= a.date() <= early[1] and late[0] <= b.date() <= late[1] for a, b in zip(low, high, strict=True)]
    assert np.mean(inside) > 0.6


@pytest.mark.parametrize("grid", [integer_grid(), number_grid(0), number_grid(9), date_grid(), datetime_grid()])
def test_range_of_no_rows_and_of_extreme_rows(grid: Grid) -> None:
    for values in (np.array([], dtype=np.int64), np.array([]), np.array([-np.inf, np.inf, 1e300]), np.array([2**62, -(2**62)])):
        low, high = ends(RangePlan(10.0, 1e-6, 3, grid), grid, values)
        assert low <= high


@pytest.mark.parametrize("grid", [integer_grid(), number_grid(2), date_grid(), datetime_grid()])
def test_grids_ascend(grid: Grid) -> None:
    assert (np.diff(grid.starts) > 0).all()


@settings(max_examples=200, deadline=None)
@given(value=st.integers(-(10**15), 10**15), decimals=st.integers(0, 9))
def test_every_number_is_inside_its_bucket(value: int, decimals: int) -> None:
    grid = number_grid(decimals)
    number = value / 10**decimals
    step = int(grid.steps(np.array([number]))[0])
    assert grid.value(step) == pytest.approx(number, abs=10.0**-decimals / 2, rel=1e-15)
    bucket = int(np.searchsorted(grid.starts, step, side="right")) - 1
    assert grid.starts[bucket] <= step < grid.starts[bucket + 1]


def test_values_spread_thinly_are_found(rng: np.random.Generator) -> None:
    """In each half-year of 90 years fewer rows than one standard deviation of its noise."""
    first, last = dt.date(1935, 1, 1), dt.date(2024, 12, 31)
    born = rng.integers(first.toordinal(), last.toordinal() + 1, 10_000)
    found = released(80.0, date_grid(), born, 50)
    cut = np.array([1 - ((born >= low) & (born <= high)).mean() for low, high in found])
    assert np.median(cut) < 0.2 and (found[:, 1] - found[:, 0] < 2 * (last - first).days).mean() > 0.9


def test_range_does_not_follow_noise_alone(rng: np.random.Generator) -> None:
    """Beside a bucket that holds much, of some 2,000 buckets."""
    alone = 0
    for noise in rng.normal(0, 9, (200, 2000)):
        noise[700] += 1000
        first, last, _ = mechanisms._span(noise, independent(9.0))
        alone += 690 <= first <= last <= 710
    assert alone > 180
