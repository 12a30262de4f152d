"""The state behind the Run screen: a stream of events reduced to stages, figures, curves and a log. No widgets, no files."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

from localsynth.errors import ExitCode
from localsynth.events import Event

Status = Literal["waiting", "running", "done", "failed", "stopped"]

STAGES = ("ingest", "train", "export", "count_texts", "sample", "evaluate")
"""Of a run, in this order. Not every run counts texts, and not every run ends with a report."""
_MAX_POINTS = 600
_MAX_LINES = 500


def stages_of(verb: str, counts_texts: bool, report: bool) -> tuple[str, ...]:
    """The stages that a job of this verb goes through, in their order."""
    if verb not in ("run", "rehearse"):
        return (verb,)
    present = {"count_texts": counts_texts, "evaluate": report and verb == "run"}
    return tuple(name for name in STAGES if present.get(name, True))


@dataclass
class Curve:
    """Values over steps, thinned to every second, fourth, ... point as they become many, so that memory stays bounded."""

    points: list[tuple[float, float]] = field(default_factory=list)
    _every: int = 1
    _seen: int = 0

    def add(self, x: float, y: float) -> None:
        """Append a value."""
        if self._seen % self._every == 0:
            self.points.append((x, y))
            if len(self.points) > _MAX_POINTS:
                self.points = self.points[::2]
                self._every *= 2
        self._seen += 1


@dataclass
class Stage:
    """One line of the checklist."""

    name: str
    status: Status = "waiting"
    step: int | None = None
    steps: int | None = None
    work: str | None = None
    """A part of the stage that is reported separately, such as the marginals before a model is trained."""


@dataclass
class RunState:
    """`apply` each event, then `end` with the outcome."""

    verb: str
    counts_texts: bool = False
    """Whether the run counts the tokens of its texts."""
    report: bool = False
    """Whether the run ends with a report."""
    stages: list[Stage] = field(default_factory=list)
    epsilon: float | None = None
    seal: str | None = None
    device: str | None = None
    """The compute device and its precision."""
    current: dict[str, Any] = field(default_factory=dict)
    """Of the running stage: rate, unit, seconds_left, memory, where known."""
    private: dict[str, float] = field(default_factory=dict)
    """Loss, clipped fraction, rows: shown, never stored."""
    unit: str = "tokens/s"
    """Of the speed."""
    speed: Curve = field(default_factory=Curve)
    loss: Curve = field(default_factory=Curve)
    log: deque[str] = field(default_factory=lambda: deque(maxlen=_MAX_LINES))
    lines: int = 0
    """Lines ever logged: `log` forgets the oldest."""
    outcome: Event | None = None

    def __post_init__(self) -> None:
        self.stages = [Stage(name) for name in stages_of(self.verb, self.counts_texts, self.report)]

    def _stage(self, name: str) -> Stage:
        """The stage of this name. An unknown one goes before the first waiting stage: it implies nothing about that."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        place = next((i for i, stage in enumerate(self.stages) if stage.status == "waiting"), len(self.stages))
        self.stages.insert(place, Stage(name))
        return self.stages[place]

    def add_line(self, text: str) -> None:
        """Append a line to the log."""
        self.log.append(text)
        self.lines += 1

    def apply(self, event: Event) -> None:
        """Update the state with one event of the worker."""
        kind = event["kind"]
        if event.get("epsilon") is not None:
            self.epsilon = max(event["epsilon"], self.epsilon or 0.0)
        if kind in ("note", "warning"):
            text = event.get("text") or dict(event.get("private") or {}).get("text")
            if text:
                self.add_line(f"{kind}: {text}")
            return
        if "stage" not in event:
            return
        stage = self._stage(event["stage"])
        if kind == "stage_started":
            self._started(stage, event)
        elif kind == "progress":
            self._progress(stage, event)
        elif kind == "stage_done":
            stage.status = "done"
            self.current = {}
            self.add_line(f"{stage.name}: done")

    def _started(self, stage: Stage, event: Event) -> None:
        for earlier in self.stages[: self.stages.index(stage)]:
            # A stage that an earlier command finished sends no events.
            if earlier.status == "waiting":
                earlier.status = "done"
        stage.status = "running"
        self.current = {}
        self.speed = Curve()
        self.seal = event.get("seal", self.seal)
        self.device = event.get("device")
        self.add_line(f"{stage.name}: started (network seal: {event.get('seal', 'none')})")

    def _progress(self, stage: Stage, event: Event) -> None:
        stage.status = "running"
        stage.step = event.get("step", stage.step)
        stage.steps = event.get("steps", stage.steps)
        if stage.work != event.get("work"):
            stage.work, self.speed, self.loss = event.get("work"), Curve(), Curve()
        private = dict(event.get("private") or {})
        known = {**event, **private}
        self.device = event.get("device", self.device)
        self.current = {key: known[key] for key in ("rate", "unit", "seconds_left", "memory") if known.get(key) is not None}
        self.private = {k: v for k, v in private.items() if k not in self.current and isinstance(v, int | float)}
        at = float(stage.step or 0)
        if "rate" in self.current:
            self.unit = self.current.get("unit", self.unit)
            self.speed.add(at, self.current["rate"])
        if "loss" in self.private:
            self.loss.add(at, self.private["loss"])

    def end(self, outcome: Event) -> None:
        """The job is over."""
        self.outcome = outcome
        self.current = {}
        if outcome["kind"] == "result":
            for stage in self.stages:
                stage.status = "done"
            self.add_line("Finished.")
            return
        stopped = outcome["code"] == ExitCode.CANCELLED
        for stage in self.stages:
            if stage.status == "running":
                stage.status = "stopped" if stopped else "failed"
        self.add_line(" ".join(part for part in (outcome["message"], outcome["hint"]) if part))

    @property
    def running(self) -> Stage | None:
        """The running stage."""
        return next((stage for stage in self.stages if stage.status == "running"), None)
