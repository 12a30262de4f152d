"""`schema.json`: how far an ingest has come, what it measured, and the effective schema that later stages use."""

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field

from localsynth.config import Config, DataConfig
from localsynth.errors import ConfigError
from localsynth.schema.columns import Column, Schema
from localsynth.workspace.paths import Workspace
from localsynth.workspace.record import Record


@dataclass(frozen=True)
class Effective:
    """The schema with nothing left open, and the public size of the table that was kept."""

    schema: Schema
    units: int
    """Units in the source, declared or measured."""
    keep_probability: float
    holdout: float
    size_measured: bool

    @property
    def kept_units(self) -> int:
        """Expected units kept, training and holdout together."""
        return max(1, round(self.units * self.keep_probability))

    @property
    def training_units(self) -> int:
        """Expected units to train on."""
        return max(1, round(self.kept_units * (1 - self.holdout)))


class IngestPrivacy(Record):
    """The privacy settings that an ingest depends on."""

    unit: str
    max_rows_per_unit: int
    public_size: int | None
    holdout: float
    schema_epsilon: float
    target: tuple[float, float] | None
    """(ε, δ) of the run, where the ingest measures something and so opens its account."""


class IngestSettings(Record):
    """Everything that decides what an ingest makes. Another ingest with equal settings need not be charged again."""

    data: DataConfig
    """Its `source` is a keyed hash of the path."""
    schema_: Schema = Field(alias="schema")
    """The declared schema; whether the user confirmed it changes nothing."""
    privacy: IngestPrivacy
    max_units: int | None

    @staticmethod
    def of(config: Config, schema_epsilon: float, max_units: int | None) -> "IngestSettings":
        """The settings of an ingest under this configuration. `schema_epsilon` is for the columns' measurements, if any."""
        measures = config.privacy.public_size is None or bool(config.schema_.unmeasured())
        privacy = IngestPrivacy(
            **config.privacy.model_dump(include={"unit", "max_rows_per_unit", "public_size", "holdout"}),
            schema_epsilon=schema_epsilon,
            target=(config.privacy.epsilon, config.privacy.resolved_delta) if measures else None,
        )
        schema = config.schema_.model_copy(update={"confirmed": False})
        return IngestSettings(data=config.data, schema=schema, privacy=privacy, max_units=max_units)


class TableSize(Record):
    """The number of units in the source; None until it is measured."""

    units: int | None
    origin: Literal["declared", "measured"]


class IngestRecord(Record):
    """`schema.json`. Each method returns the record after one more step, to be written before the next step begins."""

    settings: IngestSettings
    schema_: Schema = Field(alias="schema")
    """The effective schema, as far as it is measured."""
    size: TableSize
    keep_probability: float = 1.0
    budget: str
    """The name of this ingest's budget in the ledger."""
    measured_by: dict[str, int] = Field(default_factory=dict)
    """What was measured → the index of its charge in the ledger."""
    ingest: str | None = None
    """The random name that private.duckdb got when it was written; None until then."""
    complete: bool = False

    @staticmethod
    def begin(settings: IngestSettings, schema: Schema, budget: str) -> "IngestRecord":
        """Nothing is read and nothing is measured yet. `schema`: as declared, and confirmed or not."""
        size = TableSize(units=settings.privacy.public_size, origin="declared")
        return IngestRecord(settings=settings, schema=schema, size=size, budget=budget)

    def size_known(self, size: TableSize, measured_by: dict[str, int]) -> Self:
        """The number of units is declared or measured, which fixes the probability to keep one."""
        assert size.units is not None
        wanted = self.settings.max_units
        probability = 1.0 if wanted is None else min(1.0, wanted / size.units)
        return self.model_copy(update={"size": size, "keep_probability": probability, "measured_by": dict(measured_by)})

    def store_written(self, ingest: str) -> Self:
        """private.duckdb holds the rows, under the name `ingest`."""
        return self.model_copy(update={"ingest": ingest})

    def store_lost(self) -> Self:
        """private.duckdb is gone: the rows are to be read again. What was measured stays measured."""
        return self.model_copy(update={"ingest": None, "complete": False})

    def column_measured(self, column: Column, measured_by: dict[str, int]) -> Self:
        """The bounds or the list of a column are measured."""
        columns = [column if each.name == column.name else each for each in self.schema_.columns]
        schema = self.schema_.model_copy(update={"columns": columns})
        return self.model_copy(update={"schema_": schema, "measured_by": dict(measured_by)})

    def finish(self) -> Self:
        """Everything is measured."""
        return self.model_copy(update={"complete": True})

    @property
    def effective(self) -> Effective:
        """The schema and the size, of a table whose size is known."""
        assert self.size.units is not None
        holdout = self.settings.privacy.holdout
        return Effective(self.schema_, self.size.units, self.keep_probability, holdout, self.size.origin == "measured")


def read_ingest(workspace: Workspace) -> IngestRecord | None:
    """The record of the workspace's ingest, finished or not; None where there is none."""
    return IngestRecord.read(workspace.schema_path) if workspace.schema_path.exists() else None


def finished_ingest(workspace: Workspace) -> IngestRecord:
    """The record of a finished ingest. Raises ConfigError where there is none."""
    record = read_ingest(workspace)
    if record is None or not record.complete:
        raise ConfigError(f"{workspace.root} holds no ingested table.", f"Read it first: localsynth ingest {workspace.root}")
    return record
