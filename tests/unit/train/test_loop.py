"""The loop: what is charged is what is taken, noise is really there, the adapter moves, and a killed run resumes."""

import dataclasses
import io

import numpy as np
import pytest
import torch

from localsynth.config import TrainConfig
from localsynth.errors import BudgetError, Cancelled, IntegrityError
from localsynth.llm.adapter import read_adapter
from localsynth.llm.row_text import Encoded
from localsynth.privacy.account import Account
from localsynth.privacy.noise import SecureRandom
from localsynth.train import loop
from localsynth.train.loop import learning_rate, noisy_mean, train
from localsynth.train.model import adapter_pairs
from localsynth.train.plan import make_train_plan
from localsynth.train.private_gradients import ClippedSum
from tests.helpers.seeded_random import InsecureRandom

TARGETS = ["q_proj", "v_proj"]
SETTINGS = TrainConfig(epochs=2, batch_size=8, rank=4, alpha=8, device="cpu", precision="fp32")


def units(count, seed=0):
    rng = np.random.default_rng(seed)
    return [[Encoded(rng.integers(3, 250, 10).tolist(), [False] + [True] * 9)] for _ in range(count)]


class Run:
    def __init__(self, tiny_model, directory, random=None, limit=10**9):
        self.base, self.directory, self.random, self.limit = tiny_model(), directory, random or SecureRandom(), limit
        self.charged, self.events = 0, []
        self.plan = make_train_plan(SETTINGS, 40, Account(8.0, 1e-6).noise)

    def charge(self):
        if self.charged == self.limit:
            raise BudgetError("used up")
        self.charged += 1
        return self.charged / 100

    def __call__(self, load=lambda: units(40), stop=lambda: False, plan=None, settings=SETTINGS):
        return train(
            load_units=load,
            base=self.base,
            targets=TARGETS,
            micro_batch_tokens=256,
            plan=plan or self.plan,
            settings=settings,
            charge_step=self.charge,
            random=self.random,
            run_directory=self.directory,
            emit=self.events.append,
            should_stop=stop,
        )

    def weights(self):
        """What is trained: A keeps its initial values."""
        return np.concatenate([b.ravel() for _, b in read_adapter(self.directory / "adapter").pairs.values()])


def test_steps_taken_are_steps_charged_and_the_adapter_moves(tiny_model, tmp_path):
    run = Run(tiny_model, tmp_path)
    result = run()
    assert result.steps == run.plan.steps == run.charged == 10
    assert [e["step"] for e in run.events if e["kind"] == "progress"] == list(range(1, 11))
    assert all(np.abs(b).max() > 0 for _, b in read_adapter(tmp_path / "adapter").pairs.values())
    assert (tmp_path / "checkpoint" / "state.pt").exists(), "kept until the caller has recorded that training is done"


def test_units_are_loaded_after_the_trial_of_memory(tiny_model, tmp_path, monkeypatch):
    """Else the memory that private rows take would decide how long micro-batches are."""
    run, order = Run(tiny_model, tmp_path), []
    honest = loop.try_memory
    monkeypatch.setattr(loop, "try_memory", lambda *given: (order.append("tried"), honest(*given)))
    run(load=lambda: (order.append("loaded"), units(40))[1])
    assert order == ["tried", "loaded"] and run.charged == run.plan.steps


def test_a_base_in_four_bits_is_trained_by_the_same_loop(tiny_model, tmp_path):
    """bitsandbytes' kernels run on the CPU, too, slowly: the path that a GPU takes."""
    run = Run(tiny_model, tmp_path)
    result = run(settings=SETTINGS.model_copy(update={"precision": "nf4"}))
    assert result.precision == "nf4" and result.steps == run.plan.steps == run.charged
    pairs = read_adapter(tmp_path / "adapter").pairs
    assert all(b.dtype == np.float32 and np.abs(b).max() > 0 for _, b in pairs.values())


def test_factor_a_is_not_trained(tiny_model, tmp_path):
    first, second = Run(tiny_model, tmp_path / "1"), Run(tiny_model, tmp_path / "2")
    first(), second(load=list)
    pairs, others = (read_adapter(run.directory / "adapter").pairs for run in (first, second))
    assert all(np.array_equal(a, others[name][0]) and np.abs(a).max() > 0 for name, (a, _) in pairs.items())


def test_resumed_run_keeps_its_factor_a(tiny_model, tmp_path, monkeypatch):
    """Another version of PEFT may give other values for the same seed."""
    run = Run(tiny_model, tmp_path)
    with pytest.raises(Cancelled):
        run(stop=lambda: run.charged == 4)
    build, others = loop.build_model, []

    def another(*given, seed):
        model = build(*given, seed=seed + 1)
        others.extend(a for a, _ in adapter_pairs(model).values())
        return model

    monkeypatch.setattr(loop, "build_model", another)
    run()
    resumed = [a for a, _ in read_adapter(tmp_path / "adapter").pairs.values()]
    whole = Run(tiny_model, tmp_path / "whole")
    monkeypatch.setattr(loop, "build_model", build)
    whole()
    began = [a for a, _ in read_adapter(tmp_path / "whole" / "adapter").pairs.values()]
    assert all(np.array_equal(one, other) for one, other in zip(resumed, began, strict=True))
    assert not any(np.array_equal(one, other) for one, other in zip(resumed, others, strict=True)), "the seed does matter"


