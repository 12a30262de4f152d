"""Screen 6: what can be shown to others: the certificate in plain words, checked here and now; report and audit."""

import csv
import json
import os
import webbrowser
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

__all__ = ["ReportScreen"]

_GUESSED = ":guessed"
"""Stands for no choice of a target: a column may be called "guessed"."""

_ABOUT = """\
Compares the synthetic rows with the original ones and attacks them; takes some minutes and spends nothing. The report is \
private: it reads the original table. One for release holds only what reads nothing private."""


_ABOUT_AUDIT = """\
Trains on made-up rows with this run's settings, and guesses which of them were in. If more guesses are right than the guarantee \
allows, something is broken. It reads nothing private, spends nothing, and takes about as long as training on some hundred \
rows."""
_NO_MODEL = (
    "This run's rows come of noisy counts alone, and the audit is of the language model's training. What holds the guarantee of "
    "counts is in docs/guarantee.md."
)
_FEWEST, _SEARCHED = 20, 100
_TABS = {"certificate": "Certificate (c)", "report": "Report: private (r)", "audit": "Audit (u)"}


class ReportScreen(StepScreen):
    """Reads runs/ID/certificate.json and, where it exists, report.json; E makes the latter."""

    STEP = "report"
    HELP = """\
The certificate states the guarantee: how much was spent, for whom it holds, and what it does not cover. It is checked here as \
anybody can check it with `localsynth verify`, without your data. Give it along with the rows, and read first what is not covered.

The report compares the synthetic rows with the original ones and attacks them. E makes it: name the column that others will \
want to predict, and the columns by which somebody might know a person (birth, postal code, sex). It reads private data, so it \
is not covered by the guarantee and is not to be given away; "for release" makes another one that reads nothing private.

The audit trains on made-up rows with this run's settings, and guesses which of them were in: it tries to refute the guarantee \
of the model's training. A runs it. It reads nothing private and spends nothing, but takes about as long as training on some \
hundred rows.

C, R and U turn to the certificate, the report and the audit. O opens the report as a page where there is a display, and says \
where it lies where there is none. V checks the certificate again.

X erases the private side when the original rows are needed no more: their key, the encrypted rows and the report. It says first \
what goes, what stays and what it cannot reach, and wants the workspace's name typed. The rows and the certificate stay."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "tab('certificate')", "Certificate", show=False, id="report.certificate"),
        Binding("r", "tab('report')", "Report", show=False, id="report.report"),
        Binding("u", "tab('audit')", "Audit", show=False, id="report.audit"),
        Binding("e", "evaluate", "Report …", id="report.evaluate"),
        Binding("a", "audit", "Audit …", id="report.run-audit"),
        Binding("o", "open", "Open it", id="report.open"),
        Binding("v", "verify", "Check", id="report.verify"),
        Binding("x", "erase", "Erase the private side …", show=False, id="report.erase"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._certificate: Path | None = None
        self._by_marginals = False
        self._columns: list[str] = []
        self._pages: list[Path] = []
        """The reports that there are, the private one first."""

    def content(self) -> ComposeResult:
        with TabbedContent(initial="certificate"):
            for name, title in _TABS.items():
                with TabPane(title, id=name), VerticalScroll(id=f"{name}-page"):
                    yield Static("Looking for the newest run …", id=f"{name}-text")
        with Horizontal(classes="buttons"):
            yield Button("Make the report …", id="evaluate", variant="primary")
            yield Button("Open it", id="open")
            yield Button("Audit …", id="run-audit")
            yield Button("Erase the private side …", id="erase")

    def on_mount(self) -> None:
        self.action_tab("certificate")
        self.action_verify()

    def action_tab(self, tab: str) -> None:
        """Turn to one of the tabs, with the focus where the arrow keys scroll."""
        self.query_one(TabbedContent).active = tab
        self.query_one(f"#{tab}-page").focus()

    def command(self) -> str:
        """The check of the certificate that is shown."""
        return command_line("verify", self._certificate or Path("CERTIFICATE"))

    def twins(self) -> list[tuple[str, str]]:
        assert self.ui.workspace is not None
        workspace = self.ui.workspace
        return [
            ("Check the certificate", self.command()),
            ("Make the report", Request("evaluate", workspace).command()),
            ("Make one for release", Request("evaluate", workspace, {"release": True}).command()),
            ("Audit", Request("audit", workspace, {"search": _SEARCHED}).command()),
            ("Erase the private side", command_line("erase", workspace)),
        ]

    @on(JobChanged)
    def _job_changed(self, event: JobChanged) -> None:
        if event.ended:
            self.action_verify()

    def action_verify(self) -> None:
        """Recompute the guarantee and check hashes and signature."""
        self._read()

    @work(thread=True, exclusive=True)
    def _read(self) -> None:
        from localsynth.system.files import read_json
        from localsynth.workspace.paths import Workspace
        from localsynth.workspace.runs import latest_run
        from localsynth_tui.workspace.run_schema import schema_of_rows

        assert self.ui.workspace is not None
        workspace = Workspace(self.ui.workspace)
        certificate, report, audit = "", "", ""
        try:
            run = latest_run(workspace)
            if run is None or not run.certificate_path.exists():
                certificate = report = audit = "There is no certificate yet. A run makes it (Plan, 3), together with the model."
            else:
                from localsynth.verify.file import verify_file

                self._certificate, self._by_marginals = run.certificate_path, bool(run.get("synthesizer") == "marginals")
                self._pages = [page for name in ("report", "report-release") if (page := run.directory / f"{name}.html").exists()]
                report = _report(run.directory / "report.json", run.id, workspace.erasure_path.exists())
                report = "\n".join([report, *(f"File: {page}" for page in self._pages), ""])
                audit = _audit(run.audit_path, self._by_marginals)
                self._put(report=report, audit=audit)
                self._put(certificate="Checking the certificate: recomputing the guarantee, hashing the model …\n")
                found = verify_file(run.certificate_path, None)
                certificate = certificate_text(found, read_json(run.certificate_path).get("guarantee"))
                self._columns = [column.name for column in schema_of_rows(workspace.root).learned()]
        except LocalsynthError as error:
            certificate = f"✗ {error.message} {error.hint}"
        self._put(certificate=certificate, report=report, audit=audit)

    def _put(self, **texts: str) -> None:
        for name, text in texts.items():
            self.back(self._show, name, text)

    def _show(self, name: str, text: str) -> None:
        self.query_one(f"#{name}-text", Static).update(Content(text))

    # --- making and opening it ---------------------------------------------------------------------------------------

    @on(Button.Pressed, "#evaluate")
    def action_evaluate(self) -> None:
        """Ask what the report shall look at, and make it."""
        if self.ui.at_work:
            self.notify("This workspace is at work: see Run (4).", severity="warning")
            return
        if self._certificate is None:
            self.notify("A report is about the rows of a run: there is none yet. Plan (3) starts it.", severity="warning")
            return
        targets = (("guess it", _GUESSED), *((name, name) for name in self._columns))
        fields = [
            Field("target", "The column to predict", _GUESSED, options=targets),
            Field("known", "Columns that others may know of a person, with commas between", "", "guessed; or: birth, sex"),
            Field("release", "For whom", "no", options=(("for me: with the original", "no"), ("for release", "yes"))),
            Field("seal", "Cut off from the network", "any", options=SEALS),
        ]
        self.app.push_screen(Form("Make the report", _ABOUT, fields, "Make it", self._checked), self._evaluate)

    def _request(self, answer: dict[str, str]) -> Request:
        assert self.ui.workspace is not None
        options: dict[str, Any] = {}
        seal = None if answer["seal"] == "any" else answer["seal"]
        if answer["release"] == "yes":
            return Request("evaluate", self.ui.workspace, {"release": True}, require_seal=seal)
        if answer["target"] != _GUESSED:
            options["target"] = answer["target"]
        if answer["known"]:
            options["quasi_identifiers"] = known = [name.strip() for name in next(csv.reader([answer["known"]]))]
            for name in known:
                if name not in self._columns:
                    raise ConfigError(f"There is no learned column {name!r}.", f"Columns: {', '.join(self._columns)}.")
        return Request("evaluate", self.ui.workspace, options, require_seal=seal)

    def _checked(self, answer: dict[str, str]) -> str:
        return self._request(answer).command()

    def _evaluate(self, answer: dict[str, str] | None) -> None:
        if answer is not None:
            self.hand_over(self.ui.start(self._request(answer)))

    @on(Button.Pressed, "#run-audit")
    def action_audit(self) -> None:
        """Ask how thorough the audit shall be, and run it."""
        if self.ui.at_work:
            self.notify("This workspace is at work: see Run (4).", severity="warning")
        elif self._certificate is None:
            self.notify("An audit is of a run's settings: there is no run yet. Plan (3) starts it.", severity="warning")
        elif self._by_marginals:
            self.notify(_NO_MODEL, severity="warning", timeout=12)
        else:
            fields = [
                Field("canaries", "Made-up rows to plant", "", "as many as the claim takes; or: 800"),
                Field("search", "Rows to draw and search for their texts; 0: none", "100", "100"),
            ]
            self.app.push_screen(Form("Audit", _ABOUT_AUDIT, fields, "Run it", self._audit_checked), self._run_audit)

    def _audit_request(self, answer: dict[str, str]) -> Request:
        assert self.ui.workspace is not None
        options: dict[str, Any] = {}
        for name, least in (("canaries", _FEWEST), ("search", 0)):
            text = answer[name].replace(",", "")
            if text and not (text.isdecimal() and int(text) >= least):
                raise ConfigError(f"Give a whole number, {least} or more, or leave it empty.")
            if text:
                options[name] = int(text)
        return Request("audit", self.ui.workspace, {"search": _SEARCHED, **options})

    def _audit_checked(self, answer: dict[str, str]) -> str:
        return self._audit_request(answer).command()

    def _run_audit(self, answer: dict[str, str] | None) -> None:
        if answer is not None:
            self.hand_over(self.ui.start(self._audit_request(answer)))

    @on(Button.Pressed, "#erase")
    def action_erase(self) -> None:
        """Ask, then destroy the key of the original rows and remove everything private."""
        self.ui.action_erase()

    @on(Button.Pressed, "#open")
    def action_open(self) -> None:
        """Open the report's page where there is a display; say where it lies in any case."""
        if not self._pages:
            self.notify("There is no report yet: E makes it.", severity="warning")
            return
        page = self._pages[0].resolve()
        opened = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) and webbrowser.open(page.as_uri())
        title = "Opened in the browser:" if opened else "Open this file in a browser:"
        self.app.copy_to_clipboard(str(page))
        self.notify(str(page), title=title, markup=False, timeout=12)


def _audit(path: Path, by_marginals: bool) -> str:
    if not path.exists():
        how = (
            _NO_MODEL
            if by_marginals
            else "A runs one: it tries to refute the guarantee, reads nothing private and spends nothing."
        )
        return f"NO AUDIT of this run yet. {how}"
    try:
        return f"{audit_figures(json.loads(path.read_text(encoding='utf-8')))}\n\nFile: {path}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{path} cannot be read. Run the audit again: A."


def _report(path: Path, run: str, erased: bool) -> str:
    if not path.exists() and erased:
        return "NO REPORT: the original rows were erased, and nothing can be compared with them any more."
    if not path.exists():
        return (
            f"NO REPORT of run {run} yet: nothing has compared these rows with the original ones, so how good they are, and "
            "whether attacks find anything, is not known. E makes one. Look at the rows (5) before you rely on them."
        )
    try:
        return report_text(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return f"{path} cannot be read. Make it again: E."
