"""Intervals and differences: the few formulas of statistics that the measures need, each with its source.

Pure functions of numbers; randomness only from the seed that is given.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from localsynth.evaluate.arrays import Floats

CONFIDENCE = 0.95


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
        return {key: figure if math.isfinite(figure) else None for key, figure in vars(self).items()}


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
        ends = stats.binomtest(self.hits, self.n).proportion_ci(self.confidence, method="wilson")
        return float(ends.low), float(ends.high)

    def to_json(self) -> dict[str, Any]:
        """{"hits", "n", "value", "low", "high", "confidence"}; value None where nothing was tried."""
        return {**vars(self), "value": self.value if self.n else None, "low": self.low, "high": self.high}


def difference_interval(first: Rate, second: Rate) -> Interval:
    """first − second with Newcombe's hybrid score interval (Newcombe 1998, Stat. Med. 17:873, method 10)."""
    if not first.n or not second.n:
        return Interval(math.nan, -1.0, 1.0, min(first.n, second.n))
    difference = first.value - second.value
    low = difference - math.hypot(first.value - first.low, second.high - second.value)
    high = difference + math.hypot(first.high - first.value, second.value - second.low)
    return Interval(difference, max(-1.0, low), min(1.0, high), min(first.n, second.n))


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean with Student's t interval at 95 %; of a single value the ends are not known (NaN)."""
    n = len(values)
    if not n:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(np.mean(values))
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half, n)


def mean_known(values: Sequence[float]) -> float:
    """The mean of the values that are not NaN; NaN where there are none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def bootstrap_interval(samples: Sequence[Floats], statistic: Callable[..., float], *, seed: int) -> Interval:
    """`statistic` of the samples with the percentile bootstrap at 95 %, 300 resamples (Efron & Tibshirani 1993, chapter 13).

    The ends are not known (NaN) where a sample has fewer than two values.
    """
    n = min(map(len, samples))
    value = float(statistic(*samples)) if n else math.nan
    if n < 2:
        return Interval(value, math.nan, math.nan, n)
    # One resample at a time: all together would take 300 times the memory of the data.
    options: dict[str, Any] = {"n_resamples": 300, "batch": 1, "vectorized": False, "method": "percentile"}
    ends = stats.bootstrap(samples, statistic, confidence_level=CONFIDENCE, rng=seed, **options).confidence_interval
    return Interval(value, float(ends.low), float(ends.high), n)


def auc(positives: Floats, negatives: Floats) -> float:
    """The probability that a positive scores above a negative, ties counting half: the area under the ROC curve.

    It is Mann & Whitney's U over the number of pairs.
    """
    u = stats.mannwhitneyu(positives, negatives, method="asymptotic").statistic
    return float(u) / (len(positives) * len(negatives))
