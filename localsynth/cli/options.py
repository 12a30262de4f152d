"""The options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Workspace = Annotated[Path, typer.Argument(metavar="WS", help="The workspace directory.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a configuration key, as privacy.epsilon=8; may be repeated."),
]
Rows = Annotated[int | None, typer.Option("--rows", min=1, help="Rows of the finished synthetic table.")]
MaxUnits = Annotated[
    int | None,
    typer.Option("--max-units", min=1, help="Subsample to about this many privacy units (independent Bernoulli sampling)."),
]
Force = Annotated[bool, typer.Option("--force", help="Continue although the table is too small.")]
Again = Annotated[bool, typer.Option("--again", help="Begin another run after a finished one; it is charged again.")]
ReadAgain = Annotated[bool, typer.Option("--again", help="Read the source again; whatever is measured again is charged again.")]
RequireSeal = Annotated[
    str | None,
    typer.Option(
        "--require-seal",
        metavar="kernel|any",
        help="Minimum network isolation required before any data is read (kernel or any).",
    ),
]
PassphraseFd = Annotated[
    int | None, typer.Option("--passphrase-fd", metavar="N", min=0, help="Read the key's passphrase from this file descriptor.")
]
NoSign = Annotated[bool, typer.Option("--no-sign", help="Leave the certificate unsigned, and state that in it.")]
