"""Membership inference from the synthetic table: was a row used for training?

The score is the distance to the nearest synthetic row (Stadler et al. 2022; Chen et al. 2020,
GAN-Leaks, arXiv:1909.03935). An attack on the model is stronger; it reports in the same form.
"""

from typing import Any

import numpy as np

from localsynth.evaluate.arrays import Floats
from localsynth.evaluate.attacks.outcome import Attack
from localsynth.evaluate.distance import Nearness
from localsynth.evaluate.stats import Rate, auc, bootstrap_interval

SUREST = 0.05
"""The false positive rate that the careful attacker accepts."""


def _calls(threshold: float, distances: Floats, tie_probability: float, random: np.random.Generator) -> int:
    """The number of rows called members: nearer than `threshold`, or at it, with `tie_probability` each."""
    ties = int((distances == threshold).sum())
    return int((distances < threshold).sum()) + int(random.binomial(ties, tie_probability))


def membership(nearness: Nearness, *, seed: int) -> list[Attack]:
    """By the distance to the nearest synthetic row: see `attack_by_scores`."""
    return attack_by_scores(
        -nearness.members,
        -nearness.others,
        seed=seed,
        method=f"By the distance to the nearest of {nearness.candidates:,} synthetic rows.",
    )


def attack_by_scores(members: Floats, others: Floats, *, seed: int, method: str, subject: str = "") -> list[Attack]:
    """Two membership attacks with one score a row, higher for likely members.

    One guesses about every row, the other only where it is most confident; the second matters more to a person
    (Carlini et al. 2022, arXiv:2112.03570). One half of the holdout sets the threshold at which half, or 5 %, of non-members
    are called members; the other half is the control. Ties at the threshold are broken at random, which keeps these rates.
    The baseline is the same number of calls at random. `subject`: the attacked artifact, where it is not the synthetic rows;
    `method`: the source of the scores.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(others))
    reference, control_rows = -others[order[: len(order) // 2]], -others[order[len(order) // 2 :]]
    distances = -members
    area = bootstrap_interval([members, others], auc, seed=seed)
    suffix = f" ({subject})" if subject else ""
    attacks = []
    for name, question, share in (
        ("membership, every row", "Can an attacker tell, for any row, whether it was in the original?", 0.5),
        (
            "membership, surest cases",
            "Can an attacker tell with confidence, for some rows, that they were in the original?",
            SUREST,
        ),
    ):
        if not len(reference) or not len(members):
            risk = control = baseline = Rate(0, 0)
        else:
            threshold = float(np.quantile(reference, share, method="inverted_cdf"))
            below, at = float((reference < threshold).mean()), float((reference == threshold).mean())
            tie_probability = min(1.0, max(0.0, (share - below) / at))
            risk = Rate(_calls(threshold, distances, tie_probability, random), len(members))
            control = Rate(_calls(threshold, control_rows, tie_probability, random), len(control_rows))
            baseline = Rate(round(share * risk.n), risk.n)
        attacks.append(
            Attack(
                name + suffix,
                question,
                risk,
                control,
                baseline,
                f"{method} The threshold calls {100 * share:.0f} % of {len(reference):,} other holdout rows members. Baseline: "
                "as many calls at random.",
                {"auc": area.to_json()},
            )
        )
    return attacks


def distance_to_closest_record(nearness: Nearness, *, seed: int) -> dict[str, Any]:
    """The median distance to the closest synthetic record, for both sides. A sanity check, not evidence of privacy.

    Distances cannot show that a table leaks nothing: Yao et al. 2025 (The DCR Delusion, arXiv:2505.01524).
    """
    figures = {}
    for name, distances in (("original", nearness.members), ("holdout", nearness.others)):
        finite = distances[np.isfinite(distances)]
        figures[name] = bootstrap_interval([finite], np.median, seed=seed).to_json()
    return {
        **figures,
        "synthetic_rows": nearness.candidates,
        "note": "A sanity check only: similar distances do not show that nothing leaked.",
    }
