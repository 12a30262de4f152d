"""A workspace on a small table of persons with several rows each, and a training that takes no time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localsynth.config import Config, DataConfig, PrivacyConfig, SampleConfig, TextCountsConfig, TrainConfig
from localsynth.llm.adapter import write_adapter
from localsynth.pipeline import train as train_stage
from localsynth.pipeline.ingest import ingest
from localsynth.pipeline.session import Options, Session
from localsynth.schema.columns import Category, Identifier, Integer, Schema
from localsynth.train import loop
from localsynth.train.loop import TrainResult
from localsynth.workspace.paths import Workspace
from tests.helpers.tiny_model import random_adapter

PEOPLE = 150
SCHEMA = Schema(
    confirmed=True,
    columns=[
        Identifier(name="who"),
        Category(name="kind", values=["a", "b"]),
        Integer(name="n", min=0, max=9999),
    ],
)

MakeSession = Callable[..., Session]


@pytest.fixture
def make_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Any) -> MakeSession:
    """Sessions on one workspace. Every row's `n` is its own, and the rows of a person are far apart."""
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))
    source = tmp_path / "visits.csv"
    rows = "".join(f"p{i % PEOPLE},{'ab'[i % 2]},{1000 + i}\n" for i in range(3 * PEOPLE))
    source.write_text("who,kind,n\n" + rows)
    base = tmp_path / "base.gguf"
    base.write_bytes(tiny_model().read_bytes())
    workspace = Workspace.create(tmp_path / "ws")
    workspace.config_path.write_text("# read by nobody here\n")

    def make(emit: Any = None, sample: dict[str, Any] | None = None, synthesizer: Any = "llm", **options: Any) -> Session:
        config = Config(
            data=DataConfig(source=str(source)),
            schema=SCHEMA,
            privacy=PrivacyConfig(unit="who", max_rows_per_unit=2, public_size=PEOPLE, holdout=0.3),
            train=TrainConfig(
                synthesizer=synthesizer,
                model=str(base),
                batch_size=50,
                epochs=2,
                device="cpu",
                precision="fp32",
            ),
            text_counts=TextCountsConfig(share=0),  # tests of counting texts set it
            sample=SampleConfig(**{"quantization": "Q8_0", "batch_size": 4, "threads": 1, **(sample or {})}),
        )
        return Session(workspace, config, emit or (lambda event: None), lambda: False, Options(**options))

    return make


@pytest.fixture
def ingested(make_session: MakeSession) -> Session:
    session = make_session()
    ingest(session)
    return session


@pytest.fixture
def quick_training(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """In place of the loop: charges and tells each step, and leaves a random adapter. What each call was given."""
    calls: list[dict[str, Any]] = []

    def trained(**given: Any) -> TrainResult:
        calls.append({**given, "units": given["load_units"]()})
        for step in range(1, given["plan"].steps + 1):
            figures = {"rate": 99.0 + step, "unit": "tokens/s", "seconds_left": 7.0 * step, "memory": 10**9 + step}
            told = {"kind": "progress", "stage": "train", "step": step, "steps": given["plan"].steps, **figures}
            given["emit"]({**told, "epsilon": given["charge_step"](), "private": {"loss": 1.0}})
        write_adapter(given["run_directory"] / "adapter", random_adapter(given["base"]), 4, 8)
        return TrainResult(given["plan"].steps, 1.0, 10**9, "fp32", given["micro_batch_tokens"])

    monkeypatch.setattr(loop, "train", trained)
    monkeypatch.setattr(train_stage, "_check_own_model", lambda name, path: None)
    return calls
