"""Repeated measurements after a crash between a charge and its result, paid from the later stages' budgets.

A charge is never reversed, and the schema's budget is fully allocated. Without this, a process
killed at that moment would leave a workspace that cannot continue within its total.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from localsynth.errors import BudgetError
from localsynth.pipeline.session import Session
from localsynth.planning.budgets import Budgets, budgets

if TYPE_CHECKING:
    from localsynth.privacy.ledger import Ledger

__all__ = ["remaining_budgets", "repeat_budget"]

_REPEAT = "-repeat-"


def repeat_budget(ledger: "Ledger", budget: str, what: str, measured: Collection[int]) -> str | None:
    """The name of a further budget for `what` if its charge on `budget` has no result; None if it was not charged yet.

    `measured` are the indices of the spends whose results are stored.
    """
    names = {event["budget"] for event in ledger.budgets() if event["budget"].startswith(budget + _REPEAT)} | {budget}
    charged = [event for event in ledger.spends() if event["budget"] in names and event["what"] == what]
    if not charged or charged[-1]["index"] in measured:
        return None
    return f"{budget}{_REPEAT}{len(names)}"


def remaining_budgets(session: Session, ledger: "Ledger") -> Budgets:
    """The budgets of a new run: those of `budgets`, reduced in proportion by what repeated measurements cost.

    Raises BudgetError where nothing is left.
    """
    planned = budgets(session.config)
    repeats = [event for event in ledger.budgets() if _REPEAT in event["budget"]]
    total = planned.marginals + planned.train + planned.text_counts
    left = 1 - sum(event["epsilon"] for event in repeats) / total.epsilon
    left_delta = 1 - sum(event["delta"] for event in repeats) / total.delta
    if left <= 0 or left_delta <= 0:
        raise BudgetError(
            "Measurements repeated after interruptions leave nothing of the privacy budget for training.",
            "Make a new workspace, and let its ingest finish.",
        )
    return replace(
        planned,
        marginals=planned.marginals.scaled(left, left_delta),
        train=planned.train.scaled(left, left_delta),
        text_counts=planned.text_counts.scaled(left, left_delta),
    )
