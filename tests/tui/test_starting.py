"""Starting the terminal UI, and the errors where it cannot start."""

import importlib
import os
import pty
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from localsynth import start
from localsynth.cli import main
from localsynth_tui import __main__ as terminal_ui


@pytest.mark.parametrize("module", ["localsynth.start", "localsynth.cli.main"])
@pytest.mark.parametrize("arguments", [[], ["tui"], ["tui", "--json"]])
def test_error_without_a_terminal(module, arguments):
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert ("needs a terminal" if arguments == ["tui"] else "no --json" if arguments else "Usage:") in done.stderr


def test_bare_command_on_a_terminal_starts_the_ui(monkeypatch):
    started = []
    monkeypatch.setattr(terminal_ui, "main", lambda arguments: started.append(("ui", arguments)) or 0)
    monkeypatch.setattr(main, "main", lambda: started.append(("cli", sys.argv[1:])))
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r", closefd=False) as reading, os.fdopen(theirs, "w") as writing:
        monkeypatch.setattr(sys, "stdin", reading)
        monkeypatch.setattr(sys, "stdout", writing)
        monkeypatch.setattr(sys, "argv", ["localsynth"])
        with pytest.raises(SystemExit) as end:
            start.main()
        monkeypatch.setattr(sys, "argv", ["localsynth", "doctor"])
        start.main()
        monkeypatch.undo()
    os.close(ours)
    assert end.value.code == 0 and started == [("ui", []), ("cli", ["doctor"])]


def test_installed_command_is_start():
    scripts = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["scripts"]
    module, name = scripts["localsynth"].split(":")
    assert getattr(importlib.import_module(module), name) is start.main


def test_ui_start_does_not_load_the_command_line():
    code = "import sys, localsynth.start, localsynth_tui.app; print('typer' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
