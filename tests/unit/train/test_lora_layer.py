"""The fused layer and the chunked loss compute what PEFT and PyTorch compute."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from localsynth.train.batches import Group, MicroBatch
from localsynth.train.lora_layer import LoraLinear, UnitGradients
from localsynth.train.loss import summed_cross_entropy


@pytest.fixture
def layer():
    torch.manual_seed(0)
    base = nn.Linear(12, 20).requires_grad_(False)
    return LoraLinear(base, nn.Parameter(torch.randn(3, 12), requires_grad=False), nn.Parameter(torch.randn(3, 20)), scale=2.0)


def plainly(layer, x):
    return layer.base(x) + layer.scale * (x @ layer.a.T @ layer.b)


def test_output_and_input_gradient(layer):
    x = torch.randn(4, 5, 12, requires_grad=True)
    expected = plainly(layer, x)
    torch.testing.assert_close(layer(x), expected)
    wanted = torch.autograd.grad(expected.square().sum(), x)[0]
    micro = MicroBatch(*[torch.zeros(20, dtype=torch.int64)] * 3, (Group(0, 4, 5),), torch.arange(4), 4)  # type: ignore[call-arg]
    gradients = UnitGradients([layer.b])
    layer.leave_gradients_in(gradients, 0)
    gradients.begin(micro)
    torch.testing.assert_close(torch.autograd.grad(layer(x).square().sum(), x)[0], wanted, rtol=1e-4, atol=1e-4)


def test_each_unit_gets_the_gradient_of_its_own_examples(layer):
    """Three examples, of two widths, in two units; the last positions belong to none."""
    groups = (Group(0, 2, 5), Group(10, 1, 8))
    micro = MicroBatch(*[torch.zeros(20, dtype=torch.int64)] * 3, groups, torch.tensor([0, 1, 0]), 2)  # type: ignore[call-arg]
    gradients = UnitGradients([layer.b])
    layer.leave_gradients_in(gradients, 0)
    x = torch.randn(1, 20, 12)
    for _ in range(2):  # nothing is left of what lay there, nor does the second pass add to the first
        gradients._room = torch.full((3, 60), float("nan"))
        gradients.begin(micro)
        layer(x)[0, :18].square().sum().backward()
        found = gradients.take()
        for unit, places in enumerate(([*range(5), *range(10, 18)], range(5, 10))):
            (b,) = torch.autograd.grad(plainly(layer, x[0, list(places)]).square().sum(), [layer.b])
            torch.testing.assert_close(found[unit].view(3, 20), b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("positions", [1, 127, 128, 300])
def test_the_chunked_loss_is_cross_entropy(positions):
    torch.manual_seed(1)
    hidden = torch.randn(positions, 16, requires_grad=True)
    weight, targets = torch.randn(301, 16), torch.randint(0, 301, (positions,))
    expected = F.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    found = summed_cross_entropy(hidden, weight, targets)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(
        torch.autograd.grad(3 * found, hidden)[0], torch.autograd.grad(3 * expected, hidden)[0], rtol=1e-4, atol=1e-4
    )
