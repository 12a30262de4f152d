"""Makes the screenshots of the terminal UI in docs/images/ from the real app, with synthetic visits: `make screenshots`.

Nothing is trained: the events of a run are simulated, and two random tables of visits play the original and the synthetic rows.
"""

import asyncio
import csv
import math
import os
import random
import tempfile
from pathlib import Path

from localsynth.config import load_config
from localsynth.evaluate.columns import compare_columns
from localsynth.evaluate.writing import compare_writing
from localsynth.events import progress, stage_done, stage_started, warning
from localsynth.example.visits import prepare_demo, write_example
from localsynth.ingest.parse import parse_value
from localsynth.planning.warnings import size_warning
from localsynth.sample.surrogates import Surrogates
from localsynth.schema.columns import Record, Schema
from localsynth.store.synthetic import Origin, SyntheticStore
from localsynth.system.files import write_json
from localsynth.workspace.effective_schema import IngestRecord, IngestSettings, TableSize
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import ExportOutcome, RunRecord, RunSettings, SampleOutcome, TrainOutcome, new_run
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
    """The demo's workspace with a finished run, 1,000 rows and the part of a report that the screenshots show."""
    prepare_demo(root)
    workspace = Workspace(root)
    config = load_config(workspace.config_path)
    schema = config.schema_
    ingested = IngestRecord.begin(IngestSettings.of(config, 0.4, None), "schema")
    record = RunRecord(
        synthesizer="hybrid",
        settings=RunSettings.of(config),
        table=ingested.size_known(TableSize(units=1000, origin="declared"), {}).store_written("0" * 16).finish(),
        train=TrainOutcome(steps=STEPS, precision="bf16", noise="none", seal="none", versions={}),
        export=ExportOutcome(quantization="Q8_0", size_bytes=1, model_hash="00", signed=False, certificate_sha256="00"),
        sample=SampleOutcome(rows=1000, rejected=0, seconds=1.0),
    )
    run = new_run(workspace, record)
    original, synthetic = visits(schema, 1000, 7), visits(schema, 1000, 8)
    store = SyntheticStore(workspace.synthetic_path)
    store.create_table(schema)
    job = store.open_job(Origin(run.id, "00", 0, 8.0, 1e-5, {}, {}), total=1000)
    complete = Surrogates(schema, 0).complete
    store.append(job.number, 0, [complete(number, row) for number, row in enumerate(synthetic)])
    columns = compare_columns(original, synthetic, schema, seed=0)
    writing = compare_writing(original, synthetic, schema, seed=0)
    write_json(run.directory / "report.json", {"figures": {"columns": columns, "writing": writing}})


def training_run() -> RunState:
    """A run in the middle of its training, by simulated events."""
    chance, state = random.Random(1), RunState("run", counts_texts=True, report=True)
    for event in (
        stage_started("ingest", "namespace"),
        stage_done("ingest"),
        warning(size_warning(1000) or ""),
        stage_started("train", "namespace"),
    ):
        state.apply(event)
    for step in range(1, 2 * STEPS // 3):
        private = {
            "rate": 205 + chance.gauss(0, 6),
            "unit": "tokens/s",
            "seconds_left": 4.0 * (STEPS - step),
            "memory": 1.4e9,
            "loss": 1.1 + 1.9 * math.exp(-step / 18) + chance.gauss(0, 0.04),
            "clipped": 0.93,
        }
        epsilon = 4.2 + 3.2 * (step / STEPS) ** 0.6
        state.apply({**progress("train", step, STEPS), "epsilon": epsilon, "device": "cpu, bf16", "private": private})
    return state


async def screenshot(name: str, step: str, shown: str, keys: tuple[str, ...] = (), state: RunState | None = None) -> None:
    """Write docs/images/NAME.svg when the screen of `step` shows a text; `state` is the run that it shows."""
    app = LocalsynthApp(Path("visits"))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        app.run_state = state
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


async def main() -> None:
    """Write all screenshots, from a temporary workspace."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        os.environ["LOCALSYNTH_HOME"] = str(Path(place) / "home")
        os.chdir(place)
        finished_workspace(Path("visits"))
        await screenshot("data", "data", "other people", ("down",) * 10)
        await screenshot("run", "run", "running", state=training_run())
        await screenshot("rows", "synthetic", "Rows 1 to 200")
        await screenshot("columns", "synthetic", "PRIVATE", ("h",))
        os.chdir("/")


if __name__ == "__main__":
    asyncio.run(main())
