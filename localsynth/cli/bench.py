"""The benchmark commands."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from localsynth.cli.output import command
from localsynth.presentation import bench_sample_text, bench_table_text, bench_train_text

app = typer.Typer(help="Measure this machine's speed, as ratios within one run.", no_args_is_help=True)


@command(app, example="localsynth bench sample --rows 256", show=bench_sample_text)
def sample(
    model: Annotated[str, typer.Option("--model", help="The base model to sample from.")] = "smollm2-135m-instruct",
    quantization: Annotated[str, typer.Option("--type", help="Its quantization type.")] = "Q8_0",
    rows: Annotated[int, typer.Option("--rows", min=1, help="Rows to generate with localsynth.")] = 512,
    loop_rows: Annotated[int, typer.Option("--loop-rows", min=1, help="Rows to generate with the loop, which is slow.")] = 12,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Rows generated at a time.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of all three.")] = None,
) -> dict[str, Any]:
    """Compare sampling with a loop of JSON-schema completions and with llama.cpp alone. Takes minutes."""
    from localsynth.system.cpu import let_threads_sleep

    let_threads_sleep()  # before llama.cpp is loaded
    from localsynth.bench.sample import bench_sample
    from localsynth.cli.narrator import Narrator

    return bench_sample(model, quantization, rows, loop_rows, batch_size, threads, Narrator(sys.stderr))


@command(app, example="localsynth bench train --units 64 --steps 2", show=bench_train_text)
def train(
    model: Annotated[str, typer.Option("--model", help="The base model to train.")] = "smollm2-135m-instruct",
    units: Annotated[int, typer.Option("--units", min=1, help="Rows a step.")] = 128,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps to measure, after one to warm up.")] = 3,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Measurements of each variant.")] = 3,
    ghost: Annotated[bool, typer.Option("--ghost/--no-ghost", help="Also measure Opacus' ghost clipping.")] = True,
) -> dict[str, Any]:
    """Compare DP training with plain LoRA, ghost clipping and the machine's matrix products. Takes minutes."""
    from localsynth.system.cpu import let_threads_sleep
    from localsynth.system.extras import need_training_parts

    need_training_parts()
    let_threads_sleep()  # before torch is loaded
    from localsynth.bench.train import VARIANTS, bench_train
    from localsynth.cli.narrator import Narrator

    variants = [name for name in VARIANTS if ghost or name != "ghost"]
    return bench_train(model, units, steps, rounds, variants, Narrator(sys.stderr))


@command(app, example="localsynth bench table visits.csv --rows 1000000", show=bench_table_text)
def table(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A CSV file with a header and without text.", show_default=False)],
    rows: Annotated[int, typer.Option("--rows", min=1000, help="Rows; those of the file are repeated.")] = 1_000_000,
) -> dict[str, Any]:
    """Compare a run without text with DuckDB's reading and counting, and with NumPy's sampling. Takes minutes."""
    from localsynth.bench.table import bench_table
    from localsynth.cli.narrator import Narrator

    return bench_table(file, rows, Narrator(sys.stderr))
