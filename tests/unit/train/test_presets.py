"""Which layers get an adapter: by a plan's public noise, as it was measured."""

import dataclasses

import pytest

from localsynth.config import TrainConfig
from localsynth.privacy.account import Account
from localsynth.train.plan import TrainPlan, make_train_plan
from localsynth.train.presets import choose_preset
from localsynth_models.catalog import architectures

FEW = {"v_proj", "down_proj"}


def plan(noise_multiplier: float, batch_size: int) -> TrainPlan:
    return TrainPlan(10 * batch_size, batch_size, 0.1, 40, 2, noise_multiplier, 1.0)


@pytest.mark.parametrize(
    ("units", "epsilon", "few"),
    [(500, 1, True), (500, 2, True), (500, 8, False), (4574, 8, False), (500, 100, False)],
)
def test_measured_tables_get_the_layers_that_did_better(units: int, epsilon: float, few: bool) -> None:
    preset = choose_preset(make_train_plan(TrainConfig(), units, Account(epsilon, 1e-5).noise))
    assert (preset.layers == FEW) is few


def test_noise_a_unit_alone_decides() -> None:
    assert choose_preset(plan(5.0, 100)) == choose_preset(plan(1.0, 20)) != choose_preset(plan(1.0, 100))
    # What a batch has, and not how many batches there are or what they spend.
    assert choose_preset(dataclasses.replace(plan(5.0, 100), units=7, steps=3)).layers == FEW


@pytest.mark.parametrize("noise", [0.0, 1e9])
def test_every_preset_is_of_layers_that_every_architecture_has(noise: float) -> None:
    preset = choose_preset(plan(noise, 1))
    assert all(preset.layers <= {*architecture.lora_targets} for architecture in architectures().values())
    assert preset.measured
