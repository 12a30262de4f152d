"""Training on a CUDA device: the same gradients, the same bound, and what it does when memory runs out. Skipped without one."""

import numpy as np
import pytest
import torch

from localsynth.config import TrainConfig
from localsynth.errors import Cancelled
from localsynth.llm.adapter import read_adapter
from localsynth.llm.row_text import Encoded
from localsynth.privacy.account import Account
from localsynth.privacy.noise import SecureRandom
from localsynth.train import loop
from localsynth.train.batch_invariance import try_memory
from localsynth.train.loop import train
from localsynth.train.model import build_model
from localsynth.train.plan import make_train_plan
from localsynth.train.private_gradients import PrivateGradients
from tests.helpers.seeded_random import InsecureRandom

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PRECISIONS = ["fp32", "bf16", "nf4"]
C = 1.0


def units(count, seed=0):
    rng = np.random.default_rng(seed)
    rows = [rng.integers(3, 200, 6 + i % 30).tolist() for i in range(count)]
    return [[Encoded(row, [False] + [True] * (len(row) - 1))] for row in rows]


def private(base, precision, device="cuda"):
    model = build_model(base, 4, 8, TARGETS, precision, device, seed=1)
    generator = torch.Generator().manual_seed(0)
    for weight in model.weights:  # B is zero at first; here the gradients are to pass through all of it
        weight.data.copy_(0.02 * torch.randn(weight.shape, generator=generator))
    return PrivateGradients(model, C)


def clipped_sum(gradients, batch, tokens=512):
    total = gradients.new_sum()
    for micro in gradients.micro_batches(batch, tokens):
        gradients.add(total, micro)
    return total.gradient.double().cpu()


class Run:
    """A training of the tiny model on the GPU."""

    def __init__(self, base, directory, random=None):
        self.base, self.directory, self.random = base, directory, random or SecureRandom()
        self.charged, self.events = 0, []

    def __call__(self, tokens=512, stop=lambda: False, **settings):
        settings = TrainConfig(epochs=2, batch_size=8, device="cuda", **settings)
        self.plan = make_train_plan(settings, 40, Account(8.0, 1e-6).noise)
        return train(
            load_units=lambda: units(40),
            base=self.base,
            targets=TARGETS,
            micro_batch_tokens=tokens,
            plan=self.plan,
            settings=settings,
            charge_step=self.charge,
            random=self.random,
            run_directory=self.directory,
            emit=self.events.append,
            should_stop=stop,
        )

    def charge(self):
        self.charged += 1
        return 0.0

    @property
    def warnings(self):
        return [event["text"] for event in self.events if event["kind"] == "warning"]


@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-4), ("bf16", 0.05), ("nf4", 0.05)])
def test_the_gradients_are_those_of_the_processor(tiny_model, precision, most):
    here, there = (clipped_sum(private(tiny_model(), precision, device), units(40)) for device in ("cuda", "cpu"))
    assert float((here - there).norm() / there.norm()) < most


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_unit_moves_the_sum_by_at_most_c(tiny_model, precision):
    gradients = private(tiny_model(), precision)
    others, one = units(40), units(1, seed=1)
    whole, without, alone = (clipped_sum(gradients, batch) for batch in (one + others, others, one))
    assert float((whole - without).norm()) <= C
    assert float((whole - without - alone).norm()) <= 1e-3 * C


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_loop_trains_and_steps_taken_are_steps_charged(tiny_model, tmp_path, precision):
    run = Run(tiny_model(), tmp_path)
    result = run(precision=precision)
    assert result.steps == run.plan.steps == run.charged
    assert all(np.abs(b).max() > 0 for _, b in read_adapter(tmp_path / "adapter").pairs.values())
    assert result.peak_memory_bytes > 0


def test_gpu_tries_attention_in_float32_first(tiny_model, tmp_path, monkeypatch):
    measured = loop.max_attention_change
    changes = lambda gradients, tokens: measured(gradients, tokens) if gradients.model.attention_in_float32 else 1.0  # noqa: E731
    monkeypatch.setattr(loop, "max_attention_change", changes)
    run = Run(tiny_model(), tmp_path)
    assert run(precision="bf16").precision == "bf16"
    assert any("attention in float32" in text for text in run.warnings)


def test_where_memory_runs_out_half_is_computed_at_once(tiny_model, tmp_path):
    tokens, total = 32_768, torch.cuda.mem_get_info()[1]
    gradients = private(tiny_model(), "bf16")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try_memory(gradients, tokens)
    needed = torch.cuda.max_memory_reserved()
    del gradients
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.75 * needed / total)
    try:
        run = Run(tiny_model(), tmp_path)
        result = run(tokens, precision="bf16")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert result.micro_batch_tokens < tokens
    assert any("Memory ran out" in text for text in run.warnings)
    assert result.steps == run.plan.steps == run.charged


def test_stopped_run_resumes_where_it_was(tiny_model, tmp_path):
    """With equal noise, stopping and going on gives the very adapter of an uninterrupted run."""
    whole, parts = (Run(tiny_model(), tmp_path / name, InsecureRandom(5)) for name in ("whole", "parts"))
    whole(precision="fp32")
    with pytest.raises(Cancelled):
        parts(precision="fp32", stop=lambda: parts.charged == 4)
    parts(precision="fp32")
    ends = [read_adapter(run.directory / "adapter").pairs for run in (whole, parts)]
    assert all(np.allclose(ends[0][name][1], b, atol=1e-5) for name, (_, b) in ends[1].items())
