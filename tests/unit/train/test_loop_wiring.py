"""The loop does what the accountant assumes: the plan's sample rate, clip and divisor, and noise on every coordinate."""

import dataclasses

import numpy as np
import pytest
import torch

from localsynth.config import TrainConfig
from localsynth.errors import ResourceError
from localsynth.llm.row_text import Encoded
from localsynth.privacy.noise import SecureRandom
from localsynth.train import loop
from localsynth.train.batch_invariance import try_memory
from localsynth.train.model import LossModel, build_model
from localsynth.train.plan import TrainPlan
from localsynth.train.private_gradients import PrivateGradients

UNITS = 12
PLAN = TrainPlan(units=40, batch_size=5, sample_rate=0.3, steps=4, reserve=2, noise_multiplier=1.7, max_grad_norm=0.37)
"""No figure follows from another, so that none can stand in for another."""
SETTINGS = TrainConfig(rank=4, alpha=8, max_grad_norm=9.0, batch_size=7, device="cpu", precision="fp32")


class Spy(SecureRandom):
    """The real generator; records its Bernoulli samples. `all_in` fixes their outcome, `quiet` sets the noise to 0."""

    def __init__(self, all_in=None, quiet=False):
        super().__init__()
        self.asked, self.samples, self.gaussians, self._all_in, self._quiet = [], [], [], all_in, quiet

    def bernoulli(self, p, n):
        self.asked.append((p, n))
        included = super().bernoulli(p, n) if self._all_in is None else np.full(n, self._all_in)
        self.samples.append(included)
        return included

    def gaussian(self, n):
        self.gaussians.append(n)
        return np.zeros(n) if self._quiet else super().gaussian(n)


def unit(rows, seed):
    rng = np.random.default_rng(seed)
    return [Encoded(rng.integers(3, 250, 10).tolist(), [False] + [True] * 9) for _ in range(rows)]


@pytest.fixture(autouse=True)
def batch_invariant(monkeypatch):
    """Skips the tests before the first step, whose batches are not those watched here."""
    monkeypatch.setattr(loop, "max_gradient_change", lambda private, token_budget: 0.0)
    monkeypatch.setattr(loop, "try_memory", lambda private, token_budget: None)


@pytest.fixture
def released(monkeypatch):
    """One flat vector a step: the gradient of every weight that the optimizer moves, as it moves them."""
    found, step = [], torch.optim.AdamW.step

    def watched(self):
        found.append(torch.cat([weight.grad.flatten() for group in self.param_groups for weight in group["params"]]).clone())
        return step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    return found


@pytest.fixture
def run(tiny_model, tmp_path):
    def train(units, random, **changed):
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        return loop.train(
            load_units=lambda: units,
            base=tiny_model(),
            targets=["q_proj", "v_proj"],
            micro_batch_tokens=64,
            plan=dataclasses.replace(PLAN, **changed),
            settings=SETTINGS,
            charge_step=lambda: 0.0,
            random=random,
            run_directory=directory,
            emit=lambda event: None,
            should_stop=lambda: False,
        )

    return train


def test_each_step_is_a_poisson_sample_at_the_plans_rate(run, monkeypatch):
    batches, cut = [], LossModel.micro_batches
    monkeypatch.setattr(
        LossModel, "micro_batches", lambda self, batch, budget: (batches.append(batch), cut(self, batch, budget))[1]
    )
    units, spy = [unit(1 + i % 3, i) for i in range(UNITS)], Spy()
    run(units, spy)
    assert spy.asked == [(PLAN.sample_rate, UNITS)] * PLAN.steps, "units, not rows, and never the expected number"
    assert len({tuple(included) for included in spy.samples}) > 1, "a new sample for each step"
    assert batches == [[rows for rows, taken in zip(units, included, strict=True) if taken] for included in spy.samples]


def test_sample_rate_is_the_plans_and_not_the_settings(run):
    spy = Spy(all_in=False)
    run([unit(1, i) for i in range(UNITS)], spy, sample_rate=0.123, batch_size=11)
    assert spy.asked == [(0.123, UNITS)] * PLAN.steps


@pytest.mark.parametrize(("max_grad_norm", "batch_size"), [(1e-3, 5), (1e-4, 5), (1e-3, 50)])
@pytest.mark.parametrize("rows", [1, 6])
def test_unit_moves_a_step_by_clip_over_expected_batch_size(run, released, max_grad_norm, batch_size, rows):
    run([unit(rows, 1)], Spy(all_in=True, quiet=True), max_grad_norm=max_grad_norm, batch_size=batch_size, steps=2)
    assert len(released) == 2
    for gradient in released:
        # Training may clip a hair below the bound, as room for rounding, but never above.
        assert 0.99 < float(gradient.double().norm()) * batch_size / max_grad_norm < 1 + 1e-5


