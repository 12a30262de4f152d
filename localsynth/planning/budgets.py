"""How a run's (ε, δ) is divided between its stages, and which synthesizer the columns ask for. From the configuration alone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from localsynth.config import Config
from localsynth.errors import ConfigError
from localsynth.schema.columns import Boolean, Category, Identifier, Surrogate, Text

if TYPE_CHECKING:
    pass

__all__ = ["Budgets", "budgets", "check_sequence", "counts_texts", "synthesizer_of"]

_SCHEMA_DELTA_SHARE = 0.1


_DEFAULT_SCHEMA_SHARE = 0.1


@dataclass(frozen=True)
class Budgets:
    """How (ε, δ) is divided between the schema, the marginals, training and token counts; zero for what is not done."""

    schema_epsilon: float
    schema_delta: float
    marginals_epsilon: float
    marginals_delta: float
    train_epsilon: float
    train_delta: float
    text_counts_epsilon: float
    text_counts_delta: float

    @property
    def epsilon(self) -> dict[str, float]:
        """Of each stage, and of all of them as "total"."""
        return _by_stage(self.schema_epsilon, self.marginals_epsilon, self.train_epsilon, self.text_counts_epsilon)

    @property
    def delta(self) -> dict[str, float]:
        """Of each stage, and of all of them as "total"."""
        return _by_stage(self.schema_delta, self.marginals_delta, self.train_delta, self.text_counts_delta)


def counts_texts(config: Config) -> bool:
    """Whether a part of the model's budget is kept to count the tokens of the original texts."""
    texts = any(isinstance(column, Text) for column in config.schema_.learned())
    return texts and config.text_counts.share > 0


def _by_stage(schema: float, marginals: float, train: float, text_counts: float) -> dict[str, float]:
    parts = {"schema": schema, "marginals": marginals, "train": train, "text_counts": text_counts}
    # The parts were made by dividing the total: the last digits of their sum are rounding.
    return {"total": float(f"{sum(parts.values()):.12g}"), **parts}


def budgets(config: Config) -> Budgets:
    """The split, from the configuration alone. Raises ConfigError where the schema's part leaves nothing for the rest."""
    schema_epsilon, schema_delta = _schema_share(config)
    epsilon, delta = config.privacy.epsilon - schema_epsilon, config.delta() - schema_delta
    share = {"marginals": 1.0, "llm": 0.0, "hybrid": config.train.marginals_share}[synthesizer_of(config)]
    marginals_epsilon, marginals_delta = share * epsilon, share * delta
    model_epsilon, model_delta = epsilon - marginals_epsilon, delta - marginals_delta
    share = config.text_counts.share if counts_texts(config) else 0.0
    text_counts_epsilon, text_counts_delta = share * model_epsilon, share * model_delta
    return Budgets(
        schema_epsilon,
        schema_delta,
        marginals_epsilon,
        marginals_delta,
        model_epsilon - text_counts_epsilon,
        model_delta - text_counts_delta,
        text_counts_epsilon,
        text_counts_delta,
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
