"""Screen 6: what can be shown to others: the certificate in plain words, checked here and now, and the report's figures."""

import json
from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from localsynth.errors import LocalsynthError
from localsynth_tui.command_line import command_line
from localsynth_tui.messages import JobChanged
from localsynth_tui.screens.step import StepScreen
from localsynth_tui.words import plain

__all__ = ["ReportScreen", "certificate_text", "report_text"]

_SIGNS = {"ok": "✓", "failed": "✗ FAILED", "not checked": "? not checked"}


class ReportScreen(StepScreen):
    """Reads runs/ID/certificate.json and, where it exists, report.json."""

    STEP = "report"
    HELP = """\
The certificate states the guarantee: how much was spent, for whom it holds, and what it does not cover. It is checked here as \
anybody can check it with `localsynth verify`, without your data. Give it along with the rows, and read first what is not covered.

The report compares the synthetic rows with the original ones. It reads private data, so it is not covered by the guarantee and \
is not to be given away without thought.

V checks again."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("v", "verify", "Check again", id="report.verify")]

    def __init__(self) -> None:
        super().__init__()
        self._certificate: Path | None = None

    def content(self) -> ComposeResult:
        with VerticalScroll(id="page"):
            yield Static("Looking for the newest run …", id="certificate")
            yield Static("", id="report")

    def on_mount(self) -> None:
        self.query_one("#page").focus()
        self.action_verify()

    def command(self) -> str:
        """The check of the certificate that is shown."""
        return command_line("verify", self._certificate or Path("CERTIFICATE"))

    @on(JobChanged)
    def _job_changed(self, event: JobChanged) -> None:
        if event.ended:
            self.action_verify()

    def action_verify(self) -> None:
        """Recompute the guarantee and check hashes and signature."""
        self._read()

    @work(thread=True, exclusive=True)
    def _read(self) -> None:
        from localsynth.runs import latest_run
        from localsynth.workspace import Workspace

        assert self.ui.workspace is not None
        workspace = Workspace(self.ui.workspace)
        certificate, report = "", ""
        try:
            run = latest_run(workspace)
            if run is None or not run.certificate_path.exists():
                certificate = "There is no certificate yet. A run makes it (Plan, 3), together with the model."
            else:
                from localsynth.verify import verify_file

                self._certificate = run.certificate_path
                self._put("#certificate", "Checking the certificate: recomputing the guarantee, hashing the model …")
                certificate = certificate_text(verify_file(run.certificate_path, None))
                found = run.directory / "report.json"
                report = _report(found, run.id)
        except LocalsynthError as error:
            certificate = f"{error.message} {error.hint}"
        self._put("#certificate", certificate)
        self._put("#report", report)

    def _put(self, where: str, text: str) -> None:
        self.back(lambda: self.query_one(where, Static).update(Content(text)))


def _report(path: Path, run: str) -> str:
    if not path.exists():
        return (
            f"NO REPORT of run {run} yet: nothing has compared these rows with the original ones, so how good they are, and "
            "whether attacks find anything, is not known. Look at the rows (5) before you rely on them."
        )
    try:
        return report_text(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return f"{path} cannot be read. Make it again."


def certificate_text(report: dict[str, Any]) -> str:
    """What `verify_file` found, for a person."""
    lines = [("✓ " if report["valid"] else "✗ ") + report["verdict"], "", report["summary"], ""]
    if report["not_covered"]:
        lines += ["What the guarantee does NOT cover:", *(f"  – {sentence}" for sentence in report["not_covered"]), ""]
    lines.append("What was checked:")
    lines += [f"  {_SIGNS[finding['status']]} {finding['name']}: {finding['text']}" for finding in report["findings"]]
    return "\n".join([*lines, "", f"File: {report['file']}", ""])


def report_text(report: Any, depth: int = 0) -> str:
    """A report's figures, whatever it holds, one a line, indented as they belong together."""
    pad = "  " * depth
    if not isinstance(report, dict):
        return pad + plain(report)
    lines = ["The report (reads private data: NOT covered by the guarantee)"] if depth == 0 else []
    for name, value in report.items():
        label = plain(name).replace("_", " ")
        if isinstance(value, dict):
            lines += [f"{pad}{label}", report_text(value, depth + 1)]
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            lines.append(f"{pad}{label}")
            for item in value:
                lines += [report_text(item, depth + 1), ""]
        else:
            shown = (
                f"{value:.4g}"
                if isinstance(value, float)
                else ", ".join(map(plain, value))
                if isinstance(value, list)
                else plain(value)
            )
            lines.append(f"{pad}{label}: {shown}")
    return "\n".join(lines)
