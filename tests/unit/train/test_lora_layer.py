"""The fused layer and the chunked loss compute what PEFT and PyTorch compute."""

import pytest
import torch
from opacus import GradSampleModule
from torch import nn
from torch.nn import functional as F

from localsynth.train.lora_layer import LoraLinear
from localsynth.train.loss import summed_cross_entropy


@pytest.fixture
def layer():
    torch.manual_seed(0)
    base = nn.Linear(12, 20).requires_grad_(False)
    return LoraLinear(base, nn.Parameter(torch.randn(3, 12), requires_grad=False), nn.Parameter(torch.randn(20, 3)), scale=2.0)


def plainly(layer, x):
    return layer.base(x) + layer.scale * (x @ layer.a.T @ layer.b.T)


def test_output_and_input_gradient(layer):
    x = torch.randn(4, 5, 12, requires_grad=True)
    expected = plainly(layer, x)
    torch.testing.assert_close(layer(x), expected)
    wanted = torch.autograd.grad(expected.square().sum(), x)[0]
    torch.testing.assert_close(torch.autograd.grad(layer(x).square().sum(), x)[0], wanted, rtol=1e-4, atol=1e-4)


def test_per_example_gradients(layer):
    x = torch.randn(4, 5, 12)
    sampled = GradSampleModule(layer, loss_reduction="sum")
    sampled(x).square().sum().backward()
    for i in range(4):
        (b,) = torch.autograd.grad(plainly(layer, x[i : i + 1]).square().sum(), [layer.b])
        torch.testing.assert_close(layer.b.grad_sample[i], b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("positions", [1, 95, 96, 250])
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