def test_a_larger_batch_is_not_divided_by_its_own_size(run, released):
    units = [unit(1, i) for i in range(UNITS)]
    for i in range(UNITS):
        run([units[i]], Spy(all_in=True, quiet=True), steps=1, max_grad_norm=1e-3)
    run(units, Spy(all_in=True, quiet=True), steps=1, max_grad_norm=1e-3)
    *alone, together = released
    torch.testing.assert_close(together, torch.stack(alone).sum(0), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("units", [[], [unit(2, 1), unit(1, 2)]], ids=["no units", "no unit sampled"])
def test_empty_batch_takes_a_step_of_noise_on_every_coordinate(run, released, monkeypatch, units):
    models, build = [], loop.build_model
    monkeypatch.setattr(loop, "build_model", lambda *a, **k: models.append(build(*a, **k)) or models[-1])
    spy = Spy(all_in=False)
    assert run(units, spy, steps=16).steps == len(released) == 16
    trainable = sum(weight.numel() for weight in models[0].parameters() if weight.requires_grad)
    assert all(len(gradient) == trainable for gradient in released)
    assert sum(spy.gaussians) == 16 * trainable, "a Gaussian of its own for each coordinate and step"
    noise = torch.stack(released).double()
    expected = PLAN.noise_multiplier * PLAN.max_grad_norm / PLAN.batch_size
    assert noise.numel() > 10_000
    assert float(noise.std()) == pytest.approx(expected, rel=0.04)
    assert abs(float(noise.mean())) < 7 * expected / noise.numel() ** 0.5
    assert bool((noise.std(0) > 0.1 * expected).all()), "no coordinate without noise"
    likeness = torch.corrcoef(noise) - torch.eye(16)
    assert float(likeness.abs().max()) < 7 / trainable**0.5, "no step repeats another's noise"


def test_a_batch_gets_the_same_noise_as_an_empty_one(run, released):
    """Loud noise, so that the clipped sum hardly shows in it."""
    run([unit(1, i) for i in range(UNITS)], Spy(all_in=True), steps=24, noise_multiplier=400.0)
    expected = 400.0 * PLAN.max_grad_norm / PLAN.batch_size
    assert float(torch.stack(released).std()) == pytest.approx(expected, rel=0.04)


ERRORS = [MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]


@pytest.mark.parametrize("error", ERRORS)
def test_micro_batches_are_halved_until_memory_suffices(run, released, monkeypatch, error):
    units = [unit(1 + i % 3, i) for i in range(UNITS)]
    run(units, Spy(all_in=True, quiet=True), steps=1)
    tried, sizes, cut = [], [], LossModel.micro_batches
    monkeypatch.setattr(LossModel, "micro_batches", lambda self, batch, tokens: sizes.append(tokens) or cut(self, batch, tokens))

    def short_of_memory(private, tokens):
        tried.append(tokens)
        private.model(private.micro_batches([unit(1, 0)], tokens)[0]).backward()  # which leaves gradients behind
        if tokens > 16:
            raise error

    monkeypatch.setattr(loop, "try_memory", short_of_memory)
    run(units, Spy(all_in=True, quiet=True), steps=1)
    assert tried == [64, 32, 16] and sizes[-1] == 16
    expected, found = released
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-8) and expected.norm() > 0


@pytest.mark.parametrize("error", ERRORS)
def test_memory_that_runs_out_later_ends_the_run(run, monkeypatch, error):
    """Another length would change how every unit is rounded, and whether memory runs out depends on who is in the batch."""

    def short_of_memory(*_):
        raise error

    monkeypatch.setattr(loop.PrivateGradients, "add", short_of_memory)
    with pytest.raises(ResourceError, match="Memory ran out"):
        run([unit(1, 0)], Spy(all_in=True), steps=1)


def test_memory_test_has_the_maximum_number_of_units(tiny_model, monkeypatch):
    private = PrivateGradients(build_model(tiny_model(), 4, 8, ["q_proj"], "fp32", "cpu", seed=0), 1.0)
    seen, clipped = [], PrivateGradients.clipped
    monkeypatch.setattr(PrivateGradients, "clipped", lambda self, micro: seen.append(micro) or clipped(self, micro))
    try_memory(private, 100)
    (micro,) = seen
    assert micro.units == 12 and len(micro.tokens) == 100 and int((micro.targets >= 0).sum()) == 12 * 7


def test_memory_for_the_invariance_test_is_halved_too(run, monkeypatch):
    tried = []

    def short_of_memory(private, tokens):
        tried.append(tokens)
        if tokens > 32:
            raise torch.OutOfMemoryError("CUDA")
        return 0.0

    monkeypatch.setattr(loop, "max_gradient_change", short_of_memory)
    assert run([unit(1, 0)], Spy(all_in=True), steps=1).micro_batch_tokens == 32
    assert tried == [64, 32]


def test_another_error_is_not_taken_for_a_lack_of_memory(run, monkeypatch):
    def broken(*_):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(loop.PrivateGradients, "add", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        run([unit(1, 0)], Spy(all_in=True), steps=1)


def test_heap_is_trimmed_after_every_step(run, monkeypatch):
    trimmed = []
    monkeypatch.setattr(loop, "trim_heap", lambda: trimmed.append(True))
    assert run([unit(1, 0)], Spy(all_in=True)).steps == len(trimmed)
