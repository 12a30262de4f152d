"""What a run will cost and take, from public figures alone: budgets, steps, noise, minutes, memory and disk.

Reads no private row and spends nothing.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from localsynth.base_models import BaseModel
from localsynth.codec import Codec
from localsynth.config import Config
from localsynth.errors import BudgetError, ConfigError
from localsynth.events import Emit
from localsynth.hybrid import Writing
from localsynth.processor import default_threads
from localsynth.schema import Boolean, Category, Identifier, Schema, Surrogate, Text
from localsynth.training_cost import Device, fitting_tokens, trained_parameters, training_memory, training_rate

if TYPE_CHECKING:
    from localsynth.train.plan import TrainPlan
    from localsynth.train.presets import Preset

__all__ = [
    "FEW_TEXT_UNITS",
    "FEW_UNITS",
    "TOO_FEW_UNITS",
    "Budgets",
    "TrainingSetup",
    "accept_size",
    "budgets",
    "check_sequence",
    "delta_warning",
    "expected_rows",
    "forecast",
    "forecast_marginals",
    "list_warning",
    "size_warning",
    "synthesizer_of",
    "text_warning",
    "training_setup",
]

FEW_UNITS = 10_000
"""Below this many units, DP-SGD keeps little of what text is about; plan and train say so."""
FEW_TEXT_UNITS = 2_000
"""Below this many units plan and train propose to leave a hybrid's texts out: a judgement, not a measured threshold."""
TOO_FEW_UNITS = 100
"""Below this many units the noise drowns everything: refused without --force."""

_SCHEMA_DELTA_SHARE = 0.1
_DEFAULT_SCHEMA_SHARE = 0.1


@dataclass(frozen=True)
class Budgets:
    """How (ε, δ) is divided between the schema, the marginals, training and selection; zero for what is not done."""

    schema_epsilon: float
    schema_delta: float
    marginals_epsilon: float
    marginals_delta: float
    train_epsilon: float
    train_delta: float
    selection_epsilon: float
    selection_delta: float

    @property
    def epsilon(self) -> dict[str, float]:
        """Of each stage, and of all of them as "total"."""
        return _by_stage(self.schema_epsilon, self.marginals_epsilon, self.train_epsilon, self.selection_epsilon)

    @property
    def delta(self) -> dict[str, float]:
        """Of each stage, and of all of them as "total"."""
        return _by_stage(self.schema_delta, self.marginals_delta, self.train_delta, self.selection_delta)


def counts_texts(config: Config) -> bool:
    """Whether a part of the model's budget is kept to count the original texts, for a model that rows can be drawn from."""
    texts = any(isinstance(column, Text) for column in config.schema_.learned())
    return texts and config.train.method == "lora" and config.train.selection_share > 0


def _by_stage(schema: float, marginals: float, train: float, selection: float) -> dict[str, float]:
    parts = {"schema": schema, "marginals": marginals, "train": train, "selection": selection}
    # The parts were made by dividing the total: the last digits of their sum are rounding.
    return {"total": float(f"{sum(parts.values()):.12g}"), **parts}


def budgets(config: Config) -> Budgets:
    """The split, from the configuration alone. Raises ConfigError where the schema's part leaves nothing for the rest."""
    schema_epsilon, schema_delta = _schema_share(config)
    epsilon, delta = config.privacy.epsilon - schema_epsilon, config.delta() - schema_delta
    share = {"marginals": 1.0, "llm": 0.0, "hybrid": config.train.marginals_share}[synthesizer_of(config)]
    marginals_epsilon, marginals_delta = share * epsilon, share * delta
    model_epsilon, model_delta = epsilon - marginals_epsilon, delta - marginals_delta
    selection_share = config.train.selection_share if counts_texts(config) else 0.0
    selection_epsilon, selection_delta = selection_share * model_epsilon, selection_share * model_delta
    return Budgets(
        schema_epsilon,
        schema_delta,
        marginals_epsilon,
        marginals_delta,
        model_epsilon - selection_epsilon,
        model_delta - selection_delta,
        selection_epsilon,
        selection_delta,
    )


def _schema_share(config: Config) -> tuple[float, float]:
    privacy, schema = config.privacy, config.schema_
    if not schema.unmeasured() and privacy.public_size is not None:
        return 0.0, 0.0
    epsilon = privacy.schema_epsilon or _DEFAULT_SCHEMA_SHARE * privacy.epsilon
    if epsilon >= privacy.epsilon:
        raise ConfigError(
            f"privacy.schema_epsilon ({epsilon}) leaves nothing of privacy.epsilon ({privacy.epsilon}) for training.",
            "Lower schema_epsilon, or declare bounds and category lists that are public.",
        )
    lists = any(field == "values" for _, field in schema.unmeasured())
    return epsilon, _SCHEMA_DELTA_SHARE * config.delta() if lists else 0.0


