"""Screen 4: the work as it goes: stages, epsilon, speed and loss, and the log. Closing it stops nothing."""

from typing import Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Button, RichLog, Static

from localsynth.presentation import duration
from localsynth_tui.jobs.client import Request
from localsynth_tui.jobs.run_state import RunState, Stage, stages_of
from localsynth_tui.messages import JobChanged
from localsynth_tui.screens.dialogs import Ask, Reading
from localsynth_tui.screens.step import StepScreen
from localsynth_tui.text.formatting import bar, bytes_text, plain
from localsynth_tui.widgets.curve import CurvePlot
from localsynth_tui.workspace.status import Overview, look_at

__all__ = ["RunScreen"]

_SIGNS = {"waiting": "· waiting", "running": "▶ running", "done": "✓ done", "failed": "✗ failed", "stopped": "■ stopped"}
_IN_WORDS = {
    "ingest": "read the table in",
    "train": "train, with noise",
    "export": "make model, certificate",
    "count_texts": "count tokens, with noise",
    "sample": "draw rows",
    "evaluate": "compare and attack",
    "audit": "train on canaries, guess",
}
_WORK = {"marginals": "counts, with noise"}
_GOES_ON = ("run", "ingest", "train", "export", "count_texts", "sample")
"""What the next start goes on with; of the others nothing is kept."""
_FREE = {"evaluate": "a report", "audit": "an audit", "sample": "rows of a finished model"}
_MADE_UP = ("audit", "rehearse")
"""What trains on rows that are made up."""
_SEALS = {
    "namespace": "network: cut off by the kernel",
    "seccomp": "network: cut off by the kernel (seccomp)",
    "audit": "network: cut off by Python only",
    "none": "network: NOT CUT OFF",
}


