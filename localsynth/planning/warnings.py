"""What `plan` and `train` warn of, from public figures alone."""

from typing import TYPE_CHECKING

from localsynth.config import Config
from localsynth.errors import BudgetError
from localsynth.events import Emit
from localsynth.planning.budgets import budgets
from localsynth.schema.columns import Category, Text

if TYPE_CHECKING:
    pass

__all__ = [
    "FEW_TEXT_UNITS",
    "FEW_UNITS",
    "TOO_FEW_UNITS",
    "accept_size",
    "delta_warning",
    "list_warning",
    "size_warning",
    "text_warning",
]

FEW_UNITS = 10_000
"""Below this many units, DP-SGD keeps little of what text is about; plan and train say so."""


FEW_TEXT_UNITS = 2_000
"""Below this many units plan and train propose to leave a hybrid's texts out: a judgement, not a measured threshold."""


TOO_FEW_UNITS = 100
"""Below this many units the noise drowns everything: refused without --force."""


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
    if units >= FEW_TEXT_UNITS or config.synthesizer != "hybrid":
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
    from localsynth.ingest.private_bounds import share_budget
    from localsynth.privacy.mechanisms import CategoriesPlan

    open_lists = [c.name for c in config.schema_.columns if isinstance(c, Category) and c.values is None]
    if not open_lists:
        return None
    privacy, budget = config.privacy, budgets(config).schema
    parts = share_budget(config.schema_, privacy.public_size is not None, budget.epsilon, budget.delta, privacy.rows_per_unit)
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
