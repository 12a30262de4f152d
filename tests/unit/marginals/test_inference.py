"""Elimination against brute force over the whole joint table, and the fit against mbi's."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from localsynth.marginals.fit import Measurement, fit_potentials
from localsynth.marginals.inference import (
    Factor,
    Marginals,
    Names,
    cells,
    cumulative,
    eliminate,
    elimination_order,
    marginal,
    pick,
    sample,
)

SIZES = {"a": 2, "b": 3, "c": 4, "d": 2, "e": 3}
SCOPES = [("a", "b"), ("c", "b"), ("c", "d"), ("d", "a")]  # a cycle, and e on its own


@pytest.fixture
def factors() -> list[Factor]:
    numbers = np.random.default_rng(0)
    return [Factor(scope, numbers.normal(size=[SIZES[name] for name in scope])) for scope in SCOPES]


def joint(factors: list[Factor], masks: dict[str, NDArray[np.float64]] | None = None) -> NDArray[np.float64]:
    names = tuple(SIZES)
    table = np.zeros([SIZES[name] for name in names])
    for factor in factors:
        table = table + factor.onto(names)
    table = np.exp(table)
    for name, weights in (masks or {}).items():
        table = table * Factor((name,), weights).onto(names)
    return table


def summed(table: NDArray[np.float64], names: tuple[str, ...]) -> NDArray[np.float64]:
    kept = [name for name in SIZES if name in names]
    result = table.sum(axis=tuple(i for i, name in enumerate(SIZES) if name not in names))
    return result.transpose([kept.index(name) for name in names])


def test_marginals_equal_those_of_the_joint_table(factors: list[Factor]) -> None:
    chain, log_sum = eliminate(SIZES, factors)
    table = joint(factors)
    assert log_sum == pytest.approx(np.log(table.sum()))
    for size in (1, 2, 3):
        for names in itertools.permutations(SIZES, size):
            np.testing.assert_allclose(marginal(chain, names), summed(table / table.sum(), names), atol=1e-12)


def test_masked_marginals_are_conditional_ones(factors: list[Factor]) -> None:
    masks = {"c": np.array([0.0, 1.0, 0.5, 0.0]), "e": np.array([1.0, 0.0, 0.0])}
    chain, _ = eliminate(SIZES, factors, masks)
    table = joint(factors, masks)
    for names in itertools.combinations(SIZES, 2):
        np.testing.assert_allclose(marginal(chain, names), summed(table / table.sum(), names), atol=1e-12)


def test_mask_of_zeros_gives_minus_infinity(factors: list[Factor]) -> None:
    assert eliminate(SIZES, factors, {"c": np.zeros(4)})[1] == -np.inf


def test_samples_follow_the_joint_table(factors: list[Factor]) -> None:
    n = 200_000
    uniforms = np.random.default_rng(1).random((len(SIZES), n))
    chain, _ = eliminate(SIZES, factors)
    sampled = sample(chain, dict(zip(SIZES, uniforms, strict=True)))
    counts = np.zeros(list(SIZES.values()))
    np.add.at(counts, tuple(sampled[name] for name in SIZES), 1)
    expected = joint(factors)
    expected *= n / expected.sum()
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < expected.size + 5 * np.sqrt(2 * expected.size)


def test_row_depends_on_its_own_uniforms_only(factors: list[Factor]) -> None:
    uniforms = {name: np.random.default_rng(2).random(50) for name in SIZES}
    chain, _ = eliminate(SIZES, factors)
    whole = sample(chain, uniforms)
    part = sample(chain, {name: values[17:18] for name, values in uniforms.items()})
    assert all(part[name][0] == whole[name][17] for name in SIZES)


def test_choices_of_weight_zero_are_never_picked() -> None:
    sums = cumulative(np.array([[0.0, 0.1, 0.0, 0.2, 0.0]]))
    picked = pick(sums, np.zeros(3, dtype=np.int64), np.array([0.0, 0.4, 1 - 2**-53]))
    assert picked.tolist() == [1, 3, 3]


def test_cells_count_the_tables_of_elimination() -> None:
    sizes = {"a": 10, "b": 20, "c": 30}
    # First a with b; then b with c; then c alone.
    assert cells(sizes, [("a", "b"), ("b", "c")]) == 10 * 20 + 20 * 30 + 30
    assert elimination_order(sizes, [("a", "b")], kept=("a",)) == [("c", ()), ("b", ("a",))]


def test_repeated_marginals_equal_those_of_the_chain(factors: list[Factor]) -> None:
    chain, _ = eliminate(SIZES, factors)
    chances = Marginals(SIZES, SCOPES).of({factor.names: factor.table for factor in factors})
    for names in SCOPES:
        np.testing.assert_allclose(chances[names], marginal(chain, names), atol=1e-12)


def measured_table() -> tuple[NDArray[np.float64], dict[str, int], list[Measurement]]:
    table = np.random.default_rng(3).dirichlet(np.ones(24)).reshape(2, 3, 4) * 1000
    measured = [
        Measurement(("a", "b"), table.sum(axis=2), 1.0),
        Measurement(("b", "c"), table.sum(axis=0), 2.0),
        # A single column whose cells were scaled beforehand is fitted just as well.
        Measurement(("c",), table.sum(axis=(0, 1)) * 0.5, 1.0, np.full(4, 0.5)),
    ]
    return table, {"a": 2, "b": 3, "c": 4}, measured


def test_noiseless_measurements_are_fitted_exactly() -> None:
    table, sizes, measured = measured_table()
    potentials = fit_potentials(sizes, measured, 1000.0, iterations=2000)
    chain, _ = eliminate(sizes, potentials)
    np.testing.assert_allclose(1000 * marginal(chain, ("a", "b")), table.sum(axis=2), atol=1.0)
    np.testing.assert_allclose(1000 * marginal(chain, ("b", "c")), table.sum(axis=0), atol=1.0)


def test_fit_continues_from_an_earlier_one() -> None:
    table, sizes, measured = measured_table()
    first = fit_potentials(sizes, measured[:1], 1000.0)
    chain, _ = eliminate(sizes, fit_potentials(sizes, measured, 1000.0, first, iterations=0))
    np.testing.assert_allclose(1000 * marginal(chain, ("a", "b")), table.sum(axis=2), atol=1.0)


def test_fits_as_well_as_mbi() -> None:
    """The authors' own implementation of the same algorithm, on noisy counts that contradict each other."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    mbi = pytest.importorskip("mbi")
    _, sizes, exact = measured_table()
    noise = np.random.default_rng(4)
    measured = [Measurement(m.names, m.counts + noise.normal(0, 20, m.counts.shape), 20.0) for m in exact[:2]]
    measured.append(Measurement(("a", "c"), noise.normal(80, 40, (2, 4)), 20.0))

    domain = mbi.Domain.fromdict(sizes)
    theirs = [mbi.LinearMeasurement(m.counts.ravel(), m.names, m.sigma) for m in measured]
    model = mbi.estimation.MirrorDescent().estimate(domain, theirs, known_total=1000.0, iters=3000)
    chain, _ = eliminate(sizes, fit_potentials(sizes, measured, 1000.0, iterations=3000))

    def loss(expected: Callable[[Names], NDArray[np.float64]]) -> float:
        return sum(float((((expected(m.names) - m.counts) / m.sigma) ** 2).sum()) / 2 for m in measured)

    ours = loss(lambda names: 1000 * marginal(chain, names))
    assert ours <= 1.001 * loss(lambda names: np.asarray(model.project(names).values))


def test_momentum_needs_few_steps_on_an_ill_conditioned_fit() -> None:
    """Noise of very different scales, and columns that hardly vary: plain descent has five times the loss after as many steps."""
    numbers = np.random.default_rng(1)
    sizes = dict.fromkeys("abcdef", 6)
    rare = numbers.dirichlet(np.full(6**6, 0.01)).reshape([6] * 6) * 20_000
    measured = []
    for i, pair in enumerate(itertools.combinations(sizes, 2)):
        exact = rare.sum(axis=tuple(axis for axis, name in enumerate(sizes) if name not in pair))
        sigma = 3.0 * 4.0 ** (i % 3)
        measured.append(Measurement(pair, exact + numbers.normal(0, sigma, exact.shape), sigma))

    def loss(iterations: int) -> float:
        chain, _ = eliminate(sizes, fit_potentials(sizes, measured, 20_000.0, iterations=iterations))
        return sum(float((((20_000 * marginal(chain, m.names) - m.counts) / m.sigma) ** 2).sum()) / 2 for m in measured)

    assert loss(200) < 1.1 * loss(2000)
