"""The command-line twin of what the terminal UI does, as text to copy: whatever is done here can be scripted."""

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["command_line"]

_NAMED = {"rehearsal_steps": "--steps"}


def command_line(
    verb: str, workspace: Path | None, options: Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
) -> str:
    """`localsynth VERB WS` with the flags that stand for the engine's `options` and for `overrides`, quoted for a shell."""
    words = ["localsynth", *verb.split()]
    if workspace is not None:
        words.append(str(workspace))
    for name, value in (options or {}).items():
        if name == "sign":
            words += [] if value else ["--no-sign"]
        elif value is True:
            words.append("--" + name.replace("_", "-"))
        elif value is not None and value is not False:
            words += [_NAMED.get(name, "--" + name.replace("_", "-")), _listed(value) if isinstance(value, list) else str(value)]
    for assignment in overrides:
        words += ["--set", assignment]
    return shlex.join(words)


def _listed(names: Sequence[str]) -> str:
    """Names with commas between, as the command line reads them."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(names)
    return out.getvalue()
