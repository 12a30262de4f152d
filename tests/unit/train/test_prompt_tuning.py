"""A soft prompt under the same DP-SGD: exact per-unit gradients, one loop, and nothing else moves."""

import numpy as np
import pytest
import torch

from localsynth.config import TrainConfig
from localsynth.errors import IntegrityError
from localsynth.llm.adapter import read_adapter, read_prompt
from localsynth.llm.row_text import Encoded
from localsynth.privacy.noise import SecureRandom
from localsynth.train.base_model import load_base_model
from localsynth.train.loop import train
from localsynth.train.model import build_prompt_model, trained_model
from localsynth.train.plan import make_train_plan
from localsynth.train.private_gradients import _HEADROOM as HEADROOM
from localsynth.train.private_gradients import PrivateGradients

K, C = 5, 0.1
SETTINGS = TrainConfig(method="prompt", prompt_tokens=K, epochs=1, batch_size=8, device="cpu", precision="fp32")


def rows(count, seed, length=12):
    rng = np.random.default_rng(seed)
    return [Encoded(rng.integers(3, 200, length + i % 4).tolist(), [False] + [True] * (length + i % 4 - 1)) for i in range(count)]


def by_hand(base, example, prompt):
    """The loss of one row from the base model's own logits: the prompt before it, no padding, PyTorch's cross-entropy."""
    known = base.model.embed_tokens(torch.tensor([example.tokens]))
    logits = base(inputs_embeds=torch.cat([prompt[None], known], 1)).logits[0, len(prompt) :]
    return torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(example.tokens[1:]), reduction="sum")


def clipped_sum(model, units, budget, c=C):
    private = PrivateGradients(model, c)
    total = private.new_sum()
    for micro in private.micro_batches(units, budget):
        private.add(total, micro)
    return total.gradient.view_as(model.prompt)


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])  # gemma3 scales what it looks up
def test_the_sum_is_that_of_plain_autograd_unit_by_unit(tiny_model, architecture):
    model = build_prompt_model(tiny_model(architecture=architecture), K, "fp32", "cpu", seed=1)
    base = load_base_model(tiny_model(architecture=architecture), "fp32")
    units = [rows(1 + i % 3, seed=i) for i in range(5)]
    expected = torch.zeros(K, 64)
    for unit in units:
        prompt = model.prompt.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(sum(by_hand(base, example, prompt) for example in unit), prompt)
        expected += gradient * min(1.0, (1 - HEADROOM) * C / float(gradient.double().norm()))
    for budget in (30, 1000):
        torch.testing.assert_close(clipped_sum(model, units, budget), expected, rtol=1e-4, atol=1e-6)


def test_a_unit_with_many_rows_moves_the_sum_by_at_most_c(tiny_model):
    model = build_prompt_model(tiny_model(), K, "fp32", "cpu", seed=1)
    units, extra = [rows(1, seed=i) for i in range(5)], rows(9, seed=99)
    before, after = clipped_sum(model, units, 400), clipped_sum(model, [*units, extra], 400)
    assert 0.9 * C < float((after.double() - before.double()).norm()) <= C
    as_rows = clipped_sum(model, [*units, *[[row] for row in extra]], 400)
    assert float((as_rows - before).norm()) > 1.5 * C


def test_the_loop_trains_the_prompt_alone_and_torch_reads_it_back(tiny_model, tmp_path):
    plan, drawn = make_train_plan(SETTINGS, 24, 8.0, 1e-6), []

    class Spy(SecureRandom):
        def gaussian(self, n):
            drawn.append(n)
            return super().gaussian(n)

    result = train(
        units=[rows(1, i) for i in range(24)],
        base=tiny_model(),
        targets=["q_proj"],
        micro_batch_tokens=128,
        plan=plan,
        settings=SETTINGS,
        charge_step=lambda: 0.0,
        random=Spy(),
        run_directory=tmp_path,
        emit=lambda event: None,
        should_stop=lambda: False,
    )
    assert drawn == [K * 64] * result.steps
    fresh = build_prompt_model(tiny_model(), K, "fp32", "cpu", seed=plan.steps)
    prompt = read_prompt(tmp_path / "adapter")
    assert prompt.shape == (K, 64)
    assert float((torch.from_numpy(prompt) - fresh.prompt).abs().max()) > 1e-4
    again = trained_model(tiny_model(), ["q_proj"], SETTINGS, tmp_path / "adapter", "fp32", "cpu")
    np.testing.assert_array_equal(again.prompt.detach().numpy(), prompt)
    (micro,) = again.micro_batches([rows(1, 3)], 100)
    assert float(again(micro)) != float(fresh(micro))
    with pytest.raises(IntegrityError):
        read_adapter(tmp_path / "adapter")


def test_an_adapter_is_no_prompt(tiny_model, tmp_path):
    from localsynth.llm.adapter import write_adapter

    write_adapter(tmp_path, {"m": (np.ones((1, 2), np.float32), np.ones((2, 1), np.float32))}, 1, 1)
    with pytest.raises(IntegrityError):
        read_prompt(tmp_path)
