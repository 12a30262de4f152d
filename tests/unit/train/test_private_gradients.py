"""One unit moves a step by at most C, whatever its number of rows and wherever micro-batching puts them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from localsynth.llm.row_text import Encoded
from localsynth.train.model import LossModel, adapted_base, build_model
from localsynth.train.private_gradients import HEADROOM, PrivateGradients, _norms

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
            ours = isinstance(model, LossModel)  # whose B lies transposed
            values = 0.05 * torch.randn(weight.T.shape if ours else weight.shape)
            weight.data.copy_(values.T if ours else values)
    return model


@pytest.fixture
def model(tiny_model):
    return shaken(build_model(tiny_model(), 4, 8, TARGETS, "fp32", "cpu", seed=1))


@pytest.fixture
def plain(tiny_model):
    """The same model with PEFT's own layers, and nothing of ours."""
    return shaken(adapted_base(tiny_model(), 4, 8, TARGETS, "fp32", "cpu", seed=1))


def clipped_sum(model, units, budget=400, c=C):
    private = PrivateGradients(model, c)
    total = private.new_sum()
    for micro in private.micro_batches(units, budget):
        private.add(total, micro)
    # B lies transposed in our layers.
    return torch.cat([g.T.flatten() for g in private.split(total.gradient)]), total


def by_hand(plain, units, c=C):
    """The same sum from transformers, PEFT and autograd: an example at a time, without padding, in PyTorch's cross-entropy."""
    weights = [w for w in plain.parameters() if w.requires_grad]
    result = torch.zeros(sum(w.numel() for w in weights), dtype=torch.float64)
    for unit in units:
        loss = torch.zeros(())
        for example in unit:
            logits = plain(torch.tensor([example.tokens])).logits[0, :-1].float()
            wanted = torch.where(torch.tensor(example.learned[1:]), torch.tensor(example.tokens[1:]), -100)
            loss = loss + torch.nn.functional.cross_entropy(logits, wanted, reduction="sum")
        flat = torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)]).float()
        result += flat * min(1.0, (1 - HEADROOM) * c / float(flat.double().norm()))
    return result


