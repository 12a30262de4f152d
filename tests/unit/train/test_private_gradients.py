"""One unit moves a step by at most C, whatever its number of rows and wherever micro-batching puts them."""

import numpy as np
import pytest
import torch

from localsynth.codec import Encoded
from localsynth.train.batches import micro_batches
from localsynth.train.model import build_model
from localsynth.train.private_gradients import _HEADROOM as HEADROOM
from localsynth.train.private_gradients import PrivateGradients

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
C = 0.1


def rows(count, seed, length=12):
    rng = np.random.default_rng(seed)
    return [Encoded(rng.integers(3, 200, length + i % 4).tolist(), [False] + [True] * (length + i % 4 - 1)) for i in range(count)]


def shaken(model):
    """B is zero at first; here the gradients are to pass through all of it."""
    torch.manual_seed(0)
    for weight in model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.05)
    return model


@pytest.fixture
def model(tiny_model):
    return shaken(build_model(tiny_model(), 4, 8, TARGETS, "fp32", "cpu", seed=1))


@pytest.fixture
def plain(tiny_model, monkeypatch):
    """The same model with PEFT's own layers and PyTorch's own loss."""
    monkeypatch.setattr(
        "localsynth.train.model.summed_cross_entropy",
        lambda hidden, weight, targets: torch.nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="sum"),
    )
    return shaken(build_model(tiny_model(), 4, 8, TARGETS, "fp32", "cpu", seed=1, fused=False))


def clipped_sum(model, units, budget=400, c=C):
    private = PrivateGradients(model, c)
    total = private.new_sum()
    for micro in micro_batches(units, budget):
        private.add(total, private.module(micro.tokens, micro.targets), micro.unit, micro.units)
    private.module.remove_hooks()
    return torch.cat([g.flatten() for g in total.gradients]), total


def by_hand(model, units, c=C):
    """The same sum from plain autograd, a unit at a time."""
    weights = [w for w in model.parameters() if w.requires_grad]
    result = torch.zeros(sum(w.numel() for w in weights))
    for unit in units:
        loss = torch.zeros(())
        for micro in micro_batches([unit], 10**6):
            loss = loss + model(micro.tokens, micro.targets)
        flat = torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])
        result += flat * min(1.0, (1 - HEADROOM) * c / float(flat.double().norm()))
    return result


def test_the_sum_is_that_of_plain_autograd_unit_by_unit(model, plain):
    units = [rows(1 + i % 3, seed=i) for i in range(7)]
    expected = by_hand(plain, units)
    for budget in (30, 100, 10_000):
        found, total = clipped_sum(model, units, budget)
        assert total.units == 7
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_over_a_base_in_four_bits_it_is_that_of_autograd_too(tiny_model):
    """As a GPU computes it: PEFT's layers over bitsandbytes', products in bf16, so the digits kept are few."""
    model = shaken(build_model(tiny_model(), 4, 8, TARGETS, "nf4", "cpu", seed=1))
    units = [rows(1 + i % 3, seed=i) for i in range(5)]
    expected = by_hand(model, units)
    found, _ = clipped_sum(model, units, 100)
    assert expected.norm() > C / 2
    assert (found - expected).norm() < 0.02 * expected.norm()


def test_a_unit_with_many_rows_moves_the_sum_by_at_most_c(model):
    units = [rows(1, seed=i) for i in range(5)]
    extra = rows(9, seed=99)
    before, _ = clipped_sum(model, units)
    after, _ = clipped_sum(model, [*units, extra])
    # In doubles: a float32 norm of so many numbers is itself wrong by more than what is tested.
    assert float((after.double() - before.double()).norm()) <= C
    # Had its rows been taken for units of their own, the same person would have moved it further.
    as_rows, _ = clipped_sum(model, [*units, *[[row] for row in extra]])
    assert float((as_rows - before).norm()) > 1.5 * C


def test_a_gradient_that_is_not_finite_counts_as_zero(model):
    private = PrivateGradients(model, C)
    total = private.new_sum()
    micro = micro_batches([rows(1, seed=1), rows(1, seed=2)], 1000)[0]
    loss = private.module(micro.tokens, micro.targets)
    weight = private.weights[0]
    weight.register_post_accumulate_grad_hook(lambda w: w.grad_sample.__setitem__((0,), float("nan")))
    private.add(total, loss, micro.unit, micro.units)
    assert all(bool(torch.isfinite(g).all()) for g in total.gradients)
    assert 0 < float(torch.cat([g.flatten() for g in total.gradients]).double().norm()) <= C


def test_padding_and_neighbours_do_not_change_an_example(model):
    units = [rows(1, seed=3, length=5), rows(1, seed=4, length=30)]
    together, _ = clipped_sum(model, units, 10_000)
    apart = sum(clipped_sum(model, [unit])[0] for unit in units)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-6)
