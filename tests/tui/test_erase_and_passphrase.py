"""Erasing from the UI, passphrases, a required network seal, and a seed file."""

import json
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from textual.widgets import Button, Input, Select, Static

from localsynth.store.key import change_passphrase, is_wrapped, key_path, make_key, read_key
from localsynth.verification.certificate import Finding
from localsynth.workspace.paths import Workspace
from localsynth_tui.jobs import client
from localsynth_tui.jobs.client import Job, Request
from localsynth_tui.screens.dialogs import Ask, Form, Reading
from localsynth_tui.screens.erase import EraseWindow
from localsynth_tui.screens.more_rows import MoreRows
from localsynth_tui.screens.new_workspace import NewWorkspace
from localsynth_tui.screens.passphrase import PassphraseWindow
from localsynth_tui.text.report import certificate_text
from tests.helpers.tui.driving import drive, screen_text, sees, until
from tests.helpers.tui.finished_run import finish
from tests.helpers.tui.scripted_run import RESULT, whole_run

PASSPHRASE = "ninety-nine"


@pytest.fixture
def erasable(finished, checked):
    """The finished workspace with a key, an encrypted store and a report."""
    made = Workspace(finished)
    make_key(made)
    made.private_path.write_bytes(b"encrypted")
    (run,) = made.runs_path.iterdir()
    (run / "report.json").write_text("{}")
    (run / "report.html").write_text("<html>")
    return made


def text_of(app, where):
    return str(app.screen.query_one(where, Static).render())


def opened(app, window):
    return isinstance(app.screen, window) and app.screen.query(Button) and app.screen.focused is not None


# --- erasing ------------------------------------------------------------------------------------------------------------


def test_erase_after_typing_the_name(erasable, play):
    play([{"kind": "stage_started", "stage": "sample"}, {"kind": "failed", "code": 5, "message": "No.", "hint": ""}])
    run = next(erasable.runs_path.iterdir())

    async def scenario(app, pilot):
        await app.start(Request("sample", erasable.root))
        await until(pilot, lambda: not app.job_running)
        left_in_memory = app.job.directory
        await app.action_go("report")
        await pilot.press("x")
        await until(pilot, lambda: opened(app, EraseWindow))
        await until(pilot, lambda: "private.duckdb" in text_of(app, "#goes"))
        what = text_of(app, "#goes")
        assert f"runs/{run.name}/report.html" in what and "synthetic rows, the model" in what and "backups and snapshots" in what
        await sees(pilot, "type the workspace's name: tickets")
        await sees(pilot, "Erase for good")
        await pilot.press(*"ticket", "enter")
        assert isinstance(app.screen, EraseWindow) and app.screen.query_one("#accept", Button).disabled
        assert key_path(erasable).exists(), "the name is incomplete"
        assert left_in_memory.exists()
        await pilot.press("s", "enter")
        await until(pilot, lambda: isinstance(app.screen, Reading))
        await sees(pilot, "The key: destroyed.")
        assert not key_path(erasable).exists() and not erasable.private_path.exists() and not (run / "report.html").exists()
        assert erasable.synthetic_path.exists() and not left_in_memory.exists()
        await pilot.press("escape")
        await until(pilot, lambda: app.screen.STEP == "report")  # type: ignore[attr-defined]
        await until(pilot, lambda: "the original rows were erased" in text_of(app, "#report-text"))

    drive(scenario, erasable.root)
    record = json.loads(erasable.erasure_path.read_text())
    assert record["complete"] and "private.duckdb" in record["removed"] and record["signature"]


def test_every_finding_status_has_a_text():
    (statuses,) = [get_args(kind) for name, kind in get_type_hints(Finding).items() if name == "status"]
    findings = [{"name": status, "status": status, "text": "So."} for status in statuses]
    found = {"valid": True, "verdict": "Valid.", "summary": "", "not_covered": [], "findings": findings, "file": "c.json"}
    text = certificate_text(found, None)
    assert "stated" in statuses and all(f"{status}: So." in text for status in statuses)


def test_erase_can_keep_reports_and_needs_the_name(erasable):
    run = next(erasable.runs_path.iterdir())

    async def scenario(app, pilot):
        commands = {command.title: command.callback for command in app.get_system_commands(app.screen)}
        await commands["Erase the private side …"]()
        await until(pilot, lambda: opened(app, EraseWindow))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen.STEP == "report")
        assert key_path(erasable).exists()
        await app.action_go("run")
        (command,) = [each for each in app.get_system_commands(app.screen) if each.title.startswith("Erase")]
        command.callback()
        await until(pilot, lambda: opened(app, EraseWindow))
        app.screen.query_one("#report", Select).value = "keep"
        await until(pilot, lambda: "report.html" not in text_of(app, "#goes") and "private.duckdb" in text_of(app, "#goes"))
        assert text_of(app, "#command") == f"localsynth erase {erasable.root} --keep-report"
        app.screen.query_one("#name", Input).value = "tickets"
        await pilot.pause()
        app.screen.query_one("#accept", Button).press()
        await until(pilot, lambda: isinstance(app.screen, Reading))

    drive(scenario, erasable.root, step="report")
    assert (run / "report.html").exists() and not erasable.private_path.exists()