def synthesizer_of(config: Config) -> Literal["hybrid", "llm", "marginals"]:
    """What makes the rows, "auto" settled. Raises ConfigError where the columns do not go with what is asked for, or where
    `check_sequence` does."""
    check_sequence(config)
    texts = [column.name for column in config.schema_.learned() if isinstance(column, Text)]
    structured = len(texts) < len(config.schema_.learned())
    wanted = config.train.synthesizer
    if wanted == "marginals" and texts:
        raise ConfigError(
            f"Marginals cannot write text, and {texts[0]!r} is a text column.",
            'Set train.synthesizer = "auto", or leave the column out with data.columns.',
        )
    if wanted == "hybrid" and not (texts and structured):
        missing = "other columns to write them for" if texts else "text column for the model to write"
        raise ConfigError(f"Hybrid needs texts and other columns, and there is no {missing}.", 'Set train.synthesizer = "auto".')
    if wanted == "auto":
        return "hybrid" if texts and structured else "llm" if texts else "marginals"
    return wanted


def check_sequence(config: Config) -> None:
    """Raise ConfigError where the rows of a unit cannot be the sequence that data.sequence_by asks for."""
    name, unit = config.data.sequence_by, config.privacy.unit
    if name is None:
        return
    columns = {column.name: column for column in config.schema_.columns}
    if unit == "row":
        raise ConfigError(
            "data.sequence_by needs to know whose rows follow each other.", "Set privacy.unit to the column that says so."
        )
    if config.privacy.max_rows_per_unit < 2:
        raise ConfigError("A sequence has more than one row.", "Raise privacy.max_rows_per_unit.")
    if name not in columns or name == unit:
        raise ConfigError(
            f"data.sequence_by: {name!r} is no column to order the rows of a unit by.", f"Columns: {', '.join(columns)}."
        )
    if isinstance(columns[name], Text | Category | Boolean | Surrogate):
        raise ConfigError(
            f"data.sequence_by: a column of kind {columns[name].kind} has no order.",
            "Name a date, a datetime, an integer, a number or an identifier.",
        )
    if unit in columns and not isinstance(columns[unit], Identifier | Surrogate):
        raise ConfigError(
            f"Each synthetic unit gets a fresh value of {unit!r}, but that column is to be learned (kind {columns[unit].kind}).",
            'Make it kind = "identifier" in the schema.',
        )
    texts = [column.name for column in config.schema_.learned() if isinstance(column, Text)]
    if texts or config.train.synthesizer == "llm":
        raise ConfigError(
            "Sequences are made from marginals, which cannot write text"
            + (f", and {texts[0]!r} is a text column." if texts else ": train.synthesizer asks for the language model."),
            'Leave text columns out with data.columns and set train.synthesizer = "auto", or leave out data.sequence_by.',
        )


def size_warning(units: int) -> str | None:
    """What a small number of units costs, in words; None where it is large enough."""
    if units < TOO_FEW_UNITS:
        return (
            f"About {units} units are too few: below {TOO_FEW_UNITS} the noise to protect them drowns what they have in common."
        )
    if units < FEW_UNITS:
        return (
            f"About {units:,} units. Below {FEW_UNITS:,} the noise costs much of the detail: expect common patterns to survive, "
            "rare values and links between columns to blur. Compare with the original before you rely on it."
        )
    return None


def text_warning(config: Config, units: int) -> str | None:
    """What few units mean for texts, in words; None where there are enough, or the texts are all there is."""
    if units >= FEW_TEXT_UNITS or synthesizer_of(config) != "hybrid":
        return None
    texts = ", ".join(repr(column.name) for column in config.schema_.learned() if isinstance(column, Text))
    return (
        f"Below about {FEW_TEXT_UNITS:,} units a model is likely to learn little from texts under such noise, and "
        f"{1 - config.train.marginals_share:.0%} of the budget goes to them. The other columns alone would have all of it: "
        f"leave {texts} out (data.columns), and marginals make the rest in seconds."
    )


def delta_warning(config: Config, units: int) -> str | None:
    """What a large delta allows, in words; None where it is below one in the number of units (public or measured)."""
    if config.delta() * units <= 1:
        return None
    return (
        f"privacy.delta is {config.delta():g}, more than one in {units:,} units: publishing a unit at random would satisfy that. "
        "Choose a delta well below one in the number of units."
    )


_RARE = 0.05
"""A list that loses values which more than this share of the units have is worth a warning."""


def list_warning(config: Config, units: int) -> str | None:
    """What measuring lists of values will lose, in words; None where it is little. `units`: expected to train on."""
    from localsynth.ingest.measure import share_budget
    from localsynth.privacy.mechanisms import CategoriesPlan

    open_lists = [c.name for c in config.schema_.columns if isinstance(c, Category) and c.values is None]
    if not open_lists:
        return None
    privacy, share = config.privacy, budgets(config)
    parts = share_budget(
        config.schema_, privacy.public_size is not None, share.schema_epsilon, share.schema_delta, privacy.rows_per_unit
    )
    assert parts is not None
    threshold = CategoriesPlan(parts.epsilon, parts.delta, parts.contributions).threshold
    if threshold <= _RARE * units:
        return None
    return (
        f"The lists of values of {', '.join(map(repr, open_lists))} will be measured, and only values that about {threshold:,} "
        f"rows or more have will be found, with about {units:,} units to train on; all others become 'other'. Declare the "
        "lists that are public (values = [...]), or raise privacy.schema_epsilon."
    )