def test_the_sum_is_that_of_plain_autograd_unit_by_unit(model, plain):
    units = [rows(1 + i % 3, seed=i) for i in range(7)]
    expected = by_hand(plain, units)
    for budget in (30, 100, 10_000):
        found, total = clipped_sum(model, units, budget)
        assert total.units == 7
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("targets", [TARGETS, ["v_proj", "down_proj"]], ids=["all", "some"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gemma3"])
def test_every_architecture_computes_what_transformers_computes(tiny_model, architecture, targets):
    """Packed attention (also within a sliding window), our norms and layers, and those that have no adapter."""
    base = tiny_model(architecture=architecture)
    ours = shaken(build_model(base, 4, 8, targets, "fp32", "cpu", seed=1))
    theirs = shaken(adapted_base(base, 4, 8, targets, "fp32", "cpu", seed=1))
    units = [rows(1 + i % 2, seed=i, length=5 + 9 * i) for i in range(5)]
    torch.testing.assert_close(clipped_sum(ours, units, 100)[0], by_hand(theirs, units), rtol=1e-3, atol=1e-6)


def test_opacus_finds_the_same_gradients(model, plain):
    from opacus import GradSampleModule

    units = [rows(1, seed=i, length=9) for i in range(4)]
    private = PrivateGradients(model, C)
    (micro,) = private.micro_batches(units, 100)
    gradients, _, norms, _ = private.clipped(micro)
    sampled = GradSampleModule(plain, batch_first=True, loss_reduction="sum", strict=False)
    for i, (unit,) in enumerate(units):
        logits = sampled(torch.tensor([unit.tokens])).logits[0, :-1]
        torch.nn.functional.cross_entropy(logits, torch.tensor(unit.tokens[1:]), reduction="sum").backward()
        theirs = [w.grad_sample[0] for w in plain.parameters() if w.requires_grad]
        for our, their in zip(private.split(gradients[i]), theirs, strict=True):
            torch.testing.assert_close(our, their.T, rtol=1e-3, atol=1e-5)
        assert float(norms[i]) == pytest.approx(float(torch.cat([g.flatten() for g in theirs]).norm()), rel=1e-4)
        sampled.zero_grad()


@pytest.mark.parametrize("targets", [TARGETS, ["v_proj", "down_proj"]])
def test_over_a_base_in_four_bits_it_is_that_of_autograd_too(tiny_model, targets):
    """As a GPU computes it: over bitsandbytes' weights, products in bf16. As near to the exact figures as PEFT's own layers."""
    from bitsandbytes.functional import dequantize_4bit

    def of_peft(precision):
        return shaken(adapted_base(tiny_model(), 4, 8, targets, precision, "cpu", seed=1))

    model = shaken(build_model(tiny_model(), 4, 8, targets, "nf4", "cpu", seed=1))
    theirs, exact = of_peft("nf4"), of_peft("fp32")
    exact.load_state_dict(
        {key: value.float() for key, value in theirs.state_dict().items() if value.is_floating_point()}, strict=False
    )
    for name, layer in theirs.named_modules():
        if hasattr(layer, "weight") and hasattr(layer.weight, "quant_state"):
            exact.get_submodule(name).weight.data = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    units = [rows(1 + i % 3, seed=i) for i in range(5)]
    expected = by_hand(exact, units)
    found, _ = clipped_sum(model, units, 100)
    error, usual = (float((gradient - expected).norm() / expected.norm()) for gradient in (found, by_hand(theirs, units)))
    assert expected.norm() > C / 2
    assert error < 1.5 * usual < 0.05


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


def test_a_gradient_that_is_not_finite_counts_as_zero(model, monkeypatch):
    private = PrivateGradients(model, C)
    total = private.new_sum()
    (micro,) = private.micro_batches([rows(1, seed=1), rows(1, seed=2)], 1000)
    put, begin = model.unit_gradients.put_products, torch.arange(1000)[:, None] == 0
    broken = lambda n, x, d: put(n, torch.where(begin, float("nan"), x) if n == 3 else x, d)  # noqa: E731
    monkeypatch.setattr(model.unit_gradients, "put_products", broken)
    private.add(total, micro)
    assert bool(torch.isfinite(total.gradient).all())
    assert 0 < float(total.gradient.double().norm()) <= C


def test_weight_used_never_or_twice_is_an_error(model):
    private = PrivateGradients(model, C)
    (micro,) = private.micro_batches([rows(1, seed=1)], 100)
    layer = model.language_model.model.layers[0].self_attn.q_proj
    used = layer.forward
    layer.forward = lambda x: layer.base(x)
    with pytest.raises(AssertionError, match="not used"):
        private.clipped(micro)
    layer.forward = lambda x: (used(x) + used(x)) / 2
    with pytest.raises(AssertionError, match="twice"):
        private.clipped(micro)


def test_padding_and_neighbours_do_not_change_an_example(model):
    units = [rows(1, seed=3, length=5), rows(1, seed=4, length=30)]
    together, _ = clipped_sum(model, units, 10_000)
    apart = sum(clipped_sum(model, [unit])[0] for unit in units)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [622_080, 92_160, 10_007])
def test_norms_keep_their_digits_whatever_the_number_of_weights(size):
    gradients = torch.randn(3, size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(_norms(gradients), gradients.double().norm(dim=1), rtol=1e-12, atol=0)


def aligned_sum(tiny_model, monkeypatch, count, others=()):
    """The sum of `others` and then of `count` units of one gradient at the clipping bound: eight units a micro-batch."""
    private = PrivateGradients(build_model(tiny_model(), 4, 8, ["q_proj"], "fp32", "cpu", seed=1), C)
    total = private.new_sum()
    one = torch.randn(len(total.gradient), generator=torch.Generator().manual_seed(0))

    def clipped(gradients):
        norms = gradients.double().norm(dim=1)
        return gradients, (1 - HEADROOM) * C / norms, norms, 0.0

    monkeypatch.setattr(private, "clipped", lambda micro: clipped(micro.gradients))
    for gradients in (*others, *[one.expand(8, -1).contiguous()] * (count // 8)):
        private.add(total, SimpleNamespace(gradients=gradients, units=len(gradients)))
    return total.gradient


@pytest.mark.parametrize("count", [1024, 65_536, 262_144])
def test_many_units_at_the_bound_add_up_to_no_more(tiny_model, monkeypatch, count):
    """In float32, each addition to a large sum rounds in the same direction."""
    total = aligned_sum(tiny_model, monkeypatch, count)
    assert float(total.norm()) == pytest.approx(count * (1 - HEADROOM) * C, rel=1e-9)


def test_a_unit_moves_the_sum_of_many_by_at_most_c(tiny_model, monkeypatch):
    """It stands before the others, so it moves the rounding of all the sums that follow."""
    without = aligned_sum(tiny_model, monkeypatch, 65_536)
    other = torch.randn(1, len(without), generator=torch.Generator().manual_seed(1))
    difference = aligned_sum(tiny_model, monkeypatch, 65_536, [other]) - without
    assert float(difference.norm()) == pytest.approx((1 - HEADROOM) * C, rel=1e-6)


def test_a_clipped_gradient_is_at_the_bound_to_the_last_digits(model):
    private = PrivateGradients(model, C)
    (micro,) = private.micro_batches([rows(1 + i % 3, seed=i) for i in range(20)], 10_000)
    gradients, factors, norms, _ = private.clipped(micro)
    found = (gradients.double() * factors.double()[:, None]).norm(dim=1)
    assert bool((norms > C).all())
    torch.testing.assert_close(found, torch.full_like(found, (1 - HEADROOM) * C), rtol=1e-12, atol=0)