def test_erase_is_refused_while_a_job_runs(erasable, play, tmp_path):
    play([{"kind": "stage_started", "stage": "sample"}, {"wait_for": str(tmp_path / "gate")}, RESULT])

    async def scenario(app, pilot):
        await app.start(Request("sample", erasable.root))
        await app.action_go("report")
        await pilot.press("x")
        await sees(pilot, "A job is running")
        assert not isinstance(app.screen, EraseWindow)
        (tmp_path / "gate").touch()
        await until(pilot, lambda: not app.job_running)

    drive(scenario, erasable.root)
    assert key_path(erasable).exists()


def test_erase_is_refused_while_a_command_holds_the_lock(erasable):
    from localsynth.system.lock import work_lock

    async def scenario(app, pilot):
        await pilot.press("x")
        await until(pilot, lambda: opened(app, EraseWindow))
        with work_lock(erasable.root, "train"):
            await pilot.press(*"tickets", "enter")
            await sees(pilot, "Wait until it is done")

    drive(scenario, erasable.root, step="report")
    assert key_path(erasable).exists()


# --- a passphrase -------------------------------------------------------------------------------------------------------


@pytest.fixture
def wrapped(workspace):
    """A workspace whose key has a passphrase."""
    change_passphrase(Workspace(workspace), PASSPHRASE)
    return workspace


@pytest.fixture
def received(tmp_path, monkeypatch, play):
    """What the supervisor received: standard input, arguments, environment and files."""
    seen = tmp_path / "received.json"
    play(whole_run(3))
    fake = client.SUPERVISOR
    code = (
        "import json, os, pathlib, subprocess, sys\n"
        "given = sys.stdin.read()\n"
        "place = pathlib.Path(sys.argv[-1])\n"
        "files = {p.name: p.read_text() for p in place.iterdir()}\n"
        "received = dict(stdin=json.loads(given), arguments=sys.argv, environment=dict(os.environ), files=files)\n"
        f"pathlib.Path({str(seen)!r}).write_text(json.dumps(received))\n"
        "sys.exit(subprocess.run(sys.argv[1:], input=given, text=True).returncode)\n"
    )
    monkeypatch.setattr(client, "SUPERVISOR", [sys.executable, "-c", code, *fake])
    return seen


def test_passphrase_is_verified_and_passed_through_a_pipe(wrapped, received):
    async def scenario(app, pilot):
        app.run_worker(app.start(Request("run", wrapped)))
        await until(pilot, lambda: opened(app, PassphraseWindow))
        await pilot.press(*"wrong one", "enter")
        await until(pilot, lambda: "passphrase is wrong" in text_of(app, "#answer"))
        assert "If it is lost" in text_of(app, "#answer")
        field = app.screen.query_one("#passphrase", Input)
        assert field.value == "" and field.has_focus and not received.exists(), "nothing started, and the window asks again"
        await pilot.press(*PASSPHRASE)
        assert PASSPHRASE not in screen_text(app) and "•" * len(PASSPHRASE) in screen_text(app)
        await pilot.press("enter")
        await until(pilot, lambda: app.run_state is not None and app.run_state.outcome is not None)
        assert app.run_state.outcome["kind"] == "result"
        assert PASSPHRASE not in json.dumps(app.job.request.document()) + app.job.request.command()

    drive(scenario, wrapped)
    found = json.loads(received.read_text())
    assert found["stdin"].pop("passphrase") == PASSPHRASE and found["stdin"]["verb"] == "run"
    assert PASSPHRASE not in json.dumps(found)


def test_passphrase_is_asked_only_where_the_key_is_needed(wrapped, received):
    finish(wrapped)

    async def scenario(app, pilot):
        app.run_worker(app.start(Request("evaluate", wrapped)))
        await until(pilot, lambda: opened(app, PassphraseWindow))
        await pilot.press("escape")
        await sees(pilot, "Not started")
        assert not received.exists()
        for request in (Request("sample", wrapped, {"more": 3}), Request("evaluate", wrapped, {"release": True})):
            assert await app.start(request)
            await until(pilot, lambda: not app.job_running)

    drive(scenario, wrapped)
    assert "passphrase" not in json.loads(received.read_text())["stdin"]


