"""Screen 4: the running job with its stages, epsilon, speed, loss and log. Closing it stops nothing."""

from typing import Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Button, RichLog, Static

from localsynth.presentation import audit_text, duration, rehearsal_text
from localsynth.results.as_json import from_json
from localsynth.results.audit import AuditResult
from localsynth.results.plans import RehearsalResult
from localsynth.results.stages import RunResult
from localsynth_tui.jobs.client import Request
from localsynth_tui.jobs.run_state import RunState, Stage, stages_of
from localsynth_tui.messages import JobChanged
from localsynth_tui.screens.dialogs import Ask, Reading
from localsynth_tui.screens.step import StepScreen
from localsynth_tui.text.formatting import bar, bytes_text, plain
from localsynth_tui.widgets.curve import CurvePlot
from localsynth_tui.workspace.status import WorkspaceStatus, read_status

_SIGNS = {"waiting": "· waiting", "running": "▶ running", "done": "✓ done", "failed": "✗ failed", "stopped": "■ stopped"}
_TITLES = {
    "ingest": "ingest the table",
    "train": "train with noise",
    "export": "export model, certificate",
    "count_texts": "count tokens with noise",
    "sample": "generate rows",
    "evaluate": "compare and attack",
    "audit": "train on canaries, attack",
}
_WORK = {"marginals": "measure DP marginals"}
_RESUMABLE = ("run", "ingest", "train", "export", "count_texts", "sample")
"""Verbs that resume at the next start; the others start from the beginning."""
_FREE = {"evaluate": "report", "audit": "audit", "sample": "more rows"}
_ON_RANDOM_ROWS = ("audit", "rehearse")
"""Verbs that train on random rows."""
_PRIVATE_LOSS = "loss (private, not stored)"
_SEALS = {
    "namespace": "network: sealed by the kernel",
    "seccomp": "network: sealed by the kernel (seccomp)",
    "audit": "network: sealed by Python only",
    "none": "network: NOT SEALED",
}


