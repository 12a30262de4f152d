"""What the training benchmark compares are the same step: without noise, ours and Opacus' ghost clipping move the weights alike,
and so do ours and the plain step where nothing is clipped."""

from typing import Any

import numpy as np
import pytest
import torch

from localsynth.bench import train as bench
from localsynth.codec import Encoded
from localsynth.train.batches import micro_batches
from localsynth.train.model import build_model

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
UNITS = 12


@pytest.fixture
def moved(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """By how much a variant's one step moves the weights, under plain gradient descent and without noise."""
    monkeypatch.setattr(bench, "_NOISE", 0.0)
    monkeypatch.setattr(torch.optim, "AdamW", lambda weights, **_: torch.optim.SGD(weights, lr=1.0))
    rng = np.random.default_rng(5)
    rows = [Encoded(rng.integers(3, 200, 12 + i % 5).tolist(), [False] + [True] * (11 + i % 5)) for i in range(UNITS)]

    def move(name: str, scale: float) -> torch.Tensor:
        model = build_model(tiny_model(), 4, 8, TARGETS, "fp32", "cpu", seed=1, fused=name == "dp")
        torch.manual_seed(0)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        # The frozen factor A, too: B's gradient grows with it.
        for key, weight in model.named_parameters():
            if "lora_" in key or key.endswith((".a", ".b")):
                torch.nn.init.normal_(weight, std=scale)
        before = torch.cat([weight.detach().flatten().clone() for weight in weights])
        {"dp": bench._dp_step, "plain": bench._plain_step, "ghost": bench._ghost_step}[name](model, UNITS)(
            micro_batches([[row] for row in rows], 100)
        )
        return torch.cat([weight.detach().flatten() for weight in weights]) - before

    return move


def test_ours_and_ghost_clipping_are_the_same_step(moved: Any) -> None:
    ours, ghost = moved("dp", 0.3), moved("ghost", 0.3)
    assert ours.norm() > 0.05, "gradients of norm 1 that point in all directions still add up to something"
    assert (ours - ghost).norm() < 2e-3 * ghost.norm()  # ours is clipped a thousandth below the bound


def test_without_clipping_ours_and_the_plain_step_are_the_same(moved: Any) -> None:
    ours, plain = moved("dp", 1e-4), moved("plain", 1e-4)
    assert plain.norm() > 0, "something moves"
    assert (ours - plain).norm() < 1e-3 * plain.norm()
