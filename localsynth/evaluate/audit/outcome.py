"""The outcome of an audit, as figures and as a sentence, and the rule by which it passes."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from localsynth.evaluate.audit.bound import CONFIDENCE, curve_p_value, epsilon_bound
from localsynth.results.audit import AuditClaim, AuditControl, AuditFigures, AuditSearch
from localsynth.schema.columns import Record

Status = Literal["passed", "failed", "too weak to say"]
Pair = tuple[float, float]
"""(ε, δ)"""


def right_guesses(scores: NDArray[np.float64], included: NDArray[np.bool_], guesses: int) -> int:
    """How many of the `guesses` highest scores belong to included canaries."""
    # A stable order: equal scores are ranked by the canary's number, which does not depend on its inclusion.
    return int(included[np.argsort(-scores, kind="stable")[:guesses]].sum())


def written_endings(endings: Sequence[str], rows: Sequence[Record]) -> int:
    """How many of `endings` are in some text of `rows`, letter by letter."""
    written = "\n".join(str(value) for row in rows for value in row.values() if isinstance(value, str))
    return sum(ending in written for ending in endings)


def exposures(inserted: Sequence[float], withheld: Sequence[float]) -> list[float]:
    """For each inserted score, log2 of (withheld + 1) over its rank among the withheld ones (arXiv:1802.08232, section 4)."""
    return [math.log2((len(withheld) + 1) / (1 + sum(other >= score for other in withheld))) for score in inserted]


def audit_figures(
    canaries: int, guesses: int, right: int, control_right: int, curve: Sequence[Pair], search: AuditSearch | None = None
) -> AuditFigures:
    """What so many right guesses say of the training's claim, the (ε, δ) pairs of `curve`, the ledger's first.

    control_right: the right guesses from the same training without its noise; search: as in `AuditFigures`.

    failed           so many right guesses have a probability below 5 % under the claim, or an ending was generated. An ending
                     leaves no doubt: ten random letters have a probability of 36^-10, and e^ε times that is next to nothing.
    passed           not failed, and without the noise it would have
    too weak to say  even without the noise it would not have
    """
    epsilon, delta = curve[0]
    p, p_control, p_if_all = (curve_p_value(canaries, guesses, count, curve) for count in (right, control_right, guesses))
    bound, bound_control, ceiling = (epsilon_bound(canaries, guesses, count, delta) for count in (right, control_right, guesses))
    guessed = f"{right} of {guesses} guesses about which of {canaries} canaries were trained on were right"
    without = f"without the noise {control_right} would have been"
    claim = f"epsilon {epsilon:.3g} at delta {delta:.1g}"
    status: Status = "failed"
    if search is not None and search.found:
        sentence = f"{search.found} of {search.inserted} random endings were written out in {search.rows} rows."
    elif p < 1 - CONFIDENCE:
        sentence = f"{guessed}. A training that keeps {claim} allows so many with a chance of {p:.1g} at most."
    elif p_control < 1 - CONFIDENCE:
        status = "passed"
        sentence = f"{guessed}; {without}, and the audit would have caught it. That does not contradict {claim}, nor prove it."
    else:
        status = "too weak to say"
        sentence = (
            f"{guessed}; {without}. Even that would not have contradicted {claim}: this audit was too weak to say anything."
        )
    return AuditFigures(
        status=status,
        sentence=sentence,
        epsilon=bound,
        ceiling=ceiling,
        confidence=CONFIDENCE,
        claimed=AuditClaim(epsilon, delta, tuple(curve)),
        canaries=canaries,
        guesses=guesses,
        right=right,
        p_value=p,
        p_value_if_all_right=p_if_all,
        control=AuditControl(control_right, bound_control, p_control),
        search=search,
    )
