"""What a crash between a charge and its result costs: the measurement is made again, and the training's budget pays for it.

A charge is never taken back. Without this, a process killed in that moment would leave a workspace that cannot finish within its
total, since every part of the schema's budget is spoken for.
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
    """The name of a further budget for `what`, where its charge on `budget` bought nothing; None where it was not charged yet.

    A process that is killed between a charge and the writing of what was measured loses the one and keeps the other: a charge is
    never taken back. `measured` are the indices of the spends whose results are known.
    """
    names = {event["budget"] for event in ledger.budgets() if event["budget"].startswith(budget + _REPEAT)} | {budget}
    charged = [event for event in ledger.spends() if event["budget"] in names and event["what"] == what]
    if not charged or charged[-1]["index"] in measured:
        return None
    return f"{budget}{_REPEAT}{len(names)}"


def remaining_budgets(session: Session, ledger: "Ledger") -> Budgets:
    """The split for a new run: of what marginals, training and token counts would get, each pays its part of what measuring twice
    has cost.

    Raises BudgetError where nothing is left.
    """
    share = budgets(session.config)
    repeats = [event for event in ledger.budgets() if _REPEAT in event["budget"]]
    epsilon = share.marginals_epsilon + share.train_epsilon + share.text_counts_epsilon
    delta = share.marginals_delta + share.train_delta + share.text_counts_delta
    left = 1 - sum(event["epsilon"] for event in repeats) / epsilon
    left_delta = 1 - sum(event["delta"] for event in repeats) / delta
    if left <= 0 or left_delta <= 0:
        raise BudgetError(
            "What was measured again after interruptions leaves nothing of the privacy budget for training.",
            "Make a new workspace, and let its ingest come to its end.",
        )
    return replace(
        share,
        marginals_epsilon=left * share.marginals_epsilon,
        marginals_delta=left_delta * share.marginals_delta,
        train_epsilon=left * share.train_epsilon,
        train_delta=left_delta * share.train_delta,
        text_counts_epsilon=left * share.text_counts_epsilon,
        text_counts_delta=left_delta * share.text_counts_delta,
    )