class RunScreen(StepScreen):
    """Shows `app.run_state`; what it starts and stops is the app's job."""

    STEP = "run"
    HELP = """\
A run goes through the stages on the left. It has a process of its own, cut off from the network: you may leave this screen, \
or close localsynth (Ctrl-Q, "Leave it working"), and come back later.

Pause asks, then ends it in good order after the step it is at. What was begun stays charged: epsilon is never given back. \
Resume goes on where it stopped, within the same budget. A rehearsal, a report or an audit is cancelled instead, and can be \
begun again.

"Epsilon spent" grows with each step of the training, up to the target you chose in the plan.

The figures and the curve marked private (loss, and in training the speed) depend on the original rows. They are shown to you \
and kept nowhere; do not photograph or copy them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "stop", "Pause, cancel", id="run.stop"),
        Binding("r", "resume", "Resume", id="run.resume"),
        Binding("d", "detach", "Leave it working", id="run.detach"),
        Binding("v", "result", "Result", id="run.result"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._lines = 0
        self._overview: Overview | None = None

    def content(self) -> ComposeResult:
        with Horizontal(id="progress"):
            yield Static(id="stages")
            yield Static(id="figures")
        with Horizontal(id="curves"):
            yield CurvePlot("tokens/s", id="speed")
            yield CurvePlot("loss (private: for your eyes)", id="loss")
        yield RichLog(wrap=True, markup=False, max_lines=500, id="log")
        with Horizontal(classes="buttons"):
            yield Button("Pause or cancel …", id="stop")
            yield Button("Resume", variant="primary", id="resume")
            yield Button("Result", variant="primary", id="result")

    def on_mount(self) -> None:
        self.query_one(RichLog).border_title = "What happened"
        self._show()
        self._look()

    @work(thread=True, exclusive=True)
    def _look(self) -> None:
        if self.ui.workspace is not None:
            self._overview = look_at(self.ui.workspace)
            self.back(self._show)

    def command(self) -> str:
        """What is at work, else the run that would be."""
        return self._request().command()

    def _request(self) -> Request:
        assert self.ui.workspace is not None
        job = self.ui.job
        return job.request if job is not None and job.exists else Request("run", self.ui.workspace)

    @on(JobChanged)
    def _changed(self, event: JobChanged) -> None:
        self._show()
        if event.ended:
            self._look()

    # --- what is shown -----------------------------------------------------------------------------------------------

    def _show(self) -> None:
        state, found = self.ui.run_state, self._overview
        self.query_one("#stages", Static).update(self._stages(state))
        self.query_one("#figures", Static).update(Content(self._figures(state)))
        at_work = self.ui.at_work
        self.refresh_bindings()
        self.query_one("#stop").display = at_work
        self.query_one("#resume").display = not at_work and self._can_resume()
        self.query_one("#result").display = self._has_result()
        if state is None:
            if found is not None and self._lines == 0:
                self._lines = 1
                self.query_one(RichLog).write(self._nothing(found))
            return
        new = state.lines - self._lines
        if new > 0:
            log = self.query_one(RichLog)
            for line in list(state.log)[-new:]:
                log.write(plain(line))
            self._lines = state.lines
        running = state.running
        speed = self.query_one("#speed", CurvePlot)
        speed.border_title = plain(state.unit) + (" (private)" if running is not None and running.name == "train" else "")
        over = state.outcome is not None
        speed.draw(state.speed, over)
        loss = self.query_one("#loss", CurvePlot)
        # An audit, like a rehearsal, trains on made-up rows.
        loss.border_title = "loss, of made-up rows" if state.verb in _MADE_UP else "loss (private: for your eyes)"
        loss.draw(state.loss, over)

    def _nothing(self, found: Overview) -> str:
        if found.unfinished:
            return f"Run {found.run} was begun and is not finished. Resume goes on where it stopped, within the same budget."
        if found.finished:
            return f"Run {found.run} is finished: see Rows (5) and Report (6)."
        return "Nothing is at work. Plan (3) shows what a run takes, and starts it."

    def _can_resume(self) -> bool:
        state, found = self.ui.run_state, self._overview
        if state is not None and state.outcome is not None:
            return bool(state.outcome["kind"] == "failed")
        return state is None and found is not None and found.unfinished

    def _has_result(self) -> bool:
        state = self.ui.run_state
        return state is not None and state.outcome is not None and bool(state.outcome["kind"] == "result")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that have nothing to do are not in the footer."""
        if action in ("stop", "detach"):
            return self.ui.at_work
        if action == "resume":
            return not self.ui.at_work and self._can_resume()
        return self._has_result() if action == "result" else True

    def _stages(self, state: RunState | None) -> Text:
        text = Text()
        if state is not None:
            shown = state.stages
        else:
            found = self._overview
            names = () if found is None else stages_of("run", found.counts_texts, found.report)
            shown = [Stage(name, "done" if found is not None and found.finished else "waiting") for name in names]
        for stage in shown:
            colour = {"done": "green", "running": "bold", "failed": "red", "stopped": "yellow"}.get(stage.status, "dim")
            text.append(f" {_SIGNS[stage.status]:<10}", style=colour)
            what = _WORK.get(stage.work or "") or _IN_WORDS.get(stage.name, stage.name)
            text.append(f" {what}\n", style=colour)
        running = state.running if state is not None else None
        if running is not None:
            text.append(_how_far(running))
        return text

    def _figures(self, state: RunState | None) -> str:
        found = self._overview
        epsilon = state.epsilon if state is not None else None
        target = found.target if found is not None else None
        lines = []
        if epsilon is not None and target and (state is None or state.verb != "rehearse"):
            lines.append(f"epsilon spent {epsilon:.3f} of {target:g} {bar(epsilon / target, 10)}")
        elif found is not None and target:
            lines.append(f"epsilon set aside  {found.epsilon or 0:g} of {target:g}")
        if state is None:
            return "\n".join(lines)
        if state.verb == "rehearse":
            lines = ["a rehearsal: nothing is spent"]
        elif state.verb in _FREE:
            lines = [f"{_FREE[state.verb]}: nothing is spent"]
        now = state.current
        private = state.running is not None and state.running.name == "train"
        figures = []
        if "seconds_left" in now:
            figures.append(f"{duration(now['seconds_left'])} left")
        if "rate" in now:
            figures.append(f"{now['rate']:,.0f} {now.get('unit', '')}".strip())
        elif "unit" in now and state.running is not None and state.running.name == "evaluate":
            # What the report is at, and how far: it can take minutes where there are texts.
            figures.append(plain(now["unit"]))
        if now.get("memory"):
            figures.append(f"{bytes_text(now['memory'])} used")
        if figures:
            lines.append(" · ".join(figures) + ("  (private)" if private else ""))
        if state.private:
            whose = "of made-up rows" if state.verb in _MADE_UP else "private"
            lines.append(f"{whose}: " + ", ".join(f"{name} {value:,.3g}" for name, value in state.private.items()))
        if state.device is not None and state.running is not None:
            lines.append(f"device: {plain(state.device)}")
        if state.seal is not None:
            lines.append(_SEALS.get(state.seal, state.seal))
        if self.ui.job is not None and self.ui.job.stopping and state.outcome is None:
            lines.append("stopping after this step …")
        return "\n".join(lines)

    # --- actions -----------------------------------------------------------------------------------------------------

    @on(Button.Pressed, "#stop")
    def action_stop(self) -> None:
        """Ask, then stop in good order."""
        if not self.ui.at_work:
            self.notify("Nothing is at work.")
            return
        if self.ui.run_state is not None and self.ui.run_state.verb in _GOES_ON:
            title, stop = "Pause the work?", "Pause it"
            text = (
                "It ends in good order after the step it is at. What was begun stays charged; Resume goes on within the same "
                "budget, today or later. To give it up, leave it paused: that gives nothing back."
            )
        else:
            title, stop = "Cancel the work?", "Cancel it"
            text = "It ends in good order after the step it is at. Nothing was spent; it can be begun again."
        self.app.push_screen(Ask(title, text, [("stay", "Let it work"), ("stop", stop)]), self._stopped)

    def _stopped(self, answer: str | None) -> None:
        if answer == "stop" and self.ui.job is not None:
            self.ui.job.stop()
            self._show()

    @on(Button.Pressed, "#resume")
    def action_resume(self) -> None:
        """Go on with what was stopped or failed."""
        if self.ui.at_work or not self._can_resume():
            self.notify("There is nothing to go on with. Plan (3) starts a run.")
            return
        self.hand_over(self.ui.start(self._request()))

    async def action_detach(self) -> None:
        """Leave localsynth; the work goes on."""
        await self.ui.action_leave()

    @on(Button.Pressed, "#result")
    def action_result(self) -> None:
        """What came out, in words."""
        state = self.ui.run_state
        if state is None or state.outcome is None or state.outcome["kind"] != "result":
            self.notify("There is no result yet.")
            return
        self.app.push_screen(Reading(f"Result of {state.verb}", result_text(state.verb, state.outcome["result"])))


