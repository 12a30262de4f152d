"""Records of a workspace as the stages write them, without the stages."""

from typing import Any

from localsynth.config import Config, DataConfig, PrivacyConfig
from localsynth.schema.columns import Integer, Schema
from localsynth.workspace.effective_schema import IngestRecord, IngestSettings
from localsynth.workspace.runs import ExportOutcome, RunRecord, RunSettings, SampleOutcome, TrainOutcome

_SCHEMA = Schema(columns=[Integer(name="n", min=0, max=9)])


def _config(schema: Schema) -> Config:
    return Config(data=DataConfig(source="t.csv"), schema=schema, privacy=PrivacyConfig(public_size=400, holdout=0.25))


def ingest_record(schema: Schema = _SCHEMA) -> IngestRecord:
    """A finished ingest of a table with 400 units."""
    settings = IngestSettings.of(_config(schema), 0.4, None)
    return IngestRecord.begin(settings, schema, "schema").store_written("0" * 16).finish()


def stage_outcomes(rows: int = 200) -> dict[str, Any]:
    """What the stages `train`, `export` and `sample` note, by the names of their fields."""
    return {
        "train": TrainOutcome(steps=5, precision="fp32", noise="none", seal="none", versions={}),
        "export": ExportOutcome(quantization="Q8_0", size_bytes=1, model_hash="00", signed=True, certificate_sha256="00"),
        "sample": SampleOutcome(rows=rows, rejected=0, seconds=1.0),
    }


def run_record(schema: Schema = _SCHEMA, **outcomes: Any) -> RunRecord:
    """A run that began on such a table, with these outcomes."""
    return RunRecord(synthesizer="llm", settings=RunSettings.of(_config(schema)), table=ingest_record(schema), **outcomes)
