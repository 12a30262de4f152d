"""The outcome of an audit, as figures and as a sentence, and the rule by which it passes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from localsynth.evaluate.audit.bound import CONFIDENCE, curve_p_value, epsilon_bound
from localsynth.schema.columns import Record

__all__ = ["Audit", "Search", "exposures", "right_guesses", "written_endings"]

Status = Literal["passed", "failed", "too weak to say"]


def right_guesses(scores: NDArray[np.float64], included: NDArray[np.bool_], guesses: int) -> int:
    """How many of the `guesses` highest scores belong to included canaries."""
    # A stable order: equal scores are ranked by the canary's number, which does not depend on its inclusion.
    return int(included[np.argsort(-scores, kind="stable")[:guesses]].sum())


@dataclass(frozen=True)
class Search:
    """The search for the endings of inserted canaries."""

    inserted: int
    withheld: int
    rows: int
    """Rows generated and searched."""
    found: int
    """Inserted endings that are in one of them, whole."""
    exposure: float
    """Bits, median over the inserted endings: 1 for a model that knows nothing of them."""
    highest: float
    """The exposure if each were more likely than every withheld one."""

    def to_json(self) -> dict[str, Any]:
        """The figures, and an upper bound of the fraction of rows with an ending: 3 / rows where none was found (95 %)."""
        return {**vars(self), "share_at_most": min(1.0, 3 / self.rows) if self.rows and not self.found else None}


def written_endings(endings: Sequence[str], rows: Sequence[Record]) -> int:
    """How many of `endings` are in some text of `rows`, letter by letter."""
    written = "\n".join(str(value) for row in rows for value in row.values() if isinstance(value, str))
    return sum(ending in written for ending in endings)


def exposures(inserted: Sequence[float], withheld: Sequence[float]) -> list[float]:
    """For each inserted score, log2 of (withheld + 1) over its rank among the withheld ones (arXiv:1802.08232, section 4)."""
    return [math.log2((len(withheld) + 1) / (1 + sum(other >= score for other in withheld))) for score in inserted]


@dataclass(frozen=True)
class Audit:
    """The counts of one audit, and the claim that they test."""

    canaries: int
    guesses: int
    """Canaries that were guessed to be in; fixed before training."""
    right: int
    control_right: int
    """The right guesses from the same training without its noise."""
    epsilon: float
    delta: float
    """(ε, δ) of the training, as in the ledger."""
    curve: Sequence[tuple[float, float]]
    """(ε, δ) pairs that the training claims to satisfy."""
    search: Search | None = None
    """None if no text is long enough, or no search was requested."""

    def _p(self, right: int) -> float:
        return curve_p_value(self.canaries, self.guesses, right, self.curve)

    @cached_property
    def p(self) -> float:
        """The largest probability of so many right guesses under the claim."""
        return self._p(self.right)

    @cached_property
    def p_control(self) -> float:
        """The same for the control, a run without noise."""
        return self._p(self.control_right)

    @property
    def status(self) -> Status:
        """failed: so many right guesses have a probability below 5 % under the claim, or an ending was generated.

        passed: not failed, and without the noise it would have. too weak to say: even without the noise it would not have.
        An ending leaves no doubt: ten random letters have a probability of 36^-10, and e^ε times that is next to nothing.
        """
        if self.p < 1 - CONFIDENCE or (self.search is not None and self.search.found):
            return "failed"
        return "passed" if self.p_control < 1 - CONFIDENCE else "too weak to say"

    @property
    def sentence(self) -> str:
        """The outcome in plain words."""
        guessed = f"{self.right} of {self.guesses} guesses about which of {self.canaries} canaries were trained on were right"
        claim = f"epsilon {self.epsilon:.3g} at delta {self.delta:.1g}"
        if self.search is not None and self.search.found:
            return f"{self.search.found} of {self.search.inserted} random endings were written out in {self.search.rows} rows."
        if self.status == "failed":
            return f"{guessed}. A training that keeps {claim} allows so many with a chance of {self.p:.1g} at most."
        without = f"without the noise {self.control_right} would have been"
        if self.status == "passed":
            return f"{guessed}; {without}, and the audit would have caught it. That does not contradict {claim}, nor prove it."
        return f"{guessed}; {without}. Even that would not have contradicted {claim}: this audit was too weak to say anything."

    def to_json(self) -> dict[str, Any]:
        """The figures as audit.json and the report have them."""
        ceiling = epsilon_bound(self.canaries, self.guesses, self.guesses, self.delta)
        return {
            "status": self.status,
            "sentence": self.sentence,
            "epsilon": epsilon_bound(self.canaries, self.guesses, self.right, self.delta),
            "ceiling": ceiling,
            "confidence": CONFIDENCE,
            "claimed": {"epsilon": self.epsilon, "delta": self.delta, "curve": [list(pair) for pair in self.curve]},
            "canaries": self.canaries,
            "guesses": self.guesses,
            "right": self.right,
            "p_value": self.p,
            "p_value_if_all_right": self._p(self.guesses),
            "control": {
                "what": "the same guesses, had the noise not been added",
                "right": self.control_right,
                "epsilon": epsilon_bound(self.canaries, self.guesses, self.control_right, self.delta),
                "p_value": self.p_control,
            },
            "search": None if self.search is None else self.search.to_json(),
        }