def test_every_run_has_other_noise(tiny_model, tmp_path):
    first, second = Run(tiny_model, tmp_path / "1"), Run(tiny_model, tmp_path / "2")
    first(), second()
    assert not np.allclose(first.weights(), second.weights(), atol=1e-4)


def test_an_empty_table_still_takes_every_noisy_step(tiny_model, tmp_path):
    run = Run(tiny_model, tmp_path)
    assert run(load=list).steps == run.charged == run.plan.steps
    assert np.abs(run.weights()).max() > 0


def test_the_noise_has_the_standard_deviation_the_plan_says():
    plan = make_train_plan(SETTINGS, 40, Account(8.0, 1e-6).noise)
    total = ClippedSum(torch.cat([torch.zeros(100_000), torch.ones(100_000)]))
    noise, shifted = noisy_mean(total, plan, SecureRandom()).split(100_000)
    expected = plan.noise_multiplier * plan.max_grad_norm / plan.batch_size
    assert abs(float(noise.std()) / expected - 1) < 0.02
    assert abs(float(shifted.mean()) * plan.batch_size - 1) < 0.05
    assert abs(float(torch.dot(noise, (shifted - shifted.mean())) / noise.numel())) < 0.02 * expected**2


def test_standard_deviation_test_fails_without_noise(monkeypatch):
    monkeypatch.setattr(SecureRandom, "gaussian", lambda self, n: np.zeros(n))
    with pytest.raises(AssertionError):
        test_the_noise_has_the_standard_deviation_the_plan_says()


def test_training_that_moves_nothing_is_an_error(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    with pytest.raises(IntegrityError, match="did not move"):
        Run(tiny_model, tmp_path)()


def test_stopped_run_resumes_where_it_was(tiny_model, tmp_path):
    """With equal noise, stopping and resuming gives the very adapter of an uninterrupted run."""
    whole = Run(tiny_model, tmp_path / "whole", InsecureRandom(5))
    whole()
    parts = Run(tiny_model, tmp_path / "parts", InsecureRandom(5))
    with pytest.raises(Cancelled):
        parts(stop=lambda: parts.charged == 4)
    assert (tmp_path / "parts" / "checkpoint" / "state.pt").exists()
    parts()
    assert parts.charged == 10
    np.testing.assert_allclose(parts.weights(), whole.weights(), atol=1e-6)


def test_stopped_run_resumes_in_another_precision(tiny_model, tmp_path):
    """What is trained is in float32 in each: the adapter is that of an uninterrupted run but for rounding."""
    whole = Run(tiny_model, tmp_path / "whole", InsecureRandom(5))
    whole()
    parts = Run(tiny_model, tmp_path / "parts", InsecureRandom(5))
    with pytest.raises(Cancelled):
        parts(stop=lambda: parts.charged == 4)
    result = parts(settings=SETTINGS.model_copy(update={"precision": "bf16"}))
    assert (result.precision, parts.charged) == ("bf16", 10)
    moved = np.abs(whole.weights()).mean()
    assert 0 < np.abs(parts.weights() - whole.weights()).mean() < 0.1 * moved


def test_checkpoint_holds_only_weights_moments_and_the_step(tiny_model, tmp_path):
    run = Run(tiny_model, tmp_path)
    with pytest.raises(Cancelled):
        run(stop=lambda: run.charged == 3)
    content = (tmp_path / "checkpoint" / "state.pt").read_bytes()[32:]  # after its hash
    state = torch.load(io.BytesIO(content), weights_only=True)
    assert set(state) == {"step", "weights", "optimizer"} and state["step"] == 3
    assert set(state["optimizer"]["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}


def test_a_damaged_checkpoint_is_named(tiny_model, tmp_path):
    run = Run(tiny_model, tmp_path)
    with pytest.raises(Cancelled):
        run(stop=lambda: run.charged == 3)
    path = tmp_path / "checkpoint" / "state.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = b""
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"state\.pt"):
        run()
    assert run.charged == 3


def test_a_used_up_reserve_ends_training_early_and_says_so(tiny_model, tmp_path):
    run = Run(tiny_model, tmp_path, limit=6)
    assert run().steps == 6
    assert any(event["kind"] == "warning" for event in run.events)


def test_without_any_budget_nothing_is_computed(tiny_model, tmp_path):
    run = Run(tiny_model, tmp_path, limit=0)
    with pytest.raises(BudgetError):
        run()
    assert not (tmp_path / "adapter").exists()


def test_bf16_trains_too(tiny_model, tmp_path):
    run = Run(tiny_model, tmp_path)
    assert run(settings=SETTINGS.model_copy(update={"precision": "bf16"})).precision == "bf16"
    assert np.isfinite(run.weights()).all()


def test_the_plan_depends_on_public_figures_alone():
    plan = make_train_plan(TrainConfig(epochs=4), 4574, Account(7.2, 1e-6).noise)
    assert (plan.batch_size, plan.steps) == (457, 40)
    assert plan.reserve >= 2 and plan.sample_rate == plan.batch_size / 4574
    tighter = make_train_plan(TrainConfig(epochs=4), 4574, Account(1.0, 1e-6).noise)
    assert tighter.noise_multiplier > plan.noise_multiplier
    assert dataclasses.replace(plan).step_mechanism["of"]["noise_multiplier"] == plan.noise_multiplier


def test_the_learning_rate_rises_then_falls():
    rates = [learning_rate(step, 100, 1e-3) for step in range(100)]
    assert rates[0] < rates[4] and max(rates) == pytest.approx(1e-3) and rates[99] == pytest.approx(1e-4, rel=0.05)
