"""The decorator of every command: adds --json and the example, and prints the result."""

import functools
import inspect
import json
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import typer

from localsynth.cli.options import AsJson
from localsynth.errors import ExitCode
from localsynth.results.as_json import to_json, without_private

P = ParamSpec("P")
R = TypeVar("R")


def command(
    family: typer.Typer,
    *,
    example: str,
    show: Callable[[R], str],
    name: str | None = None,
    data: Callable[[R], Any] = lambda result: result,
    failed: Callable[[R], bool] = lambda result: False,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function that returns a result a command of `family`, with an option --json.

    The command prints `show(result)`, or with --json `data(result)` without private figures: the output may be kept in a file.
    It exits with the code of a failed check where `failed(result)`. `name` is the function's own unless given.
    """

    def register(work: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(work)
        def printing(*arguments: P.args, **options: P.kwargs) -> None:
            as_json = options.pop("as_json")
            result = work(*arguments, **options)
            if as_json:
                document = to_json(data(result))
                public = without_private(document) if isinstance(document, dict) else document
                # What the stream cannot encode is escaped as JSON does it.
                unicode = (sys.stdout.encoding or "").lower().startswith("utf")
                print(json.dumps(public, indent=1, ensure_ascii=not unicode))
            else:
                print(show(result))
            if failed(result):
                raise typer.Exit(ExitCode.INTEGRITY)

        # Typer reads the options from the signature and the annotations.
        flag = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=AsJson)
        parameters = [*inspect.signature(work).parameters.values(), flag]
        vars(printing)["__signature__"] = inspect.Signature(parameters)
        printing.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        family.command(name, epilog=f"Example: {example}")(printing)
        return work

    return register
