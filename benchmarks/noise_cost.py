"""Time of the secure noise in a training step: `python benchmarks/noise_cost.py [TOKENS_A_STEP]`.

Measures one step's noise for the default adapter, with the secure generator and, for comparison, with torch's own (fast and
predictable). The time of a step of TOKENS_A_STEP tokens is estimated from the gradients of one micro-batch.
"""

import sys
import time
from collections.abc import Callable

import torch

from localsynth.config import TrainConfig
from localsynth.llm.base_models import find_base_model
from localsynth.llm.row_text import Encoded
from localsynth.privacy.account import Account
from localsynth.privacy.noise import SecureRandom
from localsynth.train.device import choose_precision
from localsynth.train.loop import noisy_mean
from localsynth.train.model import build_model
from localsynth.train.plan import make_train_plan
from localsynth.train.private_gradients import PrivateGradients

_SHAPE = (16, 64)


def best_of(times: int, work: Callable[[], object]) -> float:
    """Seconds of the fastest of `times` runs: other programs can only slow one down."""
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def main() -> None:
    tokens_a_step = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    settings = TrainConfig()
    base = find_base_model(settings.model)
    model = build_model(base.path, settings.rank, settings.alpha, base.targets, choose_precision("auto", "cpu"), "cpu", seed=0)
    private = PrivateGradients(model, 1.0)
    plan = make_train_plan(settings, 10_000, Account(8.0, 1e-6).noise)
    total, random = private.new_sum(), SecureRandom()
    count = sum(weight.numel() for weight in private.weights)

    rows = torch.randint(100, 40_000, _SHAPE).tolist()
    (micro,) = private.micro_batches([[Encoded(row, [True] * len(row))] for row in rows], _SHAPE[0] * _SHAPE[1])

    def gradients() -> None:
        private.add(private.new_sum(), micro)

    secure = best_of(5, lambda: noisy_mean(total, plan, random))
    fast = best_of(5, lambda: torch.randn_like(total.gradient))
    micro_batch = best_of(5, gradients)
    step = micro_batch * tokens_a_step / len(micro.tokens)
    print(f"adapter                       {count:,} parameters")
    print(f"noise of a step, secure       {secure:.3f} s")
    print(f"noise of a step, torch.randn  {fast:.3f} s (ratio {secure / fast:.1f})")
    print(f"gradients of {tokens_a_step:,} tokens    {step:.1f} s, estimated from {micro_batch:.2f} s for {len(micro.tokens):,}")
    print(f"secure noise                  {secure / (secure + step):.1%} of a step")


if __name__ == "__main__":
    main()
