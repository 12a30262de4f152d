"""Chosen answers in place of noisy counts: what is released of a table may depend on nothing else."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from localsynth.privacy import mechanisms
from localsynth.privacy.mechanisms import RangePlan


def tell(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> list[float]:
    """Give the answers in turn, whatever the table holds; cells beyond an answer get 0. Returns the deviations asked for."""
    asked: list[float] = []

    def noisy(counts: NDArray[np.int64], sigma: float, random: Any) -> NDArray[np.int64]:
        answer = np.asarray(answers[len(asked) % len(answers)], dtype=np.int64)[: len(counts)]
        asked.append(sigma)
        return np.pad(answer, (0, len(counts) - len(answer)))

    monkeypatch.setattr(mechanisms, "_noisy", noisy)
    return asked


def runs_of(buckets: Any) -> NDArray[np.int64]:
    """The answers of the runs of buckets that have these estimates, rounded."""
    return np.rint(mechanisms._tree(len(buckets)).counted @ buckets).astype(np.int64)


def spread_thinly(plan: RangePlan, deviations: float) -> list[Any]:
    """The answers of a range: as many rows as `deviations` of the noise in their sum, in no run of buckets more than noise."""
    buckets = len(plan._grid.starts) - 1
    rows = deviations * plan.sigma * float(mechanisms._tree(buckets).deviation(np.array([0]), buckets)[0])
    return [runs_of(np.full(buckets, rows / buckets)), [], []]
