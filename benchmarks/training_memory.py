"""Peak memory of a short training, and the estimate of `plan` for it.

    .venv/bin/python benchmarks/training_memory.py [--device cpu] [--precision fp32] [--positions 1024] [--rows-a-unit 1]
        [--steps 2]

Trains on random tokens, rows of 8 to 60 of them, with the product's own loop: about two and a half micro-batches a step. Prints
one JSON object. A process remembers its peak, so each setting needs one of its own.
"""

import argparse
import json
import random
import tempfile
from pathlib import Path

from localsynth.config import TrainConfig
from localsynth.llm.base_models import find_base_model
from localsynth.llm.row_text import Encoded
from localsynth.privacy.noise import SecureRandom
from localsynth.train.cost import training_memory
from localsynth.train.loop import train
from localsynth.train.plan import TrainPlan

_SHORTEST, _LONGEST = 8, 60


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16", "nf4"], default="fp32")
    parser.add_argument("--positions", type=int, default=1024)
    parser.add_argument("--rows-a-unit", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2)
    arguments = parser.parse_args()
    base, rng, mean = find_base_model(TrainConfig().model), random.Random(0), (_SHORTEST + _LONGEST) // 2

    def row() -> Encoded:
        length = rng.randint(_SHORTEST, _LONGEST)
        return Encoded([rng.randrange(base.info.vocab_size) for _ in range(length)], [False] * 4 + [True] * (length - 4))

    count = max(4, 5 * arguments.positions // (mean * arguments.rows_a_unit) // 2)
    settings = TrainConfig.model_validate(
        {"precision": arguments.precision, "micro_batch_tokens": arguments.positions, "device": arguments.device}
    )
    with tempfile.TemporaryDirectory() as directory:
        result = train(
            load_units=lambda: [[row() for _ in range(arguments.rows_a_unit)] for _ in range(count)],
            base=base.path,
            targets=base.targets,
            micro_batch_tokens=arguments.positions,
            plan=TrainPlan(count, count, 1.0, arguments.steps, 2, 0.5, 1.0),
            settings=settings,
            charge_step=lambda: 0.0,
            random=SecureRandom(),
            run_directory=Path(directory),
            emit=lambda event: None,
            should_stop=lambda: False,
        )
    unit, positions = mean * arguments.rows_a_unit, arguments.positions
    estimate = training_memory(base.info, base.targets, settings, result.precision, arguments.device, positions, unit, _LONGEST)
    figures = {
        "device": arguments.device,
        "precision": result.precision,
        "positions": arguments.positions,
        "rows_a_unit": arguments.rows_a_unit,
        "units": count,
        "estimated_mib": round(estimate / 2**20),
        "measured_mib": round(result.peak_memory_bytes / 2**20),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
