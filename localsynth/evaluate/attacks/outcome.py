"""The outcome of an attack, and the rule by which it passes."""

from dataclasses import dataclass, field
from typing import Any, Literal

from localsynth.evaluate.stats import Rate, difference_interval

Status = Literal["passed", "failed", "too few rows to say"]

_WORST_FIRST: tuple[Status, ...] = ("failed", "too few rows to say", "passed")

NOTICEABLE = 0.10
"""The difference between risk and control that an attack must have been able to detect in order to pass."""


def judge(risk: Rate, control: Rate) -> Status:
    """The rule for all attacks.

    failed               the lower end of the risk's interval is above the upper end of the control's: the table reveals
                         more about training rows than about others. By chance, two 95 % intervals are disjoint in well
                         under 1 % of attacks, so that a report with a dozen of them rarely raises a false alarm.
    passed               not failed, and the upper end of the interval of their difference (Newcombe) is below ten points:
                         a larger difference would have been detected. Smaller ones may exist.
    too few rows to say  neither: the intervals are too wide.
    """
    if risk.n and control.n and risk.low > control.high:
        return "failed"
    return "passed" if difference_interval(risk, control).high < NOTICEABLE else "too few rows to say"


def rates_json(risk: Rate, control: Rate, baseline: Rate) -> dict[str, Any]:
    """The three rates, as report.json has them."""
    return {"risk": risk.to_json(), "control": control.to_json(), "baseline": baseline.to_json()}


@dataclass(frozen=True)
class Attack:
    """The outcome of one attack."""

    name: str
    """Short and fixed, a key: "exact copies"."""
    question: str
    """The question it answers."""
    risk: Rate
    """Success against training rows."""
    control: Rate
    """Success against holdout rows."""
    baseline: Rate
    """Success of a naive guess against training rows."""
    method: str
    """How it was done, with sizes."""
    detail: dict[str, Any] = field(default_factory=dict)
    """Further figures, JSON-able."""
    among: tuple[Rate, Rate] | None = None
    """Risk and control among the rows on which the attack could be tried at all, where that is not all of them."""

    @property
    def status(self) -> Status:
        """See `judge`. With `among`, both pairs of rates are judged: failed where one is, passed only where both are.

        An attack that could be tried on 3 of 5,000 rows succeeds on next to none of the 5,000, whatever it does to the 3.
        """
        verdicts = {judge(self.risk, self.control)} | ({judge(*self.among)} if self.among else set())
        return next(status for status in _WORST_FIRST if status in verdicts)

    def to_json(self) -> dict[str, Any]:
        """The form in which report.json and the template have it."""
        return {
            "name": self.name,
            "question": self.question,
            "status": self.status,
            **rates_json(self.risk, self.control, self.baseline),
            "difference": difference_interval(self.risk, self.control).to_json(),
            "method": self.method,
            "detail": self.detail,
        }
