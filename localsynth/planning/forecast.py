"""Estimates of a run from public figures alone: budgets, steps, noise, time, memory and disk.

Reads no private row and spends nothing.
"""

import datetime as dt
import math
from dataclasses import dataclass
from typing import Any

from localsynth.config import Config
from localsynth.llm.base_models import BaseModel
from localsynth.llm.row_text import Codec
from localsynth.planning.budgets import account_of, epsilons_alone, plan_training, planned_risks, shares_of
from localsynth.privacy.gaussian import gaussian_of_rho
from localsynth.results.plans import Adapters, Plan
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.columns import Category, Schema, Text
from localsynth.system.cpu import default_threads
from localsynth.text_counts.logit_bias import ROUNDS, comparison_rows
from localsynth.train.cost import Device, fitting_tokens, trained_parameters, training_memory, training_rate
from localsynth.train.plan import TrainPlan
from localsynth.train.presets import Preset, choose_preset

_TEXT_SHARE = 0.4
"""The fraction of its max_tokens that a text uses on average; a guess until the run measures it."""
_LONG_ROW = 1.75
"""Tokens of a long row divided by the mean, with texts of at most 64 tokens. It has little influence."""
_DESCRIPTION_TOKENS = 0.25
"""Tokens a character of English words."""
_SAMPLE_SHARE = 0.39
"""Share of the float32 matrix-product rate that llama.cpp reaches with a large batch: 547 tok/s at 2 operations a
weight and token (docs/lab/sampling-speed.md)."""

_SECONDS_A_VALUE = 4e-6
"""To sample a value from marginals and write it: 100,000 rows of 50 columns took 8 s."""
_MARGINALS_BYTES = 500 * 2**20


@dataclass(frozen=True)
class Size:
    """Expected numbers: units kept, units to train on, synthetic rows."""

    units: int
    training_units: int
    rows: int


@dataclass(frozen=True)
class Machine:
    """Where the model is trained.

    matmul_rate   floating-point operations a second on `device` at `precision`
    float32_rate  the same on the CPU in float32, from which sampling is estimated
    memory        bytes that training may take
    """

    matmul_rate: float
    float32_rate: float
    precision: str
    device: Device
    memory: float


def row_tokens(codec: Codec) -> float:
    """The expected number of tokens of a row, estimated from the schema."""
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


def with_placeholders(schema: Schema) -> Schema:
    """The schema with placeholders for unmeasured bounds and lists, for estimates of tokens."""
    placeholders: dict[str, dict[str, Any]] = {
        "category": {"values": ["something"], "descriptions": {}},
        "integer": {"min": 0, "max": 9999},
        "number": {"min": 0.0, "max": 9999.0},
        "date": {"min": dt.date(2000, 1, 1), "max": dt.date(2030, 1, 1)},
        "datetime": {"min": dt.datetime(2000, 1, 1), "max": dt.datetime(2030, 1, 1)},
    }
    columns = [c.model_copy(update=placeholders[c.kind]) if c.unmeasured() else c for c in schema.columns]
    return schema.model_copy(update={"columns": columns})


def expected_rows(config: Config, units: int) -> int:
    """The default number of synthetic rows: one a unit; of sequences, an estimate until they are measured."""
    return units if config.data.sequence_by is None else max(1, round(units * _mean_rows(config)))


def _mean_rows(config: Config) -> float:
    """The mean rows per unit, estimated from the bound."""
    return (1 + config.privacy.rows_per_unit) / 2


def forecast_marginals(config: Config, size: Size) -> Plan:
    """`forecast` for a run with marginals alone: no model, one release of noisy counts."""
    shares, columns = shares_of(config), len(config.schema_.learned())
    account = account_of(config, size.training_units, shares.size_epsilon)
    whole = gaussian_of_rho(account.rho(shares.schema))
    return Plan(
        synthesizer="marginals",
        units=size.units,
        training_units=size.training_units,
        rows_wanted=size.rows,
        steps=1,
        reserve_steps=0,
        batch_size=size.training_units,
        sample_rate=1.0,
        # Of one Gaussian mechanism of the same cost, for comparison; the counts divide it.
        noise_multiplier=whole["noise_multiplier"],
        max_grad_norm=1.0,
        epsilon=epsilons_alone(config, account, None),
        delta=config.privacy.resolved_delta,
        risks=planned_risks(config, account, whole),
        seconds={"train": measuring_seconds(columns), "export": 1.0, "sample": 1 + size.rows * columns * _SECONDS_A_VALUE},
        tokens_per_row=0.0,
        precision="fp64",
        memory_bytes=_MARGINALS_BYTES + 200 * size.training_units * config.privacy.rows_per_unit * columns,
        disk_bytes=10**7 + 200 * size.rows,
    )


