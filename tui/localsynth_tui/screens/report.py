"""Screen 6: the certificate in plain words, verified here; the report and the audit."""

import csv
import json
import os
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Static, TabbedContent, TabPane

from localsynth.errors import ConfigError, LocalsynthError
from localsynth_tui.jobs.client import Request
from localsynth_tui.messages import JobChanged
from localsynth_tui.screens.dialogs import Field, Form
from localsynth_tui.screens.step import StepScreen
from localsynth_tui.text.command_line import command_line
from localsynth_tui.text.formatting import SEALS
from localsynth_tui.text.report import audit_figures, certificate_text, report_text
from localsynth_tui.workspace.status import schema_of_rows

_AUTOMATIC = ":automatic"
"""No choice of a target. A colon, since a column may be called "automatic"."""

_ABOUT = """\
Compares the synthetic rows with the original ones and attacks them. It takes some minutes and spends nothing. The report is \
private, since it reads the original table. One for release reads nothing private."""

_ABOUT_AUDIT = """\
Trains on random rows with this run's settings, and guesses which of them were trained on. If more guesses are correct than the \
guarantee allows, the guarantee is broken. The audit reads nothing private, spends nothing, and takes about as long as training \
on some hundred rows."""
_NO_LLM = (
    "This run used DP marginals only; the audit tests the training of the LLM. docs/guarantee.md says what protects marginals."
)
_MIN_CANARIES, _SEARCHED_ROWS = 20, 100
_TABS = {"certificate": "Certificate (c)", "report": "Report: private (r)", "audit": "Audit (u)"}


