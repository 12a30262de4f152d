"""What a run will cost and take, from public figures alone: budgets, steps, noise, minutes, memory and disk.

Reads no private row and spends nothing.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localsynth.config import Config
from localsynth.llm.base_models import BaseModel
from localsynth.llm.row_text import Codec
from localsynth.planning.budgets import budgets, counts_texts, synthesizer_of
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.columns import Category, Schema, Text
from localsynth.system.cpu import default_threads
from localsynth.train.cost import Device, fitting_tokens, trained_parameters, training_memory, training_rate

if TYPE_CHECKING:
    from localsynth.train.plan import TrainPlan
    from localsynth.train.presets import Preset

__all__ = ["TrainingSetup", "expected_rows", "forecast", "forecast_marginals", "training_setup"]


_TEXT_SHARE = 0.4
"""A text uses this share of its max_tokens on average; a guess until the run itself tells."""
_LONGEST = 1.75
"""Tokens of a long row for one of the mean: with texts of up to 64 tokens, mostly shorter ones. It hardly matters."""
_DESCRIPTION_TOKENS = 0.25
"""Tokens a character of English words."""
_SAMPLE_SHARE = 0.39
"""Share of the float32 matrix-product rate that llama.cpp reaches with many rows side by side: 547 tok/s at 2 operations a
weight and token (docs/lab/sampling-speed.md)."""


def row_tokens(codec: Codec) -> float:
    """Expected tokens of a row, guessed from the schema."""
    total = 0.0
    for field in codec.fields:
        column = field.column
        if isinstance(column, Text):
            value = _TEXT_SHARE * field.budget
        elif isinstance(column, Category):
            value = 4.0 + _DESCRIPTION_TOKENS * sum(map(len, column.descriptions.values())) / len(column.allowed())
        else:
            value = 0.7 * field.budget
        total += len(field.key) + value
    return total


def open_fields_filled(schema: Schema) -> Schema:
    """The schema with stand-ins for what is not measured yet, good enough to count tokens."""
    import datetime as dt

    stand_ins: dict[str, dict[str, Any]] = {
        "category": {"values": ["something"], "descriptions": {}},
        "integer": {"min": 0, "max": 9999},
        "number": {"min": 0.0, "max": 9999.0},
        "date": {"min": dt.date(2000, 1, 1), "max": dt.date(2030, 1, 1)},
        "datetime": {"min": dt.datetime(2000, 1, 1), "max": dt.datetime(2030, 1, 1)},
    }
    columns = [c.model_copy(update=stand_ins[c.kind]) if c.unmeasured() else c for c in schema.columns]
    return schema.model_copy(update={"columns": columns})


def expected_rows(config: Config, units: int) -> int:
    """How many synthetic rows there will be where nobody said it: one a unit; of sequences, a guess until they are measured."""
    return units if config.data.sequence_by is None else max(1, round(units * _mean_rows(config)))


def _mean_rows(config: Config) -> float:
    """Of a unit, rows on average: a guess from the bound."""
    return (1 + config.privacy.rows_per_unit) / 2


def forecast_marginals(config: Config, units: int, training_units: int, rows: int) -> dict[str, Any]:
    """`forecast` for a run by marginals: no model, no steps, one release of noisy counts."""
    from localsynth.privacy.zcdp import rho_for

    share = budgets(config)
    columns = len(config.schema_.learned())
    return {
        "synthesizer": "marginals",
        "units": units,
        "training_units": training_units,
        "rows_wanted": rows,
        "steps": 1,
        "reserve_steps": 0,
        "batch_size": training_units,
        "sample_rate": 1.0,
        # Of one Gaussian mechanism of the same cost: a figure to compare with, the counts share it among them.
        "noise_multiplier": 1 / math.sqrt(2 * rho_for(share.marginals_epsilon, share.marginals_delta)),
        "max_grad_norm": 1.0,
        "epsilon": share.epsilon,
        "delta": share.delta,
        "seconds": {"train": measuring_seconds(columns), "export": 1.0, "sample": 1 + rows * columns * _DRAW_SECONDS},
        "tokens_per_row": 0.0,
        "precision": "fp64",
        "memory_bytes": _MARGINALS_BYTES + 200 * training_units * config.privacy.rows_per_unit * columns,
        "disk_bytes": 10**7 + 200 * rows,
    }


def measuring_seconds(columns: int) -> float:
    """What measuring and fitting marginals of so many columns takes, roughly."""
    return 5.0 + columns


_DRAW_SECONDS = 4e-6
"""For each value drawn from marginals, writing it included: 100,000 rows of 50 columns took 8 s."""
_MARGINALS_BYTES = 500 * 2**20


@dataclass(frozen=True)
class TrainingSetup:
    """How a model will be trained on this machine: by public figures, so that it says nothing of a row.

    preset    which layers get an adapter, and where that was measured
    targets   names of those layers
    tokens    computed at once (the physical batch)
    columns   that the model reads and writes
    row       tokens of a row, expected
    memory    bytes that training holds at most
    """

    preset: "Preset"
    targets: list[str]
    tokens: int
    columns: int
    row: float
    memory: float

    @property
    def longest(self) -> float:
        """Tokens of a long row."""
        return _LONGEST * self.row


def training_setup(
    config: Config, base: BaseModel, schema: Schema, plan: "TrainPlan", precision: str, device: Device, room: float
) -> TrainingSetup:
    """The setup for `plan` where training may take `room` bytes on `device`."""
    from localsynth.llm.llama_cpp import Vocabulary
    from localsynth.train.presets import choose_preset

    preset = choose_preset(plan)
    targets = preset.among(base.targets)
    seen = ColumnSplit(open_fields_filled(schema), hybrid=synthesizer_of(config) == "hybrid").schema
    with Vocabulary(base.path) as vocabulary:
        row = row_tokens(Codec(seen, vocabulary.tokenize, vocabulary.start, config.data.description))
    unit, longest = _mean_rows(config) * row, _LONGEST * row
    tokens = fitting_tokens(base.info, targets, config.train, precision, device, unit, longest, plan.batch_size, room)
    memory = training_memory(base.info, targets, config.train, precision, device, tokens, unit, longest)
    return TrainingSetup(preset, targets, tokens, len(seen.columns), row, memory)


def forecast(
    config: Config,
    base: BaseModel,
    schema: Schema,
    units: int,
    training_units: int,
    rows: int,
    matmul_rate: float,
    float32_rate: float,
    precision: str,
    device: Device,
    room: float,
) -> dict[str, Any]:
    """The whole forecast as a JSON object.

    units, training_units: expected numbers; matmul_rate in floating-point operations a second on `device` at that precision,
    float32_rate on the processor in float32, which llama.cpp's speed is reckoned from; room: bytes that training may take.
    """
    from localsynth.text_counts.logit_bias import ROUNDS, texts_for
    from localsynth.train.plan import make_train_plan

    share, synthesizer = budgets(config), synthesizer_of(config)
    plan = make_train_plan(config.train, training_units, share.train_epsilon, share.train_delta)
    info, train = base.info, config.train
    setup = training_setup(config, base, schema, plan, precision, device, room)
    tokens = setup.row
    train_rate = training_rate(info, precision, device, setup.tokens, matmul_rate, setup.longest, default_threads())
    trained_tokens = plan.steps * plan.batch_size * _mean_rows(config) * setup.row
    model_bytes = base.info.parameters * 2
    sample_rate, counting = _SAMPLE_SHARE * float32_rate / (2 * info.parameters), counts_texts(config)
    # With guidance a row is read twice. What rows begin alike with is read once: in wide tables, little.
    read = tokens * (2 if synthesizer == "hybrid" and config.sample.guidance else 1)
    return {
        "synthesizer": synthesizer,
        "units": units,
        "training_units": training_units,
        "rows_wanted": rows,
        "steps": plan.steps,
        "reserve_steps": plan.reserve,
        "batch_size": plan.batch_size,
        "sample_rate": plan.sample_rate,
        "noise_multiplier": plan.noise_multiplier,
        "max_grad_norm": plan.max_grad_norm,
        "epsilon": share.epsilon,
        "delta": share.delta,
        "seconds": {
            "train": trained_tokens / train_rate + (measuring_seconds(setup.columns) if synthesizer == "hybrid" else 0.0),
            "export": 15 + base.info.parameters / 1e7,
            **({"count_texts": ROUNDS * texts_for(training_units) * read / sample_rate} if counting else {}),
            "sample": rows * read / sample_rate,
        },
        "tokens_per_row": tokens,
        "adapters": {"preset": setup.preset.name, "layers": setup.targets, "measured": setup.preset.measured},
        "device": device,
        "micro_batch_tokens": setup.tokens,
        "precision": precision,
        "memory_bytes": math.ceil(setup.memory),
        "memory_room_bytes": math.floor(room),
        "disk_bytes": math.ceil(1.6 * model_bytes + 3 * 4 * trained_parameters(info, setup.targets, train) + 200 * rows),
    }
