"""The division of a run's (ε, δ) between its stages, from the configuration alone."""

from dataclasses import dataclass

from localsynth.config import Config
from localsynth.errors import ConfigError

__all__ = ["Budgets", "EpsilonDelta", "budgets"]

_SCHEMA_EPSILON_SHARE = 0.1
"""Of privacy.epsilon, where privacy.schema_epsilon is not set."""
_SCHEMA_DELTA_SHARE = 0.1
"""Of δ, where lists of values are measured."""


@dataclass(frozen=True)
class EpsilonDelta:
    """A part of the privacy budget."""

    epsilon: float
    delta: float

    def __add__(self, other: "EpsilonDelta") -> "EpsilonDelta":
        return EpsilonDelta(self.epsilon + other.epsilon, self.delta + other.delta)

    def __sub__(self, other: "EpsilonDelta") -> "EpsilonDelta":
        return EpsilonDelta(self.epsilon - other.epsilon, self.delta - other.delta)

    def scaled(self, epsilon_factor: float, delta_factor: float) -> "EpsilonDelta":
        """Both parts multiplied by their factor."""
        return EpsilonDelta(epsilon_factor * self.epsilon, delta_factor * self.delta)


@dataclass(frozen=True)
class Budgets:
    """The (ε, δ) of each stage; zero for a stage that the run does not have."""

    schema: EpsilonDelta
    marginals: EpsilonDelta
    train: EpsilonDelta
    text_counts: EpsilonDelta

    def to_json(self) -> dict[str, dict[str, float]]:
        """{"epsilon": {stage: ε, ..., "total"}, "delta": the same}."""
        found = {}
        for name in ("epsilon", "delta"):
            parts = {stage: float(getattr(part, name)) for stage, part in vars(self).items()}
            # The parts were made by dividing the total, so the last digits of their sum are rounding.
            found[name] = {"total": float(f"{sum(parts.values()):.12g}"), **parts}
        return found


def budgets(config: Config) -> Budgets:
    """The division for `config`. Raises ConfigError where the schema's part leaves nothing for the rest."""
    schema = _schema_budget(config)
    rest = EpsilonDelta(config.privacy.epsilon, config.delta()) - schema
    share = {"marginals": 1.0, "llm": 0.0, "hybrid": config.train.marginals_share}[config.synthesizer]
    marginals = rest.scaled(share, share)
    model = rest - marginals
    share = config.text_counts.share if config.counts_texts else 0.0
    text_counts = model.scaled(share, share)
    return Budgets(schema, marginals, model - text_counts, text_counts)


def _schema_budget(config: Config) -> EpsilonDelta:
    privacy, schema = config.privacy, config.schema_
    if not schema.unmeasured() and privacy.public_size is not None:
        return EpsilonDelta(0.0, 0.0)
    epsilon = privacy.schema_epsilon or _SCHEMA_EPSILON_SHARE * privacy.epsilon
    if epsilon >= privacy.epsilon:
        raise ConfigError(
            f"privacy.schema_epsilon ({epsilon}) leaves nothing of privacy.epsilon ({privacy.epsilon}) for training.",
            "Lower schema_epsilon, or declare bounds and category lists that are public.",
        )
    lists = any(field == "values" for _, field in schema.unmeasured())
    return EpsilonDelta(epsilon, _SCHEMA_DELTA_SHARE * config.delta() if lists else 0.0)