class ReportScreen(StepScreen):
    """Reads runs/ID/certificate.json and, where they exist, report.json and audit.json."""

    STEP = "report"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "tab('certificate')", "Certificate", show=False, id="report.certificate"),
        Binding("r", "tab('report')", "Report", show=False, id="report.report"),
        Binding("u", "tab('audit')", "Audit", show=False, id="report.audit"),
        Binding("e", "evaluate", "Report …", id="report.evaluate"),
        Binding("a", "audit", "Audit …", id="report.run-audit"),
        Binding("o", "open", "Open report", id="report.open"),
        Binding("v", "verify", "Verify", id="report.verify"),
        Binding("x", "app.erase", "Erase the private side …", show=False, id="report.erase"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._certificate: Path | None = None
        self._by_marginals = False
        self._columns: list[str] = []
        self._pages: list[Path] = []
        """The existing reports, the private one first."""

    def content(self) -> ComposeResult:
        with TabbedContent(initial="certificate"):
            for name, title in _TABS.items():
                with TabPane(title, id=name), VerticalScroll(id=f"{name}-page"):
                    yield Static("Reading the newest run …", id=f"{name}-text")
        with Horizontal(classes="buttons"):
            yield Button("Make report …", variant="primary", action="screen.evaluate")
            yield Button("Open report", action="screen.open")
            yield Button("Run audit …", action="screen.audit")
            yield Button("Erase private side …", action="app.erase")

    def on_mount(self) -> None:
        self.action_tab("certificate")
        self.action_verify()

    def action_tab(self, tab: str) -> None:
        """Show one of the tabs, with the focus where the arrow keys scroll."""
        self.query_one(TabbedContent).active = tab
        self.query_one(f"#{tab}-page").focus()

    def commands(self) -> list[tuple[str, str]]:
        return [
            ("Verify the certificate", command_line("verify", self._certificate or Path("CERTIFICATE"))),
            ("Make the report", Request("evaluate", self.workspace).command()),
            ("Make a report for release", Request("evaluate", self.workspace, {"release": True}).command()),
            ("Run the audit", Request("audit", self.workspace, {"search": _SEARCHED_ROWS}).command()),
            ("Erase the private side", command_line("erase", self.workspace)),
        ]

    @on(JobChanged)
    def _job_changed(self, event: JobChanged) -> None:
        if event.over:
            self.action_verify()

    @work(thread=True, exclusive=True)
    def action_verify(self) -> None:
        """Recompute the guarantee, check hashes and signature, and read the report and the audit."""
        from localsynth.system.files import read_json
        from localsynth.workspace.paths import Workspace
        from localsynth.workspace.runs import latest_run

        workspace = Workspace(self.workspace)
        certificate, report, audit = "", "", ""
        try:
            run = latest_run(workspace)
            if run is None or not run.certificate_path.exists():
                certificate = report = audit = "There is no certificate yet. A run writes it: see Plan (3)."
            else:
                from localsynth.verification.file import verify_file

                self._certificate, self._by_marginals = run.certificate_path, run.by_marginals
                self._pages = [page for name in ("report", "report-release") if (page := run.directory / f"{name}.html").exists()]
                report = _report(run.directory / "report.json", run.id, workspace.erasure_path.exists())
                report = "\n".join([report, *(f"File: {page}" for page in self._pages), ""])
                audit = _audit(run.audit_path, self._by_marginals)
                self._update(report=report, audit=audit)
                self._update(certificate="Verifying the certificate: recomputing the guarantee, hashing the model …\n")
                found = verify_file(run.certificate_path, None)
                certificate = certificate_text(found, read_json(run.certificate_path).get("guarantee"))
                self._columns = [column.name for column in schema_of_rows(workspace.root).learned()]
        except LocalsynthError as error:
            certificate = f"✗ {error.message} {error.hint}"
        self._update(certificate=certificate, report=report, audit=audit)

    def _update(self, **texts: str) -> None:
        for name, text in texts.items():
            self.call_ui(self._show, name, text)

    def _show(self, name: str, text: str) -> None:
        self.query_one(f"#{name}-text", Static).update(Content(text))

    # --- making and opening the report ---------------------------------------------------------------------------------------

    def action_evaluate(self) -> None:
        """Ask for the report's settings, and make it."""
        if self.refused_while_running():
            return
        if self._certificate is None:
            self.notify("A report needs a finished run. Plan (3) starts one.", severity="warning")
            return
        targets = (("automatic", _AUTOMATIC), *((name, name) for name in self._columns))
        fields = [
            Field("target", "Column to predict", _AUTOMATIC, options=targets),
            Field("known", "Columns that an attacker may know, separated by commas", "", "automatic; or: birth, sex"),
            Field("release", "Kind of report", "no", options=(("private: reads the original", "no"), ("for release", "yes"))),
            Field("seal", "Required network seal", "any", options=SEALS),
        ]
        form = Form("Make the report", _ABOUT, fields, "Make it", self._evaluate_request, Request.command)
        self.open_window(form, self.start)

    def _evaluate_request(self, answer: dict[str, str]) -> Request:
        options: dict[str, Any] = {}
        seal = None if answer["seal"] == "any" else answer["seal"]
        if answer["release"] == "yes":
            return Request("evaluate", self.workspace, {"release": True}, require_seal=seal)
        if answer["target"] != _AUTOMATIC:
            options["target"] = answer["target"]
        if answer["known"]:
            options["quasi_identifiers"] = known = [name.strip() for name in next(csv.reader([answer["known"]]))]
            for name in known:
                if name not in self._columns:
                    raise ConfigError(f"There is no learned column {name!r}.", f"Columns: {', '.join(self._columns)}.")
        return Request("evaluate", self.workspace, options, require_seal=seal)

    def action_audit(self) -> None:
        """Ask for the audit's settings, and run it."""
        if self.refused_while_running():
            return
        if self._certificate is None:
            self.notify("An audit needs a finished run. Plan (3) starts one.", severity="warning")
        elif self._by_marginals:
            self.notify(_NO_LLM, severity="warning", timeout=12)
        else:
            fields = [
                Field("canaries", "Random rows (canaries) to insert", "", "automatic; or: 800"),
                Field("search", "Rows to generate and search for their texts; 0: none", "100", "100"),
            ]
            form = Form("Audit", _ABOUT_AUDIT, fields, "Run it", self._audit_request, Request.command)
            self.open_window(form, self.start)

    def _audit_request(self, answer: dict[str, str]) -> Request:
        options: dict[str, Any] = {"search": _SEARCHED_ROWS}
        for name, minimum in (("canaries", _MIN_CANARIES), ("search", 0)):
            text = answer[name].replace(",", "")
            if text and not (text.isdecimal() and int(text) >= minimum):
                raise ConfigError(f"Enter a whole number, {minimum} or more, or leave it empty.")
            if text:
                options[name] = int(text)
        return Request("audit", self.workspace, options)

    def action_open(self) -> None:
        """Open the report in a browser where there is a display; show its path in any case."""
        if not self._pages:
            self.notify("There is no report yet. E makes one.", severity="warning")
            return
        page = self._pages[0].resolve()
        opened = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) and webbrowser.open(page.as_uri())
        title = "Opened in the browser:" if opened else "Open this file in a browser:"
        self.app.copy_to_clipboard(str(page))
        self.notify(str(page), title=title, markup=False, timeout=12)


def _audit(path: Path, by_marginals: bool) -> str:
    if not path.exists():
        how = "A runs one: it tries to refute the guarantee, reads nothing private and spends nothing."
        return f"NO AUDIT of this run yet. {_NO_LLM if by_marginals else how}"
    return _shown(path, lambda audit: f"{audit_figures(audit)}\n\nFile: {path}", "Run the audit again: A.")


def _report(path: Path, run: str, erased: bool) -> str:
    if not path.exists() and erased:
        return "NO REPORT: the original rows were erased, so nothing can be compared with them."
    if not path.exists():
        return (
            f"NO REPORT of run {run} yet. Without it, the quality of these rows and the success of attacks are unknown. "
            "E makes one. Look at the rows (5) before you rely on them."
        )
    return _shown(path, report_text, "Make it again: E.")


def _shown(path: Path, text: Callable[[dict[str, Any]], str], hint: str) -> str:
    """The text of a JSON file, or that it cannot be read."""
    try:
        return text(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return f"{path} cannot be read. {hint}"
