"""Intervals and differences: the few formulas of statistics that the measures need, each with its source.

Pure functions of numbers; randomness only from the seed that is given.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats as distributions

__all__ = ["CONFIDENCE", "Interval", "Rate", "auc", "auc_interval", "bootstrap_interval", "difference_interval", "mean_interval"]

CONFIDENCE = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its confidence interval."""

    value: float
    low: float
    high: float
    n: int
    """How many observations it rests on."""

    def to_json(self) -> dict[str, Any]:
        """{"value", "low", "high", "n"}; a figure that is not finite becomes None, which JSON can say."""
        figures = {"value": self.value, "low": self.low, "high": self.high}
        return {**{key: figure if math.isfinite(figure) else None for key, figure in figures.items()}, "n": self.n}


@dataclass(frozen=True)
class Rate:
    """`hits` out of `n` tries, with its Wilson score interval (Wilson 1927, J. Am. Stat. Assoc. 22:209).

    Wilson's interval stays inside 0 and 1 and is right for rates near 0, where attacks mostly lie. With n = 0 it is the
    whole of 0 to 1, and the value is NaN.
    """

    hits: int
    n: int
    confidence: float = CONFIDENCE

    @property
    def value(self) -> float:
        """The share of hits; NaN where nothing was tried."""
        return self.hits / self.n if self.n else math.nan

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self._ends()[0]

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self._ends()[1]

    def _ends(self) -> tuple[float, float]:
        if not self.n:
            return 0.0, 1.0
        z = float(distributions.norm.ppf((1 + self.confidence) / 2))
        share, n = self.hits / self.n, self.n
        middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        # At no hit or nothing but hits the end is exact in theory and off by a rounding here.
        return 0.0 if self.hits == 0 else max(0.0, middle - half), 1.0 if self.hits == n else min(1.0, middle + half)

    def to_json(self) -> dict[str, Any]:
        """{"hits", "n", "value", "low", "high", "confidence"}; value None where nothing was tried."""
        value = None if not self.n else self.value
        return {
            "hits": self.hits,
            "n": self.n,
            "value": value,
            "low": self.low,
            "high": self.high,
            "confidence": self.confidence,
        }


def difference_interval(first: Rate, second: Rate) -> Interval:
    """first − second with Newcombe's hybrid score interval (Newcombe 1998, Stat. Med. 17:873, method 10)."""
    if not first.n or not second.n:
        return Interval(math.nan, -1.0, 1.0, min(first.n, second.n))
    difference = first.value - second.value
    low = difference - math.hypot(first.value - first.low, second.high - second.value)
    high = difference + math.hypot(first.high - first.value, second.value - second.low)
    return Interval(difference, max(-1.0, low), min(1.0, high), min(first.n, second.n))


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The mean with Student's t interval; of a single value the ends are not known (NaN)."""
    n = len(values)
    if not n:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(np.mean(values))
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = float(distributions.t.ppf((1 + confidence) / 2, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def bootstrap_interval(
    values: Floats, statistic: Callable[[Floats], float], *, seed: int, draws: int = 1000, confidence: float = CONFIDENCE
) -> Interval:
    """`statistic` of `values` with the percentile bootstrap (Efron & Tibshirani 1993, chapter 13)."""
    if not len(values):
        return Interval(math.nan, math.nan, math.nan, 0)
    random = np.random.default_rng(seed)
    drawn = [statistic(random.choice(values, len(values))) for _ in range(draws)]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(statistic(values)), float(low), float(high), len(values))


def auc(positives: Floats, negatives: Floats) -> float:
    """The chance that a positive scores above a negative, ties counting half: the area under the ROC curve (Mann & Whitney)."""
    if not len(positives) or not len(negatives):
        return math.nan
    ranks = distributions.rankdata(np.concatenate([positives, negatives]))
    of_positives = float(ranks[: len(positives)].sum())
    return (of_positives - len(positives) * (len(positives) + 1) / 2) / (len(positives) * len(negatives))


def auc_interval(
    positives: Floats, negatives: Floats, *, seed: int, draws: int = 300, confidence: float = CONFIDENCE
) -> Interval:
    """`auc` with a percentile bootstrap that redraws both sides."""
    value = auc(positives, negatives)
    if math.isnan(value):
        return Interval(math.nan, math.nan, math.nan, 0)
    random = np.random.default_rng(seed)
    drawn = [auc(random.choice(positives, len(positives)), random.choice(negatives, len(negatives))) for _ in range(draws)]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high), min(len(positives), len(negatives)))
