"""The one generator of secret randomness: its distributions, and that its state stays secret."""

import copy
import math
import os
import pickle
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localsynth.privacy.noise import SECURE_LABEL, RandomSource, SecureRandom
from tests.helpers.seeded_random import INSECURE_LABEL, InsecureRandom

N = 400_000
OFF = 7
"""Standard deviations by which a figure may be off: by chance, one in 4e11 figures is further off."""


def normal_cdf(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def kolmogorov_distance(sample: np.ndarray, cdf: np.ndarray) -> float:
    n = len(sample)
    return float(max((np.arange(1, n + 1) / n - cdf).max(), (cdf - np.arange(n) / n).max()))


@pytest.fixture(params=["secure", "insecure"])
def source(request: pytest.FixtureRequest) -> RandomSource:
    return SecureRandom() if request.param == "secure" else InsecureRandom(5)


def test_bits_are_balanced_and_uncorrelated(source: RandomSource) -> None:
    bits = np.unpackbits(np.frombuffer(source.random_bytes(N), dtype=np.uint8))
    assert abs(bits.mean() - 0.5) < OFF * 0.5 / math.sqrt(len(bits))
    assert abs((bits[1:] == bits[:-1]).mean() - 0.5) < OFF * 0.5 / math.sqrt(len(bits))


def test_bytes_pass_chi_square(source: RandomSource) -> None:
    counts = np.bincount(np.frombuffer(source.random_bytes(N), dtype=np.uint8), minlength=256)
    expected = N / 256
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert abs(statistic - 255) < OFF * math.sqrt(2 * 255)


def test_uniform_is_uniform_with_53_bits(source: RandomSource) -> None:
    sample = source.uniform(N)
    assert sample.dtype == np.float64 and sample.min() >= 0 and sample.max() < 1
    assert kolmogorov_distance(np.sort(sample), np.sort(sample)) < 4 / math.sqrt(N)
    scaled = sample * 2.0**53
    assert (scaled == np.floor(scaled)).all()
    assert (scaled % 2 == 1).mean() == pytest.approx(0.5, abs=0.01)  # the last bit is in use


def test_gaussian_follows_the_normal_distribution(source: RandomSource) -> None:
    sample = np.sort(source.gaussian(N))
    assert kolmogorov_distance(sample, normal_cdf(sample)) < 4 / math.sqrt(N)
    assert abs(sample.mean()) < OFF / math.sqrt(N)
    assert abs(sample.var() - 1) < OFF * math.sqrt(2 / N)
    assert abs((sample**4).mean() - 3) < OFF * math.sqrt(96 / N)


def test_gaussian_has_its_tails(source: RandomSource) -> None:
    beyond = np.abs(source.gaussian(10 * N)) > 4
    expected = 10 * N * 6.334e-5
    assert abs(beyond.sum() - expected) < OFF * math.sqrt(expected)


def test_gaussians_that_share_uniforms_are_independent(source: RandomSource) -> None:
    # Two blocks: a number shares its uniforms with the one at the same place of the other half of its block.
    first, second = np.hstack([source.gaussian(2 * 16384).reshape(2, 16384) for _ in range(2)])
    for a, b in ((first, second), (first**2, second**2), (np.abs(first), np.abs(second))):
        assert abs(np.corrcoef(a, b)[0, 1]) < OFF / math.sqrt(2 * 16384)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 32767, 32768, 32769, 70_001])
def test_gaussian_fills_every_length(n: int) -> None:
    sample = SecureRandom().gaussian(n)
    assert sample.shape == (n,) and np.isfinite(sample).all() and (sample != 0).all()


def test_each_gaussian_uses_four_pairs() -> None:
    source = SecureRandom()
    requested: list[int] = []
    original = source.random_bytes

    def counting(n: int) -> bytes:
        requested.append(n)
        return original(n)

    with mock.patch.object(source, "random_bytes", counting):
        source.gaussian(1000)
    assert sum(requested) == 1000 * 4 * 8


class Fixed(RandomSource):
    """Repeats one byte."""

    label = "fixed"

    def __init__(self, byte: int) -> None:
        self.byte = byte

    def random_bytes(self, n: int) -> bytes:
        return bytes([self.byte]) * n


@pytest.mark.parametrize("byte", [0, 255])
def test_extreme_uniforms_give_finite_gaussians(byte: int) -> None:
    assert np.isfinite(Fixed(byte).gaussian(10)).all()


def test_gaussian_is_half_the_sum_of_four() -> None:
    class OneUniform(RandomSource):
        label = "test"

        def random_bytes(self, n: int) -> bytes:
            # Angle 0 and the same radius r in all four pairs: cosine r, sine 0, so the sum of two cosines over two is r.
            words = np.zeros(n // 8, dtype=np.uint64)
            words[: len(words) // 2] = np.uint64(1) << np.uint64(63)
            return words.tobytes()

    assert OneUniform().gaussian(2) == pytest.approx([math.sqrt(2 * math.log(2))] * 2)


def test_bernoulli_has_its_rate(source: RandomSource) -> None:
    for p in (0.01, 0.5, 0.97):
        assert abs(source.bernoulli(p, N).mean() - p) < OFF * math.sqrt(p * (1 - p) / N)
    assert not source.bernoulli(0, 100).any()
    assert source.bernoulli(1, 100).all()
    for p in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="probability"):
            source.bernoulli(p, 1)


@settings(max_examples=30, deadline=None)
@given(high=st.integers(1, 2**62), n=st.integers(0, 50))
def test_integers_stay_below_high(high: int, n: int) -> None:
    sample = SecureRandom().integers(high, n)
    assert sample.shape == (n,) and (sample >= 0).all() and (sample < high).all()


def test_integers_are_unbiased_by_rejection(source: RandomSource) -> None:
    high = 3 * 2**60  # 2**64 % high is a quarter of high: taking the remainder alone would favour the low values
    assert abs((source.integers(high, N) < 2**60).mean() - 1 / 3) < OFF * math.sqrt(2 / 9 / N)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(0, 300))
def test_permutation_holds_every_number_once(n: int) -> None:
    assert sorted(SecureRandom().permutation(n)) == list(range(n))


def test_permutations_are_equally_likely(source: RandomSource) -> None:
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(6000):
        order = tuple(source.permutation(3).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert all(abs(count - 1000) < OFF * math.sqrt(1000) for count in counts.values())


def test_instances_and_calls_differ() -> None:
    samples = {SecureRandom().random_bytes(16) for _ in range(200)}
    one = SecureRandom()
    samples |= {one.random_bytes(16) for _ in range(200)}
    assert len(samples) == 400


def test_forked_child_does_not_repeat_its_parent() -> None:
    source = SecureRandom()
    source.random_bytes(1)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, source.random_bytes(32))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 32) != source.random_bytes(32)
    os.close(reading)
    os.close(writing)


def test_generator_cannot_be_pickled_copied_or_printed(source: RandomSource) -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="must not be pickled"):
            attempt(source)
    assert repr(source) == f"<{type(source).__name__}: {source.label}>"


def test_only_the_test_generator_takes_a_seed() -> None:
    with pytest.raises(TypeError):
        SecureRandom(1)  # type: ignore[call-arg]
    assert InsecureRandom(1).random_bytes(16) == InsecureRandom(1).random_bytes(16) != InsecureRandom(2).random_bytes(16)
    assert SecureRandom.label == SECURE_LABEL
    assert InsecureRandom.label == INSECURE_LABEL == "INSECURE, for tests"
    assert not isinstance(InsecureRandom(1), SecureRandom)
