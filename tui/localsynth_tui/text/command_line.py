"""The equivalent command of an action in the terminal UI, as text to copy."""

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["command_line"]

_FLAGS = {"rehearsal_steps": "--steps"}


def command_line(
    verb: str, workspace: Path | None, options: Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
) -> str:
    """`localsynth VERB WS` with the flags for the worker's `options` and for `overrides`, quoted for a shell."""
    words = ["localsynth", *verb.replace("_", "-").split()]
    if workspace is not None:
        words.append(str(workspace))
    for name, value in (options or {}).items():
        if name == "sign":
            words += [] if value else ["--no-sign"]
        elif value is True:
            words.append("--" + name.replace("_", "-"))
        elif value is not None and value is not False:
            words += [
                _FLAGS.get(name, "--" + name.replace("_", "-")),
                _comma_separated(value) if isinstance(value, list) else str(value),
            ]
    for assignment in overrides:
        words += ["--set", assignment]
    return shlex.join(words)


def _comma_separated(names: Sequence[str]) -> str:
    """Names as the command line reads them, with commas between."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(names)
    return out.getvalue()
