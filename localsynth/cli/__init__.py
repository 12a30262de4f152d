"""The command line: a file a command family, each with its own Typer app that `main` adds."""
