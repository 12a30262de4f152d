"""On the real model in bf16: one unit's presence must not change how the others' gradients are rounded."""

import pytest
import torch

from localsynth.base_models import find_base_model
from localsynth.codec import Encoded
from localsynth.config import TrainConfig
from localsynth.train.batches import micro_batches
from localsynth.train.model import build_model
from localsynth.train.private_gradients import PrivateGradients
from localsynth.workspace import model_directory

C = 1.0


@pytest.mark.model
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_one_unit_moves_the_sum_by_at_most_c_when_it_groups_the_others_anew(precision):
    if not any(model_directory().glob("*.gguf")):
        pytest.skip("the base model is not here: make model")
    base = find_base_model(TrainConfig().model)
    model = build_model(base.path, 4, 8, ["q_proj", "v_proj", "down_proj"], precision, "cpu", seed=0)
    torch.manual_seed(0)
    private = PrivateGradients(model, C)
    with torch.no_grad():
        for weight in private.weights:
            weight += 0.02 * torch.randn_like(weight)

    def unit(length):
        tokens = torch.randint(100, 40_000, (length,)).tolist()
        return [Encoded(tokens, [False] + [True] * (length - 1))]

    def clipped_sum(units, budget):
        total = private.new_sum()
        for micro in micro_batches(units, budget):
            private.add(total, private.module(micro.tokens, micro.targets), micro.unit, micro.units)
        return torch.cat([gradient.flatten() for gradient in total.gradients]).double()

    # As tight a fit as it gets: with everything padded to the longest, one row more splits the group in two.
    others, one = [unit(10 + i % 3) for i in range(11)] + [unit(28)], unit(11)
    budget = 12 * 28
    whole, without, alone = (clipped_sum(units, budget) for units in ([*others, one], others, [one]))
    assert float((whole - without).norm()) <= C
    assert float((whole - without - alone).norm()) <= 1e-3 * C
