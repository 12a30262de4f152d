"""The decorator of the commands: JSON, text and exit codes."""

import json

import pytest
import typer

from localsynth.cli.output import command
from localsynth.errors import ExitCode


def call(family: typer.Typer, *arguments: str) -> int | None:
    """Run the family's only command; its exit code, if it sets one."""
    return family(arguments, standalone_mode=False)


@pytest.fixture
def family() -> typer.Typer:
    family = typer.Typer()

    @command(family, example="x", show=lambda n: f"{n} rows", data=lambda n: {"rows": n}, failed=lambda n: n > 5)
    def count(n: int, more: int = 0) -> int:
        """Count."""
        return n + more

    assert count(1, more=2) == 3, "the function itself stays as it is"
    return family


def test_the_result_is_printed_as_text(family, capsys):
    call(family, "3", "--more", "1")
    assert capsys.readouterr().out == "4 rows\n"


def test_json_prints_the_data_of_the_result(family, capsys):
    call(family, "3", "--json")
    assert json.loads(capsys.readouterr().out) == {"rows": 3}


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_failed_check_is_printed_and_sets_the_exit_code(family, capsys, options):
    assert call(family, "7", *options) == ExitCode.INTEGRITY
    assert "7" in capsys.readouterr().out
