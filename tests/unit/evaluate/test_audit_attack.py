"""Trainings that are broken on purpose are caught; the real one keeps its claim."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from localsynth.config import TrainConfig
from localsynth.errors import Cancelled
from localsynth.evaluate.audit import scores
from localsynth.evaluate.audit.attack import attack_training
from localsynth.evaluate.audit.canaries import canary_units, guesses_of
from localsynth.evaluate.audit.outcome import audit_figures, right_guesses
from localsynth.evaluate.audit.scores import canary_gradients, decode
from localsynth.evaluate.audit.training import AuditedTraining
from localsynth.llm.llama_cpp import Vocabulary
from localsynth.llm.row_text import Codec, Encoded
from localsynth.pipeline.audit import claimed_curve
from localsynth.privacy.account import Account
from localsynth.results.audit import AuditFigures
from localsynth.schema.columns import Category, Schema, Text
from localsynth.train import loop
from localsynth.train.model import build_model
from localsynth.train.plan import TrainPlan, make_train_plan
from localsynth.train.private_gradients import ClippedSum, PrivateGradients
from tests.helpers.seeded_random import InsecureRandom

SETTINGS = TrainConfig(rank=4, alpha=8, device="cpu", precision="fp32")
TARGETS = ["q_proj", "v_proj", "o_proj", "down_proj"]
CANARIES = 200
SCHEMA = Schema(columns=[Category(name="k", values=["a", "b"]), Text(name="t", max_tokens=40)])
PLAN = make_train_plan(SETTINGS, 2000, Account(4.0, 1e-6).noise)


@pytest.fixture(scope="module")
def canaries(tiny_model: Any) -> list[list[Encoded]]:
    with Vocabulary(tiny_model()) as vocabulary:
        codec = Codec(SCHEMA, vocabulary.tokenize, vocabulary.start)
        return [[codec.encode(row) for row in unit] for unit in canary_units(SCHEMA, CANARIES, 1, seed=1)[0]]


@pytest.fixture
def audited(tiny_model: Any, canaries: list[list[Encoded]], tmp_path: Path) -> Any:
    def run(seed: int = 1, random: Any = None, plan: TrainPlan = PLAN, should_stop: Any = lambda: False) -> AuditFigures:
        training = AuditedTraining(
            base=tiny_model(),
            targets=TARGETS,
            micro_batch_tokens=512,
            plan=plan,
            settings=SETTINGS,
            random=random or InsecureRandom(seed),
            emit=lambda event: None,
            should_stop=should_stop,
        )
        attacked = attack_training(canaries, training, tmp_path)
        guesses = guesses_of(CANARIES, plan.sample_rate, plan.steps)
        right, control = (right_guesses(each, attacked.included, guesses) for each in (attacked.scores, attacked.control))
        return audit_figures(CANARIES, guesses, right, control, claimed_curve(plan, 1e-6))

    return run


class NoNoise(InsecureRandom):
    def gaussian(self, n: int) -> Any:
        return np.zeros(n)


def test_real_training_passes_an_audit_that_can_fail(audited: Any) -> None:
    found = audited()
    assert found.status == "passed" and found.control.right == found.guesses, found
    assert found.epsilon < 4.0


def test_a_generator_that_gives_no_noise_is_caught(audited: Any) -> None:
    found = audited(random=NoNoise(2))
    assert found.status == "failed" and found.right == found.guesses and found.p_value < 0.01, found


@pytest.mark.parametrize(("shared", "caught"), [(128, True), (1, False)])
def test_folded_gradients_are_told_apart_without_what_they_share(
    audited: Any, monkeypatch: pytest.MonkeyPatch, shared: int, caught: bool
) -> None:
    """On a real model gradients are folded to a twentieth of their size."""
    monkeypatch.setattr(scores, "_SKETCH", 1024)
    monkeypatch.setattr(scores, "_SHARED", shared)
    assert (audited(random=NoNoise(2)).status == "failed") == caught


def test_a_training_that_adds_no_noise_is_caught(audited: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def noiseless(total: ClippedSum, plan: TrainPlan, random: Any) -> torch.Tensor:
        return total.gradient.float() / plan.batch_size

    monkeypatch.setattr(loop, "noisy_mean", noiseless)
    assert audited().status == "failed"


def test_a_tenth_of_the_noise_is_caught(audited: Any) -> None:
    class Little(InsecureRandom):
        def gaussian(self, n: int) -> Any:
            return super().gaussian(n) / 10

    assert audited(random=Little(3)).status == "failed"


def test_gradients_that_are_not_clipped_are_caught(audited: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = PrivateGradients.clipped

    def unclipped(self: PrivateGradients, *given: Any) -> Any:
        gradients, factors, *others = honest(self, *given)
        return gradients, torch.ones_like(factors), *others

    with monkeypatch.context() as patched:
        patched.setattr(PrivateGradients, "clipped", unclipped)
        found = audited()
    assert found.status == "failed", found


def test_a_stopped_audit_stops(audited: Any) -> None:
    with pytest.raises(Cancelled):
        audited(should_stop=lambda: True)


def test_products_are_those_of_the_clipped_gradients(tiny_model: Any, canaries: list[list[Encoded]]) -> None:
    private = PrivateGradients(build_model(tiny_model(), 4, 8, TARGETS, "fp32", "cpu", seed=1), 1.0)
    some = [canaries[0], [*canaries[1], *canaries[2]], canaries[3]]
    size = sum(weight.numel() for weight in private.weights)
    direction = torch.randn(size, generator=torch.Generator().manual_seed(1))
    seen: list[int] = []
    gram, products = canary_gradients(private, some, 64, [direction], seen.append)
    alone = []
    for unit in some:
        total: ClippedSum = private.new_sum()
        (micro,) = private.micro_batches([unit], 256)
        private.add(total, micro)
        alone.append(total.gradient.float())
    wanted = torch.stack(alone)
    np.testing.assert_allclose(gram, (wanted @ wanted.T).numpy(), atol=0.01)
    np.testing.assert_allclose(products[0], (wanted @ direction).numpy(), rtol=1e-3, atol=1e-3)
    assert seen[-1] == 3


def test_decoding_finds_how_often_each_was_sampled() -> None:
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((40, 4000)) / np.sqrt(4000) + 0.02
    sampled = rng.integers(0, 4, 40)
    gram = gradients @ gradients.T
    found = decode(gram, gradients @ (sampled @ gradients), expected=float(sampled.mean()))
    assert np.corrcoef(found, sampled)[0, 1] > 0.99
