"""Warnings of `plan` and `train`, from public figures alone."""

import math
from dataclasses import dataclass

from localsynth.config import Config
from localsynth.errors import BudgetError
from localsynth.events import Emit
from localsynth.planning.budgets import shares_of
from localsynth.presentation import first_of
from localsynth.schema.columns import Category, Text

FEW_UNITS = 10_000
"""Below this many units the noise costs much detail; plan and train warn."""
FEW_TEXT_UNITS = 2_000
"""Below this many units plan and train suggest dropping a hybrid's texts. A judgement, not a measured threshold."""
MIN_UNITS = 100
"""Below this many units a run is refused without --force."""
_RARE = 0.05
"""Warn of a list that loses values, or of a range that loses an end, of more than this fraction of the training units."""


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


@dataclass(frozen=True)
class Need:
    """How many units the open lists, or the open ranges, of a schema need, and what fewer units lose.

    With `units`, a value of 5 % of the training units is found, and a range loses at most as many at both of its ends.
    """

    what: str
    columns: tuple[str, ...]
    units: int
    loss: str

    @property
    def text(self) -> str:
        """The warning."""
        names, several = first_of([*map(repr, self.columns)]), len(self.columns) > 1
        return (
            f"The {self.what}{'s' if several else ''} of {names} will be measured. {'Each' if several else 'It'} {self.of_each}"
        )

    @property
    def of_each(self) -> str:
        """The warning about one of the columns."""
        return f"needs about {self.units:,} units: {self.loss}, or raise privacy.schema_epsilon."


def measurement_needs(config: Config, units: int | None = None) -> list[Need]:
    """The needs of lists and ranges to be measured for which `units` (kept, expected) are too few; None: all of them."""
    from localsynth.privacy.grids import date_grid
    from localsynth.privacy.mechanisms import CategoriesPlan, RangePlan

    columns = [column for column in config.schema_.columns if column.unmeasured()]
    if not columns:
        return []
    # The noise is the same for all columns.
    one = shares_of(config).columns[columns[0].name]
    noise = one.noise_multiplier, one.delta, one.contributions
    threshold, end = CategoriesPlan(*noise).threshold, RangePlan(*noise, date_grid()).rows_found_at_an_end
    losses = {
        "list": (
            threshold,
            threshold,
            "values in fewer than about {:,} rows become 'other'. Declare public lists (values = [...])",
        ),
        "range": (2 * end, end, "up to about {:,} rows at either end may be cut off. Declare public ranges (min, max)"),
    }
    found = []
    for what, (rows, lost, loss) in losses.items():
        names = tuple(column.name for column in columns if isinstance(column, Category) == (what == "list"))
        needed = 100 * math.ceil(rows / _RARE / (1 - config.privacy.holdout) / 100)
        if names and (units is None or units < needed):
            found.append(Need(what, names, needed, loss.format(lost)))
    return found


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
