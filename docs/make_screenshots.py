"""Makes the pictures of the terminal UI in docs/images/ from the real app, with synthetic visits: `make screenshots`.

Nothing is trained: the events of a run are simulated, and two random tables of visits play the original and the synthetic rows.
"""

import asyncio
import csv
import math
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from localsynth.config import load_config
from localsynth.evaluate.columns import compare_columns
from localsynth.evaluate.writing import compare_writing
from localsynth.example.demo import prepare_demo
from localsynth.example.visits import write_example
from localsynth.ingest.parse import parse_value
from localsynth.sample.surrogates import Surrogates
from localsynth.schema.columns import Record, Schema
from localsynth.store.synthetic import Origin, SyntheticStore
from localsynth.system.files import write_json
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import new_run
from localsynth_tui.app import LocalsynthApp
from localsynth_tui.jobs.run_state import RunState

IMAGES = Path(__file__).resolve().parent / "images"
SIZE = (100, 30)
STEPS = 120


def visits(schema: Schema, rows: int, seed: int) -> list[Record]:
    """Random visits as records of the schema's learned columns."""
    with write_example(Path(f"visits-{seed}"), rows, seed).open(encoding="utf-8", newline="") as file:
        return [{c.name: parse_value(c, line[c.name], [""]) for c in schema.learned()} for line in csv.DictReader(file)]


def finished_workspace(root: Path) -> None:
    """The demo's workspace with a finished run, 1,000 rows and the part of a report that the pictures show."""
    prepare_demo(root, lambda _text: None)
    workspace = Workspace(root)
    schema = load_config(workspace.config_path).schema_
    size = {"units": 1000, "origin": "declared"}
    document = {"complete": True, "schema": schema.model_dump(mode="json"), "size": size, "keep_probability": 1, "holdout": 0.1}
    run = new_run(workspace, {"table": document, "train": {}, "export": {}, "sample": {"rows": 1000}})
    original, synthetic = visits(schema, 1000, 7), visits(schema, 1000, 8)
    store = SyntheticStore(workspace.synthetic_path)
    store.create_table(schema)
    job = store.open_job(Origin(run.id, "00", 0, 8.0, 1e-5, {}, {}), total=1000)
    complete = Surrogates(schema, 0).complete
    store.append(job.number, 0, [complete(number, row) for number, row in enumerate(synthetic)])
    columns = compare_columns(original, synthetic, schema, seed=0)
    writing = compare_writing(original, synthetic, schema, seed=0)
    write_json(run.directory / "report.json", {"figures": {"columns": columns, "writing": writing}})


def half_a_run() -> RunState:
    """A run in the middle of its training, by simulated events."""
    chance, state = random.Random(1), RunState("run", counts_texts=True, report=True)
    for stage in ("ingest", "train"):
        state.apply({"kind": "stage_started", "stage": stage, "seal": "namespace"})
        if stage == "ingest":
            state.apply({"kind": "stage_done", "stage": stage})
            state.apply({"kind": "warning", "text": "About 1,000 units. Expect common patterns to survive, rare ones to blur."})
    for step in range(1, 2 * STEPS // 3):
        private = {
            "rate": 205 + chance.gauss(0, 6),
            "unit": "tokens/s",
            "seconds_left": 4.0 * (STEPS - step),
            "memory": 1.4e9,
            "loss": 1.1 + 1.9 * math.exp(-step / 18) + chance.gauss(0, 0.04),
            "clipped": 0.93,
        }
        told = {"kind": "progress", "stage": "train", "step": step, "steps": STEPS, "epsilon": 4.2 + 3.2 * (step / STEPS) ** 0.6}
        told["device"] = "cpu, bf16"
        state.apply({**told, "private": private})
    return state


async def picture(name: str, prepare: Callable[[LocalsynthApp], None], step: str, shown: str, keys: tuple[str, ...] = ()) -> None:
    """Write docs/images/NAME.svg when the screen shows a text."""
    app = LocalsynthApp(Path("visits"))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        prepare(app)
        await app.action_go(step)
        await pilot.pause(1)
        await pilot.press(*keys)
        for _ in range(100):
            svg = app.export_screenshot(title="localsynth")
            if shown in svg.replace("&#160;", " "):
                break
            await pilot.pause(0.1)
        else:
            raise SystemExit(f"{name}: the screen never showed {shown!r}")
        (IMAGES / f"{name}.svg").write_text(svg, encoding="utf-8")


def show_half_a_run(app: LocalsynthApp) -> None:
    app.run_state = half_a_run()


async def main() -> None:
    """All pictures, in a directory of their own."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        os.environ["LOCALSYNTH_HOME"] = str(Path(place) / "home")
        os.chdir(place)
        finished_workspace(Path("visits"))
        await picture("data", lambda _app: None, "data", "third persons", ("down",) * 10)
        await picture("run", show_half_a_run, "run", "running")
        await picture("rows", lambda _app: None, "synthetic", "Rows 1 to 200")
        await picture("columns", lambda _app: None, "synthetic", "PRIVATE", ("h",))
        os.chdir("/")


if __name__ == "__main__":
    asyncio.run(main())
