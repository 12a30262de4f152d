"""What the training benchmark compares are the same step: without noise, ours and Opacus' ghost clipping move the weights alike,
and so do ours and the plain step where nothing is clipped."""

from typing import Any

import numpy as np
import pytest
import torch

from localsynth.bench import train as bench
from localsynth.llm.row_text import Encoded
from localsynth.train.batches import micro_batches
from localsynth.train.model import adapted_base

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
        adapted = adapted_base(tiny_model(), 4, 8, TARGETS, "fp32", "cpu", seed=1)
        torch.manual_seed(0)
        # The frozen factor A, too: B's gradient grows with it.
        for key, weight in adapted.named_parameters():
            if "lora_" in key:
                torch.nn.init.normal_(weight, std=scale)
        step = {"dp": bench._dp_step, "plain": bench._plain_step, "ghost": bench._ghost_step}[name](adapted, UNITS)

        def trained() -> torch.Tensor:
            return torch.cat(
                [
                    w.detach().flatten() if name != "dp" else w.detach().T.flatten()
                    for w in adapted.parameters()
                    if w.requires_grad
                ]
            )

        before = trained()
        step(micro_batches([[row] for row in rows], 100))
        return trained() - before

    return move


def test_ours_and_ghost_clipping_are_the_same_step(moved: Any) -> None:
    ours, ghost = moved("dp", 0.3), moved("ghost", 0.3)
    assert ours.norm() > 0.05, "gradients of norm 1 that point in all directions still add up to something"
    assert (ours - ghost).norm() < 2e-3 * ghost.norm()  # ours is clipped a thousandth below the bound


def test_without_clipping_ours_and_the_plain_step_are_the_same(moved: Any) -> None:
    ours, plain = moved("dp", 1e-4), moved("plain", 1e-4)
    assert plain.norm() > 0, "something moves"
    assert (ours - plain).norm() < 1e-3 * plain.norm()
