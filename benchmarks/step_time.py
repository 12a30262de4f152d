"""Time and memory of a DP step and of a plain step of an 8B model: `python benchmarks/step_time.py [--tokens 1024] [--units 8]`.

The base has random weights in the shape of Llama 3.1 8B (load_memory.py). Rows are random and have --length tokens; --tokens of
them are computed at once, with adapters on v and down. Prints as JSON the median seconds of three steps after one to warm up,
and the peak memory in bytes, each variant in a process of its own.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from load_memory import LAYERS, write_model

from localsynth.bench.train import _dp_step, _plain_step
from localsynth.llm.row_text import Encoded
from localsynth.train.batches import WIDTH_STEPS, micro_batches
from localsynth.train.device import choose_device, choose_precision
from localsynth.train.memory import peak_memory
from localsynth.train.model import adapted_base

_STEPS = 3


def measure(variant: str, path: Path, tokens: int, units: int, length: int) -> dict[str, float]:
    """Seconds of the median step of "dp" or "plain", and the peak memory of this process (of PyTorch, on a GPU) in bytes."""
    device = choose_device("auto")
    adapted = adapted_base(path, 4, 16, ["v_proj", "down_proj"], choose_precision("auto", device), device, seed=0)
    step = {"dp": _dp_step, "plain": _plain_step}[variant](adapted, units)
    generator = random.Random(0)
    vocabulary = adapted.base_model.model.config.vocab_size
    rows = [Encoded(generator.choices(range(vocabulary), k=length), [False] + [True] * (length - 1)) for _ in range(units)]
    micros = micro_batches([[row] for row in rows], tokens, step=WIDTH_STEPS[device])
    seconds = []
    for _ in range(1 + _STEPS):
        begun = time.perf_counter()
        step([micro.to(device) for micro in micros])
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return {"seconds": statistics.median(seconds[1:]), "peak_memory": peak_memory(device)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1024, help="tokens computed at once")
    parser.add_argument("--units", type=int, default=8, help="units of a step")
    parser.add_argument("--length", type=int, default=512, help="tokens of a row")
    parser.add_argument("--layers", type=int, default=LAYERS, help="blocks of the model")
    parser.add_argument("--measure", nargs=2, metavar=("VARIANT", "MODEL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = arguments.tokens, arguments.units, arguments.length
    if arguments.measure:
        print(json.dumps(measure(arguments.measure[0], Path(arguments.measure[1]), *sizes)))
        return
    figures = {}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "random.gguf"
        write_model(path, arguments.layers)
        for variant in ("dp", "plain"):
            own = [f"--{name}={value}" for name, value in zip(("tokens", "units", "length"), sizes, strict=True)]
            command = [sys.executable, __file__, *own, "--measure", variant, str(path)]
            figures[variant] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
