"""What the documents and the help say is true of the code."""

import re
from pathlib import Path

import pytest
import typer.main

from localsynth.cli import app

ROOT = Path(__file__).parent.parent


def commands(group=None, prefix=""):
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_command_has_help_an_example_and_json(name, command):
    assert command.help
    assert (command.epilog or "").startswith(f"Example: localsynth {name}")
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options
    for parameter in command.params:
        assert getattr(parameter, "help", None) or parameter.name in ("workspace", "help"), (name, parameter.name)


def test_commands_in_the_readme_exist():
    known = {name for name, _ in commands()}
    used = set(re.findall(r"(?:^|/|`)localsynth ((?:models )?[a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert used and used <= known, used - known


def test_the_readme_names_only_files_that_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target