def test_missing_key_gets_a_new_passphrase_typed_twice(wrapped, received):
    key_path(Workspace(wrapped)).unlink()

    async def scenario(app, pilot):
        app.run_worker(app.start(Request("run", wrapped)))
        await until(pilot, lambda: opened(app, PassphraseWindow))
        await sees(pilot, "there is no key")
        await pilot.press(*"short", "enter", *"short", "enter")
        await until(pilot, lambda: "fewer than 8" in text_of(app, "#answer"))
        await pilot.press(*PASSPHRASE, "enter", *"ninety", "enter")
        await until(pilot, lambda: "differ" in text_of(app, "#answer"))
        await pilot.press(*PASSPHRASE, "enter", *PASSPHRASE, "enter")
        await until(pilot, lambda: app.run_state is not None and app.run_state.outcome is not None)

    drive(scenario, wrapped)
    assert json.loads(received.read_text())["stdin"]["passphrase"] == PASSPHRASE


def test_new_workspace_with_a_passphrase(home):
    lines = "".join(f"{i},{'ab'[i % 2]},please help number {i}\n" for i in range(150))
    (home / "visits.csv").write_text("id,kind,note\n" + lines)

    async def scenario(app, pilot):
        await pilot.press("n")
        await until(pilot, lambda: opened(app, NewWorkspace))
        await sees(pilot, "Passphrase for the key of the")
        await pilot.press(*"visits.csv", "enter", "tab", *PASSPHRASE, "enter", *"ninety", "enter")
        await until(pilot, lambda: "differ" in text_of(app, "#answer"))
        assert not (home / "visits").exists() and PASSPHRASE not in screen_text(app)
        app.screen.query_one("#second", Input).value = PASSPHRASE
        await pilot.press("enter")
        await until(pilot, lambda: app.workspace is not None)
        await sees(pilot, "note")  # the screen with its columns is whole before the app ends
        await pilot.pause(0.5)

    drive(scenario)
    made = Workspace(home / "visits")
    assert is_wrapped(made)
    assert len(read_key(Workspace(home / "visits", PASSPHRASE))) == 64
    for place in (home, Path(home).parent / "home"):
        for path in place.rglob("*"):
            assert not path.is_file() or PASSPHRASE.encode() not in path.read_bytes()


# --- a required seal, a seed file -------------------------------------------------------------------------------


def test_run_keeps_the_required_kernel_seal_on_resume(workspace, planned, play):
    play([{"kind": "failed", "code": 5, "message": "No such seal.", "hint": ""}])

    async def scenario(app, pilot):
        await sees(pilot, "Noise")
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await sees(pilot, "kernel seal only")
        app.screen.query_one("#kernel", Button).press()
        await sees(pilot, "No such seal.")
        assert app.job.request.require_seal == "kernel"
        assert app.screen.commands()[0][1] == f"localsynth run {workspace} --require-seal kernel"
        await app.action_go("run")
        await pilot.press("r")
        await until(pilot, lambda: not app.job_running)
        assert Job(workspace).request.require_seal == "kernel", "a resumed run keeps the requirement"

    drive(scenario, workspace, step="plan")


def test_report_can_require_the_kernel_seal(finished, checked, play):
    play([RESULT])

    async def scenario(app, pilot):
        await until(pilot, lambda: "Valid" in text_of(app, "#certificate-text"))
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, Form))
        app.screen.query_one("#seal", Select).value = "kernel"
        await sees(pilot, "--require-seal kernel")
        app.screen.query_one("#accept", Button).press()
        await until(pilot, lambda: app.job is not None and app.job.exists and not app.job_running)
        assert app.job.request.document()["require_seal"] == "kernel"

    drive(scenario, finished, step="report")


def test_more_rows_from_a_seed_file(finished, home, play):
    play([{"kind": "result", "result": {"new_rows": 2, "rows": 202}}])
    (home / "seeds.csv").write_text("sex,age\nF,70\nM,\n")

    async def scenario(app, pilot):
        await pilot.press("m")
        await until(pilot, lambda: isinstance(app.screen, MoreRows))
        await sees(pilot, "Columns: age, sex")
        seeds = app.screen.query_one("#seeds", Input)
        seeds.focus()
        await pilot.press(*"seed")
        await sees(pilot, "seed cannot be read")
        assert app.screen.query_one("#accept", Button).disabled
        app.screen.query_one("#more", Input).value = "5"
        seeds.value = "seeds.csv"
        await sees(pilot, "sets the number of rows")
        app.screen.query_one("#more", Input).value = ""
        await sees(pilot, "age")
        (home / "seeds.csv").write_text("sex,age\nF,70\nM,71\n")
        seeds.value = "./seeds.csv"
        await sees(pilot, "2 rows to complete.")
        await sees(pilot, "--seeds seeds.csv")
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.STEP == "run")
        assert app.job.request.options == {"seeds": "seeds.csv"}
        await until(pilot, lambda: not app.job_running)

    drive(scenario, finished, (80, 24), step="synthetic")