class RunScreen(StepScreen):
    """Shows `app.run_state`; starts and stops `app.job`."""

    STEP = "run"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "stop", "Pause, cancel", id="run.stop"),
        Binding("r", "resume", "Resume", id="run.resume"),
        Binding("d", "detach", "Keep running, quit", id="run.detach"),
        Binding("v", "result", "Result", id="run.result"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._lines = 0
        self._workspace_status: WorkspaceStatus | None = None

    def content(self) -> ComposeResult:
        with Horizontal(id="progress"):
            yield Static(id="stages")
            yield Static(id="figures")
        with Horizontal(id="curves"):
            yield CurvePlot("tokens/s", id="speed")
            yield CurvePlot(_PRIVATE_LOSS, id="loss")
        yield RichLog(wrap=True, markup=False, max_lines=500, id="log")
        with Horizontal(classes="buttons"):
            yield Button("Pause or cancel …", id="stop", action="screen.stop")
            yield Button("Resume", variant="primary", id="resume", action="screen.resume")
            yield Button("Result", variant="primary", id="result", action="screen.result")

    def on_mount(self) -> None:
        self.query_one(RichLog).border_title = "Log"
        self._show()
        self._read_status()

    @work(thread=True, exclusive=True)
    def _read_status(self) -> None:
        self._workspace_status = read_status(self.workspace)
        self.call_ui(self._show)

    def commands(self) -> list[tuple[str, str]]:
        return [("This screen", self._request().command())]

    def _request(self) -> Request:
        """The job's, otherwise that of the run that would start."""
        job = self.ui.job
        return job.request if job is not None and job.exists else Request("run", self.workspace)

    @on(JobChanged)
    def _changed(self, event: JobChanged) -> None:
        self._show()
        if event.over:
            self._read_status()

    # --- what is shown -----------------------------------------------------------------------------------------------

    def _show(self) -> None:
        state, status = self.ui.run_state, self._workspace_status
        self.query_one("#stages", Static).update(self._stages(state))
        self.query_one("#figures", Static).update(Content(self._figures(state)))
        self.refresh_bindings()
        self.query_one("#stop").display = self.ui.job_running
        self.query_one("#resume").display = self._can_resume()
        self.query_one("#result").display = self._has_result()
        if state is None:
            if status is not None and self._lines == 0:
                self._lines = 1
                self.query_one(RichLog).write(_idle_text(status))
            return
        new = state.lines - self._lines
        if new > 0:
            log = self.query_one(RichLog)
            for line in list(state.log)[-new:]:
                log.write(plain(line))
            self._lines = state.lines
        stage = state.running
        speed = self.query_one("#speed", CurvePlot)
        speed.border_title = plain(state.unit) + (" (private)" if stage is not None and stage.name == "train" else "")
        over = state.outcome is not None
        speed.draw(state.speed, over)
        loss = self.query_one("#loss", CurvePlot)
        loss.border_title = "loss (random rows)" if state.verb in _ON_RANDOM_ROWS else _PRIVATE_LOSS
        loss.draw(state.loss, over)

    def _can_resume(self) -> bool:
        state, status = self.ui.run_state, self._workspace_status
        if state is None:
            return status is not None and status.unfinished
        return state.outcome is not None and bool(state.outcome["kind"] == "failed")

    def _has_result(self) -> bool:
        state = self.ui.run_state
        return state is not None and state.outcome is not None and bool(state.outcome["kind"] == "result")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide the keys without effect from the footer."""
        if action in ("stop", "detach"):
            return self.ui.job_running
        if action == "resume":
            return self._can_resume()
        return self._has_result() if action == "result" else True

    def _stages(self, state: RunState | None) -> Text:
        text = Text()
        status, shown = self._workspace_status, [] if state is None else state.stages
        if state is None and status is not None:
            names = stages_of("run", status.counts_texts, status.report)
            shown = [Stage(name, "done" if status.finished else "waiting") for name in names]
        for stage in shown:
            colour = {"done": "green", "running": "bold", "failed": "red", "stopped": "yellow"}.get(stage.status, "dim")
            text.append(f" {_SIGNS[stage.status]:<10}", style=colour)
            what = _WORK.get(stage.work or "") or _TITLES.get(stage.name, stage.name)
            text.append(f" {what}\n", style=colour)
        if state is not None and state.running is not None:
            text.append(_progress_line(state.running))
        return text

    def _figures(self, state: RunState | None) -> str:
        lines = self._budget_lines(state)
        if state is None:
            return "\n".join(lines)
        current, stage = state.current, state.running
        figures = []
        if "seconds_left" in current:
            figures.append(f"{duration(current['seconds_left'])} left")
        if "rate" in current:
            figures.append(f"{current['rate']:,.0f} {current.get('unit', '')}".strip())
        elif "unit" in current and stage is not None and stage.name == "evaluate":
            # The part of the report in progress: texts can take minutes.
            figures.append(plain(current["unit"]))
        if current.get("memory"):
            figures.append(f"{bytes_text(current['memory'])} used")
        if figures:
            lines.append(" · ".join(figures) + ("  (private)" if stage is not None and stage.name == "train" else ""))
        if state.private:
            origin = "random rows" if state.verb in _ON_RANDOM_ROWS else "private"
            lines.append(f"{origin}: " + ", ".join(f"{name} {value:,.3g}" for name, value in state.private.items()))
        if state.device is not None and stage is not None:
            lines.append(f"device: {plain(state.device)}")
        if state.seal is not None:
            lines.append(_SEALS.get(state.seal, state.seal))
        if self.ui.job is not None and self.ui.job.stopping and state.outcome is None:
            lines.append("stopping after this step …")
        return "\n".join(lines)

    def _budget_lines(self, state: RunState | None) -> list[str]:
        if state is not None and state.verb == "rehearse":
            return ["rehearsal: spends nothing"]
        if state is not None and state.verb in _FREE:
            return [f"{_FREE[state.verb]}: spends nothing"]
        status = self._workspace_status
        if status is None or not status.target:
            return []
        if state is not None and state.epsilon is not None:
            return [f"epsilon spent {state.epsilon:.3f} of {status.target:g} {bar(state.epsilon / status.target, 10)}"]
        return [f"epsilon reserved  {status.epsilon or 0:g} of {status.target:g}"]

    # --- actions -----------------------------------------------------------------------------------------------------

    def action_stop(self) -> None:
        """Ask, then stop the job cleanly."""
        if not self.ui.job_running:
            self.notify("No job is running.")
            return
        if self.ui.run_state is not None and self.ui.run_state.verb in _RESUMABLE:
            title, stop = "Pause the job?", "Pause it"
            text = (
                "It stops after the present step. Its epsilon stays charged; Resume continues within the same budget, today or "
                "later. Giving the run up refunds nothing."
            )
        else:
            title, stop = "Cancel the job?", "Cancel it"
            text = "It stops after the present step. It spent nothing, and can be started again."
        self.open_window(Ask(title, text, [("stay", "Keep it running"), ("stop", stop)]), self._stop)

    def _stop(self, answer: str) -> None:
        if answer == "stop" and self.ui.job is not None:
            self.ui.job.stop()
            self._show()

    def action_resume(self) -> None:
        """Resume a job that was stopped or failed."""
        if not self._can_resume():
            self.notify("There is nothing to resume. Plan (3) starts a run.")
            return
        self.start(self._request())

    async def action_detach(self) -> None:
        """Quit localsynth; the job keeps running."""
        await self.ui.action_leave()

    def action_result(self) -> None:
        """Show the result as text."""
        state = self.ui.run_state
        if state is None or state.outcome is None or not self._has_result():
            self.notify("There is no result yet.")
            return
        self.app.push_screen(Reading(f"Result of {state.verb}", result_text(state.verb, state.outcome["result"])))


def _idle_text(status: WorkspaceStatus) -> str:
    if status.unfinished:
        return f"Run {status.run} is not finished. Resume continues it within the same budget."
    if status.finished:
        return f"Run {status.run} is finished: see Rows (5) and Report (6)."
    return "No job is running. Plan (3) estimates a run, and starts it."


def _progress_line(stage: Stage) -> str:
    if not stage.steps or stage.step is None:
        return " …"
    fraction = stage.step / stage.steps
    return f" {bar(fraction, 20)} {fraction:4.0%}  {stage.step:,}/{stage.steps:,}"


def result_text(verb: str, result: dict[str, Any]) -> str:
    """The result of a job as text."""
    if verb == "rehearse":
        return rehearsal_text(from_json(RehearsalResult, result))
    if verb == "audit":
        return f"{audit_text(from_json(AuditResult, result))}\n\nNext: read it in Report (6) under Audit."
    if verb == "run":
        done = from_json(RunResult, result)
        report = f"The report, private because it reads the original table:\n  {plain(done.report)}\n\n" if done.report else "\n"
        return (
            f"{done.rows:,} synthetic rows are in\n  {done.synthetic}\n\n"
            f"Guaranteed epsilon {done.epsilon_guaranteed:g} of {done.epsilon_target:g} "
            f"(spent {done.epsilon_spent:.3f}), delta {done.delta:.1e}\n\n"
            f"The certificate, to share with the rows:\n  {done.certificate}\n"
            f"The generator of more rows, at no privacy cost:\n  {done.model}\n{report}"
            "Next: look at the rows (5), then read the certificate and the report (6)."
        )
    if verb == "evaluate":
        return f"The report is in\n  {plain(result['report'])}\n\nNext: read it (6)."
    return "\n".join(f"{name}: {plain(value)}" for name, value in result.items())
