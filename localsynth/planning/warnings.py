"""Warnings of `plan` and `train`, from public figures alone."""

from localsynth.config import Config
from localsynth.errors import BudgetError
from localsynth.events import Emit
from localsynth.planning.budgets import shares_of
from localsynth.schema.columns import Category, Text

FEW_UNITS = 10_000
"""Below this many units the noise costs much detail; plan and train warn."""
FEW_TEXT_UNITS = 2_000
"""Below this many units plan and train suggest dropping a hybrid's texts. A judgement, not a measured threshold."""
MIN_UNITS = 100
"""Below this many units a run is refused without --force."""
_RARE = 0.05
"""Warn of a list that loses values, or of a range that loses an end, of more than this fraction of the units."""


def size_warning(units: int) -> str | None:
    """The warning about a small number of units; None where it is large enough."""
    if units < MIN_UNITS:
        return f"About {units} units are too few: below {MIN_UNITS}, the noise hides what they have in common."
    if units < FEW_UNITS:
        return (
            f"About {units:,} units. Below {FEW_UNITS:,}, expect common patterns to survive, but rare values and associations "
            "between columns to be inaccurate. Compare with the original before you rely on it."
        )
    return None


def text_warning(config: Config, units: int) -> str | None:
    """The warning about texts of few units; None where there are enough, or there are only texts."""
    if units >= FEW_TEXT_UNITS or config.synthesizer != "hybrid":
        return None
    texts = ", ".join(repr(column.name) for column in config.schema_.learned() if isinstance(column, Text))
    return (
        f"With fewer than about {FEW_TEXT_UNITS:,} units the LLM usually learns little, while the marginals are measured as if "
        f"alone with {config.train.marginals_share:.0%} of epsilon. Consider dropping {texts} (data.columns): the marginals then "
        "fill the budget, and rows are generated in seconds."
    )


def delta_warning(config: Config, units: int) -> str | None:
    """The warning about a large delta; None where it is below one in the number of units (public or measured)."""
    if config.privacy.resolved_delta * units <= 1:
        return None
    return (
        f"privacy.delta is {config.privacy.resolved_delta:g}, more than one in {units:,} units: a mechanism that publishes a "
        "random unit would satisfy it. Choose a delta well below one in the number of units."
    )


def rows_warning(config: Config) -> str | None:
    """The warning that a unit counts with one row; None where rows are units, or more rows of a unit are used."""
    if config.privacy.unit == "row" or config.privacy.max_rows_per_unit > 1:
        return None
    return (
        f"Of each {config.privacy.unit!r}, one row is used, chosen at random. If it has several rows, set "
        "privacy.max_rows_per_unit (5, say; more rows, more noise), and data.sequence_by to keep their order."
    )


def list_warning(config: Config, units: int) -> str | None:
    """The warning about values that measured lists will lose; None where they are rare. `units`: expected to train on."""
    from localsynth.privacy.mechanisms import CategoriesPlan

    open_lists = [c.name for c in config.schema_.columns if isinstance(c, Category) and c.values is None]
    if not open_lists:
        return None
    measurement = shares_of(config).columns[open_lists[0]]
    threshold = CategoriesPlan(measurement.noise_multiplier, measurement.delta, measurement.contributions).threshold
    if threshold <= _RARE * units:
        return None
    return (
        f"The lists of values of {', '.join(map(repr, open_lists))} will be measured. With about {units:,} training units, only "
        f"values in about {threshold:,} rows or more will be found; all others become 'other'. Declare public lists "
        "(values = [...]), or raise privacy.schema_epsilon."
    )


def range_warning(config: Config, units: int) -> str | None:
    """The warning about rows that measured ranges will cut off; None where they are few. `units`: expected to train on."""
    from localsynth.privacy.grids import date_grid
    from localsynth.privacy.mechanisms import RangePlan

    open_ranges = [c.name for c in config.schema_.columns if c.unmeasured() and not isinstance(c, Category)]
    if not open_ranges:
        return None
    measurement = shares_of(config).columns[open_ranges[0]]
    needed = RangePlan(
        measurement.noise_multiplier, measurement.delta, measurement.contributions, date_grid()
    ).rows_found_at_an_end
    if needed <= _RARE * units:
        return None
    return (
        f"The ranges of {', '.join(map(repr, open_ranges))} will be measured. With about {units:,} training units, up to about "
        f"{needed:,} rows at either end of a range may be cut off. Declare public ranges (min, max), or raise "
        "privacy.schema_epsilon."
    )


def accept_size(units: int, force: bool, emit: Emit) -> None:
    """Warn about a small table. Raise BudgetError for one that is far too small, unless `force`.

    `units` is a public or measured number.
    """
    warning = size_warning(units)
    if warning is None:
        return
    if units < MIN_UNITS and not force:
        raise BudgetError(warning, "Collect more, or add --force to spend the budget anyway.")
    emit({"kind": "warning", "text": warning})
