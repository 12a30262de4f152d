"""Settings of training found on public tables, so that nobody has to try them out on a private one.

What was tried (docs/lab/adapters.md): one rate did best wherever it was varied for four epochs, and
is the configuration's default, as is that number of epochs: more learn more, but a laptop has to wait for them. Which layers
should get an adapter depends on how much noise a unit's share of a step gets, which follows from the public size and epsilon.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from localsynth.train.plan import TrainPlan


@dataclass(frozen=True)
class Preset:
    """Which of a block's linear layers get an adapter, for which noise, and where that was measured."""

    name: str
    layers: frozenset[str]
    noise: float
    """For at most this much: the noise multiplier over the expected units of a step."""
    measured: str

    def among(self, targets: Sequence[str]) -> list[str]:
        """Those of a model's `targets` (names of linear layers) that get one."""
        return [name for name in targets if name in self.layers]


_PRESETS = (
    Preset(
        "all layers",
        frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        0.02,
        "4,574 text messages at epsilon 8, 500 questions at epsilon 8 and 100",
    ),
    Preset(
        "few layers",
        frozenset({"v_proj", "down_proj"}),
        float("inf"),
        "500 questions at epsilon 1 and 2, 500 text messages at epsilon 1",
    ),
)
"""In rising order of noise."""


def choose_preset(plan: TrainPlan) -> Preset:
    """The preset for a plan's noise, all of it public."""
    noise = plan.noise_multiplier / plan.batch_size
    return next(preset for preset in _PRESETS if noise <= preset.noise)
