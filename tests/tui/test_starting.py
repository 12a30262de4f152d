"""How the terminal UI is started, and what is said where it cannot be."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("arguments", [[], ["tui"], ["tui", "--json"]])
def test_without_a_terminal_there_is_a_message_and_nothing_on_stdout(arguments):
    command = [sys.executable, "-m", "localsynth.cli", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert ("needs a terminal" if arguments == ["tui"] else "no --json" if arguments else "Usage:") in done.stderr
