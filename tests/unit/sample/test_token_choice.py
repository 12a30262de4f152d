"""Sampling from masked logits: the inverse distribution function on arrays."""

import numpy as np
import pytest

from localsynth.sample.token_choice import choose_index, choose_tokens


def test_frequencies_are_those_of_the_renormalised_softmax():
    logits = np.array([2.0, 1.0, 0.0, -1.0, 3.0], dtype=np.float32)
    allowed = np.array([True, True, True, True, False])
    draws = 20_000
    uniform = (np.arange(draws) + 0.5) / draws
    tokens = choose_tokens(np.tile(logits, (draws, 1)), np.tile(allowed, (draws, 1)), uniform, 1.0, 1.0)
    expected = np.exp(logits) * allowed
    expected /= expected.sum()
    np.testing.assert_allclose(np.bincount(tokens, minlength=5) / draws, expected, atol=1e-3)


def test_temperature_sharpens():
    logits = np.tile(np.array([1.0, 0.0], dtype=np.float32), (1000, 1))
    uniform = (np.arange(1000) + 0.5) / 1000
    share = (choose_tokens(logits, np.ones_like(logits, bool), uniform, 0.5, 1.0) == 0).mean()
    assert share == pytest.approx(1 / (1 + np.exp(-2)), abs=2e-3)


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    logits = np.log(np.array([[0.5, 0.3, 0.15, 0.05]], dtype=np.float32))
    uniform = np.linspace(0, 0.9999, 500)
    tokens = choose_tokens(np.tile(logits, (500, 1)), np.ones((500, 4), bool), uniform, 1.0, 0.7)
    assert set(tokens) == {0, 1}


def test_extreme_uniforms_choose_allowed_tokens():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 30, (200, 50)).astype(np.float32)
    allowed = rng.random((200, 50)) < 0.1
    allowed[:, 7] |= ~allowed.any(axis=1)
    for uniform in (0.0, np.nextafter(1.0, 0.0)):
        tokens = choose_tokens(logits.copy(), allowed, np.full(200, uniform), 1.0, 1.0)
        assert allowed[np.arange(200), tokens].all()


def test_an_index_is_chosen_in_proportion_to_its_weight():
    weights = np.array([0.1, 0.6, 0.3])
    uniforms = (np.arange(1000) + 0.5) / 1000
    chosen = [choose_index(np.log(weights) - 500.0, uniform) for uniform in uniforms]
    assert np.bincount(chosen).tolist() == [100, 600, 300]
    assert choose_index(np.array([0.0, -np.inf]), np.nextafter(1.0, 0.0)) == 0
