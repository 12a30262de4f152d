"""What the documents and the help say is true of the code."""

import ast
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


GUARANTEE = (ROOT / "docs" / "guarantee.md").read_text(encoding="utf-8")
TOP_LEVEL = {"localsynth", "models", "tui", "tests", "docs", "benchmarks", "packaging"}


def defined_names(path):
    """Functions, classes and their methods (`Class.method`) that a file defines at its top."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return names


def wrong_pointers(text):
    """Backticked `path` and `path::name` that lead nowhere."""
    wrong = []
    for pointer in re.findall(r"`([^`\n]+)`", text):
        path, separator, name = pointer.partition("::")
        if (
            not separator
            and not (path.partition("/")[0] in TOP_LEVEL and "/" in path)
            and not re.fullmatch(r"\w+\.(md|py)", path)
        ):
            continue
        if not (ROOT / path).exists() or (separator and name not in defined_names(ROOT / path)):
            wrong.append(pointer)
    return wrong


def test_every_claim_of_the_guarantee_points_to_code_that_exists():
    assert not wrong_pointers(GUARANTEE)
    assert GUARANTEE.count("::") > 80, "the pointers were not found"


@pytest.mark.parametrize(
    "pointer",
    [
        "localsynth/privacy/ledgers.py",
        "localsynth/privacy/ledger.py::Ledger.refund",
        "ledger.py::Ledger",
        "tests/unit/privacy/test_ledger.py::test_nothing",
        "NOWHERE.md",
    ],
)
def test_a_wrong_pointer_is_found(pointer):
    assert wrong_pointers(f"{GUARANTEE}\nAs held by `{pointer}`.") == [pointer]


def test_every_claim_of_the_guarantee_names_its_test_or_says_that_there_is_none():
    headings = ("| what holds | code | test |", "| it checks | code | test |")
    tables = [table for table in re.split(r"\n\n", GUARANTEE) if table.startswith(headings)]
    assert len(tables) >= 6
    for row in (row for table in tables for row in table.splitlines()[2:] if row.startswith("|")):
        _, claim, code, test, _ = row.split("|")
        assert "`localsynth/" in code, claim
        assert "`tests/" in test or "no test" in test, claim
