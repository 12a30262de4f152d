"""The command line: its commands, and the exit code of each error.

The command line is the only writer of stdout: there go results (with --json, one JSON object). Progress and messages go to
stderr. Commands import what is heavy themselves, so that `localsynth --help` answers at once.
"""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from localsynth.cli import bench, configuration, guarantee, models, pipeline, rows
from localsynth.cli.options import AsJson
from localsynth.cli.output import command
from localsynth.errors import EXIT_CODES, ConfigError, ExitCode, LocalsynthError
from localsynth.presentation import doctor_text
from localsynth.results.doctor import DoctorResult

app = typer.Typer(
    name="localsynth",
    help="Turns a private table into a synthetic one, on this machine, under differential privacy that anyone can check.",
    invoke_without_command=True,
    epilog="Exit codes: " + "; ".join(f"{int(code)} {meaning}" for code, meaning in EXIT_CODES.items()) + ".",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for family in (pipeline.app, rows.app, guarantee.app):
    app.add_typer(family)
app.add_typer(configuration.app, name="config")
app.add_typer(models.app, name="models")
app.add_typer(bench.app, name="bench")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"localsynth {version('localsynth')}")
        raise typer.Exit


@app.callback()
def _bare(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Without a command: the terminal UI where there is a terminal, else the help."""
    if context.invoked_subcommand is not None:
        return
    if sys.stdin.isatty() and sys.stdout.isatty():
        _become_terminal_ui([])
    print(context.get_help(), file=sys.stderr)
    raise typer.Exit(ExitCode.USAGE)


def _become_terminal_ui(arguments: list[str]) -> NoReturn:
    # The terminal UI is a peer of the command line, not a part of it: one process takes the place of the other.
    os.execv(sys.executable, [sys.executable, "-m", "localsynth_tui", *arguments])


@app.command(epilog="Example: localsynth tui visits")
def tui(
    workspace: Annotated[Path | None, typer.Argument(metavar="[WS]", help="The workspace to open.")] = None,
    as_json: AsJson = False,
) -> None:
    """Open the terminal UI: every step from a table to a synthetic one, with the equivalent command shown."""
    if as_json:
        raise ConfigError("The terminal UI has no --json.", "Every action of the UI is also a command; see: localsynth --help")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("The terminal UI needs a terminal.", "Use the other commands; see: localsynth --help")
    _become_terminal_ui([] if workspace is None else [str(workspace)])


@command(app, example="localsynth doctor", show=doctor_text)
def doctor(
    workspace: Annotated[Path | None, typer.Argument(metavar="[WS]", help="A workspace to examine too.")] = None,
) -> DoctorResult:
    """Show what this machine offers: processor, GPU, memory, disk, network seal, models and versions."""
    from localsynth.system.doctor import examine
    from localsynth.system.files import model_directory

    return examine(model_directory(), workspace)


def _guarded(work: Callable[[], Any]) -> int:
    try:
        return int(work() or 0)
    except LocalsynthError as error:
        print(f"localsynth: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        return int(error.exit_code)
    except typer.Exit as error:
        return error.exit_code
    except TyperException as error:
        print(f"localsynth: {error}", file=sys.stderr)
        print("  See: localsynth --help, or localsynth COMMAND --help", file=sys.stderr)
        return int(ExitCode.USAGE)
    except (KeyboardInterrupt, typer.Abort):
        print("Stopped.", file=sys.stderr)
        return int(ExitCode.CANCELLED)
    except BrokenPipeError:
        return 0
    except Exception as error:
        print(f"localsynth: a bug: {type(error).__name__}: {error}", file=sys.stderr)
        print("  Please report this line and the command.", file=sys.stderr)
        return int(ExitCode.BUG)


def main() -> None:
    """The entry point of the `localsynth` command."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal of another encoding shows ε as \u03b5, and no command fails for it.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_guarded(lambda: app(standalone_mode=False)))


if __name__ == "__main__":
    main()
