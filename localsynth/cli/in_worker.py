"""Runs a command in the worker process, with its events on stderr and the key's passphrase asked for beforehand."""

import functools
import inspect
import sys
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

import typer

from localsynth.cli.options import PassphraseFd, RequireSeal, Set, Workspace
from localsynth.cli.output import command
from localsynth.errors import ConfigError
from localsynth.results.as_json import from_json

R = TypeVar("R")
Options = dict[str, Any]


def worker_command(
    family: typer.Typer, result: type[R] | UnionType, *, show: Callable[[R], str], without: Collection[str] = (), **printed: Any
) -> Callable[[Callable[..., Options]], Callable[..., Options]]:
    """Make a function that returns a verb's options a command of `family`, which runs the verb of the function's name.

    It also has the parameters of `work` below but those in `without`. `show` and `printed` are for `command`.
    """

    def register(options: Callable[..., Options]) -> Callable[..., Options]:
        def work(
            workspace: Workspace,
            require_seal: RequireSeal = None,
            passphrase_fd: PassphraseFd = None,
            overrides: Set = None,
            **given: Any,
        ) -> R:
            return in_worker(result, options.__name__, workspace, overrides, require_seal, passphrase_fd, **options(**given))

        first, *others, _ = inspect.signature(work).parameters.values()
        own = inspect.signature(options).parameters.values()
        functools.update_wrapper(work, options)
        vars(work)["__signature__"] = inspect.Signature([first, *own, *(each for each in others if each.name not in without)])
        command(family, show=show, **printed)(work)
        return options

    return register


def in_worker(
    result: type[R] | UnionType,
    verb: str,
    workspace: Path,
    overrides: list[str] | None,
    require_seal: str | None = None,
    passphrase_fd: int | None = None,
    **options: Any,
) -> R:
    """The `result` of a verb on a workspace. Asks for the passphrase where the verb opens the original rows."""
    request = {
        "workspace": str(workspace),
        "overrides": overrides or [],
        "options": options,
        "passphrase": _passphrase(verb, workspace, passphrase_fd, options),
    }
    return send(result, verb, request, require_seal)


def send(result: type[R] | UnionType, verb: str, request: dict[str, Any], require_seal: str | None) -> R:
    """The worker's `result`. Its events are printed on stderr, its error is raised here."""
    from localsynth.cli.narrator import Narrator
    from localsynth.worker import run_in_child

    if require_seal not in (None, "kernel", "any"):
        raise ConfigError(f"--require-seal {require_seal!r} is not known.", "Use kernel (a namespace or seccomp) or any.")
    with closing(Narrator(sys.stderr)) as narrator:
        return from_json(result, run_in_child(verb, {**request, "require_seal": require_seal}, narrator))


def _passphrase(verb: str, workspace: Path, descriptor: int | None, options: dict[str, Any]) -> str | None:
    from localsynth.cli.prompt import ask_passphrase
    from localsynth.pipeline.run import needs_key
    from localsynth.store.key import is_wrapped, key_path
    from localsynth.workspace.paths import Workspace

    directory = Workspace.open(workspace)
    # In this order: looking for the key makes its directory, which a rehearsal must not.
    if not needs_key(directory, verb, options.get("again", False), options.get("release", False)) or not is_wrapped(directory):
        return None
    return ask_passphrase(str(workspace), descriptor, new=not key_path(directory).exists())