def measuring_seconds(columns: int) -> float:
    """A rough estimate of the seconds to measure and fit marginals."""
    return 5.0 + columns


@dataclass(frozen=True)
class TrainingSetup:
    """The setup of training on this machine, from public figures.

    preset    which layers get an adapter, and where that was measured
    targets   names of those layers
    tokens    computed at once (the physical batch)
    columns   that the model reads and writes
    row       tokens of a row, expected
    memory    bytes that training holds at most
    """

    preset: Preset
    targets: list[str]
    tokens: int
    columns: int
    row: float
    memory: float

    @property
    def longest(self) -> float:
        """Tokens of a long row."""
        return _LONG_ROW * self.row


def training_setup(
    config: Config, base: BaseModel, schema: Schema, plan: TrainPlan, precision: str, device: Device, room: float
) -> TrainingSetup:
    """The setup for `plan` where training may take `room` bytes on `device`."""
    from localsynth.llm.llama_cpp import Vocabulary  # loads llama.cpp, which marginals do without

    preset = choose_preset(plan)
    targets = preset.among(base.targets)
    seen = ColumnSplit(with_placeholders(schema), hybrid=config.synthesizer == "hybrid").schema
    with Vocabulary(base.path) as vocabulary:
        row = row_tokens(Codec(seen, vocabulary.tokenize, vocabulary.start, config.data.description))
    unit, longest = _mean_rows(config) * row, _LONG_ROW * row
    tokens = fitting_tokens(base.info, targets, config.train, precision, device, unit, longest, plan.batch_size, room)
    memory = training_memory(base.info, targets, config.train, precision, device, tokens, unit, longest)
    return TrainingSetup(preset, targets, tokens, len(seen.columns), row, memory)


def forecast(config: Config, base: BaseModel, schema: Schema, size: Size, machine: Machine) -> Plan:
    """All estimates but those that depend on the workspace."""
    shares, synthesizer = shares_of(config), config.synthesizer
    account = account_of(config, size.training_units, shares.size_epsilon)
    plan = plan_training(config, account, size.training_units, shares.schema)
    info, train = base.info, config.train
    setup = training_setup(config, base, schema, plan, machine.precision, machine.device, machine.memory)
    tokens = setup.row
    train_rate = training_rate(
        info, machine.precision, machine.device, setup.tokens, machine.matmul_rate, setup.longest, default_threads()
    )
    trained_tokens = plan.steps * plan.batch_size * _mean_rows(config) * setup.row
    model_bytes = base.info.parameters * 2
    sample_rate = _SAMPLE_SHARE * machine.float32_rate / (2 * info.parameters)
    # Guidance reads a row twice. The common prefix of rows is read once, but is short in wide tables.
    read = tokens * (2 if synthesizer == "hybrid" and config.sample.guidance else 1)
    compared = ROUNDS * comparison_rows(size.training_units)
    return Plan(
        synthesizer=synthesizer,
        units=size.units,
        training_units=size.training_units,
        rows_wanted=size.rows,
        steps=plan.steps,
        reserve_steps=plan.reserve,
        batch_size=plan.batch_size,
        sample_rate=plan.sample_rate,
        noise_multiplier=plan.noise_multiplier,
        max_grad_norm=plan.max_grad_norm,
        epsilon=epsilons_alone(config, account, plan),
        delta=config.privacy.resolved_delta,
        risks=planned_risks(config, account, plan.all_steps),
        seconds={
            "train": trained_tokens / train_rate + (measuring_seconds(setup.columns) if synthesizer == "hybrid" else 0.0),
            "export": 15 + base.info.parameters / 1e7,
            **({"count_texts": compared * read / sample_rate} if config.counts_texts else {}),
            "sample": size.rows * read / sample_rate,
        },
        tokens_per_row=tokens,
        adapters=Adapters(setup.preset.name, setup.targets, setup.preset.measured),
        device=machine.device,
        micro_batch_tokens=setup.tokens,
        precision=machine.precision,
        memory_bytes=math.ceil(setup.memory),
        memory_room_bytes=math.floor(machine.memory),
        disk_bytes=math.ceil(1.6 * model_bytes + 3 * 4 * trained_parameters(info, setup.targets, train) + 200 * size.rows),
    )
