"""Drawing under evidence that differs from row to row, against going through all combinations."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from localsynth.marginals import conditional as module
from localsynth.marginals.conditional import probabilities_of, sample_given
from localsynth.marginals.inference import Factor

SIZES = {"a": 2, "b": 3, "c": 4, "d": 2, "e": 3}
SCOPES = [("b", "a"), ("b", "c"), ("c", "d", "a"), ("e",), ("e", "d"), ("a",)]


@pytest.fixture(scope="module")
def factors() -> list[Factor]:
    numbers = np.random.default_rng(3)
    return [Factor(scope, numbers.normal(size=[SIZES[name] for name in scope])) for scope in SCOPES]


def exact(factors: list[Factor], known: dict[str, int]) -> dict[tuple[int, ...], float]:
    """The chance of each combination of the unknown variables, in the order of SIZES."""
    chances: dict[tuple[int, ...], float] = {}
    for values in itertools.product(*[range(size) for size in SIZES.values()]):
        place = dict(zip(SIZES, values, strict=True))
        if all(place[name] == value for name, value in known.items()):
            weight = float(np.exp(sum(f.table[tuple(place[name] for name in f.names)] for f in factors)))
            chances[tuple(value for name, value in place.items() if name not in known)] = weight
    total = sum(chances.values())
    return {values: weight / total for values, weight in chances.items()}


def uniforms(rows: int, names: list[str]) -> dict[str, NDArray[np.float64]]:
    draw = np.random.default_rng(5)
    return {name: draw.random(rows) for name in names}


@pytest.mark.parametrize("cells", [1 << 22, 1])
def test_samples_follow_the_exact_conditional(factors: list[Factor], cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where each evidence is worked on by itself, for want of memory."""
    monkeypatch.setattr(module, "_CELLS", cells)
    rows = 60_000
    evidence = {"c": np.arange(rows) % 2 * 3, "e": np.arange(rows) % 3}
    drawn = sample_given(SIZES, factors, evidence, uniforms(rows, ["a", "b", "d"]))
    for c, e in itertools.product((0, 3), range(3)):
        here = (evidence["c"] == c) & (evidence["e"] == e)
        for values, chance in exact(factors, {"c": c, "e": e}).items():
            found = np.mean([drawn["a"][here] == values[0], drawn["b"][here] == values[1], drawn["d"][here] == values[2]], axis=0)
            assert abs(float((found == 1).mean()) - chance) < 5 * np.sqrt(chance * (1 - chance) / here.sum()) + 1e-4


def test_probabilities_are_the_exact_marginals(factors: list[Factor]) -> None:
    evidence = {"a": np.array([0, 1, 1, 0]), "d": np.array([1, 0, 1, 1])}
    chances = probabilities_of("b", SIZES, factors, evidence, 4)
    for row in range(4):
        expected = np.zeros(3)
        for values, chance in exact(factors, {name: int(found[row]) for name, found in evidence.items()}).items():
            expected[values[0]] += chance
        np.testing.assert_allclose(chances[row], expected, rtol=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_factors_can_outweigh_tiny_weights(seed: int) -> None:
    """As in a fit of sequences, where a value and the one before it were drawn as if they had nothing to do with each other."""
    numbers = np.random.default_rng(seed)
    factors = [Factor(scope, 25 * numbers.normal(size=[SIZES[name] for name in scope])) for scope in SCOPES]
    evidence = {"c": np.array([0, 1, 2, 3]), "e": np.array([0, 2, 1, 0])}
    chances = probabilities_of("b", SIZES, factors, evidence, 4)
    for row in range(4):
        expected = np.zeros(3)
        for values, chance in exact(factors, {name: int(found[row]) for name, found in evidence.items()}).items():
            expected[values[1]] += chance
        np.testing.assert_allclose(chances[row], expected, rtol=1e-9, atol=1e-12)


def test_row_depends_on_its_own_evidence_only(factors: list[Factor]) -> None:
    rows = 500
    draw = np.random.default_rng(0)
    evidence = {"c": draw.integers(0, 4, rows), "d": draw.integers(0, 2, rows)}
    given = uniforms(rows, ["a", "b", "e"])
    together = sample_given(SIZES, factors, evidence, given)
    for row in (0, 17, 499):
        alone = sample_given(
            SIZES, factors, {n: found[[row]] for n, found in evidence.items()}, {n: u[[row]] for n, u in given.items()}
        )
        assert {name: found[row] for name, found in together.items()} == {name: found[0] for name, found in alone.items()}


def test_impossible_values_are_never_sampled(factors: list[Factor]) -> None:
    table = np.zeros((4, 3))
    table[:, 1] = -100.0
    rows = 5000
    drawn = sample_given(
        SIZES, [*factors, Factor(("c", "b"), table)], {"c": np.arange(rows) % 4}, uniforms(rows, ["a", "b", "d", "e"])
    )
    assert set(drawn["b"].tolist()) == {0, 2}


def test_cancelling_factors_do_not_distort_samples(factors: list[Factor]) -> None:
    """A fit leaves such factors behind: only their sum counts, and each by itself is far beyond what a chance can be."""
    numbers = np.random.default_rng(4)
    against = []
    for one, other, shared in ((0, 1, "b"), (2, 5, "a"), (3, 4, "e")):
        drift = numbers.uniform(-200, 200, SIZES[shared])
        for number, sign in ((one, 1), (other, -1)):
            names = factors[number].names
            against.append(
                Factor(
                    names,
                    sign * drift.reshape([-1 if name == shared else 1 for name in names]) + np.zeros([SIZES[n] for n in names]),
                )
            )
    # Over two variables, too.
    pair = numbers.uniform(-200, 200, (SIZES["a"], SIZES["c"]))
    against += [
        Factor(("a", "c", "e"), np.repeat(pair[:, :, None], SIZES["e"], axis=2)),
        Factor(("a", "c", "b"), np.repeat(-pair[:, :, None], SIZES["b"], axis=2)),
    ]
    merged = [*factors, *against]
    evidence = {"c": np.array([0, 1, 2, 3]), "e": np.array([0, 2, 1, 0])}
    for name in ("a", "b", "d"):
        expected = probabilities_of(name, SIZES, factors, evidence, 4)
        np.testing.assert_allclose(probabilities_of(name, SIZES, merged, evidence, 4), expected, rtol=1e-9, atol=1e-12)
