"""By how much one unit changes the clipped sum of a step, relative to max_grad_norm: `python benchmarks/rounding.py [UNITS]`.

In exact arithmetic at most by 1 - headroom. In floating point a unit's presence also regroups the others, which changes their
rounded sum. Measures both on the base model with a random adapter, in each number format.
"""

import random
import sys

import torch

from localsynth.config import TrainConfig
from localsynth.llm.base_models import find_base_model
from localsynth.llm.row_text import Encoded
from localsynth.train.model import build_model
from localsynth.train.private_gradients import PrivateGradients


def random_unit(rng: random.Random) -> list[Encoded]:
    rows = [rng.choices(range(100, 40_000), k=rng.randint(8, 40)) for _ in range(rng.randint(1, 3))]
    return [Encoded(tokens, [False] + [True] * (len(tokens) - 1)) for tokens in rows]


def clipped_sum(private: PrivateGradients, units: list[list[Encoded]]) -> torch.Tensor:
    total = private.new_sum()
    for micro in private.micro_batches(units, 1024):
        private.add(total, micro)
    return total.gradient.double()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    settings = TrainConfig()
    base = find_base_model(settings.model)
    for precision in ("fp32", "bf16"):
        model = build_model(base.path, settings.rank, settings.alpha, base.targets, precision, "cpu", seed=0)
        private = PrivateGradients(model, 1.0)
        with torch.no_grad():
            for weight in private.weights:
                weight += 0.02 * torch.randn_like(weight)
        worst_whole = worst_others = 0.0
        for trial in range(5):
            rng = random.Random(trial)
            units = [random_unit(rng) for _ in range(count)]
            without, whole = clipped_sum(private, units[1:]), clipped_sum(private, units)
            alone = clipped_sum(private, units[:1])
            worst_whole = max(worst_whole, float((whole - without).norm()))
            worst_others = max(worst_others, float((whole - without - alone).norm()))
        print(f"{precision}: a unit moves the sum by up to {worst_whole:.7f} C, of which rounding {worst_others:.1e} C")


if __name__ == "__main__":
    main()
