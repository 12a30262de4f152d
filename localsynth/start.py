"""The entry point of `localsynth`: the terminal UI without arguments on a terminal, else the command line.

Apart from both, because the UI must not wait until the command line's modules are loaded.
"""

import sys


def main() -> None:
    """The entry point of the `localsynth` command."""
    if not sys.argv[1:] and sys.stdin.isatty() and sys.stdout.isatty():
        from localsynth_tui.__main__ import main as terminal_ui

        sys.exit(terminal_ui([]))
    from localsynth.cli.main import main as command_line

    command_line()


if __name__ == "__main__":
    main()
