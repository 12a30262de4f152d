"""The statistics of the audit, against figures worked out by hand and published ones."""

import math
from math import comb

import pytest

from localsynth.evaluate.audit.bound import curve_p_value, epsilon_bound, p_value
from localsynth.evaluate.audit.canaries import canary_units, enough_canaries, guesses_of
from localsynth.evaluate.audit.outcome import audit_figures
from localsynth.results.audit import AuditFigures
from localsynth.schema.columns import Boolean, Category, Integer, Schema, Text


def binomial_tail(n: int, least: int, share: float) -> float:
    return sum(comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(least, n + 1))


@pytest.mark.parametrize(("guesses", "right", "epsilon"), [(1, 1, 0.0), (5, 4, math.log(3)), (100, 80, 1.0), (7, 0, 2.0)])
def test_without_delta_it_is_a_binomial_tail(guesses: int, right: int, epsilon: float) -> None:
    share = math.exp(epsilon) / (1 + math.exp(epsilon))
    assert p_value(200, guesses, right, epsilon, 0.0) == pytest.approx(binomial_tail(guesses, right, share), rel=1e-9)


def test_with_delta_by_hand() -> None:
    # ε = 0: two fair guesses, both right. P[R = 2] = 1/4; below: P[R = 1] / 1 = 1/2 and P[R < 2] / 2 = 3/8.
    assert p_value(10, 2, 2, 0.0, 0.01) == pytest.approx(1 / 4 + 2 * 10 * 0.01 * 1 / 2)
    # ε = ln 3, two guesses, one right: P[R >= 1] = 15/16; below: P[R = 0] = 1/16.
    assert p_value(4, 2, 1, math.log(3), 0.1) == pytest.approx(min(1, 15 / 16 + 2 * 4 * 0.1 / 16))


def test_the_example_of_the_paper() -> None:
    """arXiv:2305.08846, appendix D: 75 of 100 guesses right about 1,000 canaries at δ = 1e-4 show ε >= 0.673."""
    assert epsilon_bound(1000, 100, 75, 1e-4) == pytest.approx(0.673, abs=5e-4)


def test_the_bound_is_where_the_p_value_crosses_the_level() -> None:
    found = epsilon_bound(400, 100, 97, 1e-6)
    assert p_value(400, 100, 97, found, 1e-6) <= 0.05 < p_value(400, 100, 97, found + 1e-6, 1e-6)
    assert epsilon_bound(400, 100, 50, 1e-6) == 0.0
    # All right without δ: (e^ε / (1 + e^ε))^r = 0.05.
    assert epsilon_bound(400, 100, 100, 0.0) == pytest.approx(-math.log(0.05 ** (-1 / 100) - 1))


def test_a_curve_of_one_guess_by_hand() -> None:
    # One canary, one guess: p_1 <= e^ε p_0 + δ and p_0 + p_1 = 1, so p_1 <= (e^ε + δ) / (1 + e^ε).
    assert curve_p_value(1, 1, 1, [(math.log(3), 0.1)]) == pytest.approx(3.1 / 4, abs=1e-5)
    # The tighter of two pairs counts.
    assert curve_p_value(1, 1, 1, [(math.log(3), 0.1), (0.0, 0.2)]) == pytest.approx(0.6, abs=1e-5)


def test_randomized_response_keeps_its_curve() -> None:
    """Guesses that are right as often as pure DP allows, each by itself, are no surprise; at δ = 0 the chance is exact."""
    for right in (60, 75, 90):
        exact = binomial_tail(100, right, 3 / 4)
        assert exact <= curve_p_value(100, 100, right, [(math.log(3), 0.0)]) + 1e-9


def gaussian_curve(mu: float) -> list[tuple[float, float]]:
    """(ε, δ) of a Gaussian mechanism with sensitivity over noise mu (Balle & Wang 2018, theorem 8)."""

    def phi(x: float) -> float:
        return (1 + math.erf(x / math.sqrt(2))) / 2

    epsilons = [0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0]
    return [(e, phi(mu / 2 - e / mu) - math.exp(e) * phi(-mu / 2 - e / mu)) for e in epsilons]


def test_guesses_that_the_claim_allows_are_no_violation() -> None:
    """The Gaussian mechanism for each canary by itself: the best guess is right with probability Φ(mu / 2)."""
    from numpy.random import default_rng

    rng, violations = default_rng(1), 0
    for _ in range(60):
        included = rng.random(300) < 0.5
        seen = included + rng.standard_normal(300)
        right = int(included[(-seen).argsort()[:60]].sum())
        violations += curve_p_value(300, 60, right, gaussian_curve(1.0)) < 0.05
    assert violations <= 3
    assert curve_p_value(300, 60, 60, gaussian_curve(1.0)) < 0.05, "and all right is one"


def test_what_cannot_be_is_refused() -> None:
    for counts in ((10, 11, 3), (10, 5, 6), (10, 5, -1)):
        with pytest.raises(ValueError, match="cannot be"):
            p_value(*counts, 1.0, 0.0)
        with pytest.raises(ValueError, match="cannot be"):
            curve_p_value(*counts, [(1.0, 0.0)])


SCHEMA = Schema(
    columns=[
        Category(name="k", values=["a", "b"]),
        Text(name="t", max_tokens=64),
        Boolean(name="b"),
        Integer(name="n", min=0, max=9),
    ]
)


def test_canaries_are_rows_of_the_schema_and_end_improbably() -> None:
    units, endings = canary_units(SCHEMA, 50, 1, seed=3)
    assert len({*endings}) == 50 == len(units) and all(len(ending) == 10 for ending in endings)
    for (row,), ending in zip(units, endings, strict=True):
        assert set(row) == {"k", "t", "b", "n"} and str(row["t"]).endswith(ending) and row["k"] in ("a", "b", None)
    assert canary_units(SCHEMA, 50, 1, seed=3) == (units, endings) != canary_units(SCHEMA, 50, 1, seed=4)
    assert {len(unit) for unit in canary_units(SCHEMA, 5, 3, seed=0)[0]} == {3}


def test_guesses_are_fewer_than_the_sampled_canaries() -> None:
    assert guesses_of(400, 1 / 16, 32) == int(0.6 * 200 * (1 - (15 / 16) ** 32))
    assert guesses_of(400, 1.0, 1) == 120


def test_a_stronger_claim_is_refuted_with_fewer_canaries() -> None:
    few, many = (enough_canaries(1 / 16, 32, gaussian_curve(mu)) for mu in (0.3, 2.0))
    assert few < many


def outcome(right: int, control: int) -> AuditFigures:
    return audit_figures(200, 50, right, control, [(2.0, 1e-6), *gaussian_curve(0.5)])


def test_passed_needs_a_control_that_would_have_failed() -> None:
    assert outcome(27, 50).status == "passed"
    assert outcome(50, 50).status == "failed"
    assert outcome(27, 27).status == "too weak to say"
    for each in (outcome(27, 50), outcome(50, 50), outcome(27, 27)):
        assert each.ceiling == pytest.approx(epsilon_bound(200, 50, 50, 1e-6)) and each.sentence.startswith(str(each.right))