def accept_size(units: int, force: bool, emit: Emit) -> None:
    """Warn about a small table; refuse one that is far too small, unless `force`. `units` is a public or measured number."""
    warning = size_warning(units)
    if warning is None:
        return
    if units < TOO_FEW_UNITS and not force:
        raise BudgetError(warning, "Collect more, or add --force to spend the budget all the same.")
    emit({"kind": "warning", "text": warning})


_TEXT_SHARE = 0.4
"""A text uses this share of its max_tokens on average; a guess until the run itself tells."""
_LONGEST = 1.75
"""Tokens of a long row for one of the mean: with texts of up to 64 tokens, mostly shorter ones. It hardly matters."""
_MEANING_TOKENS = 0.25
"""Tokens a character of English words."""
_SAMPLE_SHARE = 0.39
"""Share of the float32 matrix-product rate that llama.cpp reaches with many rows side by side: 547 tok/s at 2 operations a
weight and token (docs/experiments.md)."""


def row_tokens(codec: Codec) -> float:
    """Expected tokens of a row, guessed from the schema."""
    total = 0.0
    for field in codec.fields:
        column = field.column
        if isinstance(column, Text):
            value = _TEXT_SHARE * field.budget
        elif isinstance(column, Category):
            value = 4.0 + _MEANING_TOKENS * sum(map(len, column.meanings.values())) / len(column.allowed())
        else:
            value = 0.7 * field.budget
        total += len(field.key) + value
    return total


def open_fields_filled(schema: Schema) -> Schema:
    """The schema with stand-ins for what is not measured yet, good enough to count tokens."""
    import datetime as dt

    stand_ins: dict[str, dict[str, Any]] = {
        "category": {"values": ["something"], "meanings": {}},
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
    from localsynth.privacy.concentrated import rho_for

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
    computed  the same with a soft prompt
    memory    bytes that training holds at most
    """

    preset: "Preset"
    targets: list[str]
    tokens: int
    columns: int
    row: float
    computed: float
    memory: float

    @property
    def longest(self) -> float:
        """Tokens of a long row."""
        return _LONGEST * self.computed


def training_setup(
    config: Config, base: BaseModel, schema: Schema, plan: "TrainPlan", precision: str, device: Device, room: float
) -> TrainingSetup:
    """The setup for `plan` where training may take `room` bytes on `device`."""
    from localsynth.llama import Vocabulary
    from localsynth.train.presets import choose_preset

    preset = choose_preset(plan)
    targets = preset.among(base.targets) if config.train.method == "lora" else []
    seen = open_fields_filled(schema)
    if synthesizer_of(config) == "hybrid":
        seen = Writing(seen).schema
    with Vocabulary(base.path) as vocabulary:
        row = row_tokens(Codec(seen, vocabulary.tokenize, vocabulary.start, config.data.description))
    # A soft prompt stands before each row and is computed with it.
    computed = row + (config.train.prompt_tokens if config.train.method == "prompt" else 0)
    unit, longest = _mean_rows(config) * computed, _LONGEST * computed
    tokens = fitting_tokens(base.info, targets, config.train, precision, device, unit, longest, plan.batch_size, room)
    memory = training_memory(base.info, targets, config.train, precision, device, tokens, unit, longest)
    return TrainingSetup(preset, targets, tokens, len(seen.columns), row, computed, memory)


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
    from localsynth.selection.topics import TEXTS_A_TOPIC, topics_for
    from localsynth.selection.wording import ROUNDS, texts_for
    from localsynth.train.plan import make_train_plan

    share, synthesizer = budgets(config), synthesizer_of(config)
    plan = make_train_plan(config.train, training_units, share.train_epsilon, share.train_delta)
    info, train = base.info, config.train
    setup = training_setup(config, base, schema, plan, precision, device, room)
    tokens = setup.row
    train_rate = training_rate(info, precision, device, setup.tokens, matmul_rate, setup.longest, default_threads())
    trained_tokens = plan.steps * plan.batch_size * _mean_rows(config) * setup.computed
    model_bytes = base.info.parameters * 2
    sample_rate, selects = _SAMPLE_SHARE * float32_rate / (2 * info.parameters), counts_texts(config)
    # With guidance a row is read twice. What rows begin alike with is read once: in wide tables, little.
    read = tokens * (2 if synthesizer == "hybrid" and config.sample.guidance else 1)
    topics = train.selection == "topics"
    compared = topics_for(training_units) * TEXTS_A_TOPIC if topics else ROUNDS * texts_for(training_units)
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
            **({"select": compared * read / sample_rate} if selects else {}),
            "sample": rows * read / sample_rate * (config.sample.texts if selects and topics else 1),
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