def _how_far(stage: Stage) -> str:
    if not stage.steps or stage.step is None:
        return " …"
    share = stage.step / stage.steps
    return f" {bar(share, 20)} {share:4.0%}  {stage.step:,}/{stage.steps:,}"


def result_text(verb: str, result: dict[str, Any]) -> str:
    """An engine's result for a person."""
    if verb == "rehearse":
        from localsynth.presentation import rehearsal_text

        return rehearsal_text(result)
    if verb == "audit":
        from localsynth.presentation import audit_text

        return f"{audit_text(result)}\n\nNext: it stands in Report (6) under Audit."
    if "certificate" in result:
        report = result.get("report")
        return (
            f"{result['rows']:,} synthetic rows are in\n  {result['synthetic']}\n\n"
            f"Guaranteed epsilon {result['epsilon_guaranteed']:g} of {result['epsilon_target']:g} "
            f"(executed {result['epsilon_spent']:.3f}), delta {result['delta']:.1e}\n\n"
            f"The certificate, for whoever gets the rows:\n  {result['certificate']}\n"
            f"The model, which can write more rows at no cost in privacy:\n  {result['model']}\n"
            + (f"The report, which reads the original table and is for you alone:\n  {plain(report)}\n\n" if report else "\n")
            + "Next: look at the rows (5), then at what the certificate and the report say (6)."
        )
    if verb == "evaluate":
        return f"The report is in\n  {plain(result['report'])}\n\nNext: read it (6)."
    return "\n".join(f"{name}: {plain(value)}" for name, value in result.items())
